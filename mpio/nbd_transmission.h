#pragma once
// The transmission phase of NBD as far as it needs no socket: which requests are refused before the
// device hears of them, and what the answers look like. Pure.

#include <array>
#include <cstdint>
#include <span>

#include "common/base/bytes.h"
#include "common/io/block_device.h"
#include "mpio/nbd_negotiation.h"
#include "mpio/nbd_protocol.h"

namespace holdfast::mpio::nbd {

inline constexpr uint32_t kMaxPayload = 32 * 1024 * 1024;  // the most QEMU sends
inline constexpr size_t kStatusExtents = 64;               // in one answer to BLOCK_STATUS
inline constexpr size_t kMaxHeadBytes =
    sizeof(ChunkHeader) + sizeof(be32) + kStatusExtents * sizeof(StatusDescriptor);

// What the negotiation ended with.
struct Agreed {
  bool structured = false;
  bool block_status = false;
};

// 0, or the error that the request gets at once. A WRITE longer than kMaxPayload is the caller's:
// there is no answering it without taking its data.
uint32_t problem_of(const Request& request, const ExportInfo& info, Agreed agreed);

// Of a BlockRequest's result.
uint32_t to_wire_error(int32_t result);

// What goes before the data of a READ, and is the whole answer to anything else but a good
// BLOCK_STATUS. The bytes written to `out`, which has kMaxHeadBytes.
size_t write_head(base::MutableBytes out, const Request& request, uint32_t error, bool structured);

// The answer to BLOCK_STATUS. 0: the device said nothing of the range.
size_t write_status(base::MutableBytes out, const Request& request,
                    std::span<const io::Extent> extents);

}  // namespace holdfast::mpio::nbd
