// holdfast-bench-relay: a cable between an initiator and a portal that is slower, or longer, than
// loopback, and that can break. One thread, epoll; both directions have the same rate and delay.
//
//   SIGUSR1  every connection is reset (RST), and nobody listens any more
//   SIGUSR2  every connection is closed in order (FIN), and nobody listens any more

#include <fmt/core.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/parse_number.h"
#include "bench/relay_queue.h"
#include "common/io/network.h"

namespace holdfast::bench {
namespace {

constexpr size_t kPiece = 64 * 1024;

constexpr const char* kUsage =
    "usage: holdfast-bench-relay --listen ADDRESS:PORT --to ADDRESS:PORT\n"
    "                            [--delay-us N] [--rate BYTES_PER_SECOND]\n"
    "Relays TCP connections; every byte leaves the delay later, in each direction, and each\n"
    "direction carries the rate at most. Prints `ready` once it listens. SIGUSR1 resets all\n"
    "connections and refuses new ones; SIGUSR2 closes them in order instead.\n";

struct RelayOptions {
  io::Endpoint listen, to;
  uint64_t delay_us = 0;
  uint64_t rate = 0;
};

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

int stream_socket(const io::Endpoint& endpoint) {
  return socket(endpoint.is_v6() ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                0);
}

// One connection: two sockets, two directions.
struct Link {
  struct Way {
    explicit Way(uint64_t delay_ns) : queue(delay_ns) {}
    DelayQueue queue;
    bool ended = false;    // the sender has closed
    bool shut = false;     // and the receiver knows
    bool blocked = false;  // the receiver takes no more now
  };
  Link(int near, int far, uint64_t delay_ns)
      : ends{near, far}, ways{Way(delay_ns), Way(delay_ns)} {}
  std::array<int, 2> ends;
  std::array<Way, 2> ways;            // from ends[i] to ends[1 - i]
  std::array<uint32_t, 2> watched{};  // what epoll was told for each end
  bool dead = false;
};

class Relay {
 public:
  explicit Relay(const RelayOptions& options)
      : options_(options), buckets_{TokenBucket(options.rate), TokenBucket(options.rate)} {}

  bool open();
  void run();

 private:
  // What an event is about, in epoll's word: a link's number and its end, or one of these.
  static constexpr uint64_t kListener = UINT64_MAX, kSignals = UINT64_MAX - 1;

  void accept_all();
  void on_signal();
  void break_all(bool reset);
  void on_event(uint64_t what, uint32_t events);
  void read_from(Link& link, size_t side, uint64_t now);
  void send_to(Link& link, size_t way, uint64_t now);
  void watch(Link& link, size_t number, size_t side);
  void end(Link& link, bool reset);
  uint64_t move_all(uint64_t now);

  const RelayOptions options_;
  std::array<TokenBucket, 2> buckets_;
  int epoll_ = -1, listener_ = -1, signals_ = -1;
  std::array<uint8_t, kPiece> piece_;
  std::vector<std::unique_ptr<Link>> links_;  // never shrinks: a relay has a handful in its life
};

bool Relay::open() {
  sigset_t handled;
  sigemptyset(&handled);
  sigaddset(&handled, SIGUSR1);
  sigaddset(&handled, SIGUSR2);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  signals_ = signalfd(-1, &handled, SFD_NONBLOCK | SFD_CLOEXEC);
  listener_ = stream_socket(options_.listen);
  if (epoll_ < 0 || signals_ < 0 || listener_ < 0) return false;
  const int on = 1;
  setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t length = 0;
  const sockaddr_storage address = options_.listen.to_sockaddr(&length);
  if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), length) != 0) return false;
  if (listen(listener_, 16) != 0) return false;
  for (const auto& [fd, word] : {std::pair(listener_, kListener), std::pair(signals_, kSignals)}) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = word}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  }
  return true;
}

void Relay::run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const uint64_t now = now_ns();
    const uint64_t next = move_all(now);
    const uint64_t wait = next > now ? next - now : 0;
    const timespec timeout{.tv_sec = static_cast<time_t>(wait / 1'000'000'000),
                           .tv_nsec = static_cast<long>(wait % 1'000'000'000)};
    const int count = epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()),
                                   next == UINT64_MAX ? nullptr : &timeout, nullptr);
    if (count < 0 && errno != EINTR) return;
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<size_t>(i)];
      on_event(event.data.u64, event.events);
    }
  }
}

void Relay::on_event(uint64_t what, uint32_t events) {
  if (what == kListener) return accept_all();
  if (what == kSignals) return on_signal();
  Link& link = *links_[what / 2];
  const size_t side = what % 2;
  if (link.dead) return;
  if ((events & EPOLLERR) != 0) return end(link, true);
  if ((events & (EPOLLIN | EPOLLHUP)) != 0) read_from(link, side, now_ns());
  if ((events & EPOLLOUT) != 0) link.ways[1 - side].blocked = false;
}

void Relay::accept_all() {
  for (;;) {
    const int near = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (near < 0) return;
    const int far = stream_socket(options_.to);
    socklen_t length = 0;
    const sockaddr_storage address = options_.to.to_sockaddr(&length);
    const int connected = connect(far, reinterpret_cast<const sockaddr*>(&address), length);
    const auto number = links_.size();
    links_.push_back(std::make_unique<Link>(near, far, options_.delay_us * 1000));
    Link& link = *links_.back();
    if (connected != 0 && errno != EINPROGRESS) {
      end(link, true);
      continue;
    }
    link.ways[0].blocked = connected != 0;  // until EPOLLOUT
    const int on = 1;
    for (size_t side = 0; side < 2; ++side) {
      setsockopt(link.ends[side], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      epoll_event event{.events = 0, .data = {.u64 = number * 2 + side}};
      epoll_ctl(epoll_, EPOLL_CTL_ADD, link.ends[side], &event);
    }
  }
}

void Relay::on_signal() {
  signalfd_siginfo info{};
  if (read(signals_, &info, sizeof info) != sizeof info) return;
  break_all(info.ssi_signo == SIGUSR1);
}

void Relay::break_all(bool reset) {
  if (listener_ >= 0) close(std::exchange(listener_, -1));
  for (const auto& link : links_) {
    if (!link->dead) end(*link, reset);
  }
}

void Relay::end(Link& link, bool reset) {
  link.dead = true;
  for (const int fd : link.ends) {
    if (reset) {
      const linger now{.l_onoff = 1, .l_linger = 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    } else {
      shutdown(fd, SHUT_WR);  // what has come and was not read would make the close a reset
      std::array<char, kPiece> sink;
      while (recv(fd, sink.data(), sink.size(), 0) > 0) {
      }
    }
    close(fd);
  }
}

void Relay::read_from(Link& link, size_t side, uint64_t now) {
  Link::Way& way = link.ways[side];
  while (!way.ended && way.queue.room() >= kPiece) {
    const ssize_t got = recv(link.ends[side], piece_.data(), piece_.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got < 0) return end(link, true);
    if (got == 0) {
      way.ended = true;
      return;
    }
    way.queue.push({piece_.begin(), piece_.begin() + got}, now);
    if (static_cast<size_t>(got) < kPiece) return;
  }
}

void Relay::send_to(Link& link, size_t number, uint64_t now) {
  Link::Way& way = link.ways[number];
  const int fd = link.ends[1 - number];
  while (!way.blocked) {
    const auto due = way.queue.front(now);
    if (due.empty()) break;
    const size_t allowed = buckets_[number].allowed(now);
    if (allowed == 0) return;
    const ssize_t sent = send(fd, due.data(), std::min(due.size(), allowed), MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      way.blocked = true;
      return;
    }
    if (sent < 0) return end(link, true);
    buckets_[number].take(static_cast<size_t>(sent));
    way.queue.pop(static_cast<size_t>(sent));
  }
  if (way.ended && way.queue.empty() && !way.shut) {
    way.shut = true;
    shutdown(fd, SHUT_WR);
    if (link.ways[1 - number].shut) end(link, false);
  }
}

// Level-triggered, so epoll hears of what is wanted only.
void Relay::watch(Link& link, size_t number, size_t side) {
  Link::Way& in = link.ways[side];
  const Link::Way& out = link.ways[1 - side];
  const bool read = !in.ended && in.queue.room() >= kPiece;
  const uint32_t wanted = (read ? uint32_t{EPOLLIN} : 0) | (out.blocked ? uint32_t{EPOLLOUT} : 0);
  if (std::exchange(link.watched[side], wanted) == wanted) return;
  epoll_event event{.events = wanted, .data = {.u64 = number * 2 + side}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, link.ends[side], &event);
}

// Sends what is due; the answer is when something is due again.
uint64_t Relay::move_all(uint64_t now) {
  uint64_t next = UINT64_MAX;
  for (size_t number = 0; number < links_.size(); ++number) {
    Link& link = *links_[number];
    for (size_t way = 0; way < 2 && !link.dead; ++way) send_to(link, way, now);
    for (size_t side = 0; side < 2 && !link.dead; ++side) watch(link, number, side);
    if (link.dead) continue;
    for (size_t way = 0; way < 2; ++way) {
      const Link::Way& each = link.ways[way];
      if (each.queue.empty() || each.blocked) continue;
      const uint64_t due = each.queue.due_ns();
      next = std::min(next, due > now ? due : buckets_[way].next_ns());
    }
  }
  return next;
}

bool parse_endpoint(std::string_view text, io::Endpoint* out) {
  const auto endpoint = io::Endpoint::parse(text);
  if (endpoint.has_value()) *out = *endpoint;
  return endpoint.has_value();
}

bool parse_options(int argc, char** argv, RelayOptions* out) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const std::string_view value = i + 1 < argc ? argv[++i] : "";
    const bool good = name == "--listen"     ? parse_endpoint(value, &out->listen)
                      : name == "--to"       ? parse_endpoint(value, &out->to)
                      : name == "--delay-us" ? parse_number(value, &out->delay_us)
                      : name == "--rate"     ? parse_number(value, &out->rate)
                                             : false;
    if (!good) return false;
  }
  return out->listen.port() != 0 && out->to.port() != 0;
}

int run(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    fmt::print("{}", kUsage);
    return 0;
  }
  RelayOptions options;
  if (!parse_options(argc, argv, &options)) {
    fmt::print(stderr, "{}", kUsage);
    return 2;
  }
  Relay relay(options);
  if (!relay.open()) {
    fmt::print(stderr, "holdfast-bench-relay: {}: {}\n", options.listen.to_string(),
               std::strerror(errno));
    return 1;
  }
  fmt::print("ready\n");
  std::fflush(stdout);
  relay.run();
  return 1;
}

}  // namespace
}  // namespace holdfast::bench

int main(int argc, char** argv) { return holdfast::bench::run(argc, argv); }
