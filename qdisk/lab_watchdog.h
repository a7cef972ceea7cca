#pragma once
// holdfast-lab-watchdog: a test double of a watchdog. Where hosts of the lab are groups of
// processes on one machine, it ends such a host as a reset would: all of it at once, whatever state
// it is in. It runs outside of the host, and nothing that happens to the host's processes stops it.

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "common/daemon/command_line.h"
#include "qdisk/lab_watchdog_file.h"

namespace holdfast::qdisk {

struct LabWatchdogOptions {
  std::string deadline;     // LabWatchdogFile
  std::string kill_cgroup;  // the directory of a cgroup v2; or
  std::string kill_pids;    // a file of numbers: processes, and process groups as negative ones
  std::string log;          // a file; none: only the program's own log
};

std::expected<LabWatchdogOptions, daemon::CommandLineEnd> parse_lab_watchdog(
    std::span<const char* const> arguments);

// What keeps the program from its work; empty: nothing. It must not be one of those whom it kills.
std::string lab_obstacle(const LabWatchdogOptions& options);

struct LabKill {
  bool done = false;  // everything has got its SIGKILL, or has gone. Else it is tried again
  std::string report;
};
LabKill kill_cgroup(const std::string& directory);
// A process, or a group as a negative number. Nothing: it is neither, or must not be killed, as
// this process, its own group, and everything there is (-1).
std::optional<pid_t> lab_victim(std::string_view word);
LabKill kill_pids(const std::string& file);
LabKill kill_host(const LabWatchdogOptions& options);

bool append_line(const std::string& path, std::string_view line);

// Fires once after each time that it was armed.
class LabWatchdog {
 public:
  using Kill = std::function<LabKill()>;
  using Say = std::function<void(const std::string& line)>;

  LabWatchdog(LabWatchdogFile& file, Kill kill, Say say)
      : file_(file), kill_(std::move(kill)), say_(std::move(say)) {}

  // Looks, and does what is due. Returns after how many ns it must look again.
  uint64_t look(uint64_t now_ns);

 private:
  void fire(uint64_t deadline, uint64_t now_ns);

  LabWatchdogFile& file_;
  const Kill kill_;
  const Say say_;
  bool unfinished_ = false;  // it has fired, and not all could be killed
};

}  // namespace holdfast::qdisk
