#include "common/io/file_device.h"

#include <linux/falloc.h>
#include <linux/fs.h>

#include <cerrno>

namespace holdfast::io {

void FileDevice::read(Op& op, uint64_t offset, base::MutableBytes buffer) {
  const auto length = static_cast<uint32_t>(buffer.size());
  io_uring_prep_read(loop_.prepare(op, length), backing_.fd(), buffer.data(), length, offset);
}

void FileDevice::write(Op& op, uint64_t offset, base::Bytes buffer, Durability durability) {
  const auto length = static_cast<uint32_t>(buffer.size());
  io_uring_sqe* sqe = loop_.prepare(op, length);
  io_uring_prep_write(sqe, backing_.fd(), buffer.data(), length, offset);
  if (backing_.is_file()) op.scratch |= UringLoop::kShortIsFull;
  if (durability == Durability::durable) sqe->rw_flags = RWF_DSYNC;
}

void FileDevice::flush(Op& op) {
  io_uring_prep_fsync(loop_.prepare(op), backing_.fd(), IORING_FSYNC_DATASYNC);
}

void FileDevice::discard(Op& op, uint64_t offset, uint64_t length) {
  io_uring_prep_fallocate(loop_.prepare(op), backing_.fd(),
                          FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                          static_cast<off_t>(length));
}

void FileDevice::write_zeroes(Op& op, uint64_t offset, uint64_t length) {
  io_uring_prep_fallocate(loop_.prepare(op), backing_.fd(),
                          FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                          static_cast<off_t>(length));
}

void FileDevice::extent_at(Op& op, uint64_t offset, Extent* extent) {
  // The op stands for the worker's call until its result is posted back: busy in the meantime.
  op.begin();
  const bool taken = backing_.worker().submit([this, &op, offset, extent]() noexcept {
    const base::Result<Extent> found = backing_.extent_at(offset);
    loop_.post([&op, found, extent]() noexcept {
      if (found.has_value()) *extent = *found;
      op.complete(found.has_value() ? 0 : -found.error().sys);
    });
  });
  if (!taken) {
    loop_.post([&op]() noexcept { op.complete(-EBUSY); });
  }
}

}  // namespace holdfast::io
