#pragma once
// Drives the SessionRegistry: deadlines, answers to logins, messages to shards.

#include <functional>
#include <map>
#include <memory>

#include "target/session_registry.h"
#include "target/shards.h"

namespace holdfast::target {

// Owner: NodeState. Thread: the control loop's.
class NodeSessions {
 public:
  using Reply = NodeLink::Reply<AdmitReply>;

  NodeSessions(io::Loop& loop, Shards& shards) : loop_(loop), shards_(shards) {}
  NodeSessions(const NodeSessions&) = delete;
  NodeSessions& operator=(const NodeSessions&) = delete;
  ~NodeSessions() { stop(); }

  void set_deadline(io::Duration deadline) { deadline_ = deadline; }
  void admit(const AdmitRequest& request, Reply reply);
  void gone(SessionId session);
  // It is dead from now on; its commands end in their time. False: not known, or dead already.
  // `reason` is static text for the log.
  bool drop(SessionId session, const char* reason);
  const std::map<SessionId, SessionRegistry::Session>& all() const { return registry_.sessions(); }
  // Called for every session that is made dead, so that nothing of it is carried out any more.
  void set_on_dropped(std::move_only_function<void(SessionId) noexcept> callback) {
    on_dropped_ = std::move(callback);
  }
  void stop();

 private:
  struct Pending {
    Pending(NodeSessions& all, SessionId session, uint32_t on_shard, Reply answer)
        : sessions(all), id(session), shard(on_shard), reply(std::move(answer)) {}
    void on_deadline() noexcept { sessions.on_deadline(id); }

    NodeSessions& sessions;
    SessionId id;
    uint32_t shard;
    Reply reply;
    io::TimerOf<Pending, &Pending::on_deadline> timer{*this};
  };
  void on_deadline(SessionId session);
  void carry_out(const SessionRegistry::Effects& effects, const char* drop_reason);
  void forget(SessionId session);

  io::Loop& loop_;
  Shards& shards_;
  io::Duration deadline_ = std::chrono::seconds(10);
  SessionRegistry registry_;
  std::map<SessionId, std::unique_ptr<Pending>> pending_;
  std::move_only_function<void(SessionId) noexcept> on_dropped_;
};

}  // namespace holdfast::target
