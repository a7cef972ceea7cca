// Pings, text, asynchronous messages, rejects, logout.

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using namespace std::chrono_literals;
using iscsi::RejectReason;
using iscsi::ScsiCommandPdu;
using iscsi::TaskFunction;

class SessionControl : public SessionTest {
 protected:
  static base::Bytes send_targets() {
    return base::as_bytes(std::string_view("SendTargets=All\0", 16));
  }
  void ask() {
    text_.reset();
    session_->text(send_targets(), [this](base::Result<std::vector<uint8_t>> text) noexcept {
      text_ = std::move(text);
    });
  }
  iscsi::TextResponsePdu text_response(const iscsi::TextRequestPdu& request, bool final) {
    iscsi::TextResponsePdu pdu;
    pdu.flags = final ? iscsi::kFinal : uint8_t{0};
    pdu.itt = request.itt;
    if (!final) {
      pdu.ttt = 0x77;
      pdu.lun = 0x0102030405060708;
    }
    return pdu;
  }
  std::optional<base::Result<std::vector<uint8_t>>> text_;
};

// --- NOP ---

TEST_F(SessionControl, OurPingIsAnswered) {
  log_in();
  EXPECT_TRUE(session_->ping());
  EXPECT_FALSE(session_->ping());  // one at a time
  EXPECT_TRUE(session_->ping_outstanding());
  const auto ping = expect(Opcode::nop_out).as<iscsi::NopOutPdu>();
  EXPECT_EQ(ping.opcode & iscsi::kImmediate, iscsi::kImmediate);
  EXPECT_NE(ping.itt, iscsi::kReservedTag);
  EXPECT_EQ(ping.ttt, iscsi::kReservedTag);
  EXPECT_EQ(ping.cmd_sn, target_.exp_cmd_sn);
  iscsi::NopInPdu answer;
  answer.itt = ping.itt + 1;
  target_.send(answer, true);  // to nothing we asked
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  EXPECT_EQ(pings_, 0);
  answer.itt = ping.itt;
  target_.send(answer, true);
  ASSERT_TRUE(run_until([this] { return pings_ == 1; }));
  EXPECT_FALSE(session_->ping_outstanding());
  EXPECT_TRUE(session_->ping());
  EXPECT_NE(expect(Opcode::nop_out).bhs.itt, ping.itt);
}

TEST_F(SessionControl, ItsPingIsAnswered) {
  log_in();
  iscsi::NopInPdu ping;
  ping.ttt = 0x55;
  ping.lun = 0x1122334455667788;
  target_.send(ping, false);
  const ReceivedPdu received = expect(Opcode::nop_out);
  const auto answer = received.as<iscsi::NopOutPdu>();
  EXPECT_EQ(answer.opcode & iscsi::kImmediate, iscsi::kImmediate);
  EXPECT_EQ(answer.itt, iscsi::kReservedTag);
  EXPECT_EQ(answer.ttt, 0x55u);
  EXPECT_EQ(answer.lun, 0x1122334455667788u);
  EXPECT_TRUE(received.data.empty());
}

TEST_F(SessionControl, UrgentOnesWaitForOneSendOnly) {
  log_in();
  target_.stop_reading();
  for (int i = 0; i < 40; ++i) write(65536);
  settle();
  session_->ping();
  target_.go_on_reading();
  size_t before = 0;
  while (
      expect(target_.received.empty() ? Opcode::scsi_command : target_.received.front().bhs.code())
          .bhs.code() != Opcode::nop_out) {
    ++before;
    ASSERT_LT(before, 40u);
    ASSERT_TRUE(run_until([this] { return !target_.received.empty(); }));
  }
  // What the sockets held, and one send.
  EXPECT_LT(before * 65536, 2 * 65536 + 2 * kMaxSendBytes);
}

TEST_F(SessionControl, ATargetThatPingsFasterThanItReadsIsCutOff) {
  log_in();
  target_.stop_reading();
  for (int i = 0; i < 8; ++i) write(65536);
  settle();
  iscsi::NopInPdu ping;
  for (size_t i = 0; i <= kMaxControlPdus; ++i) {
    ping.ttt = static_cast<uint32_t>(i);
    target_.send(ping, false);
  }
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

// --- text ---

TEST_F(SessionControl, TextInOnePart) {
  log_in();
  ask();
  const ReceivedPdu received = expect(Opcode::text_request);
  const auto request = received.as<iscsi::TextRequestPdu>();
  EXPECT_EQ(base::as_text(received.data), base::as_text(send_targets()));
  EXPECT_TRUE(received.bhs.final());
  EXPECT_EQ(request.ttt, iscsi::kReservedTag);
  const std::string_view answer("TargetName=iqn.a:b\0", 19);
  target_.send(text_response(request, true), true, base::as_bytes(answer));
  ASSERT_TRUE(run_until([this] { return text_.has_value(); }));
  ASSERT_TRUE(text_->has_value());
  EXPECT_EQ(base::as_text(**text_), answer);
  ask();  // and again
  expect(Opcode::text_request);
}

TEST_F(SessionControl, TextInManyPartsSendsTagAndLunBack) {
  log_in();
  ask();
  auto request = expect(Opcode::text_request).as<iscsi::TextRequestPdu>();
  const uint32_t tag = request.itt;
  std::string all;
  for (int i = 0; i < 20; ++i) {
    const std::string part(1000, static_cast<char>('a' + i));
    all += part;
    target_.send(text_response(request, i == 19), true, base::as_bytes(std::string_view(part)));
    if (i == 19) break;
    const ReceivedPdu next = expect(Opcode::text_request);
    request = next.as<iscsi::TextRequestPdu>();
    EXPECT_EQ(request.itt, tag);
    EXPECT_EQ(request.ttt, 0x77u);
    EXPECT_EQ(request.lun, 0x0102030405060708u);
    EXPECT_TRUE(next.data.empty());
  }
  ASSERT_TRUE(run_until([this] { return text_.has_value(); }));
  EXPECT_EQ(base::as_text(**text_), all);
}

TEST_F(SessionControl, TextThatMakesNoSenseEndsTheSession) {
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    log_in();
    ask();
    iscsi::TextResponsePdu pdu =
        text_response(expect(Opcode::text_request).as<iscsi::TextRequestPdu>(), false);
    if (i == 0) pdu.ttt = iscsi::kReservedTag;  // goes on, and does not say how
    if (i == 1) pdu.itt = pdu.itt + 1;          // not asked for
    if (i == 2) {
      pdu.flags = iscsi::kFinal;
      target_.send(pdu, true);
      ASSERT_TRUE(run_until([this] { return text_.has_value(); }));
    }
    target_.send(pdu, true);  // 2: a second answer
    EXPECT_EQ(ended(), EndKind::protocol_error);
    ASSERT_TRUE(text_.has_value());
    EXPECT_EQ(text_->has_value(), i == 2);
    settle();
  }
}

TEST_F(SessionControl, TextWithoutEndEndsTheSession) {
  log_in();
  ask();
  const std::vector<uint8_t> part(kMaxDataSegment, 'x');
  for (size_t sent = 0; sent <= kMaxTextBytes && !end_; sent += part.size()) {
    ASSERT_TRUE(run_until([this] { return end_ || !target_.received.empty(); }));
    if (end_) break;
    const auto request = expect(Opcode::text_request).as<iscsi::TextRequestPdu>();
    target_.send(text_response(request, false), true, part);
  }
  EXPECT_EQ(ended(), EndKind::protocol_error);
  EXPECT_FALSE(text_->has_value());
}

// --- asynchronous messages ---

TEST_F(SessionControl, AsyncMessagesAreTold) {
  log_in();
  iscsi::AsyncMessagePdu pdu;
  pdu.async_event = static_cast<uint8_t>(iscsi::AsyncEvent::logout_request);
  pdu.parameter1 = 1;
  pdu.parameter2 = 2;
  pdu.parameter3 = 3;
  target_.send(pdu, true);
  ASSERT_TRUE(run_until([this] { return messages_.size() == 1; }));
  EXPECT_EQ(messages_[0].event, iscsi::AsyncEvent::logout_request);
  EXPECT_EQ(messages_[0].parameter1, 1);
  EXPECT_EQ(messages_[0].parameter2, 2);
  EXPECT_EQ(messages_[0].parameter3, 3);
  pdu.async_event = 0;
  pdu.lun = scsi::encode_lun(1);
  std::vector<uint8_t> data(2 + 18);
  base::store(data, base::be16(18));
  scsi::encode(scsi::kCapacityChanged, false, base::MutableBytes(data).subspan(2));
  target_.send(pdu, true, data);
  ASSERT_TRUE(run_until([this] { return messages_.size() == 2; }));
  EXPECT_TRUE(messages_[1].sense.same_code(scsi::kCapacityChanged));
  EXPECT_EQ(messages_[1].lun, scsi::encode_lun(1));
  target_.send(pdu, true, std::vector<uint8_t>{0xff});  // a sense that is not there
  ASSERT_TRUE(run_until([this] { return messages_.size() == 3; }));
  EXPECT_EQ(messages_[2].sense, scsi::kNoSense);
  EXPECT_FALSE(end_);
}

// --- rejects ---

TEST_F(SessionControl, ARejectedCommandWasNotExecuted) {
  log_in();
  TestCommand& command = write(512);
  reject(expect(Opcode::scsi_command), RejectReason::waiting_for_logout);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::rejected);
  EXPECT_FALSE(end_);
}

TEST_F(SessionControl, ADamagedCommandIsAnsweredByItself) {
  log_in();
  TestCommand& command = write(512);
  const ReceivedPdu pdu = expect(Opcode::scsi_command);
  reject(pdu, RejectReason::data_digest_error);
  settle();
  EXPECT_EQ(command.done, 0);
  respond_check(pdu.as<ScsiCommandPdu>(), scsi::kDataDigest);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
}

TEST_F(SessionControl, ARejectedPingIsASignOfLife) {
  log_in();
  session_->ping();
  reject(expect(Opcode::nop_out), RejectReason::too_many_immediate_commands);
  EXPECT_TRUE(run_until([this] { return pings_ == 1; }));
}

TEST_F(SessionControl, ARejectedFunctionHasNoAnswer) {
  log_in();
  TestFunction& function = manage(TaskFunction::logical_unit_reset);
  reject(expect(Opcode::task_management_request), RejectReason::command_not_supported);
  ASSERT_TRUE(run_until([&] { return function.done == 1; }));
  EXPECT_FALSE(function.function.answered);
  EXPECT_FALSE(end_);
}

TEST_F(SessionControl, RejectedDataMattersToACommandUnderWayOnly) {
  target_.parameters.initial_r2t = true;
  target_.parameters.immediate_data = false;
  log_in();
  TestCommand& command = write(8192);
  const ScsiCommandPdu pdu = expect_command();
  send_r2t(pdu, 1, 0, 0, 4096);
  const ReceivedPdu data = expect(Opcode::data_out);
  respond_check(pdu, scsi::kWriteError);
  ASSERT_TRUE(wait_done(command));
  reject(data, RejectReason::invalid_pdu_field);
  settle();
  EXPECT_FALSE(end_);
  TestCommand& next = write(8192);
  const ScsiCommandPdu next_pdu = expect_command();
  send_r2t(next_pdu, 1, 0, 0, 4096);
  reject(expect(Opcode::data_out), RejectReason::invalid_pdu_field);
  EXPECT_EQ(ended(), EndKind::protocol_error);
  EXPECT_EQ(next.command.outcome, Outcome::unanswered);
}

TEST_F(SessionControl, OtherRejectsEndTheSession) {
  log_in();
  session_->text(send_targets(), [](base::Result<std::vector<uint8_t>>) noexcept {});
  reject(expect(Opcode::text_request), RejectReason::protocol_error);
  EXPECT_EQ(ended(), EndKind::protocol_error);
  settle();
  log_in();
  iscsi::RejectPdu pdu;
  target_.send(pdu, true, std::vector<uint8_t>(47));  // not a whole header
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

TEST_F(SessionControl, ARejectOfNobodyIsIgnored) {
  log_in();
  ReceivedPdu nobody;
  nobody.bhs.opcode = 0x01;
  nobody.bhs.itt = 12345;
  reject(nobody, RejectReason::protocol_error);
  nobody.bhs.opcode = 0x02;
  reject(nobody, RejectReason::protocol_error);
  nobody.bhs.opcode = 0x00;
  nobody.bhs.itt = iscsi::kReservedTag;
  reject(nobody, RejectReason::protocol_error);
  settle();
  EXPECT_FALSE(end_);
  EXPECT_EQ(pings_, 0);
}

// --- logout ---

TEST_F(SessionControl, Logout) {
  log_in();
  session_->logout();
  session_->logout();  // once is enough
  const auto request = expect(Opcode::logout_request).as<iscsi::LogoutRequestPdu>();
  EXPECT_EQ(request.opcode & iscsi::kImmediate, iscsi::kImmediate);
  EXPECT_EQ(request.flags, iscsi::kFinal);  // close the session
  iscsi::LogoutResponsePdu pdu;
  pdu.itt = request.itt;
  target_.send(pdu, true);
  EXPECT_EQ(ended(), EndKind::logged_out);
  EXPECT_TRUE(run_until([this] { return target_.peer_closed; }));
  EXPECT_EQ(target_.peer_error, 0);
}

TEST_F(SessionControl, NothingIsSentAfterALogout) {
  target_.window = 1;
  log_in();
  TestCommand& sent = read(0, {}, "sent");
  const ScsiCommandPdu pdu = expect_command();
  TestCommand& waits = read(0, {}, "waits");
  session_->logout();
  const auto request = expect(Opcode::logout_request).as<iscsi::LogoutRequestPdu>();
  TestCommand& late = read(0, {}, "late");
  session_->ping();
  target_.window = 8;
  respond(pdu);  // opens the window
  ASSERT_TRUE(wait_done(sent));
  EXPECT_EQ(sent.command.outcome, Outcome::answered);
  expect_nothing();
  iscsi::LogoutResponsePdu answer;
  answer.itt = request.itt;
  target_.send(answer, true);
  EXPECT_EQ(ended(), EndKind::logged_out);
  EXPECT_EQ(waits.command.outcome, Outcome::unsent);
  EXPECT_EQ(late.command.outcome, Outcome::unsent);
}

TEST_F(SessionControl, ALogoutThatIsNotAnsweredTimesOut) {
  log_in();
  session_->logout();
  expect(Opcode::logout_request);
  const auto begun = world_.now();
  EXPECT_EQ(ended(kLogoutTimeout * 2), EndKind::timed_out);
  EXPECT_GE(world_.now() - begun, kLogoutTimeout - 100ms);
}

TEST_F(SessionControl, ALogoutResponseNobodyAskedForEndsTheSession) {
  log_in();
  target_.send(iscsi::LogoutResponsePdu{}, true);
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

}  // namespace
}  // namespace holdfast::initiator
