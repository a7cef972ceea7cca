#pragma once
// `holdfast quorum ...`: what the daemon of this node knows and may be told; and the witness, which
// is made and looked into without a daemon.

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/daemon/control_client.h"
#include "qdisk/timers.h"

namespace CLI {
class App;
}

namespace holdfast::qdisk {

// Exit statuses.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;  // not done; or what was looked at is no witness, or damaged
inline constexpr int kExitUsage = 2;    // or the daemon cannot be reached

inline constexpr std::chrono::milliseconds kCliDeadline{2000};

struct QuorumCommand {
  enum class Verb : uint8_t {
    status,
    votes,
    explain,
    events,
    create,
    force,
    fence,
    forget,
    config_show,
    config_set,
    witness_use,
    witness_format,
    witness_show
  };
  Verb verb = Verb::status;
  bool json = false;
  std::string socket = "/run/holdfast/qdiskd.sock";
  bool although_silent = false;  // create
  bool heard_too = false;        // force
  std::string node;              // fence
  bool strict = false;           // fence
  uint32_t wait_s = 120;         // fence
  std::string user;              // forget
  std::string file;              // config set
  int64_t follows = -1;          // config set; -1: the version that is decided now
  std::string device;
  std::string cluster;
  std::string cluster_uuid;  // of a cluster that exists; empty: of a new one
  TimerProfile profile = TimerProfile::standard;
  std::vector<std::string> timers;  // "lease=15s": instead of the profile's
  bool force = false;
  // A device that is silent for so long is given up: in all when looking, for each of some dozen
  // requests when formatting.
  std::chrono::milliseconds silence{2000};
};

// Adds the noun `quorum` and its verbs; parsing fills the command. Throws as CLI11 does. Returns
// the noun: parsed() says whether it was chosen.
CLI::App* add_quorum_commands(CLI::App& program, QuorumCommand& command);

// Returns the exit status. The caller has no other thread.
int run_quorum_command(const QuorumCommand& command, base::Random& random,
                       const daemon::Exchange& exchange, std::ostream& out, std::ostream& err);

}  // namespace holdfast::qdisk
