#pragma once
// `holdfast initiator ...`: asks targets directly; no daemon is needed.

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace holdfast::initiator {

// Exit statuses.
inline constexpr int kExitOk = 0;
inline constexpr int kExitRefused = 1;  // a portal could not be used, or portals disagree
inline constexpr int kExitUsage = 2;

struct InitiatorCommand {
  enum class Verb : uint8_t { discover, login_test };
  Verb verb = Verb::discover;
  bool json = false;
  std::string target;
  std::vector<std::string> portals;
  std::vector<std::string> sources;  // none, one for all, or one for each portal
  std::optional<uint16_t> lun;
  std::string initiator_name;  // empty: iqn.2026-11.org.holdfast:HOSTNAME
  std::string chap_user, chap_secret_file;
  std::string target_user, target_secret_file;
};

// Adds the noun `initiator` and its verbs; parsing fills the command. Throws as CLI11 does. Returns
// the noun: parsed() says whether it was chosen.
CLI::App* add_initiator_commands(CLI::App& program, InitiatorCommand& command);

// Makes a loop of its own. Returns the exit status.
int run_initiator_command(const InitiatorCommand& command, std::ostream& out, std::ostream& err);

}  // namespace holdfast::initiator
