#pragma once
// Who may log in where, from the published NodeMap: names, addresses, CHAP (iscsi::LoginPolicy),
// and how often a secret may be tried. One object per login.

#include <functional>
#include <memory>
#include <string>

#include "common/io/network.h"
#include "common/iscsi/login_server.h"
#include "common/iscsi/text_server.h"
#include "target/login_backoff.h"
#include "target/node_map.h"

namespace holdfast::target {

class LoginPolicy final : public iscsi::LoginPolicy {
 public:
  struct Guard {  // both outlive the object
    LoginBackoff& backoff;
    const io::Loop& loop;
  };
  LoginPolicy(std::shared_ptr<const NodeMap> map, io::Endpoint peer, uint16_t portal_group_tag,
              Guard guard)
      : map_(std::move(map)), peer_(peer), portal_group_tag_(portal_group_tag), guard_(guard) {}

  iscsi::LoginDecision normal(std::string_view initiator, std::string_view target) override;
  iscsi::LoginDecision discovery(std::string_view initiator) override;
  iscsi::LoginStatus join_session(std::string_view initiator, uint64_t isid, uint16_t tsih,
                                  uint16_t cid) override;
  bool chap_ended(bool proved) override;

 private:
  iscsi::LoginDecision require(const std::optional<daemon::ChapConfig>& chap,
                               const std::optional<daemon::ChapConfig>& mutual);
  std::shared_ptr<const NodeMap> map_;
  io::Endpoint peer_;
  uint16_t portal_group_tag_;
  Guard guard_;
  std::string user_;  // of the account that the last decision asked for
};

// Null: there is no such target, or not through this portal group.
const TargetView* find_target(const NodeMap& map, std::string_view name, uint16_t portal_group_tag);

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
