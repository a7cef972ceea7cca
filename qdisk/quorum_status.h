#pragma once
// What a node knows of its cluster at one moment, for administrators: as JSON, and in words why
// there is quorum or none, and what one more failure would do. Pure.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "qdisk/heartbeat.h"
#include "qdisk/lease_users.h"
#include "qdisk/quorum.h"
#include "qdisk/timers.h"

namespace holdfast::qdisk {

struct HostStatus {
  NodeId id = kNoNode;
  std::string name;
  bool heard = false;  // by any way; always of this node
  NodeState state = NodeState::none;
  Incarnation incarnation = 0;
  bool remembers = true;
  WatchdogKind watchdog = WatchdogKind::none;  // of its host, that runs now
  bool fence_agent = false;                    // this node can have it switched off
  std::vector<bool> networks;                  // whether it is heard over each
  bool heard_on_disk = false;
  std::string problem;  // of the connections to it
};

struct DiskStatus {
  std::string name;
  std::optional<uint8_t> number;  // none: the witness
  bool usable = false;
  bool without_reservations = false;
  std::string problem;
};

struct QuorumStatus {
  std::string cluster;
  Uuid uuid{};
  NodeId self = kNoNode;
  std::vector<HostStatus> hosts;  // all that are configured, by their numbers
  std::vector<DiskStatus> disks;
  Decision decision;
  VoterPolicy policy;
  Timers timers;
  // Who has said within a lease that this node is a member. Of a decision that is so new that not
  // all can have been asked: with those who are heard.
  Answers vouching;
  bool settling = false;  // it is so new
  bool member = false;
  std::optional<Milliseconds> lease_left;  // nothing: none
  Epoch fenced = 0;
  bool fenced_timed = false;
  std::string watchdog;
  std::vector<LeaseUser> users;       // the other daemons of this host that act by its lease
  std::vector<std::string> problems;  // what stands in the way of this node's part

  bool quorum() const { return member && lease_left.has_value(); }
  const HostStatus* find(NodeId id) const;
  const DiskStatus* witness() const;
  std::string name_of(NodeId id) const;
};

// Whose votes can be had at present.
Answers votes_there(const QuorumStatus& status);
// "2.17"
std::string epoch_text(const QuorumStatus& status);
// Why there is quorum, or none; whole sentences.
std::vector<std::string> why(const QuorumStatus& status);

// One more failure, before it happens.
struct NextFailure {
  std::string what;  // "hv2", "the witness"
  bool goes_on = false;
  std::string text;
};
std::vector<NextFailure> next_failures(const QuorumStatus& status);

nlohmann::json to_json(const QuorumStatus& status);

}  // namespace holdfast::qdisk
