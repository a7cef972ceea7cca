// Data-Out: to which command and where it belongs (RFC 7143 11.7).

#include "common/scsi/report_luns.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

Session::Intake Session::on_data_out_header(const iscsi::PduReader& reader) {
  const auto pdu = reader.as<iscsi::DataOutPdu>();
  incoming_task_ = nullptr;
  incoming_chunk_ = nullptr;
  incoming_r2t_ = nullptr;
  incoming_out_of_order_ = false;
  const uint32_t length = reader.data_length();
  return pdu.ttt == iscsi::kReservedTag ? unsolicited_data(pdu, length)
                                        : solicited_data(pdu, length);
}

Session::Intake Session::unsolicited_data(const iscsi::DataOutPdu& pdu, uint32_t length) {
  Task* task = find_task(pdu.itt);
  // Of a command that was refused, aborted or never seen: read and dropped (RFC 7143 4.2.3.3).
  if (task == nullptr || !task->unsolicited_open) return Intake::discard;
  incoming_task_ = task;
  task->last_progress = shard().loop().now();
  if (pdu.data_sn != task->next_unsolicited_data_sn ||
      pdu.buffer_offset != task->unsolicited_received) {
    incoming_out_of_order_ = true;
    return Intake::discard;
  }
  const uint64_t end = uint64_t{task->unsolicited_received} + length;
  if (end > parameters().first_burst_length || end > task->expected_length) {
    why_ = "more unsolicited data than FirstBurstLength or the command allows";
    return Intake::violation;
  }
  if (length == 0 || task->aborted || task->decided || task->early.has_value()) {
    return Intake::discard;
  }
  Chunk* chunk = nullptr;
  switch (task->first_chunk(parameters().first_burst_length, &chunk)) {
    case Task::FirstChunk::none:
      return Intake::discard;
    case Task::FirstChunk::no_buffer:
      if (may_pause_for(*task)) return Intake::pause;
      if (task->is_active()) {
        task->complete(scsi::Status::busy);
      } else {
        task->early = scsi::Status::busy;
      }
      return Intake::discard;
    case Task::FirstChunk::made:
      break;
  }
  if (end > chunk->data.capacity()) return Intake::discard;  // beyond what the command moves
  incoming_chunk_ = chunk;
  target_ = chunk->data.first(end).subspan(task->unsolicited_received);
  return Intake::take;
}

Session::Intake Session::solicited_data(const iscsi::DataOutPdu& pdu, uint32_t length) {
  R2t* r2t = shard().find_r2t(pdu.ttt);
  // A tag that is not open, or not this session's: the task was aborted meanwhile.
  if (r2t == nullptr || r2t->task->session != this || r2t->task->itt != pdu.itt) {
    return Intake::discard;
  }
  Task& task = *r2t->task;
  incoming_task_ = &task;
  incoming_r2t_ = r2t;
  task.last_progress = shard().loop().now();
  if (pdu.data_sn != r2t->next_data_sn || pdu.buffer_offset != r2t->offset + r2t->received) {
    incoming_out_of_order_ = true;
    return Intake::discard;
  }
  if (length > r2t->length - r2t->received) {
    why_ = "more data than the R2T asked for";
    return Intake::violation;
  }
  if (length == 0 || task.aborted || task.decided) return Intake::discard;
  for (Chunk& chunk : task.chunks) {
    if (pdu.buffer_offset < chunk.offset || pdu.buffer_offset - chunk.offset >= chunk.length) {
      continue;
    }
    const uint32_t from = pdu.buffer_offset - chunk.offset;
    ASSERT(from + length <= chunk.length);  // an R2T never crosses a chunk
    incoming_chunk_ = &chunk;
    target_ = chunk.bytes.subspan(from, length);
    return Intake::take;
  }
  return Intake::discard;
}

bool Session::on_data_out(const iscsi::PduReader& reader) {
  Task* task = incoming_task_;
  orphaned_buffer_ = {};
  // Aborted while this PDU was on its way: its R2T is closed already.
  if (task == nullptr || task->state == Task::State::ended) return true;
  const uint32_t length = reader.data_length();
  const bool final = reader.bhs().final();
  Chunk* chunk = std::exchange(incoming_chunk_, nullptr);
  R2t* r2t = std::exchange(incoming_r2t_, nullptr);
  incoming_task_ = nullptr;
  // Out of order means that data before it was lost: to be handled like a wrong digest, which at
  // error recovery level 0 ends the command (RFC 7143 7.8, 7.9).
  const bool intact = reader.data_digest_ok() && !incoming_out_of_order_;
  if (!intact) {
    reject(reader.bhs(), iscsi::RejectReason::data_digest_error);
    if (connection_.closing()) return true;  // no slot for the answer: the task is gone
    if (task->state == Task::State::parked) {
      task->early = scsi::Status::check_condition;
      task->sense = scsi::kDataDigest;
    } else if (!task->decided) {
      task->fail(scsi::kDataDigest);
    }
  }
  uint32_t useful = 0;
  if (r2t != nullptr) {
    ++r2t->next_data_sn;
    r2t->received += length;
    useful = length;
    if (final && r2t->received != r2t->length && !task->decided && !task->aborted) {
      return unexpected("the data of an R2T ended early");
    }
    if (r2t->received == r2t->length || final) task->close_r2t(*r2t);
  } else {
    ++task->next_unsolicited_data_sn;
    const uint32_t before = task->unsolicited_received;
    task->unsolicited_received += length;
    if (chunk != nullptr) {
      useful =
          std::min(task->unsolicited_received, chunk->length) - std::min(before, chunk->length);
    }
    task->solicited = std::min(task->unsolicited_received, task->transfer);
    if (final) task->unsolicited_open = false;
  }
  task->on_data(intact ? chunk : nullptr, useful);
  return true;
}

}  // namespace holdfast::target
