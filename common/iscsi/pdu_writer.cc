#include "common/iscsi/pdu_writer.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/crc32c.h"

namespace holdfast::iscsi {

base::le32 digest_of(base::Bytes bytes) { return base::crc32c(bytes); }

size_t write_header(base::MutableBytes out, const Bhs& header, size_t data_length,
                    bool header_digest) {
  ASSERT(out.size() >= kMaxWireHeaderBytes);
  ASSERT(data_length <= kMaxDataSegmentBytes);
  ASSERT(header.total_ahs_length == 0);
  Bhs bhs = header;
  bhs.data_segment_length = static_cast<uint32_t>(data_length);
  base::store(out, bhs);
  if (!header_digest) return kBhsBytes;
  base::store(out.subspan(kBhsBytes), digest_of(out.first(kBhsBytes)));
  return kBhsBytes + kDigestBytes;
}

DataTrailer data_trailer(std::span<const base::Bytes> parts, bool data_digest) {
  size_t length = 0;
  base::Crc32c crc;
  for (const base::Bytes part : parts) {
    length += part.size();
    if (data_digest) crc.update(part);
  }
  DataTrailer trailer;
  if (length == 0) return trailer;
  const size_t padding = padding_length(length);
  trailer.length = static_cast<uint8_t>(padding);
  if (!data_digest) return trailer;
  // RFC 7143 11.2.3: the digest covers the padding too.
  crc.update(trailer.bytes());
  base::store(base::MutableBytes(trailer.storage).subspan(padding), base::le32(crc.value()));
  trailer.length = static_cast<uint8_t>(padding + kDigestBytes);
  return trailer;
}

DataTrailer data_trailer(base::Bytes data, bool data_digest) {
  return data_trailer(std::span<const base::Bytes>(&data, 1), data_digest);
}

}  // namespace holdfast::iscsi
