// Streaming commands: READ, WRITE, VERIFY, WRITE AND VERIFY, ORWRITE. Their data moves in chunks, a
// few at a time, so that a command of any size holds a bounded part of the buffers.

#include <algorithm>
#include <cstring>

#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

using scsi::Operation;

// ORWRITE holds the exclusive range of one chunk at a time.
uint32_t Task::max_live_chunks() const {
  return operation() == Operation::orwrite ? 1 : kMaxLiveChunks;
}

void Task::start_transfer() {
  const uint32_t block = unit().block_size();
  const uint32_t bytes = command().blocks * block;  // check_limits(): at most kMaxTransferBytes
  if (operation() == Operation::read) {
    const bool reads = (flags & iscsi::scsi_command_flags::kRead) != 0;
    length = bytes;
    transfer = std::min(bytes, reads ? expected_length : 0);
    media_length = static_cast<uint32_t>(base::round_up(transfer, block));
    data_in.burst_left = session->connection().send_queue().max_burst();
  } else {
    media_length = transfer;
  }
  if (media_length == 0) return complete(scsi::Status::good);
  if (operation() == Operation::read && !session->parameters().data_digest &&
      !unit().device()->mapped().empty()) {
    return read_mapped();
  }
  pump();
}

void Task::pump() {
  if (decided || aborted || !started_media) return;
  operation() == Operation::read ? pump_read() : pump_out();
}

// The medium lies in memory: its bytes are sent from where they are. (With a data digest they are
// copied first, or a concurrent write would make the digest wrong.)
void Task::read_mapped() {
  Chunk* chunk = new_chunk(media_length, 0);
  if (chunk == nullptr) return wait_for_buffer();
  chunk->pin = unit().attachment();
  chunk->bytes = unit().device()->mapped().subspan(start_offset(), media_length);
  chunk->ready = true;
  send_ready_chunks();
}

void Task::pump_read() {
  while (live_chunks < kMaxLiveChunks && next_offset < media_length) {
    const uint32_t bytes = std::min(kChunkBytes, media_length - next_offset);
    Chunk* chunk = new_chunk(bytes, bytes);
    if (chunk == nullptr) {
      if (live_chunks == 0) wait_for_buffer();
      return;
    }
    unit().read(*chunk, Chunk::Step::reading, start_offset() + chunk->offset, chunk->bytes);
  }
}

void Task::pump_out() {
  while (live_chunks < max_live_chunks() && next_offset < transfer) {
    const uint32_t bytes = std::min(kChunkBytes, transfer - next_offset);
    if (new_chunk(bytes, bytes) == nullptr) break;
  }
  if (live_chunks == 0) return wait_for_buffer();
  for (auto at = chunks.begin(); at != chunks.end() && !decided && !aborted;) {
    Chunk& chunk = *at++;
    if (chunk.received == chunk.length && !chunk.launched) chunk_received(chunk);
  }
  if (!decided && !aborted) solicit();
}

void Task::wait_for_buffer() {
  if (waits_for_buffer) return;
  waits_for_buffer = true;
  shard().wait_for_buffer(*this);
}

void Task::on_buffer_available() {
  if (decided || aborted) return;
  if (resume_with_buffer != nullptr) return (this->*std::exchange(resume_with_buffer, nullptr))();
  if (!started_media) return;
  if (operation() == Operation::read && !unit().device()->mapped().empty() &&
      !session->parameters().data_digest) {
    return read_mapped();
  }
  pump();
}

// Asks for what has room in a chunk and was neither sent unasked nor asked for.
void Task::solicit() {
  if (unsolicited_open) return;
  const uint32_t most =
      std::min<uint32_t>(session->parameters().max_outstanding_r2t, kMaxOutstandingR2t);
  for (Chunk& chunk : chunks) {
    while (solicited >= chunk.offset && solicited - chunk.offset < chunk.length) {
      if (outstanding_r2ts >= most) return;
      const auto r2t = std::ranges::find_if(
          r2ts, [](const R2t& candidate) { return !candidate.active && !candidate.queued; });
      if (r2t == r2ts.end()) return;
      queue_r2t(*r2t, chunk);
    }
  }
}

void Task::queue_r2t(R2t& r2t, const Chunk& chunk) {
  r2t.active = r2t.queued = true;
  r2t.ttt = shard().ttt_of(*this, r2t);
  r2t.offset = solicited;
  r2t.length =
      std::min(session->parameters().max_burst_length, chunk.offset + chunk.length - solicited);
  r2t.received = 0;
  r2t.next_data_sn = 0;
  solicited += r2t.length;
  ++outstanding_r2ts;
  ++session->open_r2ts;
  last_progress = shard().loop().now();

  iscsi::R2tPdu pdu;
  pdu.lun = lun_field;
  pdu.itt = itt;
  pdu.ttt = r2t.ttt;
  pdu.r2t_sn = r2t_sn++;
  pdu.buffer_offset = r2t.offset;
  pdu.desired_data_transfer_length = r2t.length;
  r2t.item.header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
  r2t.item.takes_stat_sn = false;
  session->queue(r2t.item);
}

void Task::on_data(Chunk* chunk, uint32_t bytes) {
  if (chunk != nullptr) {
    chunk->received += bytes;
    ASSERT(chunk->received <= chunk->length);
  }
  if (state == State::parked) return;
  if (decided || aborted) return maybe_end();
  if (gathering) return continue_gather();
  if (started_media) pump_out();
}

void Task::chunk_received(Chunk& chunk) {
  const uint64_t offset = start_offset() + chunk.offset;
  switch (operation()) {
    case Operation::verify:
      chunk.launched = true;
      return unit().read(chunk, Chunk::Step::verifying, offset, chunk.compare.first(chunk.length));
    case Operation::orwrite:
      chunk.launched = true;
      return acquire_exclusive({offset / unit().block_size(), chunk.length / unit().block_size()});
    default:
      chunk.launched = true;
      return unit().write(chunk, offset, chunk.bytes, command().fua);
  }
}

void Task::on_disk_done(Chunk& chunk, int32_t result) {
  ASSERT(chunk.on_disk && on_disk > 0);
  const Chunk::Step step = chunk.step;
  chunk.on_disk = false;
  chunk.step = Chunk::Step::idle;
  --on_disk;
  if (step == Chunk::Step::writing) unit().write_ended(chunk);
  unit().request_ended(chunk);
  if (result < 0 && !aborted && !decided && !may_fall_back(step, result)) {
    const bool flush = flushing || operation() == Operation::synchronize_cache;
    fail_from_errno(result, step != Chunk::Step::writing && !flush, start_offset() + chunk.offset);
  }
  if (aborted || decided) {
    // maybe_end() may free the task and all its chunks.
    return maybe_end();
  }
  if (gathering || step == Chunk::Step::other || operation() == Operation::write_same) {
    return continue_on_device(chunk, result);
  }
  switch (step) {
    case Chunk::Step::reading:
      chunk.ready = true;
      return send_ready_chunks();
    case Chunk::Step::verifying:
      return chunk_verified(chunk);
    case Chunk::Step::writing:
      return chunk_written(chunk);
    default:
      ASSERT(false);
  }
}

void Task::chunk_verified(Chunk& chunk) {
  const uint64_t offset = start_offset() + chunk.offset;
  if (operation() == Operation::orwrite) {
    for (uint32_t i = 0; i < chunk.length; ++i) chunk.bytes[i] |= chunk.compare.data()[i];
    return unit().write(chunk, offset, chunk.bytes, command().fua);
  }
  if (command().bytchk == 1) {
    const auto differs =
        std::ranges::mismatch(chunk.bytes, base::Bytes(chunk.compare.first(chunk.length)));
    if (differs.in1 != chunk.bytes.end()) {
      const auto at = static_cast<uint64_t>(differs.in1 - chunk.bytes.begin());
      return fail(scsi::kMiscompare.with_information(chunk.offset + at));
    }
  }
  chunk_done(chunk);
}

void Task::chunk_written(Chunk& chunk) {
  if (operation() == Operation::write_and_verify) {
    return unit().read(chunk, Chunk::Step::verifying, start_offset() + chunk.offset,
                       chunk.compare.first(chunk.length));
  }
  if (operation() == Operation::orwrite) release_exclusive();
  chunk_done(chunk);
}

void Task::chunk_done(Chunk& chunk) {
  done_bytes += chunk.length;
  release_chunk(chunk);
  if (done_bytes == media_length) return complete(scsi::Status::good);
  pump();
}

// Data-In goes out in order, whatever the order the disk answered in.
void Task::send_ready_chunks() {
  for (Chunk& chunk : chunks) {
    if (chunk.sending) continue;
    if (!chunk.ready) return;
    const bool last = chunk.offset + chunk.length == media_length;
    queue_data_in(chunk, last);
    if (last) return complete(scsi::Status::good);
  }
  pump_read();
}

void Task::queue_data_in(Chunk& chunk, bool last) {
  SendItem& item = chunk.item;
  item.kind = SendItem::Kind::data_in;
  item.itt = itt;
  item.data = chunk.bytes.first(std::min(chunk.length, transfer - chunk.offset));
  item.buffer_offset = chunk.offset;
  item.cut = 0;
  item.progress = &data_in;
  item.ends_data = item.with_status = last;
  data_sent += static_cast<uint32_t>(item.data.size());
  if (last) {
    set_residual(length);
    item.status = static_cast<uint8_t>(scsi::Status::good);
    item.residual_flags = residual_flags;
    item.residual = residual;
    status_in_data = true;
  }
  chunk.sending = true;
  session->queue(item);
}

void Task::on_chunk_sent(Chunk& chunk) {
  chunk.sending = false;
  release_chunk(chunk);
  if (state == State::ended) return maybe_free();
  pump();
}

}  // namespace holdfast::target
