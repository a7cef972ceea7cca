#include "initiator/discovery.h"

#include <utility>

namespace holdfast::initiator {

namespace {
// key=value and a zero, as in every text message.
constexpr std::string_view kAll("SendTargets=All\0", 16);
}  // namespace

Discovery::Discovery(io::Loop& loop, io::Network& network, base::Random& random,
                     Session::Options options, Done done)
    : loop_(loop),
      session_(loop, network, random, std::move(options), *this),
      done_(std::move(done)),
      targets_(base::fail(base::Errc::closed, "the discovery session ended without an answer")) {}

void Discovery::start(io::Duration limit) {
  loop_.start(timer_, limit);
  session_.start();
}

void Discovery::on_up() noexcept {
  session_.text(base::as_bytes(kAll), [this](base::Result<std::vector<uint8_t>> text) noexcept {
    if (!text.has_value()) return;  // the session's end says why
    targets_ = iscsi::parse_send_targets(*text);
    session_.logout();
  });
}

void Discovery::on_timer() noexcept { session_.close(true, "the portal did not answer in time"); }

void Discovery::on_ended(const SessionEnd& end) noexcept {
  loop_.stop(timer_);
  const Answer answer{.targets = std::move(targets_), .end = end};
  Done done = std::move(done_);
  done(answer);  // may destroy this object
}

}  // namespace holdfast::initiator
