#pragma once
// Reads parameter data of a peer: the other half of response_writer.h. A field that has not wholly
// come reads as zero, so a parser that has checked what it cannot do without needs no check per
// field, and no length the peer told can lead beyond the bytes that are there.

#include <algorithm>
#include <string>

#include "common/base/bytes.h"

namespace holdfast::scsi {

class ResponseReader {
 public:
  explicit ResponseReader(base::Bytes data) : data_(data) {}
  // Of `data` only what `told`, the length the peer states, covers.
  ResponseReader(base::Bytes data, uint64_t told)
      : data_(data.first(static_cast<size_t>(std::min<uint64_t>(data.size(), told)))) {}

  size_t size() const { return data_.size(); }
  uint8_t u8(size_t at) const { return at < data_.size() ? data_[at] : uint8_t{0}; }
  uint16_t u16(size_t at) const { return integer<base::be16>(at); }
  uint32_t u32(size_t at) const { return integer<base::be32>(at); }
  uint64_t u64(size_t at) const { return integer<base::be64>(at); }
  bool bit(size_t at, unsigned number) const { return (unsigned{u8(at)} >> number & 1U) != 0; }
  uint8_t bits(size_t at, unsigned low, unsigned count) const {
    return static_cast<uint8_t>(unsigned{u8(at)} >> low & ((1U << count) - 1U));
  }
  // At most `count` bytes from `at` on; fewer, or none, where the data ends.
  base::Bytes bytes(size_t at, size_t count) const {
    if (at >= data_.size()) return {};
    return data_.subspan(at, std::min(count, data_.size() - at));
  }
  // ASCII of a field padded with blanks, or with NULs by those who do not know better. It goes to
  // logs and terminals, so what cannot be printed becomes '?'.
  std::string text(size_t at, size_t width) const {
    std::string_view field = base::as_text(bytes(at, width));
    if (field.size() < width) field = {};
    field = field.substr(0, field.find('\0'));
    while (field.ends_with(' ')) field.remove_suffix(1);
    while (field.starts_with(' ')) field.remove_prefix(1);
    std::string out(field);
    std::ranges::replace_if(out, [](char c) { return c < 0x20 || c > 0x7e; }, '?');
    return out;
  }

 private:
  template <class Wire>
  Wire integer(size_t at) const {
    const base::Bytes field = bytes(at, sizeof(Wire));
    return field.size() == sizeof(Wire) ? base::load<Wire>(field) : Wire{};
  }

  base::Bytes data_;
};

}  // namespace holdfast::scsi
