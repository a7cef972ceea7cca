#pragma once
// What must never be in a simulated cluster: docs/fault_model.md.

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "qdisk/decision.h"
#include "qdisk/membership.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

// Owner: the simulation.
class QuorumJudge {
 public:
  explicit QuorumJudge(SimWorld& world) : world_(world) {}
  void decided(const qdisk::Decision& decision);
  void opened(const qdisk::Token& token);
  void landed(const qdisk::Token& token);
  // Nobody fences another that is, in the newest decision it knows, a member.
  void preempting(const qdisk::Life& by, const qdisk::Life& victim, const qdisk::Decision& known);
  // At the witness or a volume: nothing lands of a life that was fenced, nor of an earlier life
  // than one that has written there; no ballot block goes back.
  void landed_of(size_t lun, const qdisk::Life& life, bool fenced);
  void ballot_landed(qdisk::NodeId node, const qdisk::BallotBlock& block);
  // Whoever is left out by a decision cannot have a lease, or a confirmation, from after it.
  void leased(const qdisk::Life& life, qdisk::Epoch epoch, std::optional<Duration> until,
              std::optional<Duration> confirmed_at, Duration length);
  void vm_started(qdisk::NodeId node);
  void vm_ended(qdisk::NodeId node);
  void breach(std::string what);

  const qdisk::Decision& newest() const { return decided_.rbegin()->second.value; }
  bool failed() const { return !breaches_.empty(); }
  const std::vector<std::string>& breaches() const { return breaches_; }
  uint64_t writes = 0, epochs = 0, vm_starts = 0, terms = 0;

 private:
  SimWorld& world_;
  struct Decided {
    qdisk::Decision value;
    Duration at;  // when the first node knew it
  };
  std::map<qdisk::Epoch, Decided> decided_;
  qdisk::Token opened_{};
  std::optional<qdisk::NodeId> vm_;
  std::map<std::pair<size_t, qdisk::NodeId>, qdisk::Incarnation> wrote_;  // the latest life
  std::map<qdisk::NodeId, std::pair<qdisk::Epoch, qdisk::Ballot>> ballots_;
  std::vector<std::string> breaches_;
};

}  // namespace holdfast::sim
