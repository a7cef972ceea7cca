#pragma once
// One loop's view of a FileBacking.

#include "common/io/file_backing.h"

namespace holdfast::io {

class FileDevice final : public BlockDevice {
 public:
  FileDevice(FileBacking& backing, UringLoop& loop) : backing_(backing), loop_(loop) {}

  BlockInfo info() const override { return backing_.info(); }
  void read(Op& op, uint64_t offset, base::MutableBytes buffer) override;
  void write(Op& op, uint64_t offset, base::Bytes buffer, Durability durability) override;
  void flush(Op& op) override;
  void discard(Op& op, uint64_t offset, uint64_t length) override;
  void write_zeroes(Op& op, uint64_t offset, uint64_t length) override;
  void extent_at(Op& op, uint64_t offset, Extent* extent) override;
  void cancel(Op& op) override { loop_.cancel(op); }
  uint32_t memory_alignment() const override { return backing_.direct() ? 4096 : 1; }

 private:
  FileBacking& backing_;
  UringLoop& loop_;
};

}  // namespace holdfast::io
