// Answers to SendTargets of a hostile target. What is taken from one must come out the same when it
// is written as our own target would, and be fit to be shown.

#include <algorithm>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/iscsi/limits.h"
#include "common/iscsi/name.h"
#include "common/iscsi/send_targets.h"
#include "common/iscsi/text_keys.h"

using namespace holdfast::iscsi;  // NOLINT(google-build-using-namespace): a program of one file

namespace {

std::string rewritten(const SendTargetsAnswer& answer) {
  std::string text;
  for (const DiscoveredTarget& target : answer.targets) {
    ASSERT(normalize_name(target.name) == target.name);
    ASSERT(target.portals.size() <= kMaxPortalsPerTarget);
    text += "TargetName=" + target.name + '\0';
    for (const TargetAddress& portal : target.portals) {
      ASSERT(portal.port != 0 && !portal.host.empty());
      text += "TargetAddress=" + portal.to_string();
      if (portal.portal_group_tag) text += "," + std::to_string(*portal.portal_group_tag);
      text += '\0';
    }
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto answer = parse_send_targets({data, size});
  if (!answer.has_value()) return 0;
  ASSERT(answer->targets.size() <= kMaxDiscoveredTargets);
  const std::string text = rewritten(*answer);
  const auto harmless = [](char c) { return c == '\0' || (c > 0x20 && c < 0x7f && c != '/'); };
  ASSERT(std::ranges::all_of(text, harmless));
  const auto again = parse_send_targets(holdfast::base::as_bytes(std::string_view(text)));
  ASSERT(again.has_value() && again->skipped == 0 && rewritten(*again) == text);
  return 0;
}
