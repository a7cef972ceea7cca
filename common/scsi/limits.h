#pragma once
// Bounds of what a command may ask of this target, and why. The VPD page B0h reports them, the
// decoder and the parsers enforce them.

#include <cstdint>

namespace holdfast::scsi {

// The CDB has one byte for it, so 255 is the most there can be; the compare and the write of one
// command happen under one range lock in two slabs.
inline constexpr uint32_t kMaxCompareAndWriteBlocks = 255;

// 16 bytes each: the parameter list is 4 KiB + 8 at most and is parsed in one piece.
inline constexpr uint32_t kMaxUnmapDescriptors = 256;

// One UNMAP or WRITE SAME may not keep the backing busy without a bound.
// libiscsi's conformance test takes more than 2^20 blocks for a mistake.
inline constexpr uint32_t kMaxUnmapBytes = 512U << 20;
inline constexpr uint32_t kMaxWriteSameBytes = 256U << 20;

// One command's data. It moves in chunks, so this bounds time, not memory; initiators that read no
// VPD page still send 65536 blocks of 512 bytes.
inline constexpr uint32_t kMaxTransferBytes = 32U << 20;

// Parameter lists of MODE SELECT. All pages at once are below 100 bytes.
inline constexpr uint32_t kMaxModeParameterBytes = 512;

// SAM-5, LUN: peripheral addressing reaches 255, flat space addressing 16383.
inline constexpr uint16_t kMaxPeripheralLun = 255;
inline constexpr uint16_t kMaxLun = 16383;

}  // namespace holdfast::scsi
