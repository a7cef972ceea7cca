#pragma once
// Calls, requests and notices between two nodes, over one connection. Both sides may call.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/rpc/connection.h"

namespace holdfast::rpc {

class Link;

// Views, valid during the callback they are given to.
struct Message {
  const std::string& from;  // the node
  uint16_t type = 0;
  base::Bytes payload;
};

// The duty to answer one request, once, now or later; on the link's loop. It may outlive the link:
// then its answer goes nowhere. Destroyed without an answer it refuses (Refusal::unanswered).
class Responder {
 public:
  Responder(Responder&& other) noexcept
      : link_(std::move(other.link_)), request_(std::exchange(other.request_, {})) {}
  Responder& operator=(Responder&& other) noexcept;
  ~Responder();

  bool pending() const { return request_.id != 0; }
  // An error leaves it pending: Errc::limit (the send queue is full), Errc::invalid_argument (too
  // long), Errc::closed (the connection is over).
  base::Result<> reply(base::Bytes payload, Priority priority = Priority::urgent);
  void refuse(Refusal why);

 private:
  friend class Link;
  Responder(std::weak_ptr<Link*> link, const FrameHeader& request);

  std::weak_ptr<Link*> link_;
  FrameHeader request_;  // id 0: answered
};

// What a node does with what others send. Outlives the links.
class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_request(const Message& request, Responder responder) noexcept = 0;
  virtual void on_notice(const Message& notice) noexcept = 0;
};

enum class CallOutcome : uint8_t {
  reply,
  refused,    // the peer did not do it
  timed_out,  // the peer may have done it, or do it yet
  lost,       // the same: the connection ended
};
const char* to_string(CallOutcome outcome) noexcept;

struct CallResult {
  CallOutcome outcome = CallOutcome::lost;
  base::Bytes payload;   // of a reply; valid during the callback
  const char* why = "";  // of the others; static text
};
// Two words of captures need no memory of their own.
using CallDone = std::move_only_function<void(const CallResult&) noexcept>;

struct CallOptions {
  io::Duration deadline;
  Priority priority = Priority::urgent;
};

class LinkEvents {
 public:
  virtual ~LinkEvents() = default;
  // The accepting side: link.node() has proved who it is. False: it is refused.
  virtual bool on_identified(Link&) noexcept { return true; }
  virtual void on_up(Link& link) noexcept = 0;
  // After all its calls have ended. The last call; the link may be destroyed from within it.
  virtual void on_down(Link& link, const ConnectionEnd& end) noexcept = 0;
};

// Owner: Peer or Listener; one loop's. As with a Connection, kept until on_down().
class Link final : private ConnectionEvents {
 public:
  Link(io::Loop& loop, io::Network& network, const Connection::Options& options, Handler& handler,
       LinkEvents& events);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() override = default;

  // connect() or accept() of it, once, and begin_close().
  Connection& connection() { return connection_; }

  bool up() const { return connection_.open() && opened_; }
  // Once it is identified.
  const std::string& node() const { return connection_.peer().node; }

  // `done` comes exactly once, later, if there was no error here: with the reply, at the deadline,
  // or when the connection has ended. Errc::closed: not up. Errc::limit: kMaxCalls are outstanding,
  // or the send queue is full. Errc::invalid_argument: too long.
  base::Result<> call(uint16_t type, base::Bytes payload, const CallOptions& options,
                      CallDone done);
  // Wants no answer. It arrives before whatever is sent later with the same priority, or the
  // connection ends. Errors as above.
  base::Result<> notify(uint16_t type, base::Bytes payload, Priority priority = Priority::urgent);
  // Frames of this priority that wait behind the send that is under way.
  size_t queued_bytes(Priority priority) const { return connection_.queued_bytes(priority); }

  size_t outstanding() const { return outstanding_; }
  size_t unanswered() const { return unanswered_; }
  uint64_t late_answers() const { return late_answers_; }  // to calls that had timed out

 private:
  friend class Responder;
  struct Call {
    explicit Call(Link& owner) : link(owner) {}
    void on_deadline() noexcept;

    Link& link;
    uint64_t id = 0;  // 0: free
    uint16_t type = 0;
    CallDone done;
    io::TimerOf<Call, &Call::on_deadline> timer{*this};
  };

  bool on_identified() noexcept override { return events_.on_identified(*this); }
  void on_opened() noexcept override;
  void on_frame(const FrameHeader& header, base::Bytes payload) noexcept override;
  void on_ended(const ConnectionEnd& end) noexcept override;

  Call* free_call();
  void on_request(const FrameHeader& header, base::Bytes payload);
  void on_answer(const FrameHeader& header, base::Bytes payload);
  void finish(Call& call, const CallResult& result);
  base::Result<> answer(const FrameHeader& header, base::Bytes payload, Priority priority);
  void refuse(FrameHeader header, Refusal why);

  io::Loop& loop_;
  Handler& handler_;
  LinkEvents& events_;
  bool opened_ = false;
  std::vector<std::unique_ptr<Call>> calls_;  // by slot; grows to kMaxCalls
  std::vector<Call*> free_calls_;
  uint64_t next_call_ = 1;
  size_t outstanding_ = 0;
  size_t unanswered_ = 0;
  uint64_t late_answers_ = 0;
  std::shared_ptr<Link*> self_;  // what Responders hold weakly
  Connection connection_;
};

}  // namespace holdfast::rpc
