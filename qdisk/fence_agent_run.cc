#include "qdisk/fence_agent_run.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <expected>
#include <utility>

extern char** environ;

namespace holdfast::qdisk {
namespace {

using daemon::Fd;

constexpr size_t kMaxReason = 200;  // of the output's last line

struct Child {
  pid_t pid;
  Fd process;  // readable when it has ended
  Fd output;
};

enum class Wake : uint8_t { ended, deadline, given_up };

// What of the output is kept, and the rest is read and dropped: the agent must not wait for us.
void drain(int fd, std::string& kept) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    kept.append(buffer.data(),
                std::min(static_cast<size_t>(count), FenceAgents::kMaxOutput - kept.size()));
  }
}

// Nothing of ours but its three streams, none of our signals' settings, a group of its own.
int spawn(const FenceAgent& agent, int output, pid_t& pid) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // Not a closed descriptor, which the first file that it opens would take the place of.
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setpgroup(&attributes, 0);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  std::vector<char*> argv;
  for (const std::string& each : agent.command) argv.push_back(const_cast<char*>(each.c_str()));
  argv.push_back(nullptr);
  const int error = posix_spawn(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

// The error is for the administrator.
std::expected<Child, std::string> start(const FenceAgent& agent) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return std::unexpected("no pipe can be made");
  Fd output(ends[0]);
  const Fd input(ends[1]);
  ::fcntl(output.get(), F_SETFL, O_NONBLOCK);
  pid_t pid = 0;
  if (const int error = spawn(agent, input.get(), pid); error != 0) {
    return std::unexpected(
        fmt::format("cannot start {}: {}", agent.command.front(), std::strerror(error)));
  }
  // Not pidfd_open(): glibc 2.36 declares it for C only.
  Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return Child{.pid = pid, .process = std::move(process), .output = std::move(output)};
}

Fd alarm_after(io::Duration time) {
  Fd alarm(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const itimerspec when{
      .it_interval = {},
      .it_value = {.tv_sec = whole.count(), .tv_nsec = static_cast<long>((time - whole).count())}};
  ::timerfd_settime(alarm.get(), 0, &when, nullptr);
  return alarm;
}

// Until the process has ended, also while others have its output open still.
Wake wait(const Child& child, int alarm, int give_up, std::string& output) {
  bool open = true;
  for (;;) {
    // poll() leaves a negative descriptor out.
    std::array<pollfd, 4> polled{
        {{.fd = child.process.get(), .events = POLLIN, .revents = 0},
         {.fd = alarm, .events = POLLIN, .revents = 0},
         {.fd = give_up, .events = POLLIN, .revents = 0},
         {.fd = open ? child.output.get() : -1, .events = POLLIN, .revents = 0}}};
    if (::poll(polled.data(), polled.size(), -1) < 0) continue;  // EINTR
    if (polled[3].revents != 0) drain(child.output.get(), output);
    if ((polled[3].revents & POLLHUP) != 0) open = false;
    if (polled[0].revents != 0) return Wake::ended;
    if (polled[1].revents != 0) return Wake::deadline;
    if (polled[2].revents != 0) return Wake::given_up;
  }
}

std::string last_line(const std::string& output) {
  const size_t end = output.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return {};
  const size_t before = output.find_last_of('\n', end);
  const size_t begin = before == std::string::npos ? 0 : before + 1;
  return ": " + output.substr(begin, std::min(end + 1 - begin, kMaxReason));
}

std::string reason_of(int status, Wake wake, const FenceAgent& agent, const std::string& output) {
  const auto deadline = std::chrono::duration_cast<std::chrono::milliseconds>(agent.deadline);
  if (wake == Wake::deadline) return fmt::format("not ended within {}", deadline);
  if (wake == Wake::given_up) return "given up";
  if (WIFSIGNALED(status)) return fmt::format("ended by signal {}", WTERMSIG(status));
  return fmt::format("exit status {}{}", WEXITSTATUS(status), last_line(output));
}

}  // namespace

FenceAgentOutcome run_fence_agent(const FenceAgent& agent, int give_up) {
  auto child = start(agent);
  if (!child) return {.off = false, .reason = child.error(), .output = {}};
  FenceAgentOutcome made;
  const Fd alarm = alarm_after(agent.deadline);
  Wake wake = Wake::given_up;  // where there is no descriptor left to wait with
  if (child->process.get() >= 0 && alarm.get() >= 0) {
    wake = wait(*child, alarm.get(), give_up, made.output);
  }
  // Before it is reaped: until then its number is that of no other group.
  ::kill(-child->pid, SIGKILL);
  pollfd ended{.fd = child->process.get(), .events = POLLIN, .revents = 0};
  constexpr auto kPatience =
      std::chrono::duration_cast<std::chrono::milliseconds>(FenceAgents::kKillPatience);
  ::poll(&ended, 1, static_cast<int>(kPatience.count()));
  int status = 0;
  const pid_t reaped = ::waitpid(child->pid, &status, WNOHANG);
  drain(child->output.get(), made.output);
  if (reaped != child->pid) {
    made.reason = reaped == 0 ? "killed, but hangs in the kernel" : "its exit status is lost";
    return made;
  }
  made.off = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!made.off) made.reason = reason_of(status, wake, agent, made.output);
  return made;
}

}  // namespace holdfast::qdisk
