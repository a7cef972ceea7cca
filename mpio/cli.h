#pragma once
// `holdfast path ...`: asks holdfast-mpiod through its control socket and prints what it says.

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>

#include "common/daemon/control_client.h"

namespace CLI {
class App;
}

namespace holdfast::mpio {

inline constexpr const char* kDefaultControlSocket = "/run/holdfast/mpiod.sock";
// It answers within this also when every path is down.
inline constexpr std::chrono::milliseconds kCliDeadline{2000};

// Exit statuses.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;
inline constexpr int kExitUsage = 2;  // or the daemon cannot be reached

struct PathCommand {
  enum class Verb : uint8_t { list, policy, disable, enable, top, explain, fence_test };
  Verb verb = Verb::list;
  std::string socket = kDefaultControlSocket;
  bool json = false;
  std::string device;  // list, top: empty: all
  std::string policy;
  std::string path;
  uint32_t count = 0;          // top: how many tables; 0: until it is interrupted
  uint32_t interval_ms = 500;  // between them
};

// Adds the noun `path` and its verbs; parsing fills the command. Throws as CLI11 does. Returns the
// noun: parsed() says whether it was chosen.
CLI::App* add_path_commands(CLI::App& program, PathCommand& command);

struct Terminal {
  std::ostream& out;
  std::ostream& err;
  std::function<void(uint32_t ms)> pause;  // between the tables of `top`
  bool is_tty = false;                     // each table of it takes the place of the one before
};

// Returns the exit status.
int run_path_command(const PathCommand& command, const daemon::Exchange& exchange,
                     Terminal terminal);

}  // namespace holdfast::mpio
