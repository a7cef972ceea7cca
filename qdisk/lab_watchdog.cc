#include "qdisk/lab_watchdog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <vector>

#include "common/base/bytes.h"

namespace holdfast::qdisk {
namespace {

constexpr uint64_t kLookNs = 50'000'000;
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr size_t kMaxListBytes = 65536;  // of pids, and of a cgroup's
constexpr int kExitUsage = 2;

constexpr std::string_view kUsage =
    "usage: holdfast-lab-watchdog --deadline FILE --kill-cgroup DIR | --kill-pids FILE "
    "[--log FILE]\n"
    "  --deadline FILE    shared with the daemon; made if it is absent\n"
    "  --kill-cgroup DIR  when the deadline has passed, everything in this cgroup (v2) is killed\n"
    "  --kill-pids FILE   ... every process of this list; a negative number is a process group\n"
    "  --log FILE         a line is appended for each time\n"
    "A test double: NOT a watchdog for a host that matters. SIGTERM ends it.\n";

std::string error_text() { return std::strerror(errno); }

std::expected<std::string, int> read_text(const std::string& path) {
  auto content = daemon::read_file(path, kMaxListBytes);
  if (!content) return std::unexpected(content.error());
  if (content->size() > kMaxListBytes) return std::unexpected(EFBIG);
  return std::string(base::as_text(*content));
}

std::vector<std::string_view> words_of(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::string_view> words;
  for (size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;
       at = text.find_first_not_of(kSpace, at)) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

bool contains(const std::filesystem::path& cgroup, pid_t pid) {
  const std::string wanted = std::to_string(pid);
  const auto lists = [&](const std::filesystem::path& directory) {
    const auto text = read_text(directory / "cgroup.procs");
    if (!text) return false;
    const auto words = words_of(*text);
    return std::ranges::find(words, wanted) != words.end();
  };
  if (lists(cgroup)) return true;
  std::error_code error;
  for (auto each = std::filesystem::recursive_directory_iterator(cgroup, error);
       !error && each != std::filesystem::recursive_directory_iterator(); each.increment(error)) {
    if (each->is_directory(error) && lists(each->path())) return true;
  }
  return false;
}

}  // namespace

std::expected<LabWatchdogOptions, daemon::CommandLineEnd> parse_lab_watchdog(
    std::span<const char* const> arguments) {
  const auto wrong = [](const std::string& what) {
    return std::unexpected(
        daemon::CommandLineEnd{.status = kExitUsage, .text = fmt::format("{}\n{}", what, kUsage)});
  };
  LabWatchdogOptions options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      return std::unexpected(daemon::CommandLineEnd{.text = std::string(kUsage)});
    }
    std::string* value = argument == "--deadline"      ? &options.deadline
                         : argument == "--kill-cgroup" ? &options.kill_cgroup
                         : argument == "--kill-pids"   ? &options.kill_pids
                         : argument == "--log"         ? &options.log
                                                       : nullptr;
    if (value == nullptr) return wrong(fmt::format("unknown argument `{}`", argument));
    if (i + 1 == arguments.size() || *arguments[i + 1] == '\0') {
      return wrong(fmt::format("{} needs a value", argument));
    }
    *value = arguments[++i];
  }
  if (options.deadline.empty()) return wrong("--deadline is missing");
  if (options.kill_cgroup.empty() == options.kill_pids.empty()) {
    return wrong("one of --kill-cgroup and --kill-pids is needed");
  }
  return options;
}

std::string lab_obstacle(const LabWatchdogOptions& options) {
  if (options.kill_cgroup.empty()) return {};
  const std::string file = options.kill_cgroup + "/cgroup.kill";
  if (::access(file.c_str(), W_OK) != 0) {
    return fmt::format("cannot write to {}: {} (a cgroup v2 has it since Linux 5.14)", file,
                       error_text());
  }
  if (contains(options.kill_cgroup, ::getpid())) {
    return fmt::format("this process is in {} itself: start it outside", options.kill_cgroup);
  }
  return {};
}

LabKill kill_cgroup(const std::string& directory) {
  const std::string path = directory + "/cgroup.kill";
  const daemon::Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.get() >= 0 && ::write(file.get(), "1", 1) == 1)
    return {true, "everything in " + directory};
  const int error = errno;
  // An empty cgroup can be removed, one with processes cannot.
  if (file.get() < 0 && error == ENOENT && !std::filesystem::exists(directory)) {
    return {true, directory + " is gone already"};
  }
  return {false, fmt::format("cannot write to {}: {}", path, std::strerror(error))};
}

std::optional<pid_t> lab_victim(std::string_view word) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), pid);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  if (pid >= -1 && pid <= 1) return std::nullopt;
  if (pid == ::getpid() || pid == -::getpgrp()) return std::nullopt;
  return pid;
}

LabKill kill_pids(const std::string& file) {
  const auto text = read_text(file);
  if (!text) return {false, fmt::format("cannot read {}: {}", file, std::strerror(text.error()))};
  LabKill made{.done = true};
  for (const std::string_view word : words_of(*text)) {
    if (!made.report.empty()) made.report += ' ';
    made.report += word;
    const auto victim = lab_victim(word);
    if (!victim) {
      made.report += "(refused)";
    } else if (::kill(*victim, SIGKILL) != 0) {
      made.done = made.done && errno == ESRCH;
      made.report += errno == ESRCH ? "(gone)" : fmt::format("({})", error_text());
    }
  }
  return made;
}

LabKill kill_host(const LabWatchdogOptions& options) {
  return options.kill_cgroup.empty() ? kill_pids(options.kill_pids)
                                     : kill_cgroup(options.kill_cgroup);
}

bool append_line(const std::string& path, std::string_view line) {
  const daemon::Fd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  const std::string whole = fmt::format("{}\n", line);
  return file.get() >= 0 &&
         ::write(file.get(), whole.data(), whole.size()) == static_cast<ssize_t>(whole.size());
}

uint64_t LabWatchdog::look(uint64_t now_ns) {
  file_.set_watched_at(now_ns);
  const uint64_t deadline = file_.deadline();
  if (deadline == kLabFired) {
    if (unfinished_) {
      const LabKill again = kill_();
      unfinished_ = !again.done;
      if (again.done) say_(fmt::format("at={} killed after all: {}", now_ns, again.report));
    }
    return kLookNs;
  }
  if (deadline == kLabDisarmed) return kLookNs;
  if (now_ns < deadline) return std::min(kLookNs, deadline - now_ns);
  // Else it was petted meanwhile.
  if (!file_.replace_deadline(deadline, kLabFired)) return 0;
  fire(deadline, now_ns);
  return kLookNs;
}

void LabWatchdog::fire(uint64_t deadline, uint64_t now_ns) {
  const LabKill killed = kill_();
  unfinished_ = !killed.done;
  file_.set_fired_at(now_ns);
  say_(fmt::format("fired_at={} deadline={} late_ms={} {}: {}", now_ns, deadline,
                   (now_ns - deadline) / kNsPerMs, killed.done ? "killed" : "KILLS FAIL",
                   killed.report));
}

}  // namespace holdfast::qdisk
