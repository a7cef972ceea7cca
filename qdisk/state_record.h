#pragma once
// The bytes of STATE_DIR/node: docs/qdisk-format.md, "What a node keeps". Pure.

#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "qdisk/layout.h"
#include "qdisk/state_store.h"

namespace holdfast::qdisk {

// A head, what has been decided, and a block for each node.
inline constexpr size_t kMaxStateBytes = (2 + kMaxNodes) * kRecordBytes;

struct StoredState {
  NodeId node = kNoNode;
  Uuid cluster{};
  Uuid boot{};  // /proc/sys/kernel/random/boot_id, of the boot in which the life began
  NodeRecord record;
  bool operator==(const StoredState&) const = default;
};

// A value that decode_state() would refuse is a bug of ours.
std::vector<uint8_t> encode_state(const StoredState& state);
// Errc::corrupt: not what was once written; Errc::unsupported: written by a later version.
base::Result<StoredState> decode_state(base::Bytes in);

}  // namespace holdfast::qdisk
