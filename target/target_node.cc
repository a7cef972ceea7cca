#include "target/target_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/log.h"
#include "target/login_policy.h"
#include "target/node_status.h"

namespace holdfast::target {
namespace {

constexpr io::Duration kStatusWait = std::chrono::seconds(2);

NodeControl::Outcome refused(std::string reason) {
  return std::unexpected(std::vector<std::string>{std::move(reason)});
}

NodeControl::Outcome done(std::string sentence) {
  return std::vector<std::string>{std::move(sentence)};
}

}  // namespace

TargetNode::TargetNode(const NodeServices& services)
    : state_(services), operations_(state_), start_(state_), change_(state_, operations_) {
  // What a dead session asked for and what waits is not carried out.
  state_.sessions.set_on_dropped([this](SessionId session) noexcept {
    state_.reservations.abort_waiting(
        [session](const PrOutCall& waiting) { return waiting.session == session; });
  });
  change_.set_on_idle([this]() noexcept { run([this]() noexcept { begin_waiting_apply(); }); });
}

TargetNode::~TargetNode() = default;

template <class Work>
void TargetNode::run(Work work) {
  state_.loop().post([this, work = std::move(work)]() mutable noexcept {
    if (!state_.stopping) work();
  });
}

void TargetNode::start(Config config, std::vector<ShardHandle> shards, Reply<Outcome> reply) {
  state_.shards.attach(std::move(shards));
  start_.begin(
      std::move(config), [this, reply = std::move(reply)](Outcome outcome) mutable noexcept {
        // Never from within the call.
        state_.loop().post(
            [this, reply = std::move(reply), outcome = std::move(outcome)]() mutable noexcept {
              started_ = outcome.has_value();
              reply(std::move(outcome));
              if (!state_.stopping) begin_waiting_apply();
            });
      });
}

void TargetNode::shutdown(Reply<bool> reply) {
  state_.stopping = true;
  start_.stop();
  change_.stop();
  state_.reservations.stop();
  state_.sessions.stop();
  state_.opener.cancel_all();
  state_.shards.forget_waits();
  // The accept operations end at once.
  state_.portals.close([this, reply = std::move(reply)]() mutable noexcept {
    state_.shards.ask_all({[](ShardControl& shard, ShardControl::Done done) {
                            shard.begin_shutdown(std::move(done));
                          }},
                          kShutdownWait,
                          [this, reply = std::move(reply)](bool all) mutable noexcept {
                            reply(all && !state_.opener.asked() && change_.growing() == 0);
                          });
  });
}

void TargetNode::admit(AdmitRequest request, Reply<AdmitReply> reply) {
  run([this, request = std::move(request), reply = std::move(reply)]() mutable noexcept {
    // The configuration may have changed since the login began, and a login that is refused must
    // not end the session that it would reinstate.
    std::optional<LoginObstacle> obstacle;
    if (!request.discovery) {
      obstacle = find_obstacle(*state_.map, request.nexus, request.portal, request.peer);
    }
    if (!obstacle) return state_.sessions.admit(request, std::move(reply));
    state_.shards.reply(request.shard, std::move(reply),
                        AdmitReply{.status = obstacle->status, .reason = obstacle->reason});
  });
}

void TargetNode::session_gone(SessionId session) {
  run([this, session]() noexcept { state_.sessions.gone(session); });
}

void TargetNode::pr_out(PrOutCall call, Reply<PrOutReply> reply) {
  run([this, call = std::move(call), reply = std::move(reply)]() mutable noexcept {
    operations_.pr_out(std::move(call), std::move(reply));
  });
}

void TargetNode::reset(ResetCall call, Reply<bool> reply) {
  run([this, call = std::move(call), reply = std::move(reply)]() mutable noexcept {
    operations_.reset(std::move(call), std::move(reply));
  });
}

void TargetNode::acquire_exclusive(uint32_t shard, UnitId unit, BlockRange range,
                                   Reply<ExclusiveId> reply) {
  run([this, shard, unit, range, reply = std::move(reply)]() mutable noexcept {
    operations_.acquire_exclusive(shard, unit, range, std::move(reply));
  });
}

void TargetNode::release_exclusive(UnitId unit, ExclusiveId id) {
  run([this, unit, id]() noexcept { operations_.release_exclusive(unit, id); });
}

void TargetNode::mode_select(uint32_t shard, UnitId unit, scsi::ModeChanges changes, NexusId nexus,
                             Reply<scsi::Status> reply) {
  run([this, shard, unit, changes, nexus = std::move(nexus),
       reply = std::move(reply)]() mutable noexcept {
    operations_.mode_select(shard, unit, changes, nexus, std::move(reply));
  });
}

void TargetNode::status(Reply<NodeStatus> reply) {
  run([this, reply = std::move(reply)]() mutable noexcept {
    state_.shards.gather(kStatusWait,
                         [this, reply = std::move(reply)](auto shards) mutable noexcept {
                           reply(make_status(state_, shards));
                         });
  });
}

void TargetNode::change(std::move_only_function<Planned()> plan, Reply<Outcome> reply) {
  run([this, plan = std::move(plan), reply = std::move(reply)]() mutable noexcept {
    if (!started_ || change_.busy()) {
      return reply(refused("another change is under way: try again when it is done"));
    }
    begin_change(plan(), std::move(reply));
  });
}

void TargetNode::begin_change(Planned planned, Reply<Outcome> reply) {
  if (!planned.has_value()) {
    reply(std::unexpected(std::move(planned.error())));
  } else if (planned->sentences.empty()) {
    reply(done("nothing to change"));
  } else {
    change_.begin(std::move(*planned), std::move(reply));
  }
}

void TargetNode::apply(Config config, bool force, Reply<Outcome> reply) {
  run([this, config = std::move(config), force, reply = std::move(reply)]() mutable noexcept {
    if (waiting_apply_) {
      std::exchange(waiting_apply_, std::nullopt)
          ->reply(refused("not made: a later configuration takes its place"));
    }
    waiting_apply_.emplace(std::move(config), force, std::move(reply));
    begin_waiting_apply();
  });
}

void TargetNode::begin_waiting_apply() {
  if (!waiting_apply_) return;
  if (change_.waits_for_growth()) change_.give_up_growth();
  if (!waiting_apply_) return;  // its end has begun it
  if (!started_ || change_.busy()) {
    LOG_INFO("change", "another change is under way: the configuration is applied after it");
    return;
  }
  WaitingApply apply = *std::exchange(waiting_apply_, std::nullopt);
  std::vector<std::string> again = state_.open_failed();
  Planned plan = plan_apply(state_, std::move(apply.config), apply.force);
  if (plan.has_value() && plan->sentences.empty() && !again.empty()) {
    return apply.reply(std::move(again));
  }
  begin_change(std::move(plan), std::move(apply.reply));
}

void TargetNode::disk_create(DiskConfig disk, Reply<Outcome> reply) {
  change([this,
          disk = std::move(disk)]() mutable { return plan_disk_create(state_, std::move(disk)); },
         std::move(reply));
}

void TargetNode::disk_resize(std::string name, uint64_t size_bytes, Reply<Outcome> reply) {
  change([this, name = std::move(name),
          size_bytes] { return plan_disk_resize(state_, name, size_bytes); },
         std::move(reply));
}

void TargetNode::disk_remove(std::string name, Reply<Outcome> reply) {
  change([this, name = std::move(name)] { return plan_disk_remove(state_, name); },
         std::move(reply));
}

void TargetNode::session_drop(uint64_t id, Reply<Outcome> reply) {
  run([this, id, reply = std::move(reply)]() mutable noexcept {
    const bool dropped = state_.sessions.drop(id, "dropped by the administrator");
    reply(dropped
              ? done(fmt::format("session {} is ended", id))
              : refused(fmt::format("there is no live session {}: `holdfast target session list` "
                                    "shows those there are",
                                    id)));
  });
}

void TargetNode::session_request_logout(uint64_t id, Reply<Outcome> reply) {
  run([this, id, reply = std::move(reply)]() mutable noexcept {
    const auto found = state_.sessions.all().find(id);
    if (found == state_.sessions.all().end() ||
        found->second.state != SessionRegistry::State::live) {
      reply(
          refused(fmt::format("there is no live session {}: `holdfast target session list` shows "
                              "those there are",
                              id)));
      return;
    }
    state_.shards.tell(Shards::shard_of(id),
                       [id](ShardControl& shard) { shard.request_logout(id); });
    reply(done(fmt::format("session {} is asked to log out", id)));
  });
}

void TargetNode::set_alua(uint16_t portal_group_tag, std::string state, Reply<Outcome> reply) {
  run([this, portal_group_tag, state = std::move(state),
       reply = std::move(reply)]() mutable noexcept {
    const auto& groups = state_.config.portal_groups;
    if (std::ranges::find(groups, portal_group_tag, &PortalGroupConfig::tag) == groups.end()) {
      reply(refused(fmt::format("there is no portal group {}", portal_group_tag)));
    } else if (!scsi::parse_alua_state(state)) {
      reply(
          refused(fmt::format("`{}` is no ALUA state: use active/optimized, active/non-optimized, "
                              "standby, unavailable or transitioning",
                              state)));
    } else {
      store_alua(portal_group_tag, state, std::move(reply));
    }
  });
}

void TargetNode::store_alua(uint16_t tag, const std::string& state, Reply<Outcome> reply) {
  state_.services.store.save_alua(
      tag, state, state_.loop(),
      [this, tag, parsed = *scsi::parse_alua_state(state),
       reply = std::move(reply)](base::Result<> result) mutable noexcept {
        if (state_.stopping) return;
        if (result.has_value()) {
          publish_alua(tag, parsed, std::move(reply));
        } else {
          reply(refused(fmt::format("the state of portal group {} cannot be stored: {}", tag,
                                    result.error().what)));
        }
      });
}

void TargetNode::publish_alua(uint16_t tag, scsi::AluaState state, Reply<Outcome> reply) {
  state_.alua[tag] = {.state = state, .changed = true};
  LOG_INFO("alua", "portal group {} is {}", tag, scsi::to_string(state));
  state_.shards.ask_all(
      {[map = state_.make_map()](ShardControl& shard, ShardControl::Done done) {
        shard.set_map(map);
        shard.raise_attention({.sense = scsi::kAsymmetricAccessChanged});
        done();
      }},
      state_.drain_deadline(), [tag, state, reply = std::move(reply)](bool all) mutable noexcept {
        reply(all ? done(fmt::format("portal group {} is {}", tag, scsi::to_string(state)))
                  : refused("a thread does not answer; the state is stored"));
      });
}

}  // namespace holdfast::target
