// Data-In, residuals, statuses and sense.

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using iscsi::ScsiCommandPdu;

class SessionRead : public SessionTest {};

TEST_F(SessionRead, StraightToItsPlaceWithTheStatus) {
  log_in();
  TestCommand& command = read(8192);
  const ScsiCommandPdu pdu = expect_command();
  EXPECT_EQ(pdu.flags, iscsi::kFinal | iscsi::scsi_command_flags::kRead | 1);
  EXPECT_EQ(pdu.expected_data_transfer_length, 8192u);
  send_data_in(pdu, 0, 0, 8192, kWithStatus);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
  EXPECT_EQ(command.command.status, scsi::Status::good);
  EXPECT_EQ(command.command.moved, 8192u);
  EXPECT_EQ(command.content(), pattern(0, 8192));
}

TEST_F(SessionRead, ManyPdusIntoManyParts) {
  log_in();
  std::vector<size_t> parts;
  uint32_t bytes = 0;
  for (size_t i = 0; i < kMaxDataIovecs; ++i) {
    parts.push_back(i % 5 == 4 ? 0 : 1 + i * 613);
    bytes += static_cast<uint32_t>(parts.back());
  }
  TestCommand& command = read(bytes, parts);
  const ScsiCommandPdu pdu = expect_command();
  uint32_t at = 0, sn = 0;
  for (uint32_t length = 1; at < bytes; length = std::min(length * 3 + 1, kMaxDataSegment)) {
    const uint32_t part = std::min(length, bytes - at);
    send_data_in(pdu, sn++, at, part, at + part == bytes ? iscsi::kFinal : uint8_t{0});
    at += part;
    if (sn == 2) send_data_in(pdu, sn++, at, 0);  // empty ones are allowed
  }
  respond(pdu);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.content(), pattern(0, bytes));
  EXPECT_EQ(command.command.moved, bytes);
}

TEST_F(SessionRead, WithDigests) {
  options_.login.parameters.header_digest = iscsi::DigestChoice::required;
  options_.login.parameters.data_digest = iscsi::DigestChoice::required;
  log_in();
  TestCommand& command = read(5001, {2000, 3001});
  const ScsiCommandPdu pdu = expect_command();
  send_data_in(pdu, 0, 0, 999);
  send_data_in(pdu, 1, 999, 4002, kWithStatus);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.content(), pattern(0, 5001));
}

TEST_F(SessionRead, AWrongDigestEndsTheSession) {
  options_.login.parameters.header_digest = iscsi::DigestChoice::required;
  options_.login.parameters.data_digest = iscsi::DigestChoice::required;
  for (bool ScriptedTarget::* spoil :
       {&ScriptedTarget::spoil_header_digest, &ScriptedTarget::spoil_data_digest}) {
    log_in();
    TestCommand& command = read(4096);
    const ScsiCommandPdu pdu = expect_command();
    target_.*spoil = true;
    send_data_in(pdu, 0, 0, 4096, kWithStatus);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    EXPECT_EQ(command.command.outcome, Outcome::unanswered);
    target_.*spoil = false;
    settle();
  }
}

TEST_F(SessionRead, ShortAnswersHaveAResidual) {
  log_in();
  TestCommand& command = read(4096);
  const ScsiCommandPdu pdu = expect_command();
  send_data_in(pdu, 0, 0, 36, iscsi::kFinal);
  respond(pdu, scsi::Status::good, kU, 4060);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.moved, 36u);
  EXPECT_EQ(command.content()[36], 0xee);  // untouched
}

TEST_F(SessionRead, AnOverflowDoesNotLessenWhatCame) {
  log_in();
  TestCommand& command = read(512);
  const ScsiCommandPdu pdu = expect_command();
  send_data_in(pdu, 0, 0, 512, iscsi::kFinal);
  respond(pdu, scsi::Status::good, kO, 100'000);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.moved, 512u);
}

TEST_F(SessionRead, ResidualsThatDoNotAddUpEndTheSession) {
  struct Case {
    uint32_t sent;
    uint8_t flags;
    uint32_t residual;
  };
  for (const Case& each : {Case{4096, kU, 512}, Case{512, 0, 0}, Case{512, kU, 512},
                           Case{4096, kU, 5000}, Case{0, uint8_t{kU | kO}, 4096}}) {
    SCOPED_TRACE(each.residual);
    log_in();
    TestCommand& command = read(4096);
    const ScsiCommandPdu pdu = expect_command();
    if (each.sent > 0) send_data_in(pdu, 0, 0, each.sent, iscsi::kFinal);
    respond(pdu, scsi::Status::good, each.flags, each.residual);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    EXPECT_EQ(command.command.outcome, Outcome::unanswered);
    settle();
  }
}

TEST_F(SessionRead, AnErrorInTheMiddleTellsWhatCame) {
  log_in();
  TestCommand& command = read(8192);
  const ScsiCommandPdu pdu = expect_command();
  send_data_in(pdu, 0, 0, 4096);
  respond_check(pdu, scsi::kReadError);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.status, scsi::Status::check_condition);
  EXPECT_TRUE(command.command.sense.same_code(scsi::kReadError));
  EXPECT_EQ(command.command.moved, 4096u);
}

TEST_F(SessionRead, WrongDataInsEndTheSessionAndTouchNothing) {
  struct Case {
    const char* what;
    uint32_t sn, offset, length;
    uint8_t flags;
  };
  for (const Case& each :
       {Case{"DataSN", 1, 0, 512, 0}, Case{"a gap", 0, 512, 512, 0},
        Case{"too much", 0, 0, 4097, 0}, Case{"an offset that wraps", 0, 0xffffff00, 512, 0},
        Case{"a status without F", 0, 0, 4096, 1}}) {
    SCOPED_TRACE(each.what);
    log_in();
    TestCommand& command = read(4096, {4096});
    const ScsiCommandPdu pdu = expect_command();
    send_data_in(pdu, each.sn, each.offset, each.length, each.flags);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    EXPECT_EQ(command.command.outcome, Outcome::unanswered);
    EXPECT_EQ(command.content()[0] == 0xee, each.flags == 0);
    settle();
  }
}

TEST_F(SessionRead, DataInForAWriteEndsTheSession) {
  log_in();
  write(4096);
  send_data_in(expect_command(), 0, 0, 512);
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

TEST_F(SessionRead, DataForNobodyIsDropped) {
  log_in();
  TestCommand& command = read(4096);
  const ScsiCommandPdu pdu = expect_command();
  ScsiCommandPdu nobody;
  for (const uint32_t tag :
       {pdu.itt ^ 1u, pdu.itt | 0x80000000u, pdu.itt + kMaxCommands, iscsi::kReservedTag}) {
    nobody.itt = tag;
    send_data_in(nobody, 0, 0, 100'000);
  }
  send_data_in(pdu, 0, 0, 4096, kWithStatus);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(session_->late_answers(), 4u);
  EXPECT_EQ(command.content(), pattern(0, 4096));
}

TEST_F(SessionRead, AnAnswerToACommandThatWaitsIsNone) {
  target_.window = 1;
  log_in();
  read(0);
  TestCommand& waits = read(0);
  ScsiCommandPdu pdu = expect_command();
  // The slots are given out from the lowest.
  pdu.itt = pdu.itt + 1;
  target_.window = 0;
  respond(pdu);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  EXPECT_EQ(waits.done, 0);
}

// --- what responses say ---

TEST_F(SessionRead, SenseAndStatus) {
  log_in();
  TestCommand& check = read(0);
  respond_check(expect_command(), scsi::kPowerOn);
  ASSERT_TRUE(wait_done(check));
  EXPECT_TRUE(check.command.sense.same_code(scsi::kPowerOn));
  TestCommand& busy = read(4096);
  respond(expect_command(), scsi::Status::busy);
  ASSERT_TRUE(wait_done(busy));
  EXPECT_EQ(busy.command.status, scsi::Status::busy);
  EXPECT_EQ(busy.command.moved, 0u);
  EXPECT_EQ(busy.command.sense, scsi::kNoSense);
}

TEST_F(SessionRead, SenseLengthsThatLie) {
  log_in();
  for (const size_t length : {1u, 2u, 3u, 20u}) {
    TestCommand& command = read(0);
    const ScsiCommandPdu pdu = expect_command();
    std::vector<uint8_t> data(length, 0xff);  // the sense has 65535 bytes, they say
    if (length == 20) data[2] = 0x70;
    target_.send(response(pdu, scsi::Status::check_condition), true, data);
    ASSERT_TRUE(wait_done(command));
    EXPECT_EQ(command.command.outcome, Outcome::answered);
  }
}

TEST_F(SessionRead, ATargetFailureLeavesTheCommandUnanswered) {
  log_in();
  TestCommand& command = write(512);
  iscsi::ScsiResponsePdu pdu = response(expect_command());
  pdu.response = static_cast<uint8_t>(iscsi::ScsiResponseCode::target_failure);
  target_.send(pdu, true);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
  EXPECT_FALSE(end_);
}

TEST_F(SessionRead, AStatSnThatIsMissingOrComesTwiceEndsTheSession) {
  for (const uint32_t step : {uint32_t{1}, uint32_t(-1)}) {
    log_in();
    read(0);
    const ScsiCommandPdu pdu = expect_command();
    target_.stat_sn += step;
    respond(pdu);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    settle();
  }
}

TEST_F(SessionRead, ASecondAnswerIsLate) {
  log_in();
  TestCommand& command = read(0);
  const ScsiCommandPdu pdu = expect_command();
  respond(pdu);
  respond(pdu);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  EXPECT_EQ(command.done, 1);
}

}  // namespace
}  // namespace holdfast::initiator
