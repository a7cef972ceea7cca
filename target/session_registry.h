#pragma once
// Which sessions exist, by nexus, and who waits for whom (RFC 7143 6.3.5: session reinstatement).
// Pure: the driver (node_sessions.h) carries out the effects.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "target/node_link.h"

namespace holdfast::target {

// Each session has a TSIH, 16 bits that are not 0; with all of them in use finding a free one would
// take long.
inline constexpr size_t kMaxSessions = 60'000;

class SessionRegistry {
 public:
  enum class State : uint8_t {
    waiting,   // for the end of the one it reinstates; executes nothing
    live,      // admitted
    draining,  // dead, but commands of it may still run
  };
  struct Session {
    NexusId nexus;  // of a discovery session: no target
    bool discovery = false;
    std::string portal{};  // of a discovery session
    uint16_t tsih = 0;
    State state = State::live;
  };
  struct Answer {
    SessionId session = 0;
    AdmitReply reply;
  };
  struct Effects {
    std::vector<Answer> answers;
    std::vector<SessionId> drops;    // tell their shards
    std::optional<SessionId> waits;  // start its deadline: expire() when it is over
  };

  // Of several that wait for the same nexus the newest wins, the others are refused. Discovery
  // sessions never wait: they have no commands; only one of the same initiator port and, where it
  // names no target, the same portal ends (RFC 7143 7.4.2).
  Effects admit(const AdmitRequest& request);
  // All of it has ended. A wait of its own is forgotten without an answer.
  Effects gone(SessionId session);
  // The deadline of a waiting one: refused, while what it waited for stays as draining. No effect
  // when it does not wait (any more).
  Effects expire(SessionId session);
  // It is dead from now on. No effect when it is not live.
  Effects drop(SessionId session);

  const Session* find(SessionId session) const;
  const std::map<SessionId, Session>& sessions() const { return sessions_; }

 private:
  struct Slot {
    std::optional<SessionId> current;  // live or draining
    std::optional<SessionId> waiting;
  };
  using Slots = std::map<NexusId, Slot>;
  using DiscoveryKey = std::pair<NexusId, std::string>;

  AdmitReply make_live(SessionId id, bool reinstated);
  uint16_t take_tsih();
  void forget(SessionId id);
  static DiscoveryKey discovery_key(const NexusId& nexus, const std::string& portal);

  std::map<SessionId, Session> sessions_;
  Slots slots_;                                    // none for discovery sessions
  std::map<DiscoveryKey, SessionId> discoveries_;  // the newest of each
  std::set<uint16_t> tsihs_;
  uint16_t last_tsih_ = 0;
};

}  // namespace holdfast::target
