#pragma once
// A look at the witness before a life of this node begins: what cluster it belongs to, and what is
// known there of this node's earlier lives, so that an old copy of the local state that was put
// back is not taken for the newest. Only reads: nothing needs to be registered for it.
//
// Owner: the daemon. Answers once, from the loop, at the latest when `limit` has gone by.

#include <functional>
#include <memory>

#include "common/io/buffer_pool.h"
#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {

struct WitnessSight {
  Superblock superblock;
  Incarnation seen = 0;  // the latest life of this node that is mentioned; 0: none
  Epoch newest = 0;      // that is decided, as far as it lies here
};

class WitnessLook {
 public:
  using Done = std::move_only_function<void(base::Result<WitnessSight>) noexcept>;

  static base::Result<std::unique_ptr<WitnessLook>> create(io::Loop& loop,
                                                           io::SharedBlockDevice& device,
                                                           NodeId self);
  WitnessLook(const WitnessLook&) = delete;
  WitnessLook& operator=(const WitnessLook&) = delete;
  ~WitnessLook();

  // What cannot be read is tried again until `limit`, as a device may not be there yet. Errc::io:
  // it was not; Errc::not_found: the device is no witness; Errc::corrupt.
  void start(io::Duration limit, Done done);

 private:
  enum class Step : uint8_t { superblocks, heartbeats, ballot, decided, done };

  WitnessLook(io::Loop& loop, io::SharedBlockDevice& device, NodeId self,
              std::unique_ptr<io::BufferPool> pool);
  void read(Step step);
  void on_read(int32_t result) noexcept;
  void on_retry() noexcept { read(step_); }
  void take(Step step);
  void finish(base::Result<WitnessSight> result);

  io::Loop& loop_;
  io::SharedBlockDevice& device_;
  const NodeId self_;
  std::unique_ptr<io::BufferPool> pool_;
  io::Buffer buffer_;
  iovec part_{};
  Step step_ = Step::done;
  io::Instant deadline_{};
  WitnessSight sight_;
  Done done_;
  io::BlockRequestOf<WitnessLook, &WitnessLook::on_read> request_{*this};
  io::TimerOf<WitnessLook, &WitnessLook::on_retry> retry_{*this};
};

}  // namespace holdfast::qdisk
