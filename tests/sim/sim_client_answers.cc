// What the answers mean to the models.

#include "common/scsi/persistent_reservation.h"
#include "tests/sim/sim_client.h"

namespace holdfast::sim {

namespace {

// The parameter data of READ FULL STATUS (SPC-4 6.15).
std::optional<PrState> parse_full_status(base::Bytes data) {
  constexpr size_t kHeader = 8, kDescriptor = 24;
  if (data.size() < kHeader) return std::nullopt;
  PrState state;
  state.generation = base::load<base::be32>(data);
  const size_t length = base::load<base::be32>(data.subspan(4));
  if (kHeader + length > data.size()) return std::nullopt;
  base::Bytes rest = data.subspan(kHeader, length);
  while (!rest.empty()) {
    if (rest.size() < kDescriptor) return std::nullopt;
    const size_t additional = base::load<base::be32>(rest.subspan(20));
    if (rest.size() - kDescriptor < additional) return std::nullopt;
    const auto id = scsi::parse_transport_id(rest.subspan(kDescriptor, additional));
    if (!id || !id->id.isid) return std::nullopt;
    const PrNexus nexus{id->id.initiator_name, *id->id.isid};
    state.keys[nexus] = base::load<base::be64>(rest);
    if ((rest[12] & 0x01) != 0) {
      state.type = rest[13] & 0x0f;
      state.holder = nexus;
    }
    rest = rest.subspan(kDescriptor + additional);
  }
  if (state.type == 7 || state.type == 8) state.holder = {};
  return state;
}

}  // namespace

SimClient::Verdict SimClient::judge_answer(const Operation& operation, const ScsiResult& result) {
  if (!result.answered) return Verdict::unknown;
  switch (result.status) {
    case scsi::Status::good:
      return Verdict::done;
    case scsi::Status::reservation_conflict:
      return Verdict::conflict;
    case scsi::Status::busy:
    case scsi::Status::task_set_full:
      return Verdict::refused;
    case scsi::Status::task_aborted:
      return Verdict::ended;
    case scsi::Status::check_condition:
      break;
    default:
      judge_.check(fmt::format("{}: SCSI status {}", name_, static_cast<int>(result.status)));
      return Verdict::ended;
  }
  switch (result.sense.key) {
    case scsi::SenseKey::unit_attention:
    case scsi::SenseKey::not_ready:
      return Verdict::refused;
    case scsi::SenseKey::miscompare:
      return Verdict::miscompare;
    case scsi::SenseKey::illegal_request:
      // Every command is a legal one, but for some PERSISTENT RESERVE OUT.
      if (operation.kind != Kind::reserve_out) {
        judge_.check(fmt::format("{}: kind {} refused with 05/{:02x}/{:02x}", name_,
                                 static_cast<int>(operation.kind), result.sense.asc,
                                 result.sense.ascq));
      }
      return Verdict::refused;
    default:
      return Verdict::ended;
  }
}

void SimClient::on_command_done(uint32_t tag, const ScsiResult& result) {
  const auto found = operations_.find(tag);
  ASSERT(found != operations_.end());
  const Operation operation = std::move(found->second);
  operations_.erase(found);
  const Verdict verdict = judge_answer(operation, result);
  world_.trace("{}: tag {} kind {} verdict {} status {} sense {:x}/{:02x}/{:02x}", name_, tag,
               static_cast<int>(operation.kind), static_cast<int>(verdict),
               static_cast<int>(result.status), static_cast<int>(result.sense.key),
               result.sense.asc, result.sense.ascq);
  if (verdict == Verdict::unknown) {
    ++judge_.unknown;
  } else {
    ++judge_.commands;
  }
  if (verdict == Verdict::done) judge_.unit_served(*operation.unit, instance_);
  switch (operation.kind) {
    case Kind::probe:
      for (UnitView& view : units_) {
        if (view.unit != operation.unit) continue;
        view.probing = false;
        view.ready = verdict == Verdict::done;
      }
      break;
    case Kind::reserve_in:
      reserve_in_answered(operation, result, verdict);
      break;
    case Kind::reserve_out:
      reserve_out_answered(operation, result, verdict);
      break;
    default:
      data_answered(operation, result, verdict);
  }
}

void SimClient::data_answered(const Operation& operation, const ScsiResult& result,
                              Verdict verdict) {
  Unit& unit = *operation.unit;
  const Duration now = world_.now();
  const bool carried_out = verdict == Verdict::done || verdict == Verdict::miscompare;
  if (operation.kind != Kind::sync && (carried_out || verdict == Verdict::conflict)) {
    judge_.check(unit.reservations.answered(operation.began, now, nexus(),
                                            operation.kind != Kind::read, !carried_out));
  }
  if (verdict == Verdict::refused && result.sense.key == scsi::SenseKey::not_ready) {
    for (UnitView& view : units_) {
      if (view.unit == &unit) view.ready = false;
    }
  }
  if (operation.kind == Kind::sync) {
    if (verdict == Verdict::done) unit.data.flushed(operation.began, now);
  } else if (operation.kind == Kind::read) {
    if (verdict == Verdict::done) {
      judge_.check(unit.data.end_read(operation.read, now, operation.range, result.data_in));
    } else {
      unit.data.cancel_read(operation.read);
    }
  } else {
    write_answered(operation, verdict, result);
  }
}

void SimClient::write_answered(const Operation& operation, Verdict verdict,
                               const ScsiResult& result) {
  DataModel& data = operation.unit->data;
  const Duration now = world_.now();
  if (operation.kind == Kind::swap) {
    if (verdict == Verdict::done) {
      judge_.check(data.swap_succeeded(operation.write, operation.read, now, operation.range,
                                       operation.compared));
    } else if (verdict == Verdict::miscompare) {
      judge_.check(data.swap_miscompared(operation.read, now, operation.range, operation.compared));
    } else {
      data.cancel_read(operation.read);
    }
  } else if (verdict == Verdict::miscompare) {
    judge_.check(fmt::format("{}: miscompare of a write", name_));
  }
  switch (verdict) {
    case Verdict::done:
      data.write_acknowledged(operation.write, now, operation.fua);
      break;
    case Verdict::refused:
    case Verdict::conflict:
    case Verdict::miscompare:
      judge_.check(data.write_refused(operation.write));
      break;
    case Verdict::ended:
      data.write_failed(operation.write, now);
      break;
    case Verdict::unknown:
      if (result.received) judge_.write_received(*operation.unit, operation.write);
      return;  // still open
  }
  judge_.write_ended(*operation.unit, operation.write);
}

void SimClient::reserve_in_answered(const Operation& operation, const ScsiResult& result,
                                    Verdict verdict) {
  if (verdict == Verdict::conflict) {
    judge_.check(fmt::format("{}: RESERVATION CONFLICT for PERSISTENT RESERVE IN", name_));
  }
  if (verdict != Verdict::done) return;
  const auto seen = parse_full_status(result.data_in);
  if (!seen) {
    judge_.check(fmt::format("{}: READ FULL STATUS is malformed", name_));
    return;
  }
  judge_.check(operation.unit->reservations.reported(operation.began, world_.now(), *seen));
}

void SimClient::reserve_out_answered(const Operation& operation, const ScsiResult& result,
                                     Verdict verdict) {
  Unit& unit = *operation.unit;
  ReservationModel& model = unit.reservations;
  if (verdict == Verdict::unknown) {
    unsettled_reserve_out_ = &unit;  // and stays taken
    return;
  }
  unit.reserve_out_taken = false;
  if (!model.busy()) return;  // the target was killed while the answer was on its way
  const bool illegal = result.status == scsi::Status::check_condition &&
                       result.sense.key == scsi::SenseKey::illegal_request;
  if (verdict == Verdict::ended) {
    model.end_unknown(false);
    judge_.check_fences(unit);
    return;
  }
  if (verdict == Verdict::refused && !illegal) {
    model.cancel();
    return;
  }
  judge_.check(model.end(world_.now(), result.status));
  judge_.check_fences(unit);
  if (verdict != Verdict::done || operation.reserve.action != scsi::ReserveOut::preempt_and_abort) {
    return;
  }
  judge_.preempted(unit, model.preempted(), operation.older);
}

}  // namespace holdfast::sim
