#pragma once
// The answer to SendTargets (RFC 7143 Appendix C), the initiator's side. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/iscsi/target_address.h"

namespace holdfast::iscsi {

struct DiscoveredTarget {
  std::string name;  // normalised
  // In the target's order, each once. Empty: the target said none, so it is to be reached through
  // the portal that was asked.
  std::vector<TargetAddress> portals;
};

struct SendTargetsAnswer {
  std::vector<DiscoveredTarget> targets;  // in the target's order, each once
  // Names that are no iSCSI names, with their portals, and addresses that are none: left out, so
  // that one odd target does not hide the others.
  uint32_t skipped = 0;
};

// `text` is the whole answer: the data of all text responses joined, at most kMaxSendTargetsBytes.
// Errc::protocol: not key=value\0, a control character, an address before the first target.
// Errc::limit: more bytes, targets or portals than are kept (limits.h).
base::Result<SendTargetsAnswer> parse_send_targets(base::Bytes text);

}  // namespace holdfast::iscsi
