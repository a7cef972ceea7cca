#include "qdisk/guarded_call.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace holdfast::qdisk {
namespace {

// The child writes kStillAtIt now and then; at the end kResult, its status as one byte, the length
// of what is for standard output as eight bytes of this machine, that, and what is for standard
// error.
constexpr char kStillAtIt = 'p';
constexpr char kResult = 'r';
constexpr size_t kResultHead = 2 + sizeof(uint64_t);

Outcome failed(std::string why) { return {.status = 1, .out = {}, .err = std::move(why) + "\n"}; }

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // the parent has gone
    text.remove_prefix(static_cast<size_t>(count));
  }
}

// Whoever reads our output to its end must not wait for a child that was left behind.
int keep_only(int fd) {
  constexpr int kPipe = 3;
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::close(standard);
  if (fd != kPipe) ::dup2(fd, kPipe);
  ::close_range(kPipe + 1, ~0U, 0);
  return kPipe;
}

void run_child(int pipe, pid_t parent, const GuardedWork& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  const int fd = keep_only(pipe);
  if (::getppid() == parent) {
    const Outcome made = work([fd] { write_all(fd, {&kStillAtIt, 1}); });
    const uint64_t size = made.out.size();
    std::string text = {kResult, static_cast<char>(made.status)};
    text.append(reinterpret_cast<const char*>(&size), sizeof(size));
    write_all(fd, text + made.out + made.err);
  }
  ::_exit(0);
}

std::optional<Outcome> parse(std::string_view text) {
  while (text.starts_with(kStillAtIt)) text.remove_prefix(1);
  if (text.size() < kResultHead || text.front() != kResult) return std::nullopt;
  uint64_t size = 0;
  std::memcpy(&size, text.data() + 2, sizeof(size));
  const std::string_view body = text.substr(kResultHead);
  if (size > body.size()) return std::nullopt;
  return Outcome{.status = static_cast<uint8_t>(text[1]),
                 .out = std::string(body.substr(0, size)),
                 .err = std::string(body.substr(size))};
}

// Everything that comes until the end of the pipe; nothing: silence.
std::optional<std::string> read_all(int fd, int silence_ms) {
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    pollfd polled{.fd = fd, .events = POLLIN, .revents = 0};
    const int count = ::poll(&polled, 1, silence_ms);
    if (count == 0) return std::nullopt;
    if (count < 0) {
      if (errno == EINTR) continue;
      return std::nullopt;
    }
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

}  // namespace

std::optional<Outcome> call_guarded(const GuardedWork& work, std::chrono::milliseconds silence) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return failed("no pipe can be made");
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) run_child(ends[1], parent, work);
  ::close(ends[1]);
  if (child < 0) {
    ::close(ends[0]);
    return failed("no process can be started");
  }
  const std::optional<std::string> text = read_all(ends[0], static_cast<int>(silence.count()));
  ::close(ends[0]);
  if (!text) {
    ::kill(child, SIGKILL);  // and no wait for it
    return std::nullopt;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (auto outcome = parse(*text)) return outcome;
  return failed(
      WIFSIGNALED(status)
          ? fmt::format("the process at the device ended with signal {}", WTERMSIG(status))
          : std::string("the process at the device ended without a result"));
}

}  // namespace holdfast::qdisk
