#include "common/scsi/unmap.h"

#include "common/base/assert.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {
namespace {

struct Header {
  base::be16 data_length;
  base::be16 descriptors_length;
  std::array<uint8_t, 4> reserved{};
};
static_assert(base::WireStruct<Header, 8>);

struct Descriptor {
  base::be64 lba;
  base::be32 blocks;
  std::array<uint8_t, 4> reserved{};
};
static_assert(base::WireStruct<Descriptor, 16>);

}  // namespace

Outcome<size_t> parse_unmap(Bytes list, const LunDescription& lun, std::span<UnmapRange> out) {
  ASSERT(out.size() >= max_unmap_descriptors(lun));
  if (list.empty()) return 0;  // nothing to unmap is no error
  if (list.size() < sizeof(Header)) return std::unexpected(kParameterListLengthError);
  const auto header = base::load<Header>(list);
  const size_t described = header.descriptors_length;
  const size_t total = size_t{header.data_length} + 2;
  if (total > list.size() || described > list.size() - sizeof(Header)) {
    return std::unexpected(kParameterListLengthError);
  }
  if (described + sizeof(Header) > total) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(2));
  }
  // An incomplete last descriptor is ignored (SBC-3 5.28).
  const size_t count = described / sizeof(Descriptor);
  if (count > max_unmap_descriptors(lun)) {
    return std::unexpected(kInvalidFieldInParameterList.at_parameter(2));
  }
  size_t used = 0;
  uint64_t total_blocks = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = sizeof(Header) + i * sizeof(Descriptor);
    const auto descriptor = base::load<Descriptor>(list.subspan(at));
    if (auto sense = check_range(descriptor.lba, descriptor.blocks, lun.capacity_blocks);
        sense.has_value()) {
      return std::unexpected(*sense);
    }
    total_blocks += descriptor.blocks;
    if (total_blocks > max_unmap_blocks(lun)) {
      return std::unexpected(
          kInvalidFieldInParameterList.at_parameter(static_cast<uint16_t>(at + 8)));
    }
    if (descriptor.blocks == 0) continue;
    out[used++] = UnmapRange{.lba = descriptor.lba, .blocks = descriptor.blocks};
  }
  return used;
}

}  // namespace holdfast::scsi
