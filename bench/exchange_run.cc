#include "bench/exchange_run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "bench/histogram.h"

namespace holdfast::bench {
namespace {

using base::Errc;
using base::fail;
using base::Result;

// A process of ours that outlives its run by this much is stuck and kills itself.
constexpr unsigned kGraceSeconds = 10;

// What one client process hands to the parent, in shared memory.
struct ClientReport {
  LatencyHistogram latency;
  uint64_t elapsed_ns = 0;
};

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

double cpu_us(const rusage& usage) {
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

bool send_all(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(sent));
  }
  return true;
}

// --- server -------------------------------------------------------------------------------------

struct Served {
  int fd;
  size_t received = 0;  // bytes of a request that is not complete yet
};

class Server {
 public:
  Server(const ExchangeOptions& options, std::span<const int> fds)
      : options_(options),
        input_(std::max<size_t>(options.request_bytes * options.depth, 65536)),
        output_(options.response_bytes * options.depth) {
    for (const int fd : fds) connections_.push_back({fd});
  }

  // Until every client has closed. False: a connection failed.
  bool serve() {
    // A single connection sleeps in recv itself: one call less than poll and recv.
    const bool block = !options_.spin && connections_.size() == 1;
    while (!connections_.empty()) {
      if (!block && !options_.spin && !wait()) return false;
      for (size_t i = 0; i < connections_.size();) {
        const Outcome outcome = answer(connections_[i], block ? 0 : MSG_DONTWAIT);
        if (outcome == Outcome::failed) return false;
        if (outcome == Outcome::closed) {
          connections_.erase(connections_.begin() + static_cast<ptrdiff_t>(i));
        } else {
          ++i;
        }
      }
    }
    return true;
  }

 private:
  enum class Outcome : uint8_t { alive, closed, failed };

  bool wait() {
    std::vector<pollfd>& polled = polled_;
    polled.clear();
    for (const Served& connection : connections_) polled.push_back({connection.fd, POLLIN, 0});
    return poll(polled.data(), polled.size(), -1) >= 0 || errno == EINTR;
  }

  Outcome answer(Served& connection, int flags) {
    const ssize_t got = recv(connection.fd, input_.data(), input_.size(), flags);
    if (got == 0) return connection.received == 0 ? Outcome::closed : Outcome::failed;
    if (got < 0) {
      const bool again = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
      return again ? Outcome::alive : Outcome::failed;
    }
    connection.received += static_cast<size_t>(got);
    const size_t complete = connection.received / options_.request_bytes;
    connection.received %= options_.request_bytes;
    const size_t bytes = complete * options_.response_bytes;
    if (bytes > output_.size()) return Outcome::failed;
    return send_all(connection.fd, std::span(output_).first(bytes)) ? Outcome::alive
                                                                    : Outcome::failed;
  }

  const ExchangeOptions& options_;
  std::vector<Served> connections_;
  std::vector<pollfd> polled_;
  std::vector<uint8_t> input_;
  std::vector<uint8_t> output_;
};

// --- client -------------------------------------------------------------------------------------

class Client {
 public:
  Client(const ExchangeOptions& options, int fd, ClientReport& report)
      : options_(options),
        fd_(fd),
        report_(report),
        sent_at_(options.depth),
        output_(options.request_bytes),
        input_(std::max<size_t>(options.response_bytes * options.depth, 65536)) {}

  bool drive() {
    const uint64_t start = now_ns();
    const uint64_t end = start + static_cast<uint64_t>(options_.seconds * 1e9);
    for (size_t i = 0; i < options_.depth; ++i) {
      if (!send_one(now_ns())) return false;
    }
    size_t received = 0;
    while (sent_ > answered_) {
      const ssize_t got = recv(fd_, input_.data(), input_.size(), 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      received += static_cast<size_t>(got);
      const uint64_t now = now_ns();
      for (; received >= options_.response_bytes; received -= options_.response_bytes) {
        if (answered_ == sent_) return false;
        report_.latency.add(now - sent_at_[answered_++ % options_.depth]);
        if (now < end && !send_one(now_ns())) return false;
      }
    }
    report_.elapsed_ns = now_ns() - start;
    return received == 0 && shutdown(fd_, SHUT_WR) == 0;
  }

 private:
  bool send_one(uint64_t now) {
    sent_at_[sent_++ % options_.depth] = now;
    return send_all(fd_, output_);
  }

  const ExchangeOptions& options_;
  int fd_;
  ClientReport& report_;
  uint64_t sent_ = 0;
  uint64_t answered_ = 0;
  std::vector<uint64_t> sent_at_;  // answers come in the order of the requests
  std::vector<uint8_t> output_;
  std::vector<uint8_t> input_;
};

// --- the processes ------------------------------------------------------------------------------

struct Connected {
  std::vector<int> client;
  std::vector<int> server;
  void close_all() {
    for (const int fd : client) close(fd);
    for (const int fd : server) close(fd);
    client.clear();
    server.clear();
  }
};

Result<int> listen_loopback(sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(Errc::io, "cannot create a socket", errno);
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(fd, static_cast<int>(kMaxConnections)) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    const int error = errno;
    close(fd);
    return fail(Errc::io, "cannot listen on 127.0.0.1", error);
  }
  return fd;
}

// Both ends, made by the parent: on loopback connect() completes before accept().
Result<> connect_all(size_t count, Connected& out) {
  sockaddr_in address{};
  TRY_ASSIGN(const int listener, listen_loopback(address));
  const int on = 1;
  for (size_t i = 0; i < count; ++i) {
    const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client >= 0) out.client.push_back(client);
    if (client < 0 || connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
      break;
    const int server = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (server < 0) break;
    out.server.push_back(server);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  const int error = errno;
  close(listener);
  if (out.server.size() == count) return {};
  return fail(Errc::io, "cannot connect to 127.0.0.1", error);
}

// Runs `body` in a process of its own, which exits 0 when it returns true.
template <class Body>
pid_t start_process(const ExchangeOptions& options, Body body) {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  alarm(static_cast<unsigned>(options.seconds) + kGraceSeconds);
  _exit(body() ? 0 : 1);
}

class Children {
 public:
  ~Children() {
    for (const pid_t pid : pids_) kill(pid, SIGKILL);
    double ignored = 0;
    while (!pids_.empty()) wait_first(&ignored);
  }
  bool add(pid_t pid) {
    if (pid > 0) pids_.push_back(pid);
    return pid > 0;
  }
  // All of them; adds their CPU time. False when one failed.
  bool wait_all(double* cpu) {
    bool good = true;
    while (!pids_.empty()) good = wait_first(cpu) && good;
    return good;
  }

 private:
  bool wait_first(double* cpu) {
    int status = 0;
    rusage usage{};
    pid_t waited = 0;
    do {
      waited = wait4(pids_.front(), &status, 0, &usage);
    } while (waited < 0 && errno == EINTR);
    pids_.erase(pids_.begin());
    *cpu += cpu_us(usage);
    return waited > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  std::vector<pid_t> pids_;
};

// Every descriptor of `all` but the child's own: a copy left open would hide an end of stream.
void close_others(const Connected& all, std::span<const int> own) {
  const auto close_unless_own = [own](int fd) {
    if (std::ranges::find(own, fd) == own.end()) close(fd);
  };
  for (const int fd : all.client) close_unless_own(fd);
  for (const int fd : all.server) close_unless_own(fd);
}

bool start_servers(const ExchangeOptions& options, const Connected& connected, Children& servers) {
  for (size_t s = 0; s < options.servers; ++s) {
    const bool started = servers.add(start_process(options, [&] {
      std::vector<int> own;
      for (size_t i = s; i < connected.server.size(); i += options.servers) {
        own.push_back(connected.server[i]);
      }
      close_others(connected, own);
      return Server(options, own).serve();
    }));
    if (!started) return false;
  }
  return true;
}

bool start_clients(const ExchangeOptions& options, const Connected& connected,
                   std::span<ClientReport> reports, Children& clients) {
  for (size_t i = 0; i < options.connections; ++i) {
    const bool started = clients.add(start_process(options, [&] {
      const int own = connected.client[i];
      close_others(connected, {&own, 1});
      return Client(options, own, reports[i]).drive();
    }));
    if (!started) return false;
  }
  return true;
}

Result<> check(const ExchangeOptions& options) {
  const auto within = [](size_t value, size_t most) { return value >= 1 && value <= most; };
  if (!within(options.request_bytes, kMaxMessage) || !within(options.response_bytes, kMaxMessage))
    return fail(Errc::invalid_argument, "a message has 1 byte to 4 MiB");
  if (!within(options.depth, kMaxDepth))
    return fail(Errc::invalid_argument, "the depth is 1 to 1024");
  if (!within(options.connections, kMaxConnections) ||
      !within(options.servers, options.connections))
    return fail(Errc::invalid_argument, "1 to 64 connections, and 1 to as many servers");
  if (!(options.seconds > 0 && options.seconds <= kMaxSeconds))
    return fail(Errc::invalid_argument, "the run lasts more than 0 and at most 3600 seconds");
  return {};
}

ExchangeResult summarize(std::span<const ClientReport> reports) {
  const auto all = std::make_unique<LatencyHistogram>();
  ExchangeResult result;
  for (const ClientReport& report : reports) {
    all->merge(report.latency);
    result.seconds = std::max(result.seconds, static_cast<double>(report.elapsed_ns) / 1e9);
  }
  result.exchanges = all->count();
  result.p50_us = static_cast<double>(all->percentile(50)) / 1e3;
  result.p99_us = static_cast<double>(all->percentile(99)) / 1e3;
  return result;
}

}  // namespace

Result<ExchangeResult> run_exchange(const ExchangeOptions& options) {
  TRY(check(options));
  const size_t shared_bytes = sizeof(ClientReport) * options.connections;
  void* shared =
      mmap(nullptr, shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return fail(Errc::io, "cannot map shared memory", errno);
  const std::span<ClientReport> reports(static_cast<ClientReport*>(shared), options.connections);
  for (ClientReport& report : reports) new (&report) ClientReport;

  Connected connected;
  const Result<> made = connect_all(options.connections, connected);
  Children servers;
  Children clients;
  const bool started = made.has_value() && start_servers(options, connected, servers) &&
                       start_clients(options, connected, reports, clients);
  const int error = errno;
  connected.close_all();
  double server_cpu = 0;
  double client_cpu = 0;
  const bool ran = started && clients.wait_all(&client_cpu) && servers.wait_all(&server_cpu);
  ExchangeResult result = summarize(reports);
  munmap(shared, shared_bytes);
  if (!made.has_value()) return std::unexpected(made.error());
  if (!started) return fail(Errc::io, "cannot start a process", error);
  if (!ran) return fail(Errc::io, "an exchange process failed");
  result.server_cpu_us = server_cpu;
  result.client_cpu_us = client_cpu;
  return result;
}

}  // namespace holdfast::bench
