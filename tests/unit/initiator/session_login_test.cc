// How a session begins: connection, login, and every way in which they fail.

#include <cerrno>

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using namespace std::chrono_literals;

iscsi::ChapSecret secret(std::string_view text) {
  return *iscsi::ChapSecret::create(base::as_bytes(text));
}

class SessionLogin : public SessionTest {
 protected:
  void demand_chap() {
    target_.decision.chap.initiator = iscsi::ChapAccount{"hv1", secret("forward secret 1")};
    target_.decision.chap.target = iscsi::ChapAccount{"store", secret("reverse secret 2")};
  }
  void give_chap(std::string_view forward, std::string_view reverse = {}) {
    options_.login.chap.emplace();
    options_.login.chap->initiator = {"hv1", secret(forward)};
    if (!reverse.empty())
      options_.login.chap->target = iscsi::ChapAccount{"store", secret(reverse)};
  }
  // Answers a login by hand, with a status.
  void answer(uint8_t status_class, uint8_t detail, std::string_view text = {}) {
    const auto request = expect(Opcode::login_request).as<iscsi::LoginRequestPdu>();
    iscsi::LoginResponsePdu pdu;
    pdu.isid = request.isid;
    pdu.itt = request.itt;
    pdu.stat_sn = 1;
    pdu.exp_cmd_sn = request.cmd_sn;
    pdu.max_cmd_sn = request.cmd_sn;
    pdu.status_class = status_class;
    pdu.status_detail = detail;
    target_.send_as_is(pdu, base::as_bytes(text));
  }
};

TEST_F(SessionLogin, LogsInAndTellsWhatHolds) {
  target_.parameters.max_outstanding_r2t = 2;
  log_in();
  EXPECT_TRUE(connected_ && session_->up());
  EXPECT_EQ(session_->tsih(), 7);
  EXPECT_EQ(session_->portal_group_tag(), 3);
  EXPECT_FALSE(session_->chap_done() || session_->target_proved());
  EXPECT_EQ(session_->parameters().max_outstanding_r2t, 2);
  EXPECT_EQ(session_->parameters().max_recv_data_segment_length, kMaxDataSegment);
  EXPECT_EQ(session_->local_endpoint().address_to_string(), "10.1.0.1");
  EXPECT_TRUE(session_->transport_info().valid);
  EXPECT_GT(session_->bytes_received(), 48u);
  session_->close(false, "enough");
  EXPECT_FALSE(session_->up());
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_STREQ(end_->why, "enough");
}

TEST_F(SessionLogin, Chap) {
  demand_chap();
  give_chap("forward secret 1", "reverse secret 2");
  log_in();
  EXPECT_TRUE(session_->chap_done() && session_->target_proved());
}

TEST_F(SessionLogin, AWrongSecretIsRefused) {
  demand_chap();
  give_chap("forward secret x");
  start();
  EXPECT_EQ(ended(), EndKind::login_refused);
  EXPECT_EQ(end_->status, iscsi::LoginStatus::authentication_failure);
  EXPECT_FALSE(up_);
}

TEST_F(SessionLogin, ATargetThatWantsChapWhenWeHaveNone) {
  demand_chap();
  start();
  EXPECT_EQ(ended(), EndKind::login_refused);
  EXPECT_STREQ(end_->why, "the target wants CHAP, and no `chap` is configured");
}

TEST_F(SessionLogin, ARefusalSaysWhetherAlgorithm7MayBeTheReason) {
  demand_chap();
  give_chap("forward secret x");
  for (const bool sha256 : {true, false}) {
    options_.login.chap->algorithms = {.sha256 = sha256, .sha3_256 = false};
    start();
    EXPECT_EQ(ended(), EndKind::login_refused);
    EXPECT_EQ(end_->retry_without_sha256, sha256);
    EXPECT_STREQ(end_->why, "the target refused our CHAP user or secret");
  }
}

TEST_F(SessionLogin, ATargetThatProvesNothingIsLeft) {
  demand_chap();
  give_chap("forward secret 1", "another secret 3");
  start();
  EXPECT_EQ(ended(), EndKind::login_failed);
  EXPECT_FALSE(up_);
  EXPECT_TRUE(run_until([this] { return target_.peer_closed; }));
}

TEST_F(SessionLogin, Refusals) {
  target_.decision.status = iscsi::LoginStatus::not_found;
  start();
  EXPECT_EQ(ended(), EndKind::login_refused);
  EXPECT_EQ(end_->status, iscsi::LoginStatus::not_found);
  EXPECT_STREQ(end_->why, iscsi::to_string(iscsi::LoginStatus::not_found));
  EXPECT_EQ(ends_, 1);
}

TEST_F(SessionLogin, RedirectionsTellWhereTo) {
  target_.serves_logins = false;
  start();
  answer(1, 1, std::string_view("TargetAddress=10.2.0.10:3261,4\0", 31));
  EXPECT_EQ(ended(), EndKind::redirected);
  EXPECT_EQ(end_->status, iscsi::LoginStatus::target_moved_temporarily);
  EXPECT_EQ(end_->redirect.to_string(), "10.2.0.10:3261");
}

TEST_F(SessionLogin, NobodyListens) {
  options_.portal = io::Endpoint::parse("10.1.0.10:9").value();
  start();
  EXPECT_FALSE(end_);  // never from inside start()
  EXPECT_EQ(ended(), EndKind::connect_failed);
  EXPECT_EQ(end_->error, ECONNREFUSED);
  EXPECT_FALSE(connected_);
}

TEST_F(SessionLogin, ThePortalIsSilent) {
  fabric_.isolate("10.1.0.10");
  options_.connect_timeout = 300ms;
  const auto begun = world_.now();
  start();
  EXPECT_EQ(ended(2s), EndKind::timed_out);
  EXPECT_GE(world_.now() - begun, 299ms);
  EXPECT_LT(world_.now() - begun, 400ms);
  fabric_.heal_all();
}

TEST_F(SessionLogin, ALoginThatIsNotAnsweredTimesOut) {
  target_.serves_logins = false;
  options_.login_timeout = 500ms;
  start();
  expect(Opcode::login_request);
  EXPECT_EQ(ended(2s), EndKind::timed_out);
  EXPECT_TRUE(connected_);
}

TEST_F(SessionLogin, ATargetThatClosesInTheMiddle) {
  for (const bool reset : {false, true}) {
    target_.serves_logins = false;
    start();
    expect(Opcode::login_request);
    target_.close(reset);
    EXPECT_EQ(ended(), reset ? EndKind::connection_failed : EndKind::peer_closed);
    settle();
  }
  EXPECT_EQ(target_.connections, 2);
}

TEST_F(SessionLogin, NonsenseEndsTheLogin) {
  target_.serves_logins = false;
  start();
  expect(Opcode::login_request);
  target_.send_as_is(iscsi::NopInPdu{});
  EXPECT_EQ(ended(), EndKind::login_failed);
}

TEST_F(SessionLogin, ASegmentLongerThanALoginMayHaveEndsIt) {
  target_.serves_logins = false;
  start();
  expect(Opcode::login_request);
  target_.send_as_is(iscsi::LoginResponsePdu{}, std::vector<uint8_t>(8193));
  EXPECT_EQ(ended(), EndKind::login_failed);
}

TEST_F(SessionLogin, ManyAnswersAtOnceEndIt) {
  target_.serves_logins = false;
  start();
  const auto request = expect(Opcode::login_request).as<iscsi::LoginRequestPdu>();
  iscsi::LoginResponsePdu pdu;
  pdu.isid = request.isid;
  pdu.itt = request.itt;
  pdu.exp_cmd_sn = request.cmd_sn;
  pdu.max_cmd_sn = request.cmd_sn;
  for (uint32_t i = 0; i < 100; ++i) {
    pdu.stat_sn = 1 + i;
    target_.send_as_is(pdu);
  }
  EXPECT_EQ(ended(), EndKind::login_failed);
}

TEST_F(SessionLogin, MayBeClosedFromEveryCallback) {
  for (std::function<void()>* callback : {&when_connected_, &when_up_, &when_received_}) {
    *callback = [this] { session_->close(true, "from a callback"); };
    start();
    EXPECT_EQ(ended(), EndKind::closed);
    EXPECT_STREQ(end_->why, "from a callback");
    *callback = nullptr;
    settle();
  }
  EXPECT_EQ(ends_, 3);
}

TEST_F(SessionLogin, MayBeClosedAtOnce) {
  start();
  session_->close(true, "at once");
  session_->close(false, "and again");
  EXPECT_FALSE(end_);
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_STREQ(end_->why, "at once");
}

TEST_F(SessionLogin, MayBeDestroyedInOnEndedAndBegunAnew) {
  int rounds = 0;
  when_ended_ = [&] {
    session_.reset();
    if (++rounds < 3) start();
  };
  target_.decision.status = iscsi::LoginStatus::service_unavailable;
  start();
  EXPECT_TRUE(run_until([&] { return rounds == 3; }, 5s));
  EXPECT_EQ(ends_, 3);
}

TEST_F(SessionLogin, DigestsHoldFromTheFirstPduAfterIt) {
  options_.login.parameters.header_digest = iscsi::DigestChoice::required;
  options_.login.parameters.data_digest = iscsi::DigestChoice::required;
  target_.serves_logins = true;
  log_in();
  ASSERT_TRUE(session_->parameters().header_digest && session_->parameters().data_digest);
  TestCommand& command = write(1023);  // with padding
  const ReceivedPdu got = expect(Opcode::scsi_command);
  EXPECT_EQ(got.data, pattern(0, 1023));
  respond(got.as<iscsi::ScsiCommandPdu>());
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
}

}  // namespace
}  // namespace holdfast::initiator
