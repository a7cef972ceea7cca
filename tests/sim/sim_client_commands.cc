// What a simulated client asks for.

#include <algorithm>

#include "common/scsi/persistent_reservation.h"
#include "tests/sim/sim_client.h"

namespace holdfast::sim {

namespace {

constexpr uint32_t kReserveInBytes = 4096;
// Most accesses meet in a few blocks, so that they overlap.
constexpr uint64_t kHotBlocks = 24;

using Cdb = std::array<uint8_t, 16>;

void put(Cdb& cdb, size_t at, const auto& value) {
  base::store(base::MutableBytes(cdb).subspan(at), value);
}

Cdb make_16(uint8_t opcode, uint64_t lba, uint64_t blocks) {
  Cdb cdb{};
  cdb[0] = opcode;
  put(cdb, 2, base::be64(lba));
  put(cdb, 10, base::be32(static_cast<uint32_t>(blocks)));
  return cdb;
}

Cdb make_10(uint8_t opcode, uint64_t lba, uint64_t blocks) {
  Cdb cdb{};
  cdb[0] = opcode;
  put(cdb, 2, base::be32(static_cast<uint32_t>(lba)));
  put(cdb, 7, base::be16(static_cast<uint16_t>(blocks)));
  return cdb;
}

constexpr uint8_t kFua = 0x08;

}  // namespace

void SimClient::issue(Operation operation, ScsiRequest request) {
  operation.began = world_.now();
  request.lun = operation.unit->lun;
  const WriteId write = operation.write;
  Unit& unit = *operation.unit;
  world_.trace("{}: lun {} opcode {:02x} sectors {}+{} write {}", name_, unit.lun, request.cdb[0],
               operation.range.first, operation.range.count, write);
  const uint32_t tag = connection_->submit(std::move(request));
  operations_.emplace(tag, std::move(operation));
  if (write != 0) judge_.write_begun({&unit, write, nexus(), instance_, false});
}

void SimClient::probe(UnitView& view) {
  view.probing = true;
  issue({.kind = Kind::probe, .unit = view.unit}, {});  // TEST UNIT READY: all zeroes
}

DataModel::Range SimClient::choose_blocks(const Unit& unit, uint64_t most) {
  const uint64_t dice = random_.below(40);
  uint64_t count = 1 + random_.below(std::min<uint64_t>(most, 8));
  uint64_t within = kHotBlocks;
  if (dice >= 28) within = unit.blocks;
  if (dice == 39) count = 1 + random_.below(most);
  count = std::min(count, within);
  return {random_.below(within - count + 1), count};
}

void SimClient::issue_one() {
  const auto ready = [](const UnitView& view) { return view.ready; };
  std::vector<Unit*> choice;
  for (const UnitView& view : units_) {
    if (ready(view)) choice.push_back(view.unit);
  }
  if (choice.empty()) return;
  Unit& unit = *choice[random_.below(choice.size())];
  const uint64_t dice = random_.below(1000);
  if (dice < options_.manage_per_mille && !management_.active) {
    constexpr iscsi::TaskFunction kFunctions[] = {
        iscsi::TaskFunction::abort_task, iscsi::TaskFunction::abort_task_set,
        iscsi::TaskFunction::clear_task_set, iscsi::TaskFunction::logical_unit_reset};
    const auto function = kFunctions[random_.below(std::size(kFunctions))];
    const bool any = !operations_.empty();
    if (any) manage(function, *operations_.begin()->second.unit, operations_.begin()->first);
    return;
  }
  if (dice < options_.manage_per_mille + 2) {
    logging_out_ = true;
    connection_->logout();
    return;
  }
  if (dice >= 1000 - options_.reserve_per_mille) {
    if (random_.below(3) == 0 || unit.reserve_out_taken) {
      reserve_in(unit);
    } else {
      reserve_out(unit);
    }
    return;
  }
  // Large ones take several disk requests and, in most sessions, several R2Ts.
  const uint64_t large = 400 * 1024 / unit.block_size;
  const auto [lba, count] = choose_blocks(unit, large);
  const uint64_t what = random_.below(100);
  if (what < 40) {
    read(unit, lba, count);
  } else if (what < 75) {
    write(unit, lba, count);
  } else if (what < 82) {
    zero(unit, lba, count);
  } else if (what < 94) {
    swap(unit, lba, std::min<uint64_t>(count, 8));
  } else {
    sync(unit);
  }
}

void SimClient::read(Unit& unit, uint64_t lba, uint64_t count) {
  Operation operation{.kind = Kind::read, .unit = &unit, .range = unit.sectors(lba, count)};
  operation.read = unit.data.begin_read(world_.now());
  ScsiRequest request;
  request.cdb = random_.below(2) == 0 ? make_16(0x88, lba, count) : make_10(0x28, lba, count);
  request.read_length = static_cast<uint32_t>(count * unit.block_size);
  issue(std::move(operation), std::move(request));
}

void SimClient::write(Unit& unit, uint64_t lba, uint64_t count) {
  Operation operation{.kind = Kind::write, .unit = &unit, .range = unit.sectors(lba, count)};
  operation.write = unit.data.begin_write(world_.now(), operation.range, false);
  ScsiRequest request;
  const bool same = random_.below(8) == 0;  // WRITE SAME: one block of data
  operation.fua = !same && random_.below(4) == 0;
  if (same) {
    request.cdb = random_.below(2) == 0 ? make_16(0x93, lba, count) : make_10(0x41, lba, count);
  } else {
    request.cdb = random_.below(2) == 0 ? make_16(0x8a, lba, count) : make_10(0x2a, lba, count);
    if (operation.fua) request.cdb[1] |= kFua;
  }
  request.data_out.resize((same ? 1 : count) * unit.block_size);
  DataModel::fill(request.data_out, operation.write);
  issue(std::move(operation), std::move(request));
}

// UNMAP, or WRITE SAME without data.
void SimClient::zero(Unit& unit, uint64_t lba, uint64_t count) {
  Operation operation{.kind = Kind::zero, .unit = &unit, .range = unit.sectors(lba, count)};
  operation.write = unit.data.begin_write(world_.now(), operation.range, true);
  ScsiRequest request;
  if (random_.below(2) == 0) {
    constexpr uint8_t kNoData = 0x01;
    constexpr uint8_t kUnmap = 0x08;
    request.cdb = make_16(0x93, lba, count);
    request.cdb[1] = random_.below(2) == 0 ? kNoData : kNoData | kUnmap;
  } else {
    constexpr uint16_t kHeader = 8, kDescriptor = 16;
    request.cdb[0] = 0x42;
    put(request.cdb, 7, base::be16(kHeader + kDescriptor));
    request.data_out.resize(kHeader + kDescriptor);
    const base::MutableBytes list(request.data_out);
    base::store(list, base::be16(kHeader + kDescriptor - 2));
    base::store(list.subspan(2), base::be16(kDescriptor));
    base::store(list.subspan(8), base::be64(lba));
    base::store(list.subspan(16), base::be32(static_cast<uint32_t>(count)));
  }
  issue(std::move(operation), std::move(request));
}

// COMPARE AND WRITE against what is probably there.
void SimClient::swap(Unit& unit, uint64_t lba, uint64_t count) {
  Operation operation{.kind = Kind::swap, .unit = &unit, .range = unit.sectors(lba, count)};
  operation.compared.resize(count * unit.block_size);
  for (uint64_t i = 0; i < operation.range.count; ++i) {
    DataModel::fill(base::MutableBytes(operation.compared)
                        .subspan(i * DataModel::kSectorBytes, DataModel::kSectorBytes),
                    unit.data.likely_value(operation.range.first + i));
  }
  operation.read = unit.data.begin_read(world_.now());
  operation.write = unit.data.begin_write(world_.now(), operation.range, false);
  ScsiRequest request;
  request.cdb = make_16(0x89, lba, 0);
  request.cdb[13] = static_cast<uint8_t>(count);
  operation.fua = random_.below(4) == 0;
  if (operation.fua) request.cdb[1] |= kFua;
  request.data_out = operation.compared;
  request.data_out.resize(2 * operation.compared.size());
  DataModel::fill(base::MutableBytes(request.data_out).subspan(operation.compared.size()),
                  operation.write);
  issue(std::move(operation), std::move(request));
}

void SimClient::sync(Unit& unit) {
  ScsiRequest request;
  request.cdb = make_10(0x35, 0, 0);  // to the last block
  issue({.kind = Kind::sync, .unit = &unit}, std::move(request));
}

void SimClient::reserve_in(Unit& unit) {
  ScsiRequest request;
  request.cdb[0] = 0x5e;
  request.cdb[1] = static_cast<uint8_t>(scsi::ReserveIn::full_status);
  put(request.cdb, 7, base::be16(kReserveInBytes));
  request.read_length = kReserveInBytes;
  issue({.kind = Kind::reserve_in, .unit = &unit}, std::move(request));
}

void SimClient::reserve_out(Unit& unit) {
  using enum scsi::ReserveOut;
  const PrState& likely = unit.reservations.likely();
  const auto own = likely.keys.find(nexus());
  PrCommand command;
  command.key = own == likely.keys.end() ? 0 : own->second;
  command.type = static_cast<uint8_t>(scsi::kPrTypes[random_.below(std::size(scsi::kPrTypes))]);
  command.aptpl = random_.below(2) == 0;
  const uint64_t new_key = 1 + random_.below(6);
  if (own == likely.keys.end()) {
    command.action = random_.below(2) == 0 ? register_key : register_and_ignore;
    command.service_action_key = new_key;
  } else {
    constexpr scsi::ReserveOut kActions[] = {
        register_key, register_and_ignore, reserve,          reserve, release, release, clear,
        preempt,      preempt_and_abort,   preempt_and_abort};
    command.action = kActions[random_.below(std::size(kActions))];
    if (command.action == register_key || command.action == register_and_ignore) {
      command.service_action_key = random_.below(3) == 0 ? 0 : new_key;
    }
    if (command.action == release && likely.type != 0) command.type = likely.type;
  }
  if (command.action == preempt || command.action == preempt_and_abort) {
    auto victim = likely.keys.begin();
    std::advance(victim, random_.below(likely.keys.size()));
    command.service_action_key = victim->second;
  }
  if (random_.below(20) == 0) command.key ^= 8;  // a wrong key

  Operation operation{.kind = Kind::reserve_out, .unit = &unit, .reserve = command};
  if (command.action == preempt_and_abort) operation.older = judge_.received_writes(unit);
  unit.reserve_out_taken = true;
  unit.reservations.begin(world_.now(), nexus(), command);
  judge_.check_fences(unit);
  ScsiRequest request;
  request.cdb[0] = 0x5f;
  request.cdb[1] = static_cast<uint8_t>(command.action);
  request.cdb[2] = command.type;
  put(request.cdb, 5, base::be32(scsi::kPrOutParameterBytes));
  request.data_out.resize(scsi::kPrOutParameterBytes);
  scsi::encode_pr_out_parameters({.key = command.key,
                                  .service_action_key = command.service_action_key,
                                  .all_target_ports = false,
                                  .aptpl = command.aptpl},
                                 request.data_out);
  issue(std::move(operation), std::move(request));
}

void SimClient::verify() {
  constexpr uint64_t kStep = 64;
  for (const UnitView& view : units_) {
    Unit& unit = *view.unit;
    for (uint64_t lba = 0; lba < unit.blocks; lba += kStep) {
      read(unit, lba, std::min(kStep, unit.blocks - lba));
    }
    reserve_in(unit);
  }
}

}  // namespace holdfast::sim
