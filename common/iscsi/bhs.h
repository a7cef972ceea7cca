#pragma once
// What all PDUs of RFC 7143 share: opcodes, tags, the basic header segment, additional headers.

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/base/endian.h"
#include "common/iscsi/limits.h"

namespace holdfast::iscsi {

using base::be16;
using base::be24;
using base::be32;
using base::be48;
using base::be64;

// RFC 7143 11.2.1.2. Initiator opcodes have bit 0x20 clear, target opcodes have it set.
enum class Opcode : uint8_t {
  nop_out = 0x00,
  scsi_command = 0x01,
  task_management_request = 0x02,
  login_request = 0x03,
  text_request = 0x04,
  data_out = 0x05,
  logout_request = 0x06,
  snack = 0x10,
  nop_in = 0x20,
  scsi_response = 0x21,
  task_management_response = 0x22,
  login_response = 0x23,
  text_response = 0x24,
  data_in = 0x25,
  logout_response = 0x26,
  r2t = 0x31,
  async_message = 0x32,
  reject = 0x3f,
};

inline constexpr uint8_t kOpcodeMask = 0x3f;
inline constexpr uint8_t kImmediate = 0x40;  // in byte 0 of a request
inline constexpr uint8_t kFinal = 0x80;      // in byte 1 of nearly all PDUs
inline constexpr uint32_t kReservedTag = 0xffffffff;

// The part that all PDUs share (RFC 7143 11.2.1).
struct Bhs {
  uint8_t opcode = 0;
  uint8_t flags = 0;
  std::array<uint8_t, 2> specific2{};
  uint8_t total_ahs_length = 0;  // in words of 4 bytes
  be24 data_segment_length;      // without padding
  be64 lun;
  be32 itt;
  std::array<uint8_t, 28> specific20{};

  constexpr Opcode code() const { return static_cast<Opcode>(opcode & kOpcodeMask); }
  constexpr bool immediate() const { return (opcode & kImmediate) != 0; }
  constexpr bool final() const { return (flags & kFinal) != 0; }
};
static_assert(base::WireStruct<Bhs, kBhsBytes>);
static_assert(offsetof(Bhs, total_ahs_length) == 4 && offsetof(Bhs, data_segment_length) == 5 &&
              offsetof(Bhs, lun) == 8 && offsetof(Bhs, itt) == 16);

// Additional header segments (RFC 7143 11.2.2): length counts from the byte after `type`.
enum class AhsType : uint8_t { extended_cdb = 1, bidirectional_read_length = 2 };

struct AhsHeader {
  be16 length;
  uint8_t type = 0;
  uint8_t specific = 0;
};
static_assert(base::WireStruct<AhsHeader, 4>);

}  // namespace holdfast::iscsi
