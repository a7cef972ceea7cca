#include "initiator/discovery.h"

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using namespace std::chrono_literals;

class DiscoveryTest : public SessionTest {
 protected:
  DiscoveryTest() { options_.login.target_name.clear(); }
  ~DiscoveryTest() override {
    EXPECT_TRUE(run_until([this] { return answers_ > 0; }, kDiscoveryTimeout * 2));
  }
  void ask() {
    discovery_ = std::make_unique<Discovery>(loop_, network_, random_, options_,
                                             [this](const Discovery::Answer& answer) noexcept {
                                               ++answers_;
                                               end_ = answer.end;
                                               if (answer.targets.has_value()) {
                                                 targets_ = *answer.targets;
                                               } else {
                                                 error_ = answer.targets.error();
                                               }
                                               if (destroys_) discovery_.reset();
                                             });
    discovery_->start();
  }
  iscsi::TextRequestPdu expect_question() {
    const ReceivedPdu received = expect(Opcode::text_request);
    EXPECT_EQ(base::as_text(received.data), std::string_view("SendTargets=All\0", 16));
    return received.as<iscsi::TextRequestPdu>();
  }
  void answer(const iscsi::TextRequestPdu& request, std::string_view text, bool final = true) {
    iscsi::TextResponsePdu pdu;
    pdu.flags = final ? iscsi::kFinal : uint8_t{0};
    pdu.itt = request.itt;
    if (!final) pdu.ttt = 9;
    target_.send(pdu, true, base::as_bytes(text));
  }
  void let_it_log_out() {
    iscsi::LogoutResponsePdu pdu;
    pdu.itt = expect(Opcode::logout_request).bhs.itt;
    target_.send(pdu, true);
  }
  bool answered(io::Duration within = 1s) {
    return run_until([this] { return answers_ > 0; }, within);
  }

  std::unique_ptr<Discovery> discovery_;
  int answers_ = 0;
  bool destroys_ = false;
  std::optional<iscsi::SendTargetsAnswer> targets_;
  std::optional<base::Error> error_;
};

TEST_F(DiscoveryTest, TellsTargetsAndPortalsAndLogsOut) {
  destroys_ = true;
  ask();
  auto request = expect_question();
  // In two parts, cut in the middle of a key.
  answer(request, std::string_view("TargetName=iqn.2026-11.a:x\0TargetAddr", 37), false);
  request = expect(Opcode::text_request).as<iscsi::TextRequestPdu>();
  answer(request, std::string_view("ess=10.1.0.10:3260,1\0", 21));
  let_it_log_out();
  ASSERT_TRUE(answered());
  ASSERT_TRUE(targets_.has_value());
  ASSERT_EQ(targets_->targets.size(), 1u);
  EXPECT_EQ(targets_->targets[0].name, "iqn.2026-11.a:x");
  ASSERT_EQ(targets_->targets[0].portals.size(), 1u);
  EXPECT_EQ(targets_->targets[0].portals[0].to_string(), "10.1.0.10:3260");
  EXPECT_EQ(end_->kind, EndKind::logged_out);
  EXPECT_TRUE(run_until([this] { return target_.peer_closed; }));
}

TEST_F(DiscoveryTest, NoTargets) {
  ask();
  answer(expect_question(), {});
  let_it_log_out();
  ASSERT_TRUE(answered());
  ASSERT_TRUE(targets_.has_value());
  EXPECT_TRUE(targets_->targets.empty());
}

TEST_F(DiscoveryTest, AnAnswerThatMakesNoSense) {
  ask();
  answer(expect_question(), std::string_view("TargetAddress=10.1.0.10\0", 24));
  let_it_log_out();
  ASSERT_TRUE(answered());
  ASSERT_TRUE(error_.has_value());
  EXPECT_EQ(error_->code, base::Errc::protocol);
}

TEST_F(DiscoveryTest, ARefusedLogin) {
  target_.decision.status = iscsi::LoginStatus::authorization_failure;
  ask();
  ASSERT_TRUE(answered());
  EXPECT_FALSE(targets_.has_value());
  EXPECT_EQ(end_->kind, EndKind::login_refused);
  EXPECT_EQ(end_->status, iscsi::LoginStatus::authorization_failure);
}

TEST_F(DiscoveryTest, ThePortalIsLostInTheMiddle) {
  ask();
  expect_question();
  target_.close(true);
  ASSERT_TRUE(answered());
  ASSERT_TRUE(error_.has_value());
  EXPECT_EQ(error_->code, base::Errc::closed);
  EXPECT_EQ(end_->kind, EndKind::connection_failed);
}

TEST_F(DiscoveryTest, ATargetThatNeverAnswers) {
  ask();
  expect_question();
  const auto begun = world_.now();
  ASSERT_TRUE(answered(kDiscoveryTimeout * 2));
  EXPECT_GE(world_.now() - begun, kDiscoveryTimeout - 100ms);
  EXPECT_TRUE(error_.has_value());
  EXPECT_EQ(end_->kind, EndKind::closed);
}

// One that answers the question and not the logout has answered.
TEST_F(DiscoveryTest, ALogoutThatIsNotAnsweredTakesNothingBack) {
  ask();
  answer(expect_question(), std::string_view("TargetName=iqn.2026-11.a:x\0", 27));
  expect(Opcode::logout_request);
  ASSERT_TRUE(answered(kDiscoveryTimeout * 2));
  ASSERT_TRUE(targets_.has_value());
  EXPECT_EQ(targets_->targets.size(), 1u);
  EXPECT_EQ(answers_, 1);
}

}  // namespace
}  // namespace holdfast::initiator
