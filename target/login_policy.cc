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

std::optional<LoginObstacle> find_obstacle(const NodeMap& map, const NexusId& nexus,
                                           const io::Endpoint& portal, const io::Endpoint& peer) {
  using enum iscsi::LoginStatus;
  const TargetView* const target = map.find_target(nexus.target_name);
  if (target == nullptr) return LoginObstacle{not_found, "there is no target of this name"};
  const PortalGroupView* const group = map.find_portal_group(nexus.portal_group_tag);
  if (group == nullptr || std::ranges::find(target->portal_groups, nexus.portal_group_tag) ==
                              target->portal_groups.end()) {
    return LoginObstacle{not_found, "the target is not served through this portal group"};
  }
  if (std::ranges::find(group->portals, portal) == group->portals.end()) {
    return LoginObstacle{not_found, "the portal is not in the configuration any more"};
  }
  if (find_permission(*target, nexus.initiator_name, peer) != nullptr) return std::nullopt;
  const bool named = std::ranges::any_of(target->initiators, [&](const InitiatorConfig& entry) {
    return entry.name == "*" || entry.name == nexus.initiator_name;
  });
  return LoginObstacle{authorization_failure, named ? "the initiator's address is not allowed"
                                                    : "the initiator's name is not allowed"};
}

iscsi::LoginDecision LoginPolicy::normal(std::string_view initiator, std::string_view target) {
  nexus_ = {.initiator_name = std::string(initiator),
            .isid = 0,
            .target_name = std::string(target),
            .portal_group_tag = route_.portal_group_tag};
  if (const auto obstacle = find_obstacle(*map_, nexus_, route_.portal, route_.peer)) {
    return {.status = obstacle->status, .chap = {}, .reason = obstacle->reason};
  }
  const InitiatorConfig& entry =
      *find_permission(*map_->find_target(target), initiator, route_.peer);
  return require(entry.chap, entry.mutual_chap);
}

iscsi::LoginDecision LoginPolicy::discovery(std::string_view) {
  return require(map_->discovery.chap, map_->discovery.mutual_chap);
}

iscsi::LoginDecision LoginPolicy::require(const std::optional<daemon::ChapConfig>& chap,
                                          const std::optional<daemon::ChapConfig>& mutual) {
  chap_ = chap;
  mutual_chap_ = mutual;
  if (chap.has_value() && guard_.backoff.waits(route_.peer, user(), guard_.loop.now())) {
    return {.status = iscsi::LoginStatus::service_unavailable,
            .chap = {},
            .reason = "too many failed logins of this account"};
  }
  return {.status = iscsi::LoginStatus::success, .chap = requirement(*map_, chap, mutual)};
}

// Asked again here, because many logins may have been begun at once.
bool LoginPolicy::chap_ended(bool proved) {
  const io::Instant now = guard_.loop.now();
  if (guard_.backoff.waits(route_.peer, user(), now)) return false;
  if (proved) {
    guard_.backoff.succeeded(route_.peer, user());
  } else {
    guard_.backoff.failed(route_.peer, user(), now);
  }
  return true;
}

std::optional<LoginObstacle> LoginPolicy::obstacle_now(const NodeMap& now) const {
  const std::optional<daemon::ChapConfig>* chap = &now.discovery.chap;
  const std::optional<daemon::ChapConfig>* mutual = &now.discovery.mutual_chap;
  if (!nexus_.target_name.empty()) {
    if (auto obstacle = find_obstacle(now, nexus_, route_.portal, route_.peer)) return obstacle;
    const InitiatorConfig& entry =
        *find_permission(*now.find_target(nexus_.target_name), nexus_.initiator_name, route_.peer);
    chap = &entry.chap;
    mutual = &entry.mutual_chap;
  }
  if (*chap == chap_ && *mutual == mutual_chap_) return std::nullopt;
  // What it proved is not what is asked for now; the initiator will try again.
  return LoginObstacle{iscsi::LoginStatus::service_unavailable,
                       "the authentication it needs was changed meanwhile"};
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
        // Another host would come to itself there.
        if (portal.is_loopback() && !peer_.is_loopback()) continue;
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
