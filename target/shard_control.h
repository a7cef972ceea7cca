#pragma once
// What the control loop tells a shard: a loop with the connections placed on it. Except load(),
// every call is made on the shard's own thread (the control loop posts it there) and `done` is
// called there, exactly once, from a later turn or from within the call.

#include <memory>
#include <optional>
#include <vector>

#include "common/io/network.h"
#include "common/scsi/sense.h"
#include "target/node_control.h"
#include "target/node_link.h"
#include "target/node_map.h"

namespace holdfast::target {

struct ShardLoad {
  uint32_t connections = 0;
  uint32_t logging_in = 0;     // of them, not in the full feature phase yet
  uint32_t busy_permille = 0;  // of the last second
};

// Which commands end. They are cancelled where the backing can still cancel them, and waited for
// where it cannot. Commands of other nexuses than the requester's report TASK ABORTED (TAS=1).
struct AbortRequest {
  std::optional<UnitId> unit{};         // absent: every unit
  std::optional<std::string> target{};  // only sessions of this target
  std::vector<NexusId> nexuses{};       // empty: all
  SessionId requester = 0;
  uint64_t spared_task = 0;  // of the requester; 0: none
  // The requester's commands end when the data of their open R2Ts has come (RFC 7143 4.2.3.3).
  bool awaits_data = false;
};

struct AttentionRequest {
  std::optional<UnitId> unit{};  // absent: every unit of `target`
  std::optional<std::string> target{};
  std::vector<NexusId> nexuses{};  // empty: all
  std::optional<NexusId> except{};
  SessionId except_session = 0;
  scsi::Sense sense{};
};

struct ShardStatus {
  std::vector<SessionStatus> sessions;
  std::vector<std::pair<UnitId, LunCounters>> counters;
  uint64_t logins_failed = 0, pdus_rejected = 0;
  uint64_t buffer_bytes_used = 0, buffer_bytes_total = 0;
};

class ShardControl {
 public:
  using Done = std::move_only_function<void() noexcept>;

  virtual ~ShardControl() = default;

  virtual ShardLoad load() const = 0;  // any thread

  virtual void set_map(std::shared_ptr<const NodeMap> map) = 0;
  virtual void add_unit(std::shared_ptr<const UnitState> unit) = 0;
  // Replaces what is known of the unit. When it returns, no new command is checked against the
  // older state. Nothing happens when it was removed meanwhile: it must not come back.
  virtual void publish_unit(std::shared_ptr<const UnitState> unit) = 0;
  // Ends its commands (05/25/00 for new ones), waits for them, lets go of the backing.
  virtual void remove_unit(UnitId unit, Done done) = 0;

  // Takes over an accepted connection; the socket is the shard's.
  virtual void adopt(io::Socket socket, uint16_t portal_group_tag) = 0;
  // Makes room: closes the connection that has been logging in the longest, if there is one.
  virtual void drop_oldest_login() = 0;

  virtual void abort_tasks(AbortRequest request, Done done) = 0;
  virtual void raise_attention(const AttentionRequest& request) = 0;

  // From now on the session executes nothing. NodeLink::session_gone follows when all has ended.
  virtual void drop_session(SessionId session, const char* reason) = 0;
  virtual void request_logout(SessionId session) = 0;  // async event 1, then a drop after its time

  // New writes that overlap wait; done when those under way have ended.
  virtual void close_gate(UnitId unit, ExclusiveId id, BlockRange range, Done done) = 0;
  virtual void open_gate(UnitId unit, ExclusiveId id) = 0;

  virtual ShardStatus status() = 0;

  // Ends all sessions and their commands, then done: nothing of the shard is pending on its loop.
  virtual void begin_shutdown(Done done) = 0;
};

}  // namespace holdfast::target
