#pragma once
// A discovery session (RFC 7143 4.3): asks one portal which targets there are for us. One object,
// one question. Owner: whoever constructs it, until the answer, from within which it may destroy
// it.

#include "common/iscsi/send_targets.h"
#include "initiator/session.h"

namespace holdfast::initiator {

// The TargetName of the login options must be empty.
class Discovery final : public SessionEvents {
 public:
  struct Answer {
    base::Result<iscsi::SendTargetsAnswer> targets;
    SessionEnd end;  // why there is no answer
  };
  using Done = std::move_only_function<void(const Answer&) noexcept>;

  Discovery(io::Loop& loop, io::Network& network, base::Random& random, Session::Options options,
            Done done);

  // Answers once, within that time.
  void start(io::Duration limit = kDiscoveryTimeout);

 private:
  void on_up() noexcept override;
  void on_ended(const SessionEnd& end) noexcept override;
  void on_timer() noexcept;

  io::Loop& loop_;
  Session session_;
  Done done_;
  base::Result<iscsi::SendTargetsAnswer> targets_;
  io::TimerOf<Discovery, &Discovery::on_timer> timer_{*this};
};

}  // namespace holdfast::initiator
