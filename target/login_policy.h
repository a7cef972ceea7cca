#pragma once
// Who may log in where, from the published NodeMap: names, addresses, CHAP (iscsi::LoginPolicy),
// and how often a secret may be tried. One object per login.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/io/network.h"
#include "common/iscsi/login_server.h"
#include "common/iscsi/text_server.h"
#include "target/login_backoff.h"
#include "target/node_map.h"

namespace holdfast::target {

// Why a login is refused, or a session must end: static text for the log.
struct LoginObstacle {
  iscsi::LoginStatus status;
  const char* reason;
};

class LoginPolicy final : public iscsi::LoginPolicy {
 public:
  struct Guard {  // both outlive the object
    LoginBackoff& backoff;
    const io::Loop& loop;
  };
  // Where the login comes from, and by which of our portals.
  struct Route {
    io::Endpoint peer, portal;
    uint16_t portal_group_tag = 0;
  };
  LoginPolicy(std::shared_ptr<const NodeMap> map, const Route& route, Guard guard)
      : map_(std::move(map)), route_(route), guard_(guard) {}

  iscsi::LoginDecision normal(std::string_view initiator, std::string_view target) override;
  iscsi::LoginDecision discovery(std::string_view initiator) override;
  iscsi::LoginStatus join_session(std::string_view initiator, uint64_t isid, uint16_t tsih,
                                  uint16_t cid) override;
  bool chap_ended(bool proved) override;

  // Why the login that was let in so far does not hold under the configuration of now; nothing: it
  // does.
  std::optional<LoginObstacle> obstacle_now(const NodeMap& now) const;

 private:
  iscsi::LoginDecision require(const std::optional<daemon::ChapConfig>& chap,
                               const std::optional<daemon::ChapConfig>& mutual);
  std::string user() const { return chap_ ? chap_->user : std::string(); }

  std::shared_ptr<const NodeMap> map_;
  Route route_;
  Guard guard_;
  // Of the last decision.
  NexusId nexus_;  // no target: discovery
  std::optional<daemon::ChapConfig> chap_, mutual_chap_;
};

// Nothing: the initiator may use the target, from this address and through this portal.
std::optional<LoginObstacle> find_obstacle(const NodeMap& map, const NexusId& nexus,
                                           const io::Endpoint& portal, const io::Endpoint& peer);

// The entry of the target's access list that lets this initiator in from this address; the first
// that names it wins over "*". Null: not allowed.
const InitiatorConfig* find_permission(const TargetView& target, std::string_view initiator,
                                       const io::Endpoint& peer);

// What SendTargets lists: only targets this initiator may use, each with only the portals it can
// reach: those of the target's portal groups, of the address family it came by.
class TargetDirectory final : public iscsi::TargetDirectory {
 public:
  TargetDirectory(std::function<std::shared_ptr<const NodeMap>()> map, std::string initiator,
                  io::Endpoint peer)
      : map_(std::move(map)), initiator_(std::move(initiator)), peer_(peer) {}

  base::Result<void> list(std::string_view target, iscsi::TargetListWriter& out) override;

 private:
  std::function<std::shared_ptr<const NodeMap>()> map_;
  std::string initiator_;
  io::Endpoint peer_;
};

}  // namespace holdfast::target
