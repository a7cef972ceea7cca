#include "target/session_registry.h"

#include <utility>

#include "common/base/assert.h"

namespace holdfast::target {
namespace {

SessionRegistry::Answer refused(SessionId session, const char* reason) {
  return {session, {.status = iscsi::LoginStatus::out_of_resources, .reason = reason}};
}

}  // namespace

SessionRegistry::Effects SessionRegistry::admit(const AdmitRequest& request) {
  ASSERT(request.session != 0 && !sessions_.contains(request.session));
  Effects effects;
  if (sessions_.size() >= kMaxSessions) {
    effects.answers.push_back(refused(request.session, "too many sessions"));
    return effects;
  }
  Session& session = sessions_[request.session];
  session = {.nexus = request.nexus,
             .discovery = request.discovery,
             .portal = request.portal.to_string(),
             .state = State::waiting};
  if (request.discovery) {
    const auto [known, first] =
        discoveries_.try_emplace(discovery_key(request.nexus, session.portal), request.session);
    if (!first) {
      const SessionId old_id = std::exchange(known->second, request.session);
      Session& old = sessions_.at(old_id);
      if (old.state == State::live) {
        old.state = State::draining;
        effects.drops.push_back(old_id);
      }
    }
    effects.answers.push_back({request.session, make_live(request.session, false)});
    return effects;
  }
  Slot& slot = slots_[request.nexus];
  if (slot.waiting) {
    effects.answers.push_back(
        refused(*slot.waiting, "a later login of this nexus takes its place"));
    sessions_.erase(*slot.waiting);
    slot.waiting.reset();
  }
  if (!slot.current) {
    slot.current = request.session;
    effects.answers.push_back({request.session, make_live(request.session, false)});
    return effects;
  }
  slot.waiting = request.session;
  effects.waits = request.session;
  // The old session is dead from this login on, whether or not the new one gets in.
  if (Session& old = sessions_.at(*slot.current); old.state == State::live) {
    old.state = State::draining;
    effects.drops.push_back(*slot.current);
  }
  return effects;
}

SessionRegistry::Effects SessionRegistry::gone(SessionId id) {
  Effects effects;
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return effects;
  const Session session = found->second;
  forget(id);
  if (session.discovery) {
    const auto known = discoveries_.find(discovery_key(session.nexus, session.portal));
    if (known != discoveries_.end() && known->second == id) discoveries_.erase(known);
    return effects;
  }
  const auto entry = slots_.find(session.nexus);
  ASSERT(entry != slots_.end());
  Slot& slot = entry->second;
  if (slot.waiting == id) {
    slot.waiting.reset();
  } else {
    ASSERT(slot.current == id);
    slot.current = slot.waiting;
    slot.waiting.reset();
    if (slot.current) effects.answers.push_back({*slot.current, make_live(*slot.current, true)});
  }
  if (!slot.current && !slot.waiting) slots_.erase(entry);
  return effects;
}

SessionRegistry::Effects SessionRegistry::expire(SessionId id) {
  Effects effects;
  const Session* const session = find(id);
  if (session == nullptr || session->state != State::waiting) return effects;
  Slot& slot = slots_.at(session->nexus);
  ASSERT(slot.waiting == id && slot.current);
  slot.waiting.reset();
  sessions_.erase(id);
  effects.answers.push_back(
      refused(id, "the commands of the session it reinstates have not ended"));
  return effects;
}

SessionRegistry::Effects SessionRegistry::drop(SessionId id) {
  Effects effects;
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second.state != State::live) return effects;
  found->second.state = State::draining;
  effects.drops.push_back(id);
  return effects;
}

const SessionRegistry::Session* SessionRegistry::find(SessionId id) const {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : &found->second;
}

AdmitReply SessionRegistry::make_live(SessionId id, bool reinstated) {
  Session& session = sessions_.at(id);
  session.state = State::live;
  session.tsih = take_tsih();
  return {.tsih = session.tsih, .reinstated = reinstated};
}

uint16_t SessionRegistry::take_tsih() {
  // One that was given out lately is not given out again soon. kMaxSessions leaves some free.
  do {
    ++last_tsih_;
  } while (last_tsih_ == 0 || tsihs_.contains(last_tsih_));
  tsihs_.insert(last_tsih_);
  return last_tsih_;
}

// RFC 7143 7.4.2.1, 7.4.2.2: <InitiatorName, ISID, no target, portal>, or with a target its portal
// group.
SessionRegistry::DiscoveryKey SessionRegistry::discovery_key(const NexusId& nexus,
                                                             const std::string& portal) {
  return {nexus, nexus.target_name.empty() ? portal : ""};
}

void SessionRegistry::forget(SessionId id) {
  const auto found = sessions_.find(id);
  if (found->second.tsih != 0) tsihs_.erase(found->second.tsih);
  sessions_.erase(found);
}

}  // namespace holdfast::target
