#include "common/iscsi/send_targets.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "common/iscsi/key_table.h"
#include "common/iscsi/limits.h"
#include "common/iscsi/name.h"
#include "common/iscsi/text_keys.h"

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

class Parser {
 public:
  Result<void> take(const KeyValue& entry) {
    if (entry.key == key_info(Key::target_name).name) return take_name(entry.value);
    if (entry.key == key_info(Key::target_address).name) return take_address(entry.value);
    return {};  // TargetAlias, and what vendors add
  }
  SendTargetsAnswer finish() { return std::move(answer_); }

 private:
  Result<void> take_name(std::string_view value) {
    started_ = true;
    current_.reset();
    const auto name = normalize_name(value);
    if (!name.has_value()) {
      ++answer_.skipped;
      return {};
    }
    // Some targets repeat the name with each of its portals.
    const auto [found, fresh] = indices_.try_emplace(*name, answer_.targets.size());
    if (fresh) {
      if (answer_.targets.size() == kMaxDiscoveredTargets) {
        return fail(Errc::limit, "SendTargets lists more targets than are kept");
      }
      answer_.targets.push_back({.name = *name, .portals = {}});
    }
    current_ = found->second;
    return {};
  }

  Result<void> take_address(std::string_view value) {
    if (!started_) return fail(Errc::protocol, "a TargetAddress comes before the first TargetName");
    if (!current_) return {};  // of a target that is left out
    auto address = TargetAddress::parse(value);
    if (!address.has_value()) {
      ++answer_.skipped;
      return {};
    }
    auto& portals = answer_.targets[*current_].portals;
    if (std::ranges::find(portals, *address) != portals.end()) return {};
    if (portals.size() == kMaxPortalsPerTarget) {
      return fail(Errc::limit, "SendTargets lists more portals of a target than are kept");
    }
    portals.push_back(std::move(*address));
    return {};
  }

  SendTargetsAnswer answer_;
  std::map<std::string, size_t, std::less<>> indices_;
  std::optional<size_t> current_;
  bool started_ = false;
};

}  // namespace

Result<SendTargetsAnswer> parse_send_targets(base::Bytes text) {
  if (text.size() > kMaxSendTargetsBytes) {
    return fail(Errc::limit, "an answer to SendTargets has more bytes than are kept");
  }
  Parser parser;
  TextPairs pairs(text);
  while (!pairs.at_end()) {
    TRY_ASSIGN(const KeyValue entry, pairs.next());
    TRY(parser.take(entry));
  }
  return parser.finish();
}

}  // namespace holdfast::iscsi
