// holdfast-lab-watchdog: lab_watchdog.h, with its waits and signals.

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>

#include "common/base/log.h"
#include "qdisk/lab_watchdog.h"

namespace holdfast::qdisk {
namespace {

constexpr const char* kLog = "lab-watchdog";
constexpr int kExitFailure = 1;
constexpr uint64_t kNsPerS = 1'000'000'000;

// Signals meant for a host's group or terminal do not reach it, nor do other processes hold it up.
void stand_apart() {
  if (::setsid() < 0) LOG_DEBUG(kLog, "leads a process group already");
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGTSTP}) {
    ::signal(signal, SIG_IGN);
  }
  const sched_param priority{.sched_priority = 1};
  if (::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &priority) != 0) {
    LOG_INFO(kLog, "without real-time priority: it may be late on a busy machine");
  }
}

int run(const LabWatchdogOptions& options) {
  sigset_t end;
  sigemptyset(&end);
  sigaddset(&end, SIGTERM);
  sigprocmask(SIG_BLOCK, &end, nullptr);
  stand_apart();
  if (const std::string obstacle = lab_obstacle(options); !obstacle.empty()) {
    LOG_ERROR(kLog, "{}", obstacle);
    return kExitFailure;
  }
  auto file = LabWatchdogFile::create(options.deadline);
  if (!file) {
    LOG_ERROR(kLog, "{}", file.error());
    return kExitFailure;
  }
  LabWatchdog watchdog(
      *file, [&] { return kill_host(options); },
      [&](const std::string& line) {
        LOG_WARNING(kLog, "{}", line);
        if (!options.log.empty() && !append_line(options.log, line)) {
          LOG_ERROR(kLog, "cannot write to {}", options.log);
        }
      });
  LOG_INFO(kLog, "watches {}; a test double, NOT a watchdog", options.deadline);
  for (;;) {
    const uint64_t wait = watchdog.look(lab_now_ns());
    const timespec rest{.tv_sec = static_cast<time_t>(wait / kNsPerS),
                        .tv_nsec = static_cast<long>(wait % kNsPerS)};
    if (::sigtimedwait(&end, nullptr, &rest) == SIGTERM) break;
  }
  if (file->deadline() > kLabFired) LOG_WARNING(kLog, "ends while it is armed: nobody watches");
  return 0;
}

}  // namespace
}  // namespace holdfast::qdisk

int main(int argc, char** argv) {
  const std::span<const char* const> all(argv, static_cast<size_t>(argc));
  const auto options = holdfast::qdisk::parse_lab_watchdog(all.subspan(argc > 0 ? 1 : 0));
  if (options) return holdfast::qdisk::run(*options);
  std::fputs(options.error().text.c_str(), options.error().status == 0 ? stdout : stderr);
  return options.error().status;
}
