#include "common/scsi/report_luns.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/scsi/limits.h"
#include "common/scsi/response_reader.h"
#include "common/scsi/response_writer.h"

namespace holdfast::scsi {
namespace {

constexpr unsigned kFlatSpace = 0x40;
constexpr unsigned kMethodMask = 0xc0;
constexpr uint8_t kOnlyWellKnown = 1;
constexpr size_t kHeaderLength = 8;

}  // namespace

std::optional<uint16_t> decode_lun(base::Bytes field) {
  if (field.size() != 8) return std::nullopt;
  if (std::ranges::any_of(field.subspan(2), [](uint8_t byte) { return byte != 0; })) {
    return std::nullopt;  // a second level: we have no hierarchy
  }
  if (field[0] == 0) return field[1];
  if ((field[0] & kMethodMask) != kFlatSpace) return std::nullopt;
  return static_cast<uint16_t>((field[0] & ~kMethodMask) << 8 | field[1]);
}

base::be64 encode_lun(uint16_t lun) {
  ASSERT(lun <= kMaxLun);
  const uint64_t method = lun > kMaxPeripheralLun ? kFlatSpace << 8 : 0;
  return (method | lun) << 48;
}

size_t report_luns(uint8_t select_report, std::span<const uint16_t> luns, base::MutableBytes out) {
  ResponseWriter writer(out);
  if (select_report == kOnlyWellKnown) luns = {};
  writer.u32(static_cast<uint32_t>(luns.size() * 8));
  writer.zeros(4);
  for (const uint16_t lun : luns) writer.u64(encode_lun(lun));
  return writer.size();
}

base::Result<ReportedLuns> parse_report_luns(base::Bytes data) {
  if (data.size() < kHeaderLength) {
    return base::fail(base::Errc::protocol, "REPORT LUNS: shorter than its header");
  }
  ReportedLuns out;
  out.full_length = kHeaderLength + uint64_t{base::load<base::be32>(data)};
  out.complete = out.full_length <= data.size();
  const ResponseReader in(data, out.full_length);
  const size_t count = (in.size() - kHeaderLength) / sizeof(base::be64);
  out.fields.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    out.fields.emplace_back(in.u64(kHeaderLength + i * sizeof(base::be64)));
  }
  return out;
}

}  // namespace holdfast::scsi
