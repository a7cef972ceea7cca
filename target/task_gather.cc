// Commands that need all of their data before anything is done, and those that loop over ranges.

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/scsi/lba_status.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/unmap.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

using scsi::Operation;

void Task::begin_gather(uint32_t bytes) {
  gather_bytes = bytes;
  // Where the data decides what is written, its length must be the one the CDB means: an initiator
  // that has something else in mind must not change the medium.
  if (command().row->has(scsi::kMediumAccess) && expected_length != bytes &&
      operation() != Operation::unmap) {
    return fail(scsi::kInvalidFieldInCdb);
  }
  if (bytes == 0) return run_gathered();
  if (transfer < bytes) return fail(scsi::kParameterListLengthError);
  continue_gather();
}

void Task::continue_gather() {
  if (gathered) return;
  Chunk* chunk = nullptr;
  if (first_chunk(gather_bytes, &chunk) != FirstChunk::made) {
    resume_with_buffer = &Task::continue_gather;
    return wait_for_buffer();
  }
  if (chunk->received < chunk->length) return solicit();
  run_gathered();
}

void Task::run_gathered() {
  gathered = true;
  // It may still be queued for the buffer that unsolicited data brought.
  shard().stop_waiting(*this);
  resume_with_buffer = nullptr;
  switch (operation()) {
    case Operation::persistent_reserve_out:
      return run_reserve_out();
    case Operation::mode_select:
      return run_mode_select();
    default:
      break;
  }
  run_on_device();
}

base::Bytes Task::gathered_bytes() const {
  return chunks.empty() ? base::Bytes{} : base::Bytes(chunks.front().bytes).first(gather_bytes);
}

// A chunk that only carries disk requests.
Chunk* Task::driver_chunk() {
  if (!chunks.empty()) return &chunks.front();
  return new_chunk(0, 0);
}

void Task::continue_on_device(Chunk& chunk, int32_t result) {
  if (flushing) return complete(scsi::Status::good);
  switch (operation()) {
    case Operation::compare_and_write:
      return continue_compare_and_write(chunk);
    case Operation::write_same:
      return continue_write_same(chunk, result);
    case Operation::unmap:
      return continue_unmap(chunk);
    case Operation::verify:
      return continue_verify(chunk);
    case Operation::get_lba_status:
      return continue_lba_status(chunk);
    default:
      return complete(scsi::Status::good);  // SYNCHRONIZE CACHE
  }
}

// A backing without zeroing or discarding of its own gets zeroes written.
bool Task::may_fall_back(Chunk::Step step, int32_t result) const {
  return step == Chunk::Step::writing && operation() == Operation::write_same &&
         result == -EOPNOTSUPP && !pattern_writes;
}

// --- exclusive ranges ---

void Task::acquire_exclusive(BlockRange range) {
  exclusive_wanted = true;
  const UnitId unit_id = unit().id();
  Shard& owner = shard();
  owner.node().acquire_exclusive(
      owner.index(), unit_id, range,
      [&owner, unit_id, at = slot, number = serial](ExclusiveId id) noexcept {
        Task* task = owner.find_task(at, number);
        if (task != nullptr && task->is_active() && !task->aborted && !task->decided) {
          return task->on_exclusive(id);
        }
        owner.node().release_exclusive(unit_id, id);
      });
}

void Task::release_exclusive() {
  if (exclusive == 0) return;
  shard().node().release_exclusive(unit().id(), std::exchange(exclusive, 0));
}

void Task::on_exclusive(ExclusiveId id) {
  exclusive = id;
  if (operation() == Operation::orwrite) {
    Chunk& chunk = chunks.front();
    return unit().read(chunk, Chunk::Step::verifying, start_offset() + chunk.offset,
                       chunk.compare.first(chunk.length));
  }
  read_for_compare();
}

// --- COMPARE AND WRITE (SBC-3 5.2) ---

void Task::run_compare_and_write() {
  if (command().blocks == 0) return complete(scsi::Status::good);
  acquire_exclusive({command().lba, command().blocks});
}

void Task::read_for_compare() {
  Chunk& chunk = chunks.front();
  const uint32_t half = chunk.length / 2;
  unit().read(chunk, Chunk::Step::verifying, start_offset(), chunk.compare.first(half));
}

void Task::continue_compare_and_write(Chunk& chunk) {
  if (pattern_writes) return complete(scsi::Status::good);  // the write is done
  const uint32_t half = chunk.length / 2;
  const uint8_t* expected = chunk.bytes.data();
  const uint8_t* found = chunk.compare.data();
  const auto at =
      static_cast<uint32_t>(std::mismatch(expected, expected + half, found).first - expected);
  if (at != half) return fail(scsi::kMiscompare.with_information(at));
  pattern_writes = true;
  unit().write(chunk, start_offset(), base::Bytes(chunk.bytes).subspan(half), command().fua);
}

// --- VERIFY against the medium alone, or one block against each (BYTCHK=00b, 11b; SBC-3 5.29) ---

uint64_t Task::range_bytes() const {
  return scsi::block_count(command(), unit().state().description.capacity_blocks) *
         unit().block_size();
}

void Task::run_verify() {
  Chunk* chunk = driver_chunk();
  if (chunk != nullptr && !chunk->compare) chunk->compare = shard().buffers().acquire(kChunkBytes);
  if (chunk == nullptr || !chunk->compare) {
    resume_with_buffer = &Task::run_verify;
    return wait_for_buffer();
  }
  const uint64_t total = uint64_t{command().blocks} * unit().block_size();
  if (cursor == total) return complete(scsi::Status::good);
  const auto bytes = static_cast<uint32_t>(std::min<uint64_t>(kChunkBytes, total - cursor));
  unit().read(*chunk, Chunk::Step::other, start_offset() + cursor, chunk->compare.first(bytes));
}

void Task::continue_verify(Chunk& chunk) {
  const uint32_t block = unit().block_size();
  const uint64_t total = uint64_t{command().blocks} * block;
  const uint64_t bytes = std::min<uint64_t>(kChunkBytes, total - cursor);
  for (uint64_t at = 0; command().bytchk == 3 && at < bytes; ++at) {
    if (chunk.compare.data()[at] != chunk.bytes[at % block]) {
      return fail(scsi::kMiscompare.with_information(cursor + at));
    }
  }
  cursor += bytes;
  run_verify();
}

// --- WRITE SAME (SBC-3 5.43) ---

void Task::run_write_same() {
  Chunk* chunk = driver_chunk();
  if (chunk == nullptr) {
    resume_with_buffer = &Task::run_write_same;
    return wait_for_buffer();
  }
  const uint64_t bytes = range_bytes();
  const base::Bytes block = gathered_bytes();
  const bool zeroes = std::ranges::all_of(block, [](uint8_t byte) { return byte == 0; });
  if (bytes == 0) return complete(scsi::Status::good);
  if (!zeroes) return write_pattern();
  // UNMAP with zeroes may deallocate: blocks read as zeroes afterwards (LBPRZ=1).
  if (command().unmap) return unit().discard(*chunk, start_offset(), bytes);
  unit().write_zeroes(*chunk, start_offset(), bytes);
}

void Task::write_pattern() {
  Chunk& chunk = chunks.front();
  const uint32_t block = unit().block_size();
  if (!chunk.compare) chunk.compare = shard().buffers().acquire(kChunkBytes);  // NDOB
  if (!chunk.compare) {
    resume_with_buffer = &Task::write_pattern;
    return wait_for_buffer();
  }
  if (!pattern_writes) {
    const base::Bytes source = gathered_bytes();
    for (uint32_t at = 0; at < kChunkBytes; at += block) {
      if (source.empty()) {
        std::memset(chunk.compare.data() + at, 0, block);
      } else {
        std::memcpy(chunk.compare.data() + at, source.data(), block);
      }
    }
  }
  pattern_writes = true;
  const uint64_t left = range_bytes() - cursor;
  unit().write(chunk, start_offset() + cursor,
               chunk.compare.first(std::min<uint64_t>(left, kChunkBytes)), false);
}

void Task::continue_write_same(Chunk& chunk, int32_t result) {
  if (!pattern_writes) {
    if (result < 0) return write_pattern();  // may_fall_back()
    return finish_ranges(chunk);
  }
  const uint64_t total = range_bytes();
  cursor += std::min<uint64_t>(total - cursor, kChunkBytes);
  if (cursor == total) return complete(scsi::Status::good);
  write_pattern();
}

// --- UNMAP (SBC-3 5.28) ---

void Task::run_unmap() {
  if (gather_bytes == 0) return complete(scsi::Status::good);
  Chunk& chunk = chunks.front();
  auto* ranges = reinterpret_cast<scsi::UnmapRange*>(chunk.compare.data());
  const scsi::Outcome<size_t> count = scsi::parse_unmap(
      gathered_bytes(), unit().state().description, std::span(ranges, scsi::kMaxUnmapDescriptors));
  if (!count.has_value()) return fail(count.error());
  range_count = static_cast<uint32_t>(*count);
  cursor = 0;
  unmap_next(chunk);
}

void Task::unmap_next(Chunk& chunk) {
  if (cursor == range_count) return finish_ranges(chunk);
  const auto& range = reinterpret_cast<const scsi::UnmapRange*>(chunk.compare.data())[cursor++];
  const uint64_t block = unit().block_size();
  unit().discard(chunk, range.lba * block, range.blocks * block);
}

void Task::continue_unmap(Chunk& chunk) { unmap_next(chunk); }

// Zeroing and deallocating know no FUA: where the initiator was told that there is no volatile
// cache, the status waits for a flush.
void Task::finish_ranges(Chunk& chunk) {
  if (!unit().state().write_through) return complete(scsi::Status::good);
  flushing = true;
  unit().flush(chunk);
}

// --- SYNCHRONIZE CACHE ---

// All of the medium, whatever range is asked for: more than asked is allowed (SBC-3 5.26). IMMED is
// answered when it is done: allowed too, and the answer then says the truth.
void Task::run_flush() {
  Chunk* chunk = driver_chunk();
  if (chunk == nullptr) {
    resume_with_buffer = &Task::run_flush;
    return wait_for_buffer();
  }
  unit().flush(*chunk);
}

// --- GET LBA STATUS (SBC-3 5.4) ---

void Task::run_lba_status() {
  Chunk* chunk = driver_chunk();
  if (chunk != nullptr && !chunk->compare) {
    chunk->compare = shard().buffers().acquire(kMaxParameterBytes);
  }
  // Both or none, for the reason of second_buffer_bytes().
  if (chunk != nullptr && chunk->compare) parameters = shard().buffers().acquire(parameter_room());
  if (!parameters) {
    if (chunk != nullptr) chunk->compare = {};
    resume_with_buffer = &Task::run_lba_status;
    return wait_for_buffer();
  }
  cursor = command().lba;
  query_extent(*chunk);
}

void Task::query_extent(Chunk& chunk) {
  chunk.step = Chunk::Step::other;
  chunk.on_disk = true;
  ++on_disk;
  unit().device()->extent_at(chunk.op, cursor * unit().block_size(), &extent);
}

void Task::continue_lba_status(Chunk& chunk) {
  auto* extents = reinterpret_cast<scsi::LbaExtent*>(chunk.compare.data());
  const uint64_t block = unit().block_size();
  const uint64_t capacity = unit().state().description.capacity_blocks;
  const bool mapped = extent.state == io::ExtentState::mapped;
  // A block that is only partly deallocated is mapped.
  uint64_t blocks =
      mapped ? (extent.length_bytes + block - 1) / block : extent.length_bytes / block;
  const bool deallocated = !mapped && blocks > 0;
  blocks = std::clamp<uint64_t>(blocks, 1, std::min<uint64_t>(capacity - cursor, UINT32_MAX));
  const auto provisioning =
      deallocated ? scsi::Provisioning::deallocated : scsi::Provisioning::mapped;
  const bool joins = range_count > 0 && extents[range_count - 1].status == provisioning &&
                     extents[range_count - 1].blocks <= UINT32_MAX - blocks;
  if (joins) {
    extents[range_count - 1].blocks += static_cast<uint32_t>(blocks);
  } else {
    extents[range_count++] = {cursor, static_cast<uint32_t>(blocks), provisioning};
  }
  cursor += blocks;
  ++extent_queries;
  const size_t room = std::min(scsi::lba_status_capacity(command().allocation_length),
                               kMaxParameterBytes / sizeof(scsi::LbaExtent));
  if (cursor < capacity && range_count < room && extent_queries < kMaxExtentQueries) {
    return query_extent(chunk);
  }
  run_parameter_data();
}

// --- those that the control loop carries out ---

void Task::run_reserve_out() {
  PrOutCall call;
  call.shard = shard().index();
  call.unit = unit().id();
  call.nexus = session->nexus();
  call.session = session->id();
  call.task = serial;
  call.service_action = command().service_action;
  call.scope = command().reservation_scope;
  call.type = command().reservation_type;
  const base::Bytes list = gathered_bytes();
  call.parameter_list.assign(list.begin(), list.end());
  Shard& owner = shard();
  with_node = true;
  owner.node().pr_out(std::move(call),
                      [&owner, at = slot, number = serial](PrOutReply reply) noexcept {
                        Task* task = owner.find_task(at, number);
                        if (task == nullptr || !task->is_active()) return;
                        task->with_node = false;
                        task->sense = reply.sense;
                        task->complete(reply.status);
                      });
}

void Task::run_mode_select() {
  if (gather_bytes == 0) return complete(scsi::Status::good);
  const UnitState& known = unit().state();
  const scsi::Outcome<scsi::ModeChanges> changes =
      scsi::mode_select(command(), known.description, known.mode, gathered_bytes());
  if (!changes.has_value()) return fail(changes.error());
  Shard& owner = shard();
  with_node = true;
  owner.node().mode_select(owner.index(), unit().id(), *changes, session->nexus(),
                           [&owner, at = slot, number = serial](scsi::Status with) noexcept {
                             Task* task = owner.find_task(at, number);
                             if (task == nullptr || !task->is_active()) return;
                             task->with_node = false;
                             task->complete(with);
                           });
}

}  // namespace holdfast::target
