#pragma once
// Looks at a target as a path would: logs in through a portal, asks which units there are and what
// they are, logs out. Nothing is written, nothing is reserved.
//
// Owner: the command line; one loop's, from start() until the answer.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/scsi/report_luns.h"
#include "initiator/lun_probe.h"
#include "initiator/session.h"

namespace holdfast::initiator {

// Units asked on each portal: enough to see that portals agree.
inline constexpr size_t kMaxProbedUnits = 16;

class LoginTest final : public SessionEvents {
 public:
  struct Unit {
    uint64_t field = 0;  // of the LUN
    std::optional<LunFacts> facts;
    std::string problem;  // why there are no facts
    int64_t probe_us = 0;
  };
  struct PortalResult {
    std::string portal;
    bool logged_in = false;
    std::string problem;          // why not, or what went wrong after the login
    bool without_sha256 = false;  // the target refused CHAP algorithm 7 and took another
    bool chap_done = false, target_proved = false;
    std::optional<uint16_t> portal_group_tag;
    std::string alias, local;
    iscsi::SessionParameters parameters;
    std::vector<Unit> units;
    size_t reported = 0;  // units that REPORT LUNS named
    int64_t connect_us = -1, login_us = -1, report_us = -1, logout_us = -1;
  };
  using Done = std::move_only_function<void(PortalResult) noexcept>;

  // `lun`: just this one, as it lies in the PDU; else all that are reported.
  LoginTest(io::Loop& loop, io::Network& network, base::Random& random, Session::Options portal,
            std::optional<uint64_t> lun, Done done);
  ~LoginTest() override;

  // Answers once, within kLoginTestTimeout; may be destroyed then.
  void start();

 private:
  void on_connected() noexcept override;
  void on_up() noexcept override;
  void on_ended(const SessionEnd& end) noexcept override;

  void log_in();
  void on_timer() noexcept;
  void report_luns();
  void on_reported() noexcept;
  void probe_next();
  void take_facts(base::Result<LunFacts> facts);
  int64_t since_mark();
  void on_gone(bool again) noexcept;  // the session's end has been left behind

  io::Loop& loop_;
  io::Network& network_;
  base::Random& random_;
  Session::Options portal_;
  std::optional<uint64_t> lun_;
  Done done_;
  PortalResult result_;
  std::unique_ptr<Session> session_;
  std::optional<LunProbe> probe_;
  size_t unit_ = 0;
  bool late_ = false;
  uint32_t attentions_ = 0;
  io::Instant mark_{};
  io::TimerOf<LoginTest, &LoginTest::on_timer> timer_{*this};
  std::vector<uint8_t> luns_;
  iovec part_{};
  Command command_{
      [](Command& command) noexcept { static_cast<LoginTest*>(command.owner)->on_reported(); }};
};

}  // namespace holdfast::initiator
