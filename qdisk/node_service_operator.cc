// What an operator asks of the node: that it creates a cluster, or goes on alone.

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "qdisk/node_service.h"

namespace holdfast::qdisk {

namespace {

constexpr const char* kLog = "qdiskd";
constexpr const char* kRestarting = "this life is ending, and another one begins: try again";
// So long daemons that have been started just now may need until they are heard; below what the
// command line waits.
constexpr io::Duration kHearLimit = std::chrono::milliseconds(1000);

// A cluster of this node, in which no life is a member yet. The node is in the epoch's number as it
// is where one was forced: of two that are created by mistake one counts.
Decision first_decision(const Config& config, const std::optional<WitnessSight>& sight) {
  const NodeId self = config.self().id;
  Decision first;
  first.epoch = Epoch{1} << kGenerationShift | Epoch{self} << kForcedByShift | 1;
  first.voters = NodeSet::of(self);
  if (sight && config.mode == QuorumMode::node_and_disk_majority) {
    first.witness = sight->superblock.witness;
  }
  return first;
}

}  // namespace

// What needs no look at the witness.
std::optional<std::string> NodeService::obstacle_to_create() const {
  if (phase_ != Phase::running) return kRestarting;
  const Membership& membership = node_->membership();
  if (membership.decision().epoch != 0) {
    return fmt::format("this node belongs to a cluster already: {}", config_.cluster_name);
  }
  for (const NodeConfig& node : config_.nodes) {
    const Heartbeat* heard = membership.view().of(node.id, services_.loop.now());
    if (heard != nullptr && heard->epoch != 0) {
      return fmt::format("{} belongs to this cluster already, and this node is to join it",
                         node.name);
    }
  }
  return std::nullopt;
}

std::optional<std::string> NodeService::obstacle_on_witness() const {
  if (witness() != nullptr && !sight_) {
    return "the witness cannot be read, or belongs to another cluster: `holdfast quorum explain`";
  }
  if (sight_ && sight_->newest != 0) {
    return "the witness has decisions of this cluster already: start its other nodes, or format "
           "another witness";
  }
  return std::nullopt;
}

// Of the others. One that is silent may belong to this cluster already, as this node may have done
// before its state was lost: then there would be two of it.
const NodeConfig* NodeService::silent_node() const {
  const io::Instant now = services_.loop.now();
  const auto silent = std::ranges::find_if(config_.nodes, [&](const NodeConfig& node) {
    return node.id != config_.self().id && node_->membership().view().of(node.id, now) == nullptr;
  });
  return silent == config_.nodes.end() ? nullptr : &*silent;
}

void NodeService::create(bool although_silent, Done done) {
  if (phase_ != Phase::running || look_ != nullptr || creating_) {
    return done(std::unexpected(kRestarting));
  }
  creating_ = Creating{.although_silent = although_silent,
                       .hears_until = services_.loop.now() + kHearLimit,
                       .done = std::move(done)};
  try_create();
}

// Also of daemons that have been started just now.
void NodeService::try_create() {
  if (!creating_ || look_ != nullptr) return;
  if (const auto obstacle = obstacle_to_create()) return refuse_to_create(*obstacle);
  const NodeConfig* const silent = creating_->although_silent ? nullptr : silent_node();
  if (silent != nullptr) {
    if (services_.loop.now() < creating_->hears_until) return;
    return refuse_to_create(fmt::format(
        "{} is not heard, and may belong to this cluster already: start its daemon first. If it "
        "does not exist yet, or has never been part of it: --although-silent",
        silent->name));
  }
  // What lies on the witness now: another node may have created the cluster meanwhile.
  look([this]() noexcept { create_now(); });
}

void NodeService::refuse_to_create(const std::string& why) {
  if (!creating_) return;
  Done done = std::move(creating_->done);
  creating_.reset();
  done(std::unexpected(why));
}

void NodeService::create_now() {
  if (!creating_) return;
  if (const auto obstacle = obstacle_to_create()) return refuse_to_create(*obstacle);
  if (const auto obstacle = obstacle_on_witness()) return refuse_to_create(*obstacle);
  Done done = std::move(creating_->done);
  creating_.reset();
  phase_ = Phase::ending;
  services_.loop.stop(timer_);
  close_node([this, done = std::move(done)]() mutable noexcept { found(std::move(done)); });
}

// In the same life: it has promised nothing to anybody.
void NodeService::found(Done done) {
  NodeRecord record = directory_->opened();
  record.acceptor.decided = first_decision(config_, sight_);
  record.fenced = record.acceptor.decided.epoch;  // nobody has been a member before
  record.remembers = true;
  const auto save = [this, weak = std::weak_ptr(self_), &loop = services_.loop,
                     directory = directory_, record,
                     done = std::make_shared<Done>(std::move(done))]() noexcept {
    const bool saved = directory->replace(directory->encode(record)).has_value();
    loop.post([this, weak, saved, record, directory, done]() noexcept {
      if (weak.expired()) return;
      if (stopped_) return finish_stop();
      run(saved ? record : directory->opened());
      if (saved && phase_ == Phase::running) return (*done)({});
      if (saved) return (*done)(std::unexpected(problem_));
      (*done)(std::unexpected("the local state cannot be written"));
    });
  };
  if (!services_.files.submit(save)) refuse_to_begin("earlier work on files has not ended");
}

void NodeService::force(bool heard_too, Done done) {
  if (phase_ != Phase::running) return done(std::unexpected(kRestarting));
  const Membership& membership = node_->membership();
  if (membership.decision().epoch == 0) {
    return done(std::unexpected("no cluster is known here: `holdfast quorum create` makes one"));
  }
  if (node_->lease_valid()) {
    return done(std::unexpected("there is quorum: nothing is to be forced"));
  }
  for (const NodeConfig& node : config_.nodes) {
    if (heard_too || node.id == config_.self().id) continue;
    if (membership.view().of(node.id, services_.loop.now()) == nullptr) continue;
    return done(std::unexpected(fmt::format(
        "{} is heard: mend what keeps its vote away, or stop it, and what it runs, for good",
        node.name)));
  }
  if (!node_->save_problem().empty()) {
    return done(std::unexpected(fmt::format("the local state cannot be saved in {}: {}",
                                            config_.state_dir, node_->save_problem())));
  }
  LOG_WARNING(kLog, "an operator forces the quorum");
  node_->force();
  done({});
}

}  // namespace holdfast::qdisk
