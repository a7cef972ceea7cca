#pragma once
// One SCSI command from its PDU to its response. docs/target.md draws its life.
//
// A task is ACTIVE until it can touch the medium no more and its response is decided; then it is
// ENDED and only waits for its bytes to be sent. "Drained" means: not active. An aborted task ends
// as soon as nothing of it is with the backing.

#include <array>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <memory>
#include <optional>

#include "common/io/block_device.h"
#include "common/io/buffer_pool.h"
#include "common/io/loop.h"
#include "common/scsi/cdb.h"
#include "common/scsi/status.h"
#include "target/node_link.h"
#include "target/send_queue.h"

namespace holdfast::target {

using io::Buffer;
using io::BufferPool;

class LogicalUnit;
class Session;
class Shard;
class Task;
struct NexusUnit;

// A part of a command's data that is one disk request: at most kChunkBytes when streaming; the
// whole parameter list, or both halves of COMPARE AND WRITE, otherwise.
struct Chunk {
  Chunk()
      : item(this, [](SendItem& sent) noexcept { static_cast<Chunk*>(sent.owner)->on_sent(); }) {}

  Task* task = nullptr;
  boost::intrusive::list_member_hook<> task_hook;
  boost::intrusive::list_member_hook<> unit_hook;  // LogicalUnit: writing, or held by a gate
  uint32_t offset = 0;                             // bytes from the start of the command's data
  uint32_t length = 0;
  uint32_t received = 0;  // data-out
  Buffer data;
  Buffer compare;  // what the medium holds: VERIFY, ORWRITE, COMPARE AND WRITE
  base::MutableBytes bytes;
  size_t session_charge = 0;        // bytes of both counted against the session's share
  size_t nexus_charge = 0;          // ... and the share of its unit in that
  size_t unit_charge = 0;           // ... and the unit's
  std::shared_ptr<const void> pin;  // keeps mapped memory until it is sent
  BlockRange range;                 // of the write request under way or held
  enum class Step : uint8_t { idle, reading, held, writing, verifying, other } step = Step::idle;
  bool on_disk = false;
  bool counted = false;   // ... among the unit's requests
  bool launched = false;  // all of its data has come and its disk requests have begun
  bool ready = false;     // its disk request is done and it waits for its turn to be sent
  bool sending = false;

  void on_disk_done(int32_t result) noexcept;
  void on_sent() noexcept;
  io::OpOf<Chunk, &Chunk::on_disk_done> op{*this};
  SendItem item;
};

struct R2t {
  bool active = false;
  uint32_t ttt = 0;
  uint32_t offset = 0;
  uint32_t length = 0;
  uint32_t received = 0;
  uint32_t next_data_sn = 0;
  Task* task = nullptr;
  bool queued = false;  // its PDU is in the send queue
  SendItem item{this, [](SendItem& sent) noexcept { static_cast<R2t*>(sent.owner)->on_sent(); }};
  void on_sent() noexcept;
};

using TaskHook = boost::intrusive::list_member_hook<>;

class Task {
 public:
  Task();

  enum class State : uint8_t { free, parked, active, ended };

  // What arrived.
  uint64_t serial = 0;  // unique in the shard; a late reply for a reused slot finds another one
  uint32_t slot = 0;
  State state = State::free;
  Session* session = nullptr;
  NexusUnit* nexus_unit = nullptr;  // null: no such LUN
  uint64_t lun_field = 0;
  uint32_t itt = 0;
  uint32_t cmd_sn = 0;
  uint32_t expected_length = 0;            // Expected Data Transfer Length
  uint32_t bidirectional_read_length = 0;  // not 0: the command is refused
  uint8_t flags = 0;
  bool immediate = false;
  std::array<uint8_t, 16> cdb{};
  scsi::Outcome<scsi::Command> decoded{std::unexpect, scsi::kInvalidOpcode};
  io::Instant started{};
  io::Instant last_progress{};

  // Data.
  uint32_t length = 0;       // what the CDB moves
  uint32_t transfer = 0;     // of it, what fits the expected length, in whole blocks
  uint32_t next_offset = 0;  // where the next chunk starts
  uint32_t solicited = 0;    // data-out asked for or promised without asking, from the start
  uint32_t unsolicited_received = 0;
  uint32_t next_unsolicited_data_sn = 0;
  bool unsolicited_open = false;  // more unsolicited data is to come
  bool gathering = false;         // data-out is collected whole in one chunk
  bool started_media = false;
  uint8_t live_chunks = 0;
  uint8_t on_disk = 0;
  bool with_node = false;  // PERSISTENT RESERVE OUT, MODE SELECT: handed to the control loop
  uint8_t outstanding_r2ts = 0;
  uint32_t r2t_sn = 0;
  uint32_t media_length = 0;  // what the loop over the medium covers
  uint32_t done_bytes = 0;    // of it, completed
  uint32_t data_sent = 0;     // Data-In queued
  std::array<R2t, kMaxOutstandingR2t> r2ts;
  DataInProgress data_in;
  Buffer parameters;          // parameter data to send
  uint32_t gather_bytes = 0;  // how much data-out is needed before anything is done
  bool gathered = false;
  uint64_t cursor = 0;  // commands that loop over ranges: where they are
  uint32_t range_count = 0;
  uint32_t extent_queries = 0;
  bool flushing = false;        // WRITE SAME, UNMAP: done but for making it durable
  bool pattern_writes = false;  // WRITE SAME: data is written; COMPARE AND WRITE: it compared equal
  io::Extent extent;

  // Outcome.
  bool aborted = false;
  bool report_aborted = false;  // TAS: the initiator learns it by status TASK ABORTED
  bool awaits_data = false;     // aborted, but not ended before the data of its open R2Ts has come
  // What start() is to answer with at once: the PDU itself was wrong, or there was no room for it.
  std::optional<scsi::Status> early;
  bool decided = false;  // status and sense are final
  bool exclusive_wanted = false;
  ExclusiveId exclusive = 0;
  scsi::Status status{};
  scsi::Sense sense;
  uint8_t residual_flags = 0;
  uint32_t residual = 0;
  std::array<uint8_t, 32> sense_data{};  // SenseLength and the sense
  SendItem response;
  bool response_queued = false;
  bool status_in_data = false;  // the last Data-In carries it
  bool waits_for_buffer = false;

  TaskHook session_hook;
  TaskHook unit_hook;
  TaskHook wait_hook;  // for a buffer
  TaskHook parked_hook;
  Task* next_same_bucket = nullptr;

  using ChunkList = boost::intrusive::list<
      Chunk, boost::intrusive::member_hook<Chunk, boost::intrusive::list_member_hook<>,
                                           &Chunk::task_hook>>;
  ChunkList chunks;

  // Nothing of it is left to be sent: frees the slot.
  void maybe_free();

  // --- life (task.cc) ---
  void reset();
  // In CmdSN order: checks, then begins. The task may be gone on return.
  void start();
  // Ends without touching the medium any more. `report`: the initiator gets TASK ABORTED.
  // `awaits_data`: not before the data of its open R2Ts has come (RFC 7143 4.2.3.3).
  void abort(bool report, bool awaits_data = false);
  // A Data-Out PDU for it is complete: `bytes` more of `chunk` (null: dropped).
  void on_data(Chunk* chunk, uint32_t bytes);
  void on_buffer_available();
  void close_r2t(R2t& r2t);
  void on_chunk_sent(Chunk& chunk);
  void on_disk_done(Chunk& chunk, int32_t result);
  void on_exclusive(ExclusiveId id);
  void fail(const scsi::Sense& with);
  void complete(scsi::Status with);

  const scsi::Command& command() const { return *decoded; }
  scsi::Operation operation() const { return decoded->row->operation; }
  LogicalUnit& unit() const;
  Shard& shard() const;
  bool is_active() const { return state == State::active; }
  void on_r2t_sent();
  // Parked: its unit was unmapped before its turn came.
  void forget_unit();
  // Sets length, transfer and gathering from the CDB: before the command's turn has come.
  void prepare();
  // So many bytes more are within the session's and the unit's share of the buffers.
  bool within_shares(size_t bytes) const;
  // The chunk for immediate and unsolicited data, with room for `bytes` of it.
  enum class FirstChunk : uint8_t { none, no_buffer, made };
  FirstChunk first_chunk(size_t bytes, Chunk** chunk);

 private:
  static void on_response_sent(SendItem& item) noexcept;

  // task.cc
  std::optional<scsi::Sense> check_unit() const;
  // What TEST UNIT READY would say of the backing and the medium.
  std::optional<scsi::Sense> not_ready() const;
  std::optional<scsi::Sense> check_medium() const;
  bool conflicts_with_reservation() const;
  void dispatch();
  void run_on_device();
  void maybe_end();
  void end();
  void count();
  void set_residual(uint32_t moves);
  void send_response();

  // task_buffers.cc
  Chunk* new_chunk(uint32_t chunk_length, size_t capacity);
  void charge(Chunk& chunk);
  size_t second_buffer_bytes(uint32_t chunk_length) const;
  void uncharge_nexus();
  void uncharge_nexus(Chunk& chunk);
  void release_chunk(Chunk& chunk);
  void release_idle_chunks();
  uint64_t start_offset() const;  // bytes, of the command's first block
  void fail_from_errno(int32_t error, bool reading, uint64_t offset);

  // task_transfer.cc: READ, WRITE, VERIFY, WRITE AND VERIFY, ORWRITE
  uint32_t max_live_chunks() const;
  void start_transfer();
  void pump();
  void pump_read();
  void pump_out();
  void read_mapped();
  void wait_for_buffer();
  void solicit();
  void queue_r2t(R2t& r2t, const Chunk& chunk);
  void chunk_received(Chunk& chunk);
  void chunk_verified(Chunk& chunk);
  void chunk_written(Chunk& chunk);
  void chunk_done(Chunk& chunk);
  void send_ready_chunks();
  void queue_data_in(Chunk& chunk, bool last);

  // task_gather.cc: commands that need all of their data first, or loop over ranges
  void begin_gather(uint32_t bytes);
  void continue_gather();
  void run_gathered();
  base::Bytes gathered_bytes() const;
  Chunk* driver_chunk();
  void continue_on_device(Chunk& chunk, int32_t result);
  bool may_fall_back(Chunk::Step step, int32_t result) const;
  void acquire_exclusive(BlockRange range);
  void release_exclusive();
  void run_compare_and_write();
  void read_for_compare();
  void continue_compare_and_write(Chunk& chunk);
  void run_verify();
  void continue_verify(Chunk& chunk);
  uint64_t range_bytes() const;
  void run_write_same();
  void write_pattern();
  void continue_write_same(Chunk& chunk, int32_t result);
  void run_unmap();
  void unmap_next(Chunk& chunk);
  void continue_unmap(Chunk& chunk);
  void finish_ranges(Chunk& chunk);
  void run_flush();
  void run_lba_status();
  void query_extent(Chunk& chunk);
  void continue_lba_status(Chunk& chunk);
  void run_reserve_out();
  void run_mode_select();

  // task_inquire.cc: parameter data
  size_t parameter_room() const;
  void run_parameter_data();
  scsi::Outcome<size_t> build_parameter_data(base::MutableBytes out);
  size_t build_request_sense(base::MutableBytes out);
  size_t build_report_luns(base::MutableBytes out);
  size_t build_port_groups(base::MutableBytes out);
  void send_parameters(size_t bytes);
  void run_without_unit();
  void run_start_stop();
  void run_prevent_allow();

  // Where to go on when a buffer comes free; null: pump().
  void (Task::*resume_with_buffer)() = nullptr;
};

}  // namespace holdfast::target
