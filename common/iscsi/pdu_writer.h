#pragma once
// What goes around a PDU's header and data on the wire. The driver assembles its own iovecs from
// {header [digest]} {data parts} {padding [digest]}; nothing here keeps state or allocates.

#include <array>
#include <cstdint>
#include <span>

#include "common/base/bytes.h"
#include "common/iscsi/limits.h"
#include "common/iscsi/pdu.h"

namespace holdfast::iscsi {

struct Digests {
  bool header = false;
  bool data = false;
};

constexpr size_t padding_length(size_t data_length) { return (4 - data_length % 4) % 4; }

// Bytes of a PDU without AHS on the wire.
constexpr size_t wire_length(size_t data_length, Digests digests) {
  return kBhsBytes + (digests.header ? kDigestBytes : 0) + data_length +
         padding_length(data_length) + (digests.data && data_length > 0 ? kDigestBytes : 0);
}

// CRC32C in the byte order of the wire (RFC 7143 13.1: the reflected value, lowest byte first).
base::le32 digest_of(base::Bytes bytes);

inline constexpr size_t kMaxWireHeaderBytes = kBhsBytes + kDigestBytes;

// Writes the header, with its data length set and its digest if on, to `out` (>= 52 bytes) and
// returns how many bytes that is. We never send an AHS.
size_t write_header(base::MutableBytes out, const Bhs& header, size_t data_length,
                    bool header_digest);

template <class Pdu>
  requires base::WireStruct<Pdu, kBhsBytes>
size_t write_header(base::MutableBytes out, const Pdu& pdu, size_t data_length,
                    bool header_digest) {
  return write_header(out, base::load<Bhs>(base::as_bytes(pdu)), data_length, header_digest);
}

// Padding (always zero: nothing of ours leaks) and, if on, the digest over data and padding.
struct DataTrailer {
  std::array<uint8_t, 3 + kDigestBytes> storage{};
  uint8_t length = 0;

  base::Bytes bytes() const { return {storage.data(), length}; }
};
DataTrailer data_trailer(std::span<const base::Bytes> parts, bool data_digest);
DataTrailer data_trailer(base::Bytes data, bool data_digest);

}  // namespace holdfast::iscsi
