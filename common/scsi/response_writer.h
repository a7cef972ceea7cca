#pragma once
// Writes parameter data front to back into a buffer that may be too short: what does not fit is
// counted, not written. So a builder cannot overrun, leaves no byte of its range unwritten (old
// memory would leak to the peer), and knows the full length that a length field must tell.

#include <algorithm>
#include <cstring>
#include <string_view>

#include "common/base/bytes.h"

namespace holdfast::scsi {

class ResponseWriter {
 public:
  explicit ResponseWriter(base::MutableBytes out) : out_(out) {}

  void u8(unsigned value) { put(static_cast<uint8_t>(value)); }
  void u16(uint16_t value) { bytes(base::as_bytes(base::be16(value))); }
  void u24(uint32_t value) { bytes(base::as_bytes(base::be24(value))); }
  void u32(uint32_t value) { bytes(base::as_bytes(base::be32(value))); }
  void u64(uint64_t value) { bytes(base::as_bytes(base::be64(value))); }
  void zeros(size_t count) {
    for (size_t i = 0; i < count; ++i) put(0);
  }
  void bytes(base::Bytes in) {
    const size_t fits = position_ < out_.size() ? std::min(in.size(), out_.size() - position_) : 0;
    if (fits > 0) std::memcpy(out_.data() + position_, in.data(), fits);
    position_ += in.size();
  }
  // Left-aligned ASCII in a field of `width`, padded with blanks (SPC-4 4.3).
  void text(std::string_view value, size_t width) {
    value = value.substr(0, width);
    bytes(base::as_bytes(value));
    for (size_t i = value.size(); i < width; ++i) put(' ');
  }

  // Sets a length field written before as zero; nothing happens where it did not fit.
  void patch_u8(size_t at, size_t value) { patch(at, static_cast<uint8_t>(value)); }
  void patch_u16(size_t at, size_t value) {
    patch(at, static_cast<uint8_t>(value >> 8));
    patch(at + 1, static_cast<uint8_t>(value));
  }
  void patch_u32(size_t at, size_t value) {
    patch_u16(at, value >> 16);
    patch_u16(at + 2, value);
  }

  // How long the data is, whether it fitted or not.
  size_t size() const { return position_; }

 private:
  void put(uint8_t value) {
    if (position_ < out_.size()) out_[position_] = value;
    ++position_;
  }
  void patch(size_t at, uint8_t value) {
    if (at < out_.size() && at < position_) out_[at] = value;
  }

  base::MutableBytes out_;
  size_t position_ = 0;
};

}  // namespace holdfast::scsi
