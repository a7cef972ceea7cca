#pragma once
// Checked copies between byte ranges and wire structs.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "common/base/assert.h"
#include "common/base/endian.h"

namespace holdfast::base {

using Bytes = std::span<const uint8_t>;
using MutableBytes = std::span<uint8_t>;

// The caller has checked the length against the wire; here it is an invariant.
template <class T>
  requires WireStruct<T, sizeof(T)>
T load(Bytes in) {
  ASSERT(in.size() >= sizeof(T));
  T out;
  std::memcpy(&out, in.data(), sizeof(T));
  return out;
}

template <class T>
  requires WireStruct<T, sizeof(T)>
void store(MutableBytes out, const T& value) {
  ASSERT(out.size() >= sizeof(T));
  std::memcpy(out.data(), &value, sizeof(T));
}

template <class T>
  requires WireStruct<T, sizeof(T)>
Bytes as_bytes(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(T)};
}

inline Bytes as_bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

constexpr size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

}  // namespace holdfast::base
