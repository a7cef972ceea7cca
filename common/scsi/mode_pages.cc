#include "common/scsi/mode_pages.h"

#include <algorithm>
#include <array>
#include <limits>

#include "common/scsi/response_reader.h"
#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr size_t kLargestPage = 32;
constexpr uint8_t kAllPages = 0x3f;
constexpr uint8_t kAllSubpages = 0xff;
constexpr uint8_t kCodeMask = 0x3f;
constexpr uint8_t kSpf = 0x40;
constexpr uint8_t kControl = 0x0a;
constexpr uint8_t kCaching = 0x08;
constexpr size_t kShortDescriptor = 8;
constexpr size_t kLongDescriptor = 16;

constexpr uint8_t kDSense = 0x04;  // control page, byte 2
constexpr uint8_t kSwp = 0x08;     // control page, byte 4

struct Page {
  uint8_t code;
  uint8_t subpage;
  uint8_t length;  // with its header
};

// Ascending, as MODE SENSE of all pages returns them.
constexpr Page kPages[] = {
    {0x01, 0x00, 12},      // read-write error recovery, SBC-3 6.5
    {0x02, 0x00, 16},      // disconnect-reconnect, SPC-4 7.5
    {0x08, 0x00, 20},      // caching, SBC-3 6.5
    {kControl, 0x00, 12},  // control, SPC-4 7.5
    {kControl, 0x01, 32},  // control extension, SPC-4 7.5
    {0x1c, 0x00, 12},      // informational exceptions control, SBC-3 6.5
};

struct PageBytes {
  std::array<uint8_t, kLargestPage> bytes{};
  size_t length = 0;
  Bytes view() const { return Bytes(bytes).first(length); }
};

PageBytes page_header(const Page& page) {
  PageBytes out;
  out.length = page.length;
  if (page.subpage == 0) {
    out.bytes[0] = page.code;
    out.bytes[1] = static_cast<uint8_t>(page.length - 2);
  } else {
    out.bytes[0] = page.code | kSpf;
    out.bytes[1] = page.subpage;
    out.bytes[3] = static_cast<uint8_t>(page.length - 4);
  }
  return out;
}

// A one in each bit that MODE SELECT may change.
PageBytes changeable_page(const Page& page) {
  PageBytes out = page_header(page);
  if (page.code == kControl && page.subpage == 0) {
    out.bytes[2] = kDSense;
    out.bytes[4] = kSwp;
  }
  return out;
}

PageBytes current_page(const Page& page, const LunDescription& lun, const ModeState& state) {
  constexpr uint8_t kWce = 0x04;
  constexpr uint8_t kGltsd = 0x02;
  constexpr uint8_t kUnrestrictedReordering = 0x10;
  constexpr uint8_t kTas = 0x40;
  constexpr uint8_t kIaluae = 0x01;
  constexpr uint8_t kDexcpt = 0x08;
  PageBytes out = page_header(page);
  switch (page.code) {
    case 0x08:
      out.bytes[2] = lun.write_cache ? kWce : 0;  // RCD=0
      break;
    case kControl:
      if (page.subpage == 0) {
        out.bytes[2] = static_cast<uint8_t>(kGltsd | (state.descriptor_sense ? kDSense : 0));
        out.bytes[3] = kUnrestrictedReordering;  // QERR=0; TST=0: one task set for all nexuses
        out.bytes[4] = state.software_write_protect ? kSwp : 0;
        out.bytes[5] = kTas;
      } else {
        out.bytes[4] = kIaluae;
      }
      break;
    case 0x1c:
      out.bytes[2] = kDexcpt;  // MRIE=0: no informational exceptions
      break;
    default:
      break;  // 01h, 02h: all zero, nothing of it applies to a virtual disk
  }
  return out;
}

PageBytes page_values(const Page& page, PageControl control, const LunDescription& lun,
                      const ModeState& state) {
  switch (control) {
    case PageControl::changeable:
      return changeable_page(page);
    case PageControl::defaults:
      return current_page(page, lun, ModeState{});
    default:
      return current_page(page, lun, state);
  }
}

// SPC-4 6.13: which pages a page code and subpage code ask for. Of all pages only subpage 00h or
// all of them can be asked for; the codes between are reserved.
bool is_selected(const Page& page, const Command& command) {
  if (command.page == kAllPages && command.subpage != 0 && command.subpage != kAllSubpages) {
    return false;
  }
  const bool code = command.page == kAllPages || command.page == page.code;
  const bool subpage = command.subpage == kAllSubpages || command.subpage == page.subpage;
  return code && subpage;
}

void write_block_descriptor(const LunDescription& lun, bool long_lba, ResponseWriter& writer) {
  if (long_lba) {
    writer.u64(lun.capacity_blocks);
    writer.zeros(4);
    writer.u32(lun.block_size);
    return;
  }
  constexpr uint64_t kTooMany = std::numeric_limits<uint32_t>::max();
  writer.u32(static_cast<uint32_t>(std::min(lun.capacity_blocks, kTooMany)));
  writer.u8(0);
  writer.u24(lun.block_size);
}

const Page* find_page(uint8_t code, uint8_t subpage) {
  for (const Page& page : kPages) {
    if (page.code == code && page.subpage == subpage) return &page;
  }
  return nullptr;
}

struct SelectHeader {
  size_t length = 0;
  size_t descriptor_length = 0;
  bool long_lba = false;
};

Outcome<SelectHeader> parse_header(const Command& command, Bytes list) {
  SelectHeader header;
  const bool ten = command.row->cdb_length == 10;
  header.length = ten ? 8 : 4;
  if (list.size() < header.length) return std::unexpected(kParameterListLengthError);
  // MODE DATA LENGTH is reserved and the device-specific parameter ignored for MODE SELECT.
  const uint16_t medium_type_at = ten ? 2 : 1;
  if (list[medium_type_at] != 0) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(medium_type_at));
  }
  header.long_lba = ten && (list[4] & 1U) != 0;
  header.descriptor_length =
      ten ? size_t{base::load<base::be16>(list.subspan(6))} : size_t{list[3]};
  const size_t one = header.long_lba ? kLongDescriptor : kShortDescriptor;
  if (header.descriptor_length != 0 && header.descriptor_length != one) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(ten ? 6 : 3));
  }
  if (list.size() < header.length + header.descriptor_length) {
    return std::unexpected(kParameterListLengthError);
  }
  return header;
}

// A block descriptor may only repeat what is: this disk is not formatted by its initiators. Zero
// blocks, or all ones, is "as it is" (SBC-3 6.5, block descriptors).
std::optional<Sense> check_block_descriptor(const SelectHeader& header, const LunDescription& lun,
                                            Bytes list) {
  if (header.descriptor_length == 0) return std::nullopt;
  const Bytes descriptor = list.subspan(header.length, header.descriptor_length);
  const auto at = static_cast<uint16_t>(header.length);
  uint64_t blocks = 0;
  uint32_t block_size = 0;
  bool all_ones = false;
  if (header.long_lba) {
    blocks = base::load<base::be64>(descriptor);
    block_size = base::load<base::be32>(descriptor.subspan(12));
    all_ones = blocks == std::numeric_limits<uint64_t>::max();
  } else {
    blocks = base::load<base::be32>(descriptor);
    block_size = base::load<base::be24>(descriptor.subspan(5));
    all_ones = blocks == std::numeric_limits<uint32_t>::max();
  }
  if (blocks != 0 && !all_ones && blocks != lun.capacity_blocks) {
    return kInvalidFieldInParameterList.at_parameter(at);
  }
  if (block_size != lun.block_size) {
    const int length_at = header.long_lba ? 12 : 5;
    return kInvalidFieldInParameterList.at_parameter(static_cast<uint16_t>(at + length_at));
  }
  return std::nullopt;
}

// One page of the list starting at `at`; returns where the next one starts.
Outcome<size_t> parse_page(Bytes list, size_t at, const LunDescription& lun, const ModeState& state,
                           ModeChanges& changes) {
  const Bytes rest = list.subspan(at);
  const auto pointer = [at](size_t offset) { return static_cast<uint16_t>(at + offset); };
  const bool has_subpage = (rest[0] & kSpf) != 0;
  const size_t header = has_subpage ? 4 : 2;
  if (rest.size() < header) return std::unexpected(kParameterListLengthError);
  const Page* page = find_page(rest[0] & kCodeMask, has_subpage ? rest[1] : uint8_t{0});
  if (page == nullptr || has_subpage != (page->subpage != 0)) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(pointer(0), 5));
  }
  const size_t told =
      has_subpage ? size_t{base::load<base::be16>(rest.subspan(2))} + 4 : size_t{rest[1]} + 2;
  if (told != page->length) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(pointer(header - 1)));
  }
  if (rest.size() < page->length) return std::unexpected(kParameterListLengthError);

  const PageBytes current = current_page(*page, lun, state);
  const PageBytes changeable = changeable_page(*page);
  for (size_t i = header; i < page->length; ++i) {
    const auto wrong = static_cast<uint8_t>((rest[i] ^ current.bytes[i]) & ~changeable.bytes[i]);
    if (wrong == 0) continue;
    uint8_t bit = 7;
    while ((wrong >> bit & 1) == 0) --bit;
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(pointer(i), bit));
  }
  if (page->code == kControl && page->subpage == 0) {
    changes.descriptor_sense = (rest[2] & kDSense) != 0;
    changes.software_write_protect = (rest[4] & kSwp) != 0;
  }
  return at + page->length;
}

}  // namespace

Outcome<size_t> mode_sense(const Command& command, const LunDescription& lun,
                           const ModeState& state, MutableBytes out) {
  constexpr unsigned kWp = 0x80;
  constexpr unsigned kDpofua = 0x10;
  if (command.page_control == PageControl::saved) return std::unexpected(kSavingNotSupported);

  const bool ten = command.row->cdb_length == 10;
  const bool long_lba = ten && command.llbaa;
  size_t descriptor_length = 0;
  if (!command.dbd) descriptor_length = long_lba ? kLongDescriptor : kShortDescriptor;
  const unsigned device_specific =
      kDpofua | (lun.read_only || state.software_write_protect ? kWp : 0U);

  ResponseWriter writer(out);
  if (ten) {
    writer.u16(0);
    writer.u8(0);
    writer.u8(device_specific);
    writer.u8(long_lba && !command.dbd ? 1 : 0);
    writer.u8(0);
    writer.u16(static_cast<uint16_t>(descriptor_length));
  } else {
    writer.u8(0);
    writer.u8(0);
    writer.u8(device_specific);
    writer.u8(static_cast<unsigned>(descriptor_length));
  }
  if (!command.dbd) write_block_descriptor(lun, long_lba, writer);

  bool any = false;
  for (const Page& page : kPages) {
    if (!is_selected(page, command)) continue;
    any = true;
    writer.bytes(page_values(page, command.page_control, lun, state).view());
  }
  // The subpage is wrong where the page code is known.
  const bool page_known = command.page == kAllPages || find_page(command.page, 0) != nullptr;
  if (!any) {
    return std::unexpected(page_known ? kInvalidFieldInCdb.at_cdb(3)
                                      : kInvalidFieldInCdb.at_cdb(2, 5));
  }
  if (ten) {
    writer.patch_u16(0, writer.size() - 2);
  } else {
    writer.patch_u8(0, writer.size() - 1);
  }
  return writer.size();
}

Outcome<ModeChanges> mode_select(const Command& command, const LunDescription& lun,
                                 const ModeState& state, Bytes list) {
  ModeChanges changes;
  if (list.empty()) return changes;  // PARAMETER LIST LENGTH 0 is no error (SPC-4 6.11)
  if (list.size() > kMaxModeParameterBytes) return std::unexpected(kParameterListLengthError);
  const Outcome<SelectHeader> header = parse_header(command, list);
  if (!header.has_value()) return std::unexpected(header.error());
  if (auto sense = check_block_descriptor(*header, lun, list); sense.has_value()) {
    return std::unexpected(*sense);
  }
  size_t at = header->length + header->descriptor_length;
  while (at < list.size()) {
    const Outcome<size_t> next = parse_page(list, at, lun, state, changes);
    if (!next.has_value()) return std::unexpected(next.error());
    at = *next;
  }
  // Tell only what is different: an unchanged value gives nobody a unit attention.
  if (changes.descriptor_sense == state.descriptor_sense) changes.descriptor_sense.reset();
  if (changes.software_write_protect == state.software_write_protect) {
    changes.software_write_protect.reset();
  }
  return changes;
}

base::Result<ModeSenseData> parse_mode_sense10(Bytes data) {
  constexpr size_t kHeader = 8;
  if (data.size() < kHeader) {
    return base::fail(base::Errc::protocol, "MODE SENSE(10): shorter than its header");
  }
  // MODE DATA LENGTH does not count itself.
  const ResponseReader in(data, uint64_t{base::load<base::be16>(data)} + 2);
  ModeSenseData out{.write_protected = in.bit(3, 7), .dpo_fua = in.bit(3, 4)};
  size_t at = kHeader + in.u16(6);
  while (at + 2 <= in.size()) {
    const bool has_subpage = (in.u8(at) & kSpf) != 0;
    if (!has_subpage && (in.u8(at) & kCodeMask) == kCaching && in.u8(at + 1) > 0 &&
        at + 2 < in.size()) {
      out.write_cache = in.bit(at + 2, 2);
      return out;
    }
    at += has_subpage ? size_t{in.u16(at + 2)} + 4 : size_t{in.u8(at + 1)} + 2;
  }
  return out;
}

}  // namespace holdfast::scsi
