#pragma once
// A witness as the command line reads and writes it: with blocking calls, past the page cache. Not
// for a daemon: where a device does not answer, neither does a call here (see guarded_call.h).

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace holdfast::qdisk {

// Owner: whoever opened it, one thread. It can be moved.
class WitnessFile {
 public:
  enum class Use : uint8_t {
    look,    // also while others use it
    format,  // nobody else may have it: not mounted, not claimed, not served
  };
  // A block device or a regular file, with sectors of 512 or 4096 bytes. It is not made.
  static base::Result<WitnessFile> open(const std::string& path, Use use);
  WitnessFile(WitnessFile&& other) noexcept;
  WitnessFile& operator=(WitnessFile&&) = delete;
  ~WitnessFile();

  uint64_t size_bytes() const { return size_bytes_; }
  // Of a regular file 512: what is behind it may have others, and slots suit all.
  uint32_t sector_bytes() const { return sector_bytes_; }
  bool is_block_device() const { return block_device_; }
  // Called after each request, of which none is longer than 256 KiB: the device answers.
  void on_progress(std::function<void()> call) { progress_ = std::move(call); }

  // Offset and size are multiples of the sector size, and within the device.
  base::Result<> read(uint64_t offset, base::MutableBytes out);
  // On stable media when it returns. Past the end of a regular file is an error too.
  base::Result<> write(uint64_t offset, base::Bytes in);

 private:
  struct FreeBuffer {
    void operator()(uint8_t* buffer) const;
  };

  WitnessFile(int fd, bool block_device);
  base::Result<> learn_size();
  bool within(uint64_t offset, size_t size) const;

  int fd_;
  bool block_device_;
  uint64_t size_bytes_ = 0;
  uint32_t sector_bytes_ = 512;
  std::unique_ptr<uint8_t[], FreeBuffer> buffer_;  // aligned
  std::function<void()> progress_;
};

}  // namespace holdfast::qdisk
