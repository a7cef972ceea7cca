// What the other daemons of this host ask of the node.

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"
#include "qdisk/node_service.h"

namespace holdfast::qdisk {

namespace {

constexpr const char* kLog = "qdiskd";
// A fence agent that has failed is run again so much later, for those who still wait.
constexpr io::Duration kAgentRetry = std::chrono::seconds(10);

}  // namespace

std::expected<void, std::string> NodeService::attend(const std::string& user, Epoch quiesced,
                                                     std::optional<bool> runs) {
  if (const auto attends = users_.attend(user, quiesced, runs); !attends) {
    return std::unexpected(attends.error().what);
  }
  services_.page.write_users(boot_, users_.all());
  tell_quiesced();
  look_whether_anything_runs();
  return {};
}

std::expected<void, std::string> NodeService::leave(const std::string& user) {
  if (!users_.leave(user)) {
    return std::unexpected(fmt::format("`{}` is none that acts by the lease of this host", user));
  }
  services_.page.write_users(boot_, users_.all());
  tell_quiesced();
  look_whether_anything_runs();
  return {};
}

// Where there is nobody else, nobody has asked anything of this host that would have to end first.
void NodeService::tell_quiesced() {
  if (node_ == nullptr) return;
  const Epoch epoch = node_->membership().decision().epoch;
  node_->quiesced(std::min(epoch, users_.quiesced().value_or(epoch)));
}

std::optional<NodeService::Seen> NodeService::seen() const {
  if (node_ == nullptr) return std::nullopt;
  const Membership& membership = node_->membership();
  return Seen{.decision = membership.decision(),
              .fenced = membership.fenced(),
              .lease = node_->lease_valid()};
}

std::expected<NodeService::Fence, std::string> NodeService::fence(const std::string& name,
                                                                  Incarnation incarnation,
                                                                  bool strict) {
  const NodeConfig* const node = config_.find(name);
  if (node == nullptr) return std::unexpected(fmt::format("no [[node]] is named `{}`", name));
  if (phase_ != Phase::running) {
    return Fence{incarnation, {.why = "This node is about to begin."}};
  }
  const Membership& membership = node_->membership();
  const Incarnation known = membership.life_of(node->id).incarnation;
  if (incarnation > known) {
    return std::unexpected(fmt::format("life {} of {} has never been a member", incarnation, name));
  }
  const Life life{node->id, incarnation != 0 ? incarnation : known};
  const io::Instant now = services_.loop.now();
  AgentFailure& failure = agent_failures_[node->id];
  if (now >= failure.until) failure.reason.clear();
  const FenceAnswer answer = judge_fence(membership, config_.self().id, now,
                                         {.life = life, .name = name, .strict = strict},
                                         {.exists = services_.agents.has_agent(node->id),
                                          .running = services_.agents.running(node->id),
                                          .failure = failure.reason});
  Fence out{life.incarnation, answer};
  if (answer.act == FenceAnswer::Act::switch_off) switch_off(life);
  if (answer.act != FenceAnswer::Act::evict) return out;
  const auto asked = node_->ask({.kind = Change::Kind::evict, .life = life});
  if (!asked && asked.error().code != base::Errc::busy) {
    out.answer.why += fmt::format(" It cannot be asked for yet: {}.", asked.error().what);
  }
  return out;
}

std::expected<void, std::string> NodeService::use_witness() {
  if (phase_ != Phase::running || !node_->lease_valid()) {
    return std::unexpected("this node has no lease: `holdfast quorum explain` says why");
  }
  if (config_.mode == QuorumMode::node_majority) {
    return std::unexpected("the cluster has no witness: quorum = \"node-majority\"");
  }
  const auto& superblock = node_->superblock();
  if (!superblock) {
    return std::unexpected(
        "the configured witness is not usable on this node: `holdfast quorum explain` says why");
  }
  const Change change{.kind = Change::Kind::use_witness, .witness = superblock->witness};
  if (!pending(change, node_->membership().decision())) {
    return std::unexpected("it is the cluster's witness already");
  }
  const auto asked = node_->ask(change);
  if (asked) return {};
  return std::unexpected(asked.error().what);
}

void NodeService::switch_off(const Life& life) {
  auto done = [this, weak = std::weak_ptr(self_), life](FenceAgentOutcome outcome) noexcept {
    if (weak.expired()) return;
    if (!outcome.off) {
      agent_failures_[life.node] = {outcome.reason, services_.loop.now() + kAgentRetry};
    } else if (node_ != nullptr) {
      node_->switched_off(life);
    }
    if (changed_) changed_();
  };
  const auto begun = services_.agents.switch_off(life.node, std::move(done));
  if (!begun) LOG_ERROR(kLog, "a fence agent cannot be run: {}", begun.error().what);
}

}  // namespace holdfast::qdisk
