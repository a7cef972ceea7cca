#include "qdisk/witness_format.h"

#include <fmt/format.h>

#include <algorithm>

#include "qdisk/device_contents.h"

namespace holdfast::qdisk {

using base::Result;

namespace {

constexpr size_t kEndBytes = size_t{64} << 10;  // a backup partition table, RAID superblocks

struct Range {
  uint64_t offset = 0;
  size_t size = 0;
};

// What is made zero: all records, and what programs look for at the end of a device. In this order:
// the superblocks first.
std::vector<Range> zeroed_ranges(const WitnessFile& file) {
  const uint64_t end = file.size_bytes() / file.sector_bytes() * file.sector_bytes();
  return {{.offset = 0, .size = kRecordsEnd},
          {.offset = config_offset(0), .size = kSlotBytes},
          {.offset = config_offset(1), .size = kSlotBytes},
          {.offset = end - kEndBytes, .size = kEndBytes}};
}

std::vector<uint8_t> superblock_slot(const Superblock& superblock, unsigned copy) {
  std::vector<uint8_t> slot(kSlotBytes);
  encode(superblock, copy, MutableSector(std::span(slot).first<kRecordBytes>()));
  return slot;
}

Result<std::string> describe_superblocks(WitnessFile& file) {
  std::vector<uint8_t> slots(kCopies * kSlotBytes);
  TRY(file.read(0, slots));
  std::array<Decoded<Superblock>, kCopies> found;
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    const auto at = static_cast<size_t>(superblock_offset(copy));
    found[copy] =
        decode_superblock(Sector(std::span(slots).subspan(at).first<kRecordBytes>()), copy);
  }
  const Decoded<Superblock> counts = newest(found[0], found[1]);
  if (counts.fault == Fault::magic || counts.empty()) return std::string();
  if (counts.corrupt()) return fmt::format("a witness: {}", to_string(counts.fault));
  return fmt::format("the witness {} of the cluster `{}` ({})", to_text(counts.value->witness),
                     counts.value->cluster_name, to_text(counts.value->cluster));
}

}  // namespace

Result<std::vector<std::string>> what_is_on(WitnessFile& file, const std::string& path) {
  TRY_ASSIGN(const std::string witness, describe_superblocks(file));
  std::vector<std::string> out;
  if (!witness.empty()) out.push_back(witness);
  for (std::string& each : signatures_of(path)) out.push_back(std::move(each));
  if (!out.empty()) return out;
  for (const Range& range : zeroed_ranges(file)) {
    std::vector<uint8_t> bytes(range.size);
    TRY(file.read(range.offset, bytes));
    const auto found = std::ranges::find_if(bytes, [](uint8_t byte) { return byte != 0; });
    if (found == bytes.end()) continue;
    out.push_back(fmt::format("data of an unknown kind, at byte {}",
                              range.offset + static_cast<uint64_t>(found - bytes.begin())));
    return out;
  }
  return out;
}

Result<> format_witness(WitnessFile& file, const Superblock& superblock) {
  for (const Range& range : zeroed_ranges(file)) {
    TRY(file.write(range.offset, std::vector<uint8_t>(range.size)));
  }
  // A last: a device that has lost the second half of its writes has none.
  for (const unsigned copy : {1U, 0U}) {
    TRY(file.write(superblock_offset(copy), superblock_slot(superblock, copy)));
  }
  for (const Range& range : zeroed_ranges(file)) {
    std::vector<uint8_t> wanted(range.size), found(range.size);
    if (range.offset == 0) {
      for (unsigned copy = 0; copy < kCopies; ++copy) {
        std::ranges::copy(superblock_slot(superblock, copy),
                          wanted.begin() + static_cast<ptrdiff_t>(superblock_offset(copy)));
      }
    }
    TRY(file.read(range.offset, found));
    if (found != wanted) {
      return base::fail(base::Errc::corrupt, "it does not give back what was written to it");
    }
  }
  return {};
}

}  // namespace holdfast::qdisk
