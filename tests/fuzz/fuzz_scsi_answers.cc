// What a hostile target may answer an initiator: parameter data through every parser of
// common/scsi. The input is one answer; all parsers read it, as a target may answer with the wrong
// thing too.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/scsi/alua.h"
#include "common/scsi/capacity.h"
#include "common/scsi/inquiry.h"
#include "common/scsi/lba_status.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/parse_reservations.h"
#include "common/scsi/parse_vpd.h"
#include "common/scsi/report_luns.h"
#include "common/scsi/report_opcodes.h"

namespace holdfast::scsi {
namespace {

bool is_printable(const std::string& text) {
  return std::ranges::all_of(text, [](char c) { return c >= 0x20 && c <= 0x7e; });
}

void fuzz_inquiry(Bytes in) {
  if (const auto data = parse_standard_inquiry(in)) {
    ASSERT(is_printable(data->vendor) && data->vendor.size() <= 8);
    ASSERT(is_printable(data->product) && data->product.size() <= 16);
    ASSERT(is_printable(data->revision) && data->revision.size() <= 4);
  }
  (void)parse_supported_opcode(in);
  (void)parse_mode_sense10(in);
}

void fuzz_pages(Bytes in) {
  (void)parse_block_limits(in);
  (void)parse_block_characteristics(in);
  (void)parse_provisioning(in);
  if (const auto pages = parse_supported_pages(in)) ASSERT(pages->test(0) && in.size() > 4);
  if (const auto serial = parse_serial_number(in)) {
    ASSERT(is_printable(*serial) && serial->size() + 4 <= in.size());
  }
  const auto identification = parse_device_identification(in);
  if (!identification) return;
  ASSERT(!identification->complete || identification->full_length <= in.size());
  if (!identification->unit) return;
  const UnitIdentity& unit = *identification->unit;
  ASSERT(!unit.value().empty() && unit.value().size() + 8 <= in.size());
  ASSERT(is_printable(to_string(unit)));
  // A name stands for nothing but its bytes.
  ASSERT(unit == UnitIdentity(unit.type(), unit.value()));
}

void fuzz_capacity(Bytes in) {
  const auto capacity = parse_read_capacity16(in);
  if (!capacity) return;
  ASSERT(capacity->blocks > 0 && capacity->block_size >= 512);
  ASSERT(capacity->blocks <= uint64_t{INT64_MAX} / capacity->block_size);
}

void fuzz_luns(Bytes in) {
  const auto luns = parse_report_luns(in);
  if (!luns) return;
  ASSERT(luns->fields.size() <= in.size() / 8);
  ASSERT(!luns->complete || luns->full_length <= in.size());
  for (const base::be64& field : luns->fields) {
    const auto number = decode_lun(base::as_bytes(field));
    ASSERT(!number || decode_lun(base::as_bytes(encode_lun(*number))) == number);
  }
}

void fuzz_groups(Bytes in) {
  const auto groups = parse_target_port_groups(in);
  if (!groups) return;
  size_t bytes = 4;
  for (const ReportedPortGroup& group : groups->groups) {
    bytes += 8 + 4 * group.relative_port_ids.size();
    ASSERT(!to_string(group.state).empty());
    ASSERT(groups->find(group.tag) != nullptr);
  }
  ASSERT(bytes <= in.size());
  ASSERT(!groups->complete || groups->full_length <= in.size());
}

void fuzz_reservations(Bytes in) {
  (void)parse_report_capabilities(in);
  if (const auto reservation = parse_read_reservation(in)) {
    ASSERT(!reservation->held || in.size() >= 24);
  }
  const auto keys = parse_read_keys(in);
  if (keys) {
    ASSERT(keys->keys.size() <= in.size() / 8);
    ASSERT(!keys->complete || keys->keys.size() * 8 + 8 == keys->full_length);
  }
  const auto status = parse_full_status(in);
  if (!status) return;
  ASSERT(status->entries.size() <= in.size() / 24);
  for (const FullStatusEntry& entry : status->entries) {
    ASSERT(!entry.type || entry.holder);
    ASSERT(!entry.initiator || !entry.initiator->initiator_name.empty());
  }
}

// An answer cut shorter tells less, never something else.
void fuzz_cut(Bytes in) {
  const auto whole = parse_read_keys(in);
  const auto cut = parse_read_keys(in.first(in.size() - in.size() / 3));
  if (!whole || !cut) return;
  ASSERT(cut->keys.size() <= whole->keys.size());
  ASSERT(std::equal(cut->keys.begin(), cut->keys.end(), whole->keys.begin()));
}

void fuzz_extents(Bytes in) {
  if (in.size() < 16) return;
  // Asked for the first LBA there is, or for one a little behind it.
  const uint64_t first = base::load<base::be64>(in.subspan(8)) + (in[4] & 3U);
  std::array<LbaExtent, 8> extents;
  const auto count = parse_lba_status(in, first, extents);
  if (!count) return;
  ASSERT(*count > 0 && *count <= extents.size());
  uint64_t next = first;
  for (const LbaExtent& extent : std::span(extents).first(*count)) {
    ASSERT(extent.lba == next && extent.blocks > 0);
    ASSERT(extent.lba + extent.blocks > extent.lba);
    next = extent.lba + extent.blocks;
  }
  // What was understood, told by our own target, is understood the same.
  std::array<uint8_t, 8 + 16 * 8> told;
  const size_t length = lba_status(std::span(extents).first(*count), told);
  std::array<LbaExtent, 8> again;
  const auto same = parse_lba_status(Bytes(told).first(length), first, again);
  ASSERT(same && *same == *count);
  for (size_t i = 0; i < *count; ++i) {
    ASSERT(again[i].lba == extents[i].lba && again[i].blocks == extents[i].blocks);
    ASSERT(again[i].status == extents[i].status);
  }
}

}  // namespace
}  // namespace holdfast::scsi

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const holdfast::base::Bytes in(data, size);
  holdfast::scsi::fuzz_inquiry(in);
  holdfast::scsi::fuzz_pages(in);
  holdfast::scsi::fuzz_capacity(in);
  holdfast::scsi::fuzz_luns(in);
  holdfast::scsi::fuzz_groups(in);
  holdfast::scsi::fuzz_reservations(in);
  holdfast::scsi::fuzz_cut(in);
  holdfast::scsi::fuzz_extents(in);
  return 0;
}
