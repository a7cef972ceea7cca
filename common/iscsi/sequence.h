#pragma once
// Serial number arithmetic of RFC 1982 over 32 bits, as CmdSN, StatSN, DataSN and R2TSN use it
// (RFC 7143 4.2.2). A plain `<` is wrong once a number has wrapped.

#include <cstdint>

namespace holdfast::iscsi {

// Distance from `from` to `to`, negative when `to` is older. Numbers exactly 2^31 apart have no
// defined order (RFC 1982 3.2); here they count as older, so they are never accepted as new.
constexpr int32_t serial_distance(uint32_t from, uint32_t to) {
  return static_cast<int32_t>(to - from);
}

constexpr bool serial_less(uint32_t a, uint32_t b) { return serial_distance(a, b) > 0; }
constexpr bool serial_less_equal(uint32_t a, uint32_t b) { return a == b || serial_less(a, b); }

// RFC 7143 4.2.2.1: a non-immediate command is taken only inside [ExpCmdSN, MaxCmdSN].
// MaxCmdSN = ExpCmdSN - 1 is a closed window and contains nothing.
constexpr bool in_window(uint32_t number, uint32_t first, uint32_t last) {
  return serial_less_equal(first, number) && serial_less_equal(number, last);
}

}  // namespace holdfast::iscsi
