#include "mpio/fence_test.h"

#include <fmt/format.h>

#include <utility>

namespace holdfast::mpio {
namespace {

// Of each login, and then for the first session to end and the second to log out.
constexpr auto kConnect = std::chrono::milliseconds(500);
constexpr auto kLogin = std::chrono::milliseconds(900);
constexpr auto kEndGrace = std::chrono::milliseconds(200);

int64_t us(io::Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
}

std::string ms(int64_t microseconds) {
  return fmt::format("{:.1f} ms", static_cast<double>(microseconds) / 1000);
}

std::string why(const initiator::SessionEnd& end) {
  return *end.why != '\0' ? end.why : to_string(end.kind);
}

}  // namespace

FenceTest::FenceTest(const Path::Services& services, initiator::Session::Options first,
                     initiator::Session::Options second, uint64_t isid, Done done)
    : services_(services),
      first_options_(std::move(first)),
      second_options_(std::move(second)),
      done_(std::move(done)) {
  for (initiator::Session::Options* options : {&first_options_, &second_options_}) {
    options->login.isid = isid;
    options->connect_timeout = kConnect;
    options->login_timeout = kLogin;
  }
}

FenceTest::~FenceTest() {
  ASSERT(over());
  services_.loop.stop(timer_);
}

void FenceTest::start() {
  services_.loop.start(timer_, kFenceTestLimit);
  open(first_, first_options_);
}

void FenceTest::open(Side& side, initiator::Session::Options options) {
  side.portal = options.portal.to_string();
  side.session = std::make_unique<initiator::Session>(services_.loop, services_.network,
                                                      services_.random, std::move(options), side);
  side.session->start();
}

void FenceTest::Side::on_up() noexcept {
  was_up = true;
  up_at = test.services_.loop.now();
  group = session->portal_group_tag();
  test.on_side_up(*this);
}

void FenceTest::Side::on_ended(const initiator::SessionEnd& ended) noexcept {
  end = ended;
  ended_at = test.services_.loop.now();
  const std::unique_ptr<initiator::Session> gone = std::move(session);
  test.on_side_ended(*this);  // may end the test
}

void FenceTest::on_side_up(Side& side) {
  if (winding_up_) return;
  if (&side == &first_) {
    second_began_ = services_.loop.now();
    return open(second_, second_options_);
  }
  if (first_.session == nullptr) return wind_up();
  services_.loop.start(timer_, kEndGrace);  // the end of the first may be on its way
}

void FenceTest::on_side_ended(Side& side) {
  if (!winding_up_) {
    if (&side == &first_ && side.was_up) ended_by_target_ = true;
    const bool goes_on = &side == &first_ && side.was_up && second_.session && !second_.was_up;
    if (goes_on) return;
    wind_up();
  }
  if (winding_up_ && !first_.session && !second_.session) finish();
}

void FenceTest::on_timer() noexcept {
  if (!winding_up_) return wind_up();
  // The logouts are not answered.
  for (Side* side : {&first_, &second_}) {
    if (side->session) side->session->close(true, "the fence test ends");
  }
}

void FenceTest::cancel() {
  if (!done_) return;
  winding_up_ = true;
  on_timer();
}

void FenceTest::wind_up() {
  winding_up_ = true;
  bool open = false;
  for (Side* side : {&first_, &second_}) {
    if (!side->session) continue;
    open = true;
    side->session->up() ? side->session->logout() : side->session->close(true, "too late");
  }
  if (open) services_.loop.start(timer_, kEndGrace);
}

void FenceTest::finish() {
  if (!done_) return;
  services_.loop.stop(timer_);
  Result result;
  result.reinstated = ended_by_target_ && second_.was_up;
  if (second_.was_up) result.login_us = us(second_.up_at - second_began_);
  if (ended_by_target_) result.end_us = us(first_.ended_at - second_began_);
  describe(result);
  // Not from within the callback of a session.
  services_.loop.post([done = std::exchange(done_, nullptr),
                       result = std::move(result)]() mutable noexcept { done(std::move(result)); });
}

void FenceTest::describe(Result& result) const {
  std::vector<std::string>& out = result.lines;
  if (!first_.was_up) {
    out.push_back(fmt::format("no extra session could be opened through {}: {}", first_.portal,
                              why(first_.end)));
    return;
  }
  const auto group = [](const Side& side) {
    return side.group ? std::to_string(*side.group) : std::string("not told");
  };
  if (!second_.was_up) {
    out.push_back(
        fmt::format("a login through {} with the ISID of a session through {} was not "
                    "answered with success: {}",
                    second_.portal, first_.portal, why(second_.end)));
    return;
  }
  out.push_back(fmt::format(
      "an extra session through {} (portal group {}), its ISID then logged in "
      "through {} (portal group {}): answered in {}",
      first_.portal, group(first_), second_.portal, group(second_), ms(result.login_us)));
  if (result.reinstated) {
    out.push_back(
        fmt::format("the target ended the old session {} after the new login began: "
                    "reinstatement through another portal works",
                    ms(result.end_us)));
  } else if (first_.group != second_.group) {
    out.push_back(
        "the old session lived on: the portals are in different portal groups, so a dead "
        "session cannot be reinstated through the other path");
  } else {
    out.push_back(
        "the old session was not seen to end: this target does not reinstate sessions "
        "through another portal");
  }
  out.push_back(
      "whether the target waits for writes in progress this cannot show: see "
      "`holdfast path explain` for what is known of it");
}

}  // namespace holdfast::mpio
