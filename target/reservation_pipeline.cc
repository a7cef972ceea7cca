#include "target/reservation_pipeline.h"

#include <algorithm>

#include "common/base/log.h"
#include "target/unit.h"

namespace holdfast::target {
namespace {

constexpr const char* kLog = "reservation";

PrOutReply check_condition(const scsi::Sense& sense) {
  return {.status = scsi::Status::check_condition, .sense = sense};
}

}  // namespace

void ReservationPipeline::submit(PrOutCall call, std::vector<uint16_t> portal_group_tags,
                                 Reply reply) {
  const UnitId id = call.unit;
  Queue& queue = queues_[id];
  auto operation = std::make_unique<Operation>(*this, std::move(call), std::move(portal_group_tags),
                                               std::move(reply));
  if (queue.size() > kMaxWaitingPrOut) {
    answer(*operation, {.status = scsi::Status::busy});
    return;
  }
  // The preempting command ahead waits for this one to end: it was on its way here when the abort
  // went out.
  if (!queue.empty() &&
      std::ranges::binary_search(queue.front()->outcome.abort, operation->call.nexus)) {
    answer(*operation, {.status = scsi::Status::task_aborted});
    return;
  }
  loop_.start(operation->timer, deadline_);
  queue.push_back(std::move(operation));
  advance(id);
}

void ReservationPipeline::advance(UnitId id) {
  const auto found = queues_.find(id);
  if (found == queues_.end()) return;
  Queue& queue = found->second;
  while (!queue.empty()) {
    Operation& first = *queue.front();
    if (first.begun) return;
    first.begun = true;
    loop_.stop(first.timer);
    Unit* const unit = units_.find(id);
    if (unit == nullptr || unit->leaving) {
      answer(first, check_condition(scsi::kLunNotSupported));
    } else if (!begin(first, *unit)) {
      return;
    }
    queue.pop_front();
  }
  queues_.erase(found);
}

// True: answered already.
bool ReservationPipeline::begin(Operation& operation, Unit& unit) {
  const PrOutCall& call = operation.call;
  operation.next = unit.reservations;
  operation.outcome = operation.next.out(
      call.nexus, {.service_action = static_cast<scsi::ReserveOut>(call.service_action),
                   .scope = call.scope,
                   .type = call.type,
                   .parameter_list = call.parameter_list,
                   .portal_group_tags = operation.portal_group_tags});
  const PrOutcome& outcome = operation.outcome;
  if (outcome.status != scsi::Status::good) {
    answer(operation, {.status = outcome.status, .sense = outcome.sense});
    return true;
  }
  if (outcome.must_persist) {
    loop_.start(operation.timer, deadline_);
    save(operation, unit);
    return false;
  }
  if (operation.next == unit.reservations && outcome.attentions.empty() && outcome.abort.empty()) {
    answer(operation, {.status = scsi::Status::good});
    return true;
  }
  publish(operation, unit);
  return false;
}

void ReservationPipeline::save(Operation& operation, Unit& unit) {
  std::vector<uint8_t> encoded = operation.next.encode();
  std::vector<uint8_t> copy = encoded;
  store_.save_reservations(
      unit.identity, std::move(encoded), loop_,
      [this, id = unit.id, saved = std::move(copy)](base::Result<> result) mutable noexcept {
        on_saved(id, std::move(saved), result);
      });
}

void ReservationPipeline::on_saved(UnitId id, std::vector<uint8_t> encoded, base::Result<> result) {
  const auto found = queues_.find(id);
  Unit* const unit = units_.find(id);
  if (found == queues_.end()) return;  // stopped
  Operation& operation = *found->second.front();
  ASSERT(operation.begun);
  if (unit == nullptr) {  // answered for lateness, and then the disk was removed
    loop_.stop(operation.timer);
    finish_first(id);
    return;
  }
  if (!result.has_value() && result.error().code == base::Errc::in_doubt) {
    LOG_LIMITED(error, kLog, "perhaps not stored, trying again: disk={} initiator={}: {} errno={}",
                unit->config.name, operation.call.nexus.initiator_name, result.error().what,
                result.error().sys);
    loop_.start(operation.again, kDoubtRetry);
    return;
  }
  loop_.stop(operation.timer);
  if (!result.has_value()) {
    LOG_ERROR(kLog, "not stored, so refused: disk={} initiator={}: {} ({}) errno={}",
              unit->config.name, operation.call.nexus.initiator_name, result.error().what,
              base::to_string(result.error().code), result.error().sys);
    answer(operation, check_condition(scsi::kInternalTargetFailure));
    finish_first(id);
    return;
  }
  remember(unit->identity, std::move(encoded));
  // Also when it was answered for lateness: what is durable must be what holds.
  publish(operation, *unit);
}

// What a restart would find must not differ from what holds here, so no other change of the unit is
// begun until the store can tell.
void ReservationPipeline::on_save_again(Operation& operation) {
  Unit* const unit = units_.find(operation.call.unit);
  if (unit != nullptr) return save(operation, *unit);
  loop_.stop(operation.timer);
  finish_first(operation.call.unit);
}

void ReservationPipeline::publish(Operation& operation, Unit& unit) {
  unit.reservations = operation.next;
  shards_.ask_all({make_reservation_step(unit.snapshot(), operation.call, operation.outcome)},
                  deadline_, [this, id = unit.id](bool all) noexcept { on_published(id, all); });
  // The abort must not wait for a command that waits in this queue.
  const std::vector<NexusId>& aborted = operation.outcome.abort;
  if (aborted.empty()) return;
  abort_waiting([&](const PrOutCall& waiting) {
    return waiting.unit == unit.id && std::ranges::binary_search(aborted, waiting.nexus);
  });
}

void ReservationPipeline::on_published(UnitId id, bool all) {
  const auto found = queues_.find(id);
  if (found == queues_.end()) return;  // stopped
  Operation& operation = *found->second.front();
  if (!all) {
    LOG_ERROR(kLog, "commands of a preempted nexus do not end: unit={} initiator={}", id,
              operation.call.nexus.initiator_name);
  }
  answer(operation, all ? PrOutReply{.status = scsi::Status::good}
                        : check_condition(scsi::kInternalTargetFailure));
  finish_first(id);
}

void ReservationPipeline::finish_first(UnitId id) {
  queues_.at(id).pop_front();
  advance(id);
}

void ReservationPipeline::on_deadline(Operation& operation) {
  if (operation.begun) {
    // The store is silent. Whether the change becomes durable is not known; when it answers, the
    // state follows it.
    LOG_ERROR(kLog, "the state store does not answer: unit={}", operation.call.unit);
    answer(operation, check_condition(scsi::kInternalTargetFailure));
    return;
  }
  answer(operation, {.status = scsi::Status::busy});
  std::erase_if(queues_.at(operation.call.unit),
                [&](const auto& waiting) { return waiting.get() == &operation; });
}

void ReservationPipeline::abort_waiting(const std::function<bool(const PrOutCall&)>& aborted) {
  for (auto& [id, queue] : queues_) {
    std::erase_if(queue, [&](const auto& operation) {
      if (operation->begun || !aborted(operation->call)) return false;
      loop_.stop(operation->timer);
      answer(*operation, {.status = scsi::Status::task_aborted});
      return true;
    });
  }
}

void ReservationPipeline::stop() {
  for (auto& [id, queue] : queues_) {
    for (const auto& operation : queue) {
      loop_.stop(operation->timer);
      loop_.stop(operation->again);
    }
  }
  queues_.clear();
}

void ReservationPipeline::answer(Operation& operation, PrOutReply reply) {
  if (!operation.reply) return;
  shards_.reply(operation.call.shard, std::exchange(operation.reply, {}), std::move(reply));
}

base::Result<Reservations> ReservationPipeline::restore(const DiskIdentity& identity) const {
  const auto found = durable_.find(identity);
  if (found == durable_.end() || found->second.empty()) return Reservations{};
  TRY_ASSIGN(Reservations reservations, Reservations::decode(found->second));
  reservations.power_on();
  return reservations;
}

Shards::Ask make_reservation_step(std::shared_ptr<const UnitState> state, const PrOutCall& call,
                                  const PrOutcome& outcome) {
  std::vector<AttentionRequest> attentions;
  for (const PrAttention& attention : outcome.attentions) {
    auto same = std::ranges::find_if(attentions, [&](const AttentionRequest& request) {
      return request.sense == attention.sense;
    });
    if (same == attentions.end()) {
      attentions.push_back({.unit = call.unit, .sense = attention.sense});
      same = std::prev(attentions.end());
    }
    same->nexuses.push_back(attention.nexus);
  }
  AbortRequest abort{.unit = call.unit,
                     .nexuses = outcome.abort,
                     .requester = call.session,
                     .spared_task = call.task};
  return [state = std::move(state), attentions = std::move(attentions), abort = std::move(abort)](
             ShardControl& shard, ShardControl::Done done) {
    shard.publish_unit(state);
    for (const AttentionRequest& attention : attentions) shard.raise_attention(attention);
    if (abort.nexuses.empty()) {  // which would mean all
      done();
      return;
    }
    shard.abort_tasks(abort, std::move(done));
  };
}

}  // namespace holdfast::target
