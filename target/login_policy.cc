#include "target/login_policy.h"

#include <algorithm>
#include <utility>

namespace holdfast::target {
namespace {

std::optional<iscsi::ChapAccount> account(const std::optional<daemon::ChapConfig>& config) {
  if (!config.has_value()) return std::nullopt;
  base::Result<iscsi::ChapSecret> secret =
      iscsi::ChapSecret::create(base::as_bytes(std::string_view(config->secret)));
  ASSERT(secret.has_value());  // load_config() refused anything else
  return iscsi::ChapAccount{.user = config->user, .secret = *secret};
}

iscsi::ChapRequirement requirement(const NodeMap& map,
                                   const std::optional<daemon::ChapConfig>& chap,
                                   const std::optional<daemon::ChapConfig>& mutual) {
  return {.initiator = account(chap),
          .target = account(mutual),
          .algorithms = {.md5 = map.chap_allow_md5, .sha1 = map.chap_allow_sha1}};
}

}  // namespace

const TargetView* NodeMap::find_target(std::string_view name) const {
  const auto found = std::ranges::find(targets, name, &TargetView::name);
  return found == targets.end() ? nullptr : &*found;
}

const PortalGroupView* NodeMap::find_portal_group(uint16_t tag) const {
  const auto found = std::ranges::find(portal_groups, tag, &PortalGroupView::tag);
  return found == portal_groups.end() ? nullptr : &*found;
}

const InitiatorConfig* find_permission(const TargetView& target, std::string_view initiator,
                                       const io::Endpoint& peer) {
  const InitiatorConfig* any = nullptr;
  for (const InitiatorConfig& entry : target.initiators) {
    const bool from_here =
        entry.addresses.empty() || std::ranges::any_of(entry.addresses, [&](const auto& range) {
          return range.contains(peer);
        });
    if (!from_here) continue;
    if (entry.name == initiator) return &entry;
    if (entry.name == "*" && any == nullptr) any = &entry;
  }
  return any;
}

const TargetView* find_target(const NodeMap& map, std::string_view name,
                              uint16_t portal_group_tag) {
  const TargetView* view = map.find_target(name);
  if (view == nullptr) return nullptr;
  const bool here =
      std::ranges::find(view->portal_groups, portal_group_tag) != view->portal_groups.end();
  return here ? view : nullptr;
}

iscsi::LoginDecision LoginPolicy::normal(std::string_view initiator, std::string_view target) {
  const TargetView* view = find_target(*map_, target, portal_group_tag_);
  if (view == nullptr) return {.status = iscsi::LoginStatus::not_found, .chap = {}};
  const InitiatorConfig* entry = find_permission(*view, initiator, peer_);
  if (entry == nullptr) return {.status = iscsi::LoginStatus::authorization_failure, .chap = {}};
  return require(entry->chap, entry->mutual_chap);
}

iscsi::LoginDecision LoginPolicy::discovery(std::string_view) {
  return require(map_->discovery.chap, map_->discovery.mutual_chap);
}

iscsi::LoginDecision LoginPolicy::require(const std::optional<daemon::ChapConfig>& chap,
                                          const std::optional<daemon::ChapConfig>& mutual) {
  user_ = chap.has_value() ? chap->user : std::string();
  if (chap.has_value() && guard_.backoff.waits(peer_, user_, guard_.loop.now())) {
    return {.status = iscsi::LoginStatus::service_unavailable, .chap = {}};
  }
  return {.status = iscsi::LoginStatus::success, .chap = requirement(*map_, chap, mutual)};
}

// Asked again here, because many logins may have been begun at once.
bool LoginPolicy::chap_ended(bool proved) {
  const io::Instant now = guard_.loop.now();
  if (guard_.backoff.waits(peer_, user_, now)) return false;
  if (proved) {
    guard_.backoff.succeeded(peer_, user_);
  } else {
    guard_.backoff.failed(peer_, user_, now);
  }
  return true;
}

// One connection per session: a login that names a TSIH can neither add nor reinstate a connection.
// A session is reinstated by a login with TSIH 0 (RFC 7143 6.3.5).
iscsi::LoginStatus LoginPolicy::join_session(std::string_view, uint64_t, uint16_t, uint16_t) {
  return iscsi::LoginStatus::session_does_not_exist;
}

base::Result<void> TargetDirectory::list(std::string_view target, iscsi::TargetListWriter& out) {
  const std::shared_ptr<const NodeMap> map = map_();
  for (const TargetView& view : map->targets) {
    if (!target.empty() && view.name != target) continue;
    if (find_permission(view, initiator_, peer_) == nullptr) continue;
    bool named = false;
    for (const uint16_t tag : view.portal_groups) {
      const PortalGroupView* group = map->find_portal_group(tag);
      if (group == nullptr) continue;
      for (const io::Endpoint& portal : group->portals) {
        if (portal.is_v6() != peer_.is_v6()) continue;
        // Not before it has an address: without one the initiator would take the one it asked at
        // (RFC 7143 Appendix C).
        if (!std::exchange(named, true)) TRY(out.add_target(view.name));
        TRY(out.add_portal(portal.to_string(), tag));
      }
    }
  }
  return {};
}

}  // namespace holdfast::target
