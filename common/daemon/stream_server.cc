#include "common/daemon/stream_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "common/daemon/edge_thread.h"
#include "common/io/mutex.h"

namespace holdfast::daemon {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

}  // namespace

// Shared with the replies under way, which may outlive the server.
struct StreamServer::Mailbox {
  explicit Mailbox(int fd) : event_fd(fd) {}
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() { ::close(event_fd); }

  void wake() const {
    const uint64_t one = 1;
    // It fails only when the counter is full, and then the reader is awake.
    [[maybe_unused]] const ssize_t written = ::write(event_fd, &one, sizeof(one));
  }
  void put(uint64_t request_id, Answer answer) {
    {
      const io::MutexLock guard(mutex);
      if (stopping) return;
      answers.emplace_back(request_id, std::move(answer));
    }
    wake();
  }

  const int event_fd;
  io::Mutex mutex;
  bool stopping HOLDFAST_GUARDED_BY(mutex) = false;
  std::vector<std::pair<uint64_t, Answer>> answers HOLDFAST_GUARDED_BY(mutex);
};

base::Result<std::unique_ptr<StreamServer>> StreamServer::start(int listener, const Limits& limits,
                                                                Protocol& protocol,
                                                                const char* thread_name) {
  const int event_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (event_fd < 0) {
    const int error = errno;
    ::close(listener);
    return base::fail(base::Errc::limit, "cannot make an eventfd: too many open files", error);
  }
  std::unique_ptr<StreamServer> server(
      new StreamServer(listener, limits, protocol, std::make_shared<Mailbox>(event_fd)));
  server->thread_ = start_edge_thread(thread_name, [raw = server.get()] { raw->run(); });
  return server;
}

StreamServer::StreamServer(int listener, const Limits& limits, Protocol& protocol,
                           std::shared_ptr<Mailbox> mailbox)
    : listener_(listener), limits_(limits), protocol_(protocol), mailbox_(std::move(mailbox)) {}

StreamServer::~StreamServer() {
  {
    const io::MutexLock guard(mailbox_->mutex);
    mailbox_->stopping = true;
  }
  mailbox_->wake();
  thread_.join();
  for (const Client& client : clients_) ::close(client.fd);
  ::close(listener_);
}

void StreamServer::run() {
  std::vector<pollfd> polled;
  for (;;) {
    Instant now = Clock::now();
    polled.clear();
    polled.push_back({.fd = mailbox_->event_fd, .events = POLLIN, .revents = 0});
    const bool accepting = clients_.size() < limits_.max_clients && now >= accept_again_;
    polled.push_back({.fd = accepting ? listener_ : -1, .events = POLLIN, .revents = 0});
    for (const Client& client : clients_) {
      const short events = client.state == State::receiving ? POLLIN
                           : client.state == State::sending ? POLLOUT
                                                            : 0;
      polled.push_back({.fd = client.fd, .events = events, .revents = 0});
    }
    ::poll(polled.data(), polled.size(), poll_timeout_ms(now));
    now = Clock::now();
    size_t index = 2;
    for (Client& client : clients_) serve(client, polled[index++].revents != 0, now);
    if (!take_answers(now)) return;
    if (polled[1].revents != 0) accept_clients(now);
    clients_.remove_if([](const Client& client) {
      if (client.state != State::done) return false;
      ::close(client.fd);
      return true;
    });
  }
}

int StreamServer::poll_timeout_ms(Instant now) const {
  Instant first = Instant::max();
  for (const Client& client : clients_) first = std::min(first, client.deadline);
  if (accept_again_ > now) first = std::min(first, accept_again_);
  if (first == Instant::max()) return -1;
  const auto left = std::chrono::ceil<Milliseconds>(first - now).count();
  return static_cast<int>(std::max<int64_t>(left, 0));
}

void StreamServer::accept_clients(Instant now) {
  while (clients_.size() < limits_.max_clients) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      // Out of descriptors: the listener stays readable, and polling it would spin.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        accept_again_ = now + kAcceptPause;
      }
      if (errno != EINTR && errno != ECONNABORTED) return;
      continue;
    }
    if (!protocol_.admit(fd)) {
      ::close(fd);
      continue;
    }
    Client& client = clients_.emplace_back();
    client.fd = fd;
    client.deadline = now + limits_.request_deadline;
  }
}

// False: the server is to end. Looked at after the wake-up has been consumed, and not before: the
// one that tells of the end may be among those consumed here.
bool StreamServer::take_answers(Instant now) {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t drained = ::read(mailbox_->event_fd, &count, sizeof(count));
  std::vector<std::pair<uint64_t, Answer>> answers;
  {
    const io::MutexLock guard(mailbox_->mutex);
    if (mailbox_->stopping) return false;
    answers.swap(mailbox_->answers);
  }
  for (auto& [id, answer] : answers) {
    for (Client& client : clients_) {
      if (client.state == State::waiting && client.request_id == id) {
        begin_send(client, answer(), !protocol_.keeps_connections(), now);
        break;
      }
    }
  }
  return true;
}

void StreamServer::serve(Client& client, bool ready, Instant now) {
  if (ready && client.state == State::receiving) {
    receive(client, now);
  } else if (ready && client.state == State::sending) {
    send_now(client, now);
  } else if (ready) {
    client.state = State::done;  // gone while it waited
  }
  if (client.state != State::done && now >= client.deadline) on_deadline(client, now);
}

void StreamServer::receive(Client& client, Instant now) {
  std::array<char, 16384> buffer;
  const ssize_t count = ::recv(client.fd, buffer.data(), buffer.size(), 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    client.state = State::done;
    return;
  }
  client.in.append(buffer.data(), static_cast<size_t>(count));
  next_request(client, now);
}

void StreamServer::next_request(Client& client, Instant now) {
  const std::optional<size_t> length = protocol_.request_length(client.in);
  if (length.value_or(client.in.size()) > limits_.max_request_bytes) {
    return begin_send(client, protocol_.describe(Failure::request_too_long), true, now);
  }
  if (!length) return;
  std::string request = client.in.substr(0, *length);
  client.in.erase(0, *length);
  client.state = State::waiting;
  client.request_id = ++last_request_id_;
  client.deadline = now + limits_.reply_deadline;
  protocol_.on_request(std::move(request),
                       [mailbox = mailbox_, id = client.request_id](Answer answer) {
                         mailbox->put(id, std::move(answer));
                       });
}

void StreamServer::begin_send(Client& client, std::string text, bool close, Instant now) {
  client.state = State::sending;
  client.out = std::move(text);
  client.sent = 0;
  client.close_after_send = close;
  client.deadline = now + limits_.send_deadline;
  send_now(client, now);
}

void StreamServer::send_now(Client& client, Instant now) {
  while (client.sent < client.out.size()) {
    const ssize_t count = ::send(client.fd, client.out.data() + client.sent,
                                 client.out.size() - client.sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count < 0) {
      client.state = State::done;
      return;
    }
    client.sent += static_cast<size_t>(count);
  }
  client.out = {};
  if (client.close_after_send) {
    client.state = State::done;
    return;
  }
  client.state = State::receiving;
  client.deadline = now + limits_.request_deadline;
  next_request(client, now);  // what was pipelined makes no further event
}

void StreamServer::on_deadline(Client& client, Instant now) {
  if (client.state == State::waiting) {
    begin_send(client, protocol_.describe(Failure::timed_out), true, now);
  } else {
    client.state = State::done;
  }
}

}  // namespace holdfast::daemon
