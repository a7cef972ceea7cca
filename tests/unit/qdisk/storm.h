#pragma once
// Random faults and wishes, all mixed, upon a ClusterScene; then everything is whole again, and the
// cluster must be. One seed is one story.

#include <string>

#include "tests/unit/qdisk/cluster_scene.h"

namespace holdfast::qdisk {

class Storm {
 public:
  explicit Storm(uint64_t seed)
      : seed_(seed),
        count_(1 + static_cast<int>(seed % 5)),
        scene_(count_,
               seed % 3 == 0 ? QuorumMode::node_majority : QuorumMode::node_and_disk_majority,
               seed) {
    scene_.read_decisions_first(seed % 2 == 0);
  }

  // What was wrong; empty: nothing.
  std::string run() {
    for (int step = 0; step < 30; ++step) {
      random().below(3) == 0 ? wish() : fault();
      scene_.run(
          milliseconds(random().below(4) == 0 ? random().below(100) : random().below(15'000)));
      if (!scene_.breach().empty()) return scene_.breach();
    }
    mend();
    if (heals()) return scene_.breach();
    for (NodeId id = 0; id < count_; ++id) {
      if (!up(id)) return "a node is down";
    }
    // Memory that a majority needs is lost: only an operator can help.
    if (!voters_remember()) {
      if (scene_.core(newest()).decision().epoch == 0) return "";  // nothing is left of the cluster
      scene_.force(newest());
      if (heals()) return scene_.breach();
    }
    return scene_.breach().empty() ? "not all are members again" : scene_.breach();
  }
  ClusterScene& scene() { return scene_; }

 private:
  base::SeededRandom& random() { return scene_.random(); }
  NodeId any() { return static_cast<NodeId>(random().below(static_cast<uint64_t>(count_))); }
  bool up(NodeId id) { return scene_.node(id).core != nullptr; }

  void fault() {
    const NodeId id = any();
    switch (random().below(13)) {
      case 0:
      case 1:
        return scene_.crash(id);
      case 2:
      case 3:
        return scene_.start(id, random().below(2) == 0);
      case 4:
        return scene_.cut(id, any());
      case 5:
        return scene_.cut_both(id, any());
      case 6:
        return scene_.see_witness(id, random().below(2) == 0);
      case 7:
        return scene_.lose_messages(random().below(40));
      case 8:
        return scene_.delay_messages(random().below(20));
      case 9:
        return scene_.pause(id, milliseconds(random().below(30'000)));
      case 10:
        // Not with force: who was the only one to know a forced generation would begin it again.
        if (seed_ % 7 != 0 || seed_ % 11 == 0) return;
        scene_.crash(id);
        scene_.lose_state(id);
        return scene_.start(id, true);
      case 11:
        if (seed_ % 11 == 0 && up(id)) scene_.force(id);
        return;
      default:
        scene_.heal();
    }
  }

  void wish() {
    const NodeId id = any();
    if (!up(id)) return;
    Membership& core = scene_.core(id);
    const auto volume = static_cast<uint8_t>(random().below(4));
    switch (random().below(8)) {
      case 0:
        return scene_.stop(id);
      case 1:
        std::ignore = core.ask({.kind = Change::Kind::config, .config = {.version = ++version_}});
        return;
      case 2:
      case 3:
        std::ignore = core.ask({.kind = Change::Kind::add_volume, .volume = volume});
        return;
      case 4:
        std::ignore = core.ask({.kind = Change::Kind::remove_volume, .volume = volume});
        return;
      case 5:
        std::ignore = core.ask({.kind = Change::Kind::move_volume,
                                .volume = volume,
                                .coordinator = random().below(2) == 0 ? any() : kNoNode,
                                .from = id});
        return;
      case 6:
        std::ignore = core.ask({.kind = Change::Kind::use_witness,
                                .witness = random().below(2) == 0 ? kWitnessUuid : kOtherWitness});
        return;
      default:
        VoterPolicy policy = scene_.policy();
        policy.last_man_solo = random().below(2) == 0;
        policy.lower_priority = random().below(2) == 0 ? any() : kNoNode;
        scene_.set_policy(policy);
    }
  }

  void mend() {
    scene_.heal();
    for (NodeId id = 0; id < count_; ++id) {
      scene_.pause(id, {});
      if (!up(id) || scene_.node(id).stopped) scene_.start(id, true);
      scene_.core(id).forget_change();
    }
    scene_.run(std::chrono::seconds(20));
    for (NodeId id = 0; id < count_; ++id) {
      if (up(id)) scene_.core(id).forget_change();
    }
  }
  bool heals() {
    const size_t all = scene_.size();
    return scene_.run_until([&] { return scene_.leased().size() == all && scene_.agree(); },
                            std::chrono::seconds(90)) &&
           quiet();
  }
  // And it stays so, without another decision.
  bool quiet() {
    scene_.run(std::chrono::seconds(10));
    const size_t epochs = scene_.epochs();
    scene_.run(std::chrono::seconds(30));
    return scene_.leased().size() == scene_.size() && scene_.epochs() == epochs;
  }

  NodeId newest() {
    NodeId best = 0;
    for (NodeId id = 1; id < count_; ++id) {
      if (scene_.core(id).decision().epoch > scene_.core(best).decision().epoch) best = id;
    }
    return best;
  }
  // Those of the newest decision that anybody still knows of.
  bool voters_remember() {
    const Decision& decision = scene_.core(newest()).decision();
    Answers answers{.witness = true};
    for (NodeId id = 0; id < count_; ++id) {
      if (scene_.node(id).remembers) answers.nodes.add(id);
    }
    return is_majority(decision, answers);
  }

  uint64_t seed_;
  int count_;
  ClusterScene scene_;
  uint64_t version_ = 0;
};

}  // namespace holdfast::qdisk
