#pragma once
// Wire bytes as text in the tests, and builders run against buffers that are too short.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// "28 00 0000 0010": blanks are ignored.
inline std::vector<uint8_t> from_hex(std::string_view text) {
  std::vector<uint8_t> out;
  std::string digits;
  std::ranges::copy_if(text, std::back_inserter(digits), [](char c) { return c != ' '; });
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoul(digits.substr(i, 2), nullptr, 16)));
  }
  return out;
}

inline std::string to_hex(Bytes bytes) {
  std::string out;
  for (const uint8_t byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

// "28 00": padded with zeroes to the 16 bytes of an iSCSI command.
inline std::vector<uint8_t> cdb(std::string_view text) {
  std::vector<uint8_t> out = from_hex(text);
  out.resize(16);
  return out;
}

inline Command decoded(std::string_view text) {
  const auto command = decode(cdb(text));
  EXPECT_TRUE(command.has_value()) << text;
  return command.value_or(Command{});
}

// The sense of a CDB that must be refused.
inline Sense refused(std::string_view text) {
  const auto command = decode(cdb(text));
  EXPECT_FALSE(command.has_value()) << text;
  return command.has_value() ? kNoSense : command.error();
}

// Calls build(out) with buffers of every size up to beyond the full length. It must tell the same
// length each time, write every byte it tells (whatever was in the buffer), the same ones, and
// none beyond the buffer. Returns the data.
template <class Build>
std::vector<uint8_t> build_checked(Build&& build) {
  constexpr size_t kGuard = 32;
  std::vector<uint8_t> probe(8192, 0xee);
  const size_t length = build(MutableBytes(probe));
  EXPECT_LE(length, probe.size());
  const std::vector<uint8_t> data(probe.begin(), probe.begin() + static_cast<ptrdiff_t>(length));
  for (size_t size = 0; size <= length + 1; ++size) {
    for (const uint8_t fill : {uint8_t{0x00}, uint8_t{0xff}, uint8_t{0x5a}}) {
      std::vector<uint8_t> buffer(size + kGuard, fill);
      EXPECT_EQ(build(MutableBytes(buffer).first(size)), length);
      const size_t told = std::min(size, length);
      EXPECT_TRUE(
          std::equal(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(told), data.begin()))
          << "buffer of " << size << " bytes, filled with " << int{fill};
      EXPECT_TRUE(std::all_of(buffer.begin() + static_cast<ptrdiff_t>(told), buffer.end(),
                              [fill](uint8_t byte) { return byte == fill; }))
          << "wrote beyond " << told << " bytes";
    }
  }
  return data;
}

// 1,048,576 blocks of 512 bytes, thin, uuid 00112233-4455-6677-8899-aabbccddeeff.
inline LunDescription thin_lun() {
  LunDescription lun;
  lun.name = "csv1";
  for (size_t i = 0; i < 16; ++i) lun.uuid[i] = static_cast<uint8_t>(i * 0x11);
  lun.capacity_blocks = 0x100000;
  lun.thin = true;
  return lun;
}

inline LunDescription thick_lun() {
  LunDescription lun = thin_lun();
  lun.thin = false;
  return lun;
}

inline PortDescription port() {
  PortDescription out;
  out.target_name = "iqn.2026-11.org.holdfast:store";
  out.portal_group_tag = 0x12ab;
  out.target_port_group = 3;
  out.relative_target_port_id = 2;
  return out;
}

}  // namespace holdfast::scsi
