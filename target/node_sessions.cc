#include "target/node_sessions.h"

#include "common/base/log.h"

namespace holdfast::target {
namespace {

constexpr const char* kLog = "session";

}  // namespace

void NodeSessions::admit(const AdmitRequest& request, Reply reply) {
  pending_.emplace(request.session, std::make_unique<Pending>(*this, request.session, request.shard,
                                                              std::move(reply)));
  carry_out(registry_.admit(request), "reinstated by a new login of the same nexus");
}

void NodeSessions::gone(SessionId session) {
  forget(session);
  carry_out(registry_.gone(session), "");
}

bool NodeSessions::drop(SessionId session, const char* reason) {
  const SessionRegistry::Effects effects = registry_.drop(session);
  carry_out(effects, reason);
  return !effects.drops.empty();
}

void NodeSessions::on_deadline(SessionId session) {
  if (const SessionRegistry::Session* waiting = registry_.find(session)) {
    LOG_WARNING(kLog,
                "login refused with 0302: the commands of the session it reinstates have not "
                "ended: initiator={} isid={:012x} target={} tag={}",
                waiting->nexus.initiator_name, waiting->nexus.isid, waiting->nexus.target_name,
                waiting->nexus.portal_group_tag);
  }
  carry_out(registry_.expire(session), "");
}

void NodeSessions::carry_out(const SessionRegistry::Effects& effects, const char* drop_reason) {
  // The drops first: a session that is told it is in must not find the old one alive.
  for (const SessionId session : effects.drops) {
    shards_.tell(Shards::shard_of(session), [session, drop_reason](ShardControl& shard) {
      shard.drop_session(session, drop_reason);
    });
    if (on_dropped_) on_dropped_(session);
  }
  if (effects.waits) loop_.start(pending_.at(*effects.waits)->timer, deadline_);
  for (const SessionRegistry::Answer& answer : effects.answers) {
    Pending& pending = *pending_.at(answer.session);
    shards_.reply(pending.shard, std::move(pending.reply), AdmitReply(answer.reply));
    forget(answer.session);
  }
}

void NodeSessions::forget(SessionId session) {
  const auto found = pending_.find(session);
  if (found == pending_.end()) return;
  loop_.stop(found->second->timer);
  pending_.erase(found);
}

void NodeSessions::stop() {
  for (const auto& [session, pending] : pending_) loop_.stop(pending->timer);
  pending_.clear();
}

}  // namespace holdfast::target
