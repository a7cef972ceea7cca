#pragma once
// Bounds of the quorum disk: docs/qdisk-format.md says where each lies on the witness.

#include <cstddef>
#include <cstdint>

namespace holdfast::qdisk {

// A bit each in a 64-bit word, and a slot each on the witness.
inline constexpr size_t kMaxNodes = 64;
// As many owners and terms as fit, with everything else of a decision, into one sector.
inline constexpr size_t kMaxVolumes = 16;
// A decision is kept so long on the witness that a node which was away for some epochs can still
// see each; older ones need only the newest.
inline constexpr size_t kDecidedSlots = 64;

}  // namespace holdfast::qdisk
