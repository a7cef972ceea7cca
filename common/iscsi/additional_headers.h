#pragma once
// What the additional header segments of a SCSI Command say (RFC 7143 11.2.2). Pure.

#include <cstdint>
#include <optional>

#include "common/base/bytes.h"

namespace holdfast::iscsi {

struct AdditionalHeaders {
  bool extended_cdb = false;               // the CDB is longer than the 16 bytes of the PDU
  uint32_t bidirectional_read_length = 0;  // Bidirectional Read Expected Data Transfer Length
};

// Null: not segments of a SCSI Command, which is a format error (7.7): a length that leaves the
// header, a kind that does not exist or comes twice.
std::optional<AdditionalHeaders> parse_additional_headers(base::Bytes segments);

}  // namespace holdfast::iscsi
