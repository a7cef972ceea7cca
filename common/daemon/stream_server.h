#pragma once
// A small server of requests and answers on its own thread, for the control socket and the metrics
// page: never near the data path, and bounded whatever its clients do.

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "common/base/result.h"

namespace holdfast::daemon {

class StreamServer {
 public:
  using Milliseconds = std::chrono::milliseconds;

  struct Limits {
    size_t max_clients;  // further ones wait in the listener's backlog
    size_t max_request_bytes;
    Milliseconds request_deadline;  // from connecting, or the last answer, to a whole request
    Milliseconds reply_deadline;
    Milliseconds send_deadline;
  };

  // The text of an answer, made on the server's thread.
  using Answer = std::move_only_function<std::string()>;
  // From any thread, once, also after the server is gone. Never called: the request times out.
  using Reply = std::move_only_function<void(Answer)>;
  enum class Failure : uint8_t { request_too_long, timed_out };

  // Called on the server's thread; must outlive the server.
  class Protocol {
   public:
    virtual ~Protocol() = default;
    // False: the client is dropped without an answer.
    virtual bool admit(int client) = 0;
    // Length of the first request in what has been received; nothing while it is incomplete.
    virtual std::optional<size_t> request_length(std::string_view received) = 0;
    virtual void on_request(std::string request, Reply reply) = 0;
    virtual std::string describe(Failure failure) = 0;
    // May the client send another request on the same connection?
    virtual bool keeps_connections() const = 0;
  };

  // Takes the listening socket, which must be non-blocking. thread_name: 15 characters.
  static base::Result<std::unique_ptr<StreamServer>> start(int listener, const Limits& limits,
                                                           Protocol& protocol,
                                                           const char* thread_name);
  // Drops every client and returns soon, whatever they do.
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

 private:
  using Instant = std::chrono::steady_clock::time_point;
  enum class State : uint8_t { receiving, waiting, sending, done };
  struct Client {
    int fd = -1;
    State state = State::receiving;
    uint64_t request_id = 0;  // of the request it waits for
    bool close_after_send = false;
    std::string in, out;
    size_t sent = 0;
    Instant deadline;
  };
  struct Mailbox;

  StreamServer(int listener, const Limits& limits, Protocol& protocol,
               std::shared_ptr<Mailbox> mailbox);
  void run();
  int poll_timeout_ms(Instant now) const;
  void accept_clients(Instant now);
  bool take_answers(Instant now);
  void serve(Client& client, bool ready, Instant now);
  void receive(Client& client, Instant now);
  void next_request(Client& client, Instant now);
  void send_now(Client& client, Instant now);
  void begin_send(Client& client, std::string text, bool close, Instant now);
  void on_deadline(Client& client, Instant now);

  int listener_;
  const Limits limits_;
  Protocol& protocol_;
  std::shared_ptr<Mailbox> mailbox_;
  std::list<Client> clients_;
  uint64_t last_request_id_ = 0;
  Instant accept_again_;  // after the process ran out of file descriptors
  std::thread thread_;
};

}  // namespace holdfast::daemon
