#include "target/logical_unit.h"

#include <algorithm>

#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

void NexusUnit::set_prevention(MediumState& medium, bool prevent) {
  if (prevent == (prevents != nullptr)) return;
  prevents = prevent ? &medium : nullptr;
  medium.preventions.fetch_add(prevent ? 1u : ~0u, std::memory_order_acq_rel);
}

void NexusUnit::note_loads(const MediumState& medium) {
  const uint32_t loads = medium.loads.load(std::memory_order_acquire);
  if (std::exchange(loads_seen, loads) != loads) attentions.raise(scsi::kMediumMayHaveChanged);
}

LogicalUnit::LogicalUnit(Shard& shard, std::shared_ptr<const UnitState> state) : shard_(shard) {
  publish(std::move(state));
}

LogicalUnit::~LogicalUnit() {
  ASSERT(active_.empty() && writing_.empty() && held_.empty() && queued_.empty() &&
         nexuses_.empty() && in_flight_ == 0);
}

void LogicalUnit::publish(std::shared_ptr<const UnitState> state) {
  state_ = std::move(state);
  if (attachment_ == nullptr && state_->backing != nullptr) {
    attachment_ =
        std::make_shared<Attachment>(state_->backing, state_->backing->attach(shard_.loop()));
  }
  for (NexusUnit& nexus_unit : nexuses_) update_rights(nexus_unit);
}

void LogicalUnit::add(NexusUnit& nexus_unit) {
  nexus_unit.unit = this;
  if (state_->medium != nullptr) nexus_unit.loads_seen = state_->medium->loads.load();
  nexuses_.push_back(nexus_unit);
  update_rights(nexus_unit);
}

void LogicalUnit::remove(NexusUnit& nexus_unit) {
  if (nexus_unit.prevents != nullptr) nexus_unit.set_prevention(*nexus_unit.prevents, false);
  nexuses_.erase(NexusList::s_iterator_to(nexus_unit));
  nexus_unit.unit = nullptr;
}

void LogicalUnit::update_rights(NexusUnit& nexus_unit) {
  nexus_unit.rights = state_->reservations.rights_of(nexus_unit.session->nexus());
}

void LogicalUnit::raise(const AttentionRequest& request) {
  for (NexusUnit& nexus_unit : nexuses_) {
    const Session& session = *nexus_unit.session;
    const NexusId& nexus = session.nexus();
    if (request.target.has_value() && nexus.target_name != *request.target) continue;
    if (request.except.has_value() && nexus == *request.except) continue;
    if (request.except_session != 0 && session.id() == request.except_session) continue;
    if (!request.nexuses.empty() &&
        std::ranges::find(request.nexuses, nexus) == request.nexuses.end()) {
      continue;
    }
    nexus_unit.attentions.raise(request.sense);
    // A reset also allows medium removal again (SBC-3 5.10).
    if (request.sense.same_code(scsi::kBusDeviceReset) && nexus_unit.prevents != nullptr) {
      nexus_unit.set_prevention(*nexus_unit.prevents, false);
    }
  }
}

void LogicalUnit::end_prevention(const std::vector<NexusId>& nexuses) {
  for (NexusUnit& nexus_unit : nexuses_) {
    if (nexus_unit.prevents == nullptr) continue;
    if (!std::ranges::binary_search(nexuses, nexus_unit.session->nexus())) continue;
    nexus_unit.set_prevention(*nexus_unit.prevents, false);
  }
}

void LogicalUnit::enter(Task& task) { active_.push_back(task); }

void LogicalUnit::leave(Task& task) { active_.erase(ActiveList::s_iterator_to(task)); }

void LogicalUnit::read(Chunk& chunk, Chunk::Step step, uint64_t offset, base::MutableBytes into) {
  submit({&chunk, Kind::read, step, offset, into.data(), into.size(), false});
}

void LogicalUnit::write(Chunk& chunk, uint64_t offset, base::Bytes bytes, bool durable) {
  submit({&chunk, Kind::write, Chunk::Step::writing, offset, const_cast<uint8_t*>(bytes.data()),
          bytes.size(), durable || state_->write_through});
}

void LogicalUnit::discard(Chunk& chunk, uint64_t offset, uint64_t length) {
  submit({&chunk, Kind::discard, Chunk::Step::writing, offset, nullptr, length, false});
}

void LogicalUnit::write_zeroes(Chunk& chunk, uint64_t offset, uint64_t length) {
  submit({&chunk, Kind::zeroes, Chunk::Step::writing, offset, nullptr, length, false});
}

// It holds a kernel worker while the backing stalls, so it counts like the others.
void LogicalUnit::flush(Chunk& chunk) {
  submit({&chunk, Kind::flush, Chunk::Step::other, 0, nullptr, 0, false});
}

bool LogicalUnit::writes(const Request& request) { return request.step == Chunk::Step::writing; }

void LogicalUnit::submit(const Request& request) {
  Chunk& chunk = *request.chunk;
  chunk.range = {request.offset / block_size(), request.length / block_size()};
  if (writes(request) && !gates_.empty() && gate_blocks(chunk)) {
    chunk.step = Chunk::Step::held;
    held_.push_back(request);
  } else if (in_flight_ >= kMaxRequestsPerUnit) {
    chunk.step = Chunk::Step::held;
    queued_.push_back(request);
  } else {
    start(request);
  }
}

bool LogicalUnit::gate_blocks(const Chunk& chunk) const {
  return std::ranges::any_of(gates_, [&](const Gate& gate) {
    return gate.id != chunk.task->exclusive && gate.range.overlaps(chunk.range);
  });
}

void LogicalUnit::start(const Request& request) {
  Chunk& chunk = *request.chunk;
  chunk.step = request.step;
  chunk.on_disk = chunk.counted = true;
  ++chunk.task->on_disk;
  ++in_flight_;
  chunk.unit_charge = chunk.session_charge;
  buffer_bytes += chunk.unit_charge;
  if (writes(request)) writing_.push_back(chunk);
  switch (request.kind) {
    case Kind::read:
      device()->read(chunk.op, request.offset, {request.bytes, request.length});
      return;
    case Kind::write:
      device()->write(chunk.op, request.offset, {request.bytes, request.length},
                      request.durable ? io::Durability::durable : io::Durability::cached);
      return;
    case Kind::discard:
      device()->discard(chunk.op, request.offset, request.length);
      return;
    case Kind::zeroes:
      device()->write_zeroes(chunk.op, request.offset, request.length);
      return;
    case Kind::flush:
      device()->flush(chunk.op);
      return;
  }
}

// Of a task that was aborted or has failed meanwhile nothing may reach the medium any more.
bool LogicalUnit::still_wanted(const Request& request) {
  const Task& task = *request.chunk->task;
  if (!task.aborted && !task.decided) return true;
  request.chunk->step = Chunk::Step::idle;
  return false;
}

void LogicalUnit::request_ended(Chunk& chunk) {
  if (!std::exchange(chunk.counted, false)) return;
  ASSERT(in_flight_ > 0);
  --in_flight_;
  buffer_bytes -= std::exchange(chunk.unit_charge, 0);
  while (!queued_.empty() && in_flight_ < kMaxRequestsPerUnit) {
    const Request next = queued_.front();
    queued_.pop_front();
    if (still_wanted(next)) submit(next);  // a gate may have closed before it
  }
}

void LogicalUnit::write_ended(Chunk& chunk) {
  if (chunk.step == Chunk::Step::held) {
    const auto is_its = [&](const Request& request) { return request.chunk == &chunk; };
    std::erase_if(held_, is_its);
    std::erase_if(queued_, is_its);
  } else {
    writing_.erase(ChunkList::s_iterator_to(chunk));
  }
  chunk.step = Chunk::Step::idle;
  if (!gates_.empty()) settle_gates();
}

void LogicalUnit::close_gate(ExclusiveId id, BlockRange range, ShardControl::Done done) {
  gates_.push_back({id, range, std::move(done)});
  settle_gates();
}

void LogicalUnit::open_gate(ExclusiveId id) {
  std::erase_if(gates_, [id](const Gate& gate) { return gate.id == id; });
  std::vector<Request> held;
  held.swap(held_);
  for (const Request& request : held) {
    if (still_wanted(request)) submit(request);
  }
}

// Calls done for every gate whose range no write under way touches any more.
void LogicalUnit::settle_gates() {
  for (size_t i = 0; i < gates_.size(); ++i) {
    Gate& gate = gates_[i];
    if (!gate.done) continue;
    const bool clear = std::ranges::none_of(writing_, [&](const Chunk& chunk) {
      return chunk.task->exclusive != gate.id && gate.range.overlaps(chunk.range);
    });
    if (clear) std::exchange(gate.done, nullptr)();
  }
}

}  // namespace holdfast::target
