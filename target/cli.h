#pragma once
// `holdfast target ...`: asks the daemon through its control socket and prints what it says.

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>

#include "common/daemon/control_client.h"
#include "target/config.h"

namespace CLI {
class App;
}

namespace holdfast::target {

inline constexpr const char* kDefaultControlSocket = "/run/holdfast/target.sock";
inline constexpr std::chrono::seconds kCliDeadline{15};

// Exit statuses.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;  // or what the daemon reports has a problem
inline constexpr int kExitUsage = 2;    // or the daemon cannot be reached

struct TargetCommand {
  enum class Verb : uint8_t {
    status,
    apply,
    check,
    disk_list,
    disk_create,
    disk_resize,
    disk_remove,
    session_list,
    session_drop,
    session_logout,
    reservation_list,
    stats,
    alua_list,
    alua_set,
  };
  Verb verb = Verb::status;
  std::string socket = kDefaultControlSocket;
  bool json = false;
  std::string file;         // apply, check
  bool force = false;       // apply
  std::string name;         // disk resize, disk remove
  uint64_t size_bytes = 0;  // disk resize
  DiskConfig disk;          // disk create
  uint64_t session_id = 0;
  uint16_t portal_group_tag = 0;  // alua set
  std::string alua_state;
};

// Adds the noun `target` and its verbs; parsing fills the command. Throws as CLI11 does. Returns
// the noun: parsed() says whether it was chosen.
CLI::App* add_target_commands(CLI::App& program, TargetCommand& command);

// Returns the exit status.
int run_target_command(const TargetCommand& command, const daemon::Exchange& exchange,
                       std::ostream& out, std::ostream& err);

}  // namespace holdfast::target
