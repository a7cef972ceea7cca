#pragma once
// The two copies of the configuration document on the witness LUN: docs/qdisk-format.md,
// "Configuration". A document is written in pieces, each durable, and its header last: until then
// the old header stands before a new document, and says so by its SHA-256.
//
// A piece that was given up may still land, in the midst of a later document: until the device has
// answered that no such ghost is left, nothing is written.
//
// Owner: the daemon, on one loop; destroyed while it is not busy(). Each call is answered once from
// the loop, at the latest a little after `io_limit`; a second one meanwhile with Errc::busy.

#include <functional>
#include <memory>

#include "common/io/buffer_pool.h"
#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "qdisk/config_document.h"
#include "qdisk/config_services.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {

class WitnessConfig final : public ConfigWitness {
 public:
  // Of one read or write.
  static constexpr size_t kPieceBytes = size_t{128} << 10;

  // `cluster`: as the witness' superblock has it. The device outlives this.
  static base::Result<std::unique_ptr<WitnessConfig>> create(io::Loop& loop,
                                                             io::SharedBlockDevice& device,
                                                             const Uuid& cluster,
                                                             io::Duration io_limit);
  WitnessConfig(const WitnessConfig&) = delete;
  WitnessConfig& operator=(const WitnessConfig&) = delete;
  ~WitnessConfig() override;

  // Something is under way, or ghosts of it are.
  bool busy() const { return step_ != Step::idle || waiting_for_ghosts_; }

  // Errc::busy: also while ghosts are left.
  void write(const ConfigDocument& document, unsigned copy, Written done) override;
  // Damage is no error: the copy is not there.
  void read(Read done) override;

 private:
  enum class Step : uint8_t { idle, write_piece, write_header, read_header, read_piece };

  WitnessConfig(io::Loop& loop, io::SharedBlockDevice& device, const Uuid& cluster,
                io::Duration io_limit, std::unique_ptr<io::BufferPool> pool);
  void write_next();
  void read_next();
  void begin_copy(unsigned copy);
  void take_header();
  void take_piece();
  size_t piece_bytes() const;
  void submit(io::BlockRequest::Kind kind, uint64_t offset, size_t length);
  void on_done(int32_t result) noexcept;
  void finish(base::Result<> result);
  void wait_for_ghosts();

  io::Loop& loop_;
  io::SharedBlockDevice& device_;
  const Uuid cluster_;
  const io::Duration io_limit_;
  std::unique_ptr<io::BufferPool> pool_;
  io::Buffer buffer_;
  iovec part_{};
  io::BlockRequestOf<WitnessConfig, &WitnessConfig::on_done> request_{*this};

  Step step_ = Step::idle;
  bool waiting_for_ghosts_ = false;
  io::Instant deadline_{};
  unsigned copy_ = 0;
  ConfigDocument document_;  // that is written, or read
  size_t length_ = 0;        // of the document that is read
  size_t moved_ = 0;         // bytes of it that are written or read
  ConfigCopies found_;
  Written written_;
  Read read_;
};

}  // namespace holdfast::qdisk
