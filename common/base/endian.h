#pragma once
// Integers as they lie on the wire or the disk: byte arrays of alignment 1, so that a struct of
// them needs no packing and a raw value cannot be taken for a host-order one.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace holdfast::base {

template <std::unsigned_integral Host, size_t kBytes, bool kBig>
class WireInteger {
 public:
  constexpr WireInteger() = default;
  // Implicit on purpose: `bhs.itt = itt` is the whole point. Higher bytes than fit are cut.
  constexpr WireInteger(Host value) {  // NOLINT(google-explicit-constructor)
    for (size_t i = 0; i < kBytes; ++i) {
      bytes_[kBig ? kBytes - 1 - i : i] = static_cast<uint8_t>(value >> (8 * i));
    }
  }
  constexpr operator Host() const {  // NOLINT(google-explicit-constructor)
    Host value = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      value = static_cast<Host>(
          value | static_cast<Host>(Host{bytes_[kBig ? kBytes - 1 - i : i]} << (8 * i)));
    }
    return value;
  }
  constexpr Host get() const { return *this; }

 private:
  std::array<uint8_t, kBytes> bytes_{};
};

using be16 = WireInteger<uint16_t, 2, true>;
using be24 = WireInteger<uint32_t, 3, true>;
using be32 = WireInteger<uint32_t, 4, true>;
using be48 = WireInteger<uint64_t, 6, true>;
using be64 = WireInteger<uint64_t, 8, true>;
using le16 = WireInteger<uint16_t, 2, false>;
using le32 = WireInteger<uint32_t, 4, false>;
using le64 = WireInteger<uint64_t, 8, false>;

// static_assert(WireStruct<Bhs, 48>) under each struct that is copied from or to bytes.
template <class T, size_t kSize>
concept WireStruct =
    std::is_trivially_copyable_v<T> && std::has_unique_object_representations_v<T> &&
    alignof(T) == 1 && sizeof(T) == kSize;

}  // namespace holdfast::base
