// A command's chunks and the buffers they hold.

#include <algorithm>

#include "common/scsi/unmap.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

using scsi::Operation;

Task::FirstChunk Task::first_chunk(size_t bytes, Chunk** chunk) {
  if (transfer == 0 || aborted || decided) return FirstChunk::none;
  if (chunks.empty()) {
    const uint32_t wanted = gathering ? transfer : std::min(transfer, kChunkBytes);
    if (new_chunk(wanted, std::max<size_t>(wanted, std::min<size_t>(bytes, kChunkBytes))) ==
        nullptr) {
      return FirstChunk::no_buffer;
    }
  }
  *chunk = &chunks.front();
  return FirstChunk::made;
}

// What a command needs besides its data it takes together with it: one that held its data (or even
// an exclusive range) and waited for more could wait for others that do the same.
size_t Task::second_buffer_bytes(uint32_t chunk_length) const {
  switch (operation()) {
    case Operation::orwrite:
    case Operation::write_and_verify:
      return chunk_length;
    case Operation::verify:
      return gathering ? kChunkBytes : chunk_length;
    case Operation::compare_and_write:
      return std::max(chunk_length / 2, 1u);
    case Operation::write_same:
      return kChunkBytes;
    case Operation::unmap:
      return scsi::kMaxUnmapDescriptors * sizeof(scsi::UnmapRange);
    default:
      return 0;
  }
}

// `capacity`: of the buffer; 0: the chunk needs none.
Chunk* Task::new_chunk(uint32_t chunk_length, size_t capacity) {
  Buffer buffer;
  Buffer second;
  if (capacity > 0) {
    // An initiator may send more than the CDB moves; it must fit, or the useful part of such a PDU
    // would be lost with the rest.
    if (next_offset == 0 && operation() != Operation::read) {
      const uint32_t unasked = std::min(expected_length, session->parameters().first_burst_length);
      capacity = std::max<size_t>(capacity, std::min(unasked, kChunkBytes));
    }
    const size_t more = second_buffer_bytes(chunk_length);
    if (!within_shares(capacity + more)) return nullptr;
    buffer = shard().buffers().acquire(capacity);
    if (!buffer) return nullptr;
    if (more > 0) {
      second = shard().buffers().acquire(more);
      if (!second) return nullptr;
    }
  }
  Chunk* chunk = shard().acquire_chunk();
  if (chunk == nullptr) return nullptr;
  chunk->task = this;
  chunk->offset = next_offset;
  chunk->length = chunk_length;
  chunk->received = 0;
  chunk->data = std::move(buffer);
  chunk->compare = std::move(second);
  chunk->bytes = chunk->data ? chunk->data.first(chunk_length) : base::MutableBytes{};
  chunk->step = Chunk::Step::idle;
  chunk->on_disk = chunk->launched = chunk->ready = chunk->sending = false;
  charge(*chunk);
  next_offset += chunk_length;
  ++live_chunks;
  chunks.push_back(*chunk);
  return chunk;
}

bool Task::within_shares(size_t bytes) const {
  const uint64_t total = shard().buffers().total_bytes();
  const auto within = [bytes](uint64_t held, uint64_t share) {
    return held == 0 || held + bytes <= share;
  };
  const uint64_t share = total / kSessionBufferShare;
  if (!within(session->buffer_bytes, share)) return false;
  return nexus_unit == nullptr || (within(nexus_unit->buffer_bytes, share_of_one_unit(share)) &&
                                   within(unit().buffer_bytes, total / kUnitBufferShare));
}

void Task::charge(Chunk& chunk) {
  chunk.session_charge = chunk.data.capacity() + chunk.compare.capacity();
  session->buffer_bytes += chunk.session_charge;
  chunk.nexus_charge = nexus_unit == nullptr ? 0 : chunk.session_charge;
  if (nexus_unit != nullptr) nexus_unit->buffer_bytes += chunk.nexus_charge;
}

// At the latest when the command ends: what is still to be sent is the session's matter, and the
// nexus may be gone by then.
void Task::uncharge_nexus() {
  for (Chunk& chunk : chunks) uncharge_nexus(chunk);
}

void Task::uncharge_nexus(Chunk& chunk) {
  if (chunk.nexus_charge > 0) nexus_unit->buffer_bytes -= std::exchange(chunk.nexus_charge, 0);
}

// Parked: its unit was unmapped before its turn came.
void Task::forget_unit() {
  uncharge_nexus();
  nexus_unit = nullptr;
}

void Task::release_chunk(Chunk& chunk) {
  ASSERT(!chunk.on_disk && !chunk.counted && !chunk.sending);
  if (chunk.step == Chunk::Step::held) unit().write_ended(chunk);
  uncharge_nexus(chunk);
  session->buffer_bytes -= std::exchange(chunk.session_charge, 0);
  session->chunk_released(chunk);
  chunks.erase(ChunkList::s_iterator_to(chunk));
  chunk.data = {};
  chunk.compare = {};
  chunk.pin.reset();
  --live_chunks;
  shard().release(chunk);
  shard().wake_waiters();
}

void Task::release_idle_chunks() {
  for (auto at = chunks.begin(); at != chunks.end();) {
    Chunk& chunk = *at++;
    if (!chunk.on_disk && !chunk.sending) release_chunk(chunk);
  }
}

}  // namespace holdfast::target
