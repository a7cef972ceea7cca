#include "common/scsi/build_cdb.h"

#include <limits>

#include "common/base/assert.h"
#include "common/scsi/unmap.h"

namespace holdfast::scsi::build {
namespace {

using base::be16;
using base::be32;
using base::be64;

constexpr uint8_t kFua = 1 << 3;

// One CDB being filled. The offsets are those of the clauses in docs/scsi.md.
class Builder {
 public:
  explicit Builder(uint8_t opcode) { cdb_.bytes[0] = opcode; }

  Builder& u8(size_t at, unsigned value) {
    cdb_.bytes[at] = static_cast<uint8_t>(value);
    return *this;
  }
  Builder& u16(size_t at, uint16_t value) { return put(at, be16(value)); }
  Builder& u32(size_t at, uint32_t value) { return put(at, be32(value)); }
  Builder& u64(size_t at, uint64_t value) { return put(at, be64(value)); }
  // The 16-byte layout of SBC-3: LBA at byte 2, length at byte 10.
  Builder& range(const BlockRange& range) { return u64(2, range.lba).u32(10, range.blocks); }

  OutgoingCdb none() const { return cdb_; }
  OutgoingCdb in(uint64_t length) { return moving(DataDirection::in, length); }
  OutgoingCdb out(uint64_t length) { return moving(DataDirection::out, length); }

 private:
  template <class Wire>
  Builder& put(size_t at, Wire value) {
    base::store(base::MutableBytes(cdb_.bytes).subspan(at), value);
    return *this;
  }
  OutgoingCdb moving(DataDirection direction, uint64_t length) {
    ASSERT(length <= std::numeric_limits<uint32_t>::max());
    cdb_.length = static_cast<uint32_t>(length);
    cdb_.direction = length == 0 ? DataDirection::none : direction;
    return cdb_;
  }

  OutgoingCdb cdb_;
};

uint64_t bytes_of(uint32_t blocks, uint32_t block_size) { return uint64_t{blocks} * block_size; }

// MAINTENANCE IN: the service action is in byte 1, the allocation length at byte 6.
Builder maintenance_in(unsigned byte1, uint32_t allocation) {
  return Builder(0xa3).u8(1, byte1).u32(6, allocation);
}

bool needs_type(ReserveOut action) {
  switch (action) {
    case ReserveOut::reserve:
    case ReserveOut::release:
    case ReserveOut::preempt:
    case ReserveOut::preempt_and_abort:
      return true;
    case ReserveOut::register_key:
    case ReserveOut::register_and_ignore:
    case ReserveOut::clear:
      return false;
  }
  return false;
}

}  // namespace

OutgoingCdb test_unit_ready() { return Builder(0x00).none(); }

OutgoingCdb inquiry(uint16_t allocation) { return Builder(0x12).u16(3, allocation).in(allocation); }

OutgoingCdb inquiry_vpd(uint8_t page, uint16_t allocation) {
  constexpr unsigned kEvpd = 1;
  return Builder(0x12).u8(1, kEvpd).u8(2, page).u16(3, allocation).in(allocation);
}

OutgoingCdb report_luns(uint32_t allocation) {
  return Builder(0xa0).u32(6, allocation).in(allocation);
}

OutgoingCdb read_capacity16() {
  constexpr uint32_t kAnswer = 32;
  return Builder(0x9e).u8(1, 0x10).u32(10, kAnswer).in(kAnswer);
}

OutgoingCdb mode_sense10(uint8_t page, uint16_t allocation) {
  constexpr unsigned kDbd = 1 << 3;
  ASSERT(page <= 0x3f);
  return Builder(0x5a).u8(1, kDbd).u8(2, page).u16(7, allocation).in(allocation);
}

OutgoingCdb report_target_port_groups(bool extended_header, uint32_t allocation) {
  constexpr unsigned kExtended = 1 << 5;
  return maintenance_in(0x0a | (extended_header ? kExtended : 0U), allocation).in(allocation);
}

OutgoingCdb report_supported_opcodes(uint32_t allocation) {
  return maintenance_in(0x0c, allocation).in(allocation);
}

OutgoingCdb report_supported_opcode(uint8_t opcode, std::optional<uint16_t> service_action,
                                    uint32_t allocation) {
  // REPORTING OPTIONS 1 or 2 (SPC-4 6.35); 3, which would serve for both, is younger than many
  // targets.
  return maintenance_in(0x0c, allocation)
      .u8(2, service_action.has_value() ? 2 : 1)
      .u8(3, opcode)
      .u16(4, service_action.value_or(0))
      .in(allocation);
}

OutgoingCdb persistent_reserve_in(ReserveIn action, uint16_t allocation) {
  return Builder(0x5e).u8(1, static_cast<unsigned>(action)).u16(7, allocation).in(allocation);
}

OutgoingCdb persistent_reserve_out(ReserveOut action, std::optional<PrType> type) {
  ASSERT(type.has_value() || !needs_type(action));
  const unsigned code = type.has_value() ? static_cast<unsigned>(*type) : 0;
  return Builder(0x5f)
      .u8(1, static_cast<unsigned>(action))
      .u8(2, unsigned{kPrScopeLogicalUnit} << 4 | code)
      .u32(5, kPrOutParameterBytes)
      .out(kPrOutParameterBytes);
}

OutgoingCdb read16(const BlockRange& range, uint32_t block_size, bool fua) {
  return Builder(0x88).u8(1, fua ? kFua : 0).range(range).in(bytes_of(range.blocks, block_size));
}

OutgoingCdb write16(const BlockRange& range, uint32_t block_size, bool fua) {
  return Builder(0x8a).u8(1, fua ? kFua : 0).range(range).out(bytes_of(range.blocks, block_size));
}

OutgoingCdb compare_and_write(uint64_t lba, uint8_t blocks, uint32_t block_size, bool fua) {
  ASSERT(blocks != 0);
  return Builder(0x89)
      .u8(1, fua ? kFua : 0)
      .u64(2, lba)
      .u8(13, blocks)
      .out(2 * bytes_of(blocks, block_size));
}

OutgoingCdb verify16(const BlockRange& range) { return Builder(0x8f).range(range).none(); }

OutgoingCdb verify16_compare(const BlockRange& range, uint32_t block_size) {
  constexpr unsigned kBytchkAll = 1 << 1;
  return Builder(0x8f).u8(1, kBytchkAll).range(range).out(bytes_of(range.blocks, block_size));
}

OutgoingCdb write_same16(const BlockRange& range, WriteSameData data, bool unmap,
                         uint32_t block_size) {
  constexpr unsigned kUnmap = 1 << 3;
  constexpr unsigned kNdob = 1 << 0;
  ASSERT(range.blocks != 0);
  const bool no_data = data == WriteSameData::none;
  return Builder(0x93)
      .u8(1, (unmap ? kUnmap : 0U) | (no_data ? kNdob : 0U))
      .range(range)
      .out(no_data ? 0 : block_size);
}

OutgoingCdb unmap(size_t ranges) {
  const size_t length = unmap_list_bytes(ranges);
  return Builder(0x42).u16(7, static_cast<uint16_t>(length)).out(length);
}

OutgoingCdb synchronize_cache16(const BlockRange& range) {
  return Builder(0x91).range(range).none();
}

OutgoingCdb get_lba_status(uint64_t lba, uint32_t allocation) {
  return Builder(0x9e).u8(1, 0x12).u64(2, lba).u32(10, allocation).in(allocation);
}

}  // namespace holdfast::scsi::build
