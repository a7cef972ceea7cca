#pragma once
// The witness LUN as an acceptor: carries out a WitnessTask, one write after the other, each
// durable before the next, then reads what the others have written. docs/qdisk-format.md. A
// decision is written unless its slot holds a later one.
//
// A write that was given up may still land, and would undo a newer one of ours: before the next
// task writes anything, the device has to answer that no such ghost is left.
//
// Owner: Node. One call at a time, answered once, at the latest a little after `io_limit`, but for
// the device's ghosts: then the answer is that it failed, and so is that of each task until they
// have ended.

#include <functional>
#include <memory>

#include "common/io/buffer_pool.h"
#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "qdisk/layout.h"
#include "qdisk/membership.h"

namespace holdfast::qdisk {

class Witness {
 public:
  using Opened = std::move_only_function<void(base::Result<Superblock>) noexcept>;
  using Done = std::move_only_function<void(WitnessResult) noexcept>;

  static base::Result<std::unique_ptr<Witness>> create(io::Loop& loop,
                                                       io::SharedBlockDevice& device, NodeId self,
                                                       io::Duration io_limit);
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  ~Witness();

  // Reads the superblock. Errc::not_found: there is none; Errc::corrupt.
  void open(Opened opened);
  // Precondition: opened. `slots`: how many nodes' records are read, from 0 on.
  void run(const WitnessTask& task, size_t slots, Done done);
  // Something is under way, or ghosts of it are.
  bool busy() const { return busy_ || waiting_for_ghosts_; }
  uint64_t corrupt_records() const { return corrupt_records_; }
  // The last task ended because this life is not registered.
  bool fenced() const { return fenced_; }

 private:
  enum class Step : uint8_t {
    look,  // whether the decision's slot holds a later one
    decided,
    heartbeat,
    ballot,
    read_heartbeats,
    read_ballots,
    read_decided,
    read_ring,
    done,
  };

  Witness(io::Loop& loop, io::SharedBlockDevice& device, NodeId self, io::Duration io_limit,
          std::unique_ptr<io::BufferPool> pool);
  void next();
  bool begin(Step step);
  MutableSector record();
  void write(uint64_t offset);
  void read(uint64_t offset, uint64_t length);
  void submit(uint64_t length);
  void on_done(int32_t result) noexcept;
  void on_superblock(int32_t result);
  void take(Step step);
  bool take_decided(base::Bytes slot, size_t index);  // false: corrupt
  bool ring_is_behind() const;
  void fail(int32_t result);
  void wait_for_ghosts();

  io::Loop& loop_;
  io::SharedBlockDevice& device_;
  const NodeId self_;
  const io::Duration io_limit_;
  std::unique_ptr<io::BufferPool> pool_;
  io::Buffer buffer_;
  iovec part_{};
  io::BlockRequestOf<Witness, &Witness::on_done> request_{*this};

  Superblock superblock_;
  bool opening_ = false;
  Opened opened_;

  bool busy_ = false;
  bool waiting_for_ghosts_ = false;
  io::Instant deadline_{};
  Step step_ = Step::done;
  WitnessTask task_;
  size_t slots_ = 0;
  Done done_;
  WitnessResult result_;
  // The newest decision that is known to lie in the ring.
  Epoch ring_epoch_ = 0;
  uint64_t corrupt_records_ = 0;
  bool fenced_ = false;
};

}  // namespace holdfast::qdisk
