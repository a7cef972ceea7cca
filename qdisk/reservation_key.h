#pragma once
// The key by which a life of a node is registered at every device: 0x51, 16 bits of the cluster,
// the node, its incarnation. So whoever reads the keys of a device knows whose they are.

#include <optional>

#include "common/base/crc32c.h"
#include "qdisk/decision.h"

namespace holdfast::qdisk {

inline constexpr uint64_t kReservationKeyTag = 0x51;

inline uint64_t reservation_key(const Uuid& cluster, const Life& life) {
  const uint64_t mark = base::crc32c(cluster) & 0xffff;
  return kReservationKeyTag << 56 | mark << 40 | uint64_t{life.node} << 32 | life.incarnation;
}

// Nothing: a key of somebody else.
inline std::optional<Life> life_of(uint64_t key, const Uuid& cluster) {
  const Life life{static_cast<NodeId>(key >> 32 & 0xff), static_cast<Incarnation>(key)};
  if (life.node >= kMaxNodes || reservation_key(cluster, life) != key) return std::nullopt;
  return life;
}

}  // namespace holdfast::qdisk
