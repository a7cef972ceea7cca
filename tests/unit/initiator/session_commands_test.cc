// Commands: their numbers, the window, Data-Out.

#include <set>

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using iscsi::ScsiCommandPdu;

class SessionCommands : public SessionTest {};

// --- numbers and the window ---

TEST_F(SessionCommands, NumbersAndTagsAreFresh) {
  log_in();
  std::set<uint32_t> tags;
  uint32_t first = 0;
  for (uint32_t i = 0; i < 40; ++i) {
    TestCommand& command = read(0);
    const ScsiCommandPdu pdu = expect_command();
    if (i == 0) first = pdu.cmd_sn;
    EXPECT_EQ(pdu.cmd_sn, first + i);
    EXPECT_EQ(pdu.exp_stat_sn, target_.stat_sn);
    EXPECT_EQ(pdu.flags, iscsi::kFinal | 1);  // SIMPLE; no data: neither R nor W
    EXPECT_EQ(pdu.lun, scsi::encode_lun(1));
    EXPECT_TRUE(tags.insert(pdu.itt).second);
    respond(pdu);
    ASSERT_TRUE(wait_done(command));
  }
  EXPECT_EQ(session_->outstanding(), 0u);
}

TEST_F(SessionCommands, WaitForTheWindow) {
  target_.window = 2;
  log_in();
  for (const char* name : {"a", "b", "c", "d"}) read(0, {}, name);
  const ScsiCommandPdu a = expect_command(), b = expect_command();
  expect_nothing();
  EXPECT_EQ(session_->outstanding(), 4u);
  EXPECT_TRUE(commands_[1].command.sent());
  EXPECT_FALSE(commands_[2].command.sent());
  respond(b);  // the window moves by ExpCmdSN, which counts both
  const ScsiCommandPdu c = expect_command(), d = expect_command();
  respond(a);
  respond(d);
  respond(c);
  ASSERT_TRUE(run_until([this] { return session_->outstanding() == 0; }));
  EXPECT_EQ(order_, (std::vector<std::string>{"b", "a", "d", "c"}));
}

TEST_F(SessionCommands, AClosedWindowIsOpenedByAPing) {
  target_.window = 1;
  log_in();
  TestCommand& first = read(0);
  const ScsiCommandPdu pdu = expect_command();
  target_.window = 0;  // MaxCmdSN = ExpCmdSN - 1
  respond(pdu);
  ASSERT_TRUE(wait_done(first));
  TestCommand& second = read(0);
  expect_nothing();
  target_.window = 1;
  target_.send(iscsi::NopInPdu{}, false);  // tells numbers only
  respond(expect_command());
  EXPECT_TRUE(wait_done(second));
}

TEST_F(SessionCommands, TheWindowNeverGoesBack) {
  target_.window = 4;
  log_in();
  target_.window = 1;
  target_.send(iscsi::NopInPdu{}, false);
  settle();
  for (int i = 0; i < 4; ++i) read(0);
  for (int i = 0; i < 4; ++i) expect_command();  // as was granted first
}

TEST_F(SessionCommands, NumbersThatContradictEachOtherAreIgnored) {
  target_.window = 1;
  log_in();
  iscsi::NopInPdu odd;
  odd.stat_sn = target_.stat_sn;
  odd.exp_cmd_sn = target_.exp_cmd_sn;
  odd.max_cmd_sn = target_.exp_cmd_sn - 2;
  target_.send_as_is(odd);
  read(0);
  read(0);
  expect_command();
  expect_nothing();
  EXPECT_FALSE(end_);
}

TEST_F(SessionCommands, ExpCmdSnBeyondWhatWasSentEndsTheSession) {
  log_in();
  TestCommand& command = read(0);
  const ScsiCommandPdu pdu = expect_command();
  ++target_.exp_cmd_sn;
  respond(pdu);
  EXPECT_EQ(ended(), EndKind::protocol_error);
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
}

TEST_F(SessionCommands, ManyMoreThanTheWindow) {
  target_.window = 8;
  log_in();
  for (uint32_t i = 0; i < kMaxCommands; ++i) write(512);
  EXPECT_FALSE(session_->has_slot());
  for (uint32_t i = 0; i < kMaxCommands; ++i) {
    const ReceivedPdu pdu = expect(Opcode::scsi_command);
    EXPECT_EQ(pdu.data, pattern(0, 512));
    respond(pdu.as<ScsiCommandPdu>());
  }
  EXPECT_TRUE(run_until([this] { return session_->outstanding() == 0; }));
  EXPECT_TRUE(session_->has_slot());
}

TEST_F(SessionCommands, WithdrawTakesBackOnlyWhatWasNotSent) {
  target_.window = 1;
  log_in();
  TestCommand& sent = read(0);
  TestCommand& waits = read(0);
  TestCommand& last = read(0);
  const ScsiCommandPdu pdu = expect_command();
  EXPECT_FALSE(session_->withdraw(sent.command));
  EXPECT_TRUE(session_->withdraw(waits.command));
  EXPECT_FALSE(waits.command.busy());
  EXPECT_FALSE(session_->withdraw(waits.command));  // idle
  EXPECT_EQ(session_->outstanding(), 2u);
  respond(pdu);
  const ScsiCommandPdu next = expect_command();
  EXPECT_EQ(next.cmd_sn, pdu.cmd_sn + 1);  // it left no hole
  respond(next);
  EXPECT_TRUE(wait_done(last));
  EXPECT_EQ(waits.done, 0);
}

TEST_F(SessionCommands, MayBeSubmittedAgainFromTheCallback) {
  log_in();
  TestCommand& command = new_read(0);
  command.then = [&] {
    EXPECT_FALSE(command.command.busy());
    if (command.done < 5) session_->submit(command.command);
  };
  submit(command);
  for (int i = 0; i < 5; ++i) respond(expect_command());
  EXPECT_TRUE(wait_done(command, 5));
  settle();
  EXPECT_EQ(command.done, 5);
}

// --- data that goes out ---

struct OutCase {
  bool initial_r2t, immediate;
  uint32_t first_burst, max_burst, segment, bytes;
};

// Takes a whole write as a target with these parameters does, and checks every PDU of it.
class SessionDataOut : public SessionTest, public testing::WithParamInterface<OutCase> {
 protected:
  void set_parameters(const OutCase& c) {
    target_.parameters.initial_r2t = c.initial_r2t;
    target_.parameters.immediate_data = c.immediate;
    target_.parameters.first_burst_length = c.first_burst;
    target_.parameters.max_burst_length = c.max_burst;
    target_.parameters.max_recv_data_segment_length = c.segment;
    options_.login.parameters.initial_r2t = false;
  }
  void expect_sequence(const ScsiCommandPdu& pdu, uint32_t ttt, uint32_t from, uint32_t to) {
    const uint32_t segment = GetParam().segment;
    for (uint32_t sn = 0, at = from; at < to; ++sn, at += segment) {
      const uint32_t length = std::min(segment, to - at);
      expect_data_out(pdu, ttt, sn, at, length, at + length == to);
    }
  }
};

TEST_P(SessionDataOut, FollowsWhatWasNegotiated) {
  const OutCase& c = GetParam();
  set_parameters(c);
  log_in();
  // In pieces of odd lengths.
  std::vector<size_t> parts;
  for (uint32_t left = c.bytes, i = 0; left > 0; ++i) {
    const uint32_t part = i < 40 ? std::min(left, 1 + i * 977) : left;
    parts.push_back(part);
    left -= part;
  }
  TestCommand& command = write(c.bytes, parts);
  const ReceivedPdu received = expect(Opcode::scsi_command);
  const auto pdu = received.as<ScsiCommandPdu>();
  const uint32_t burst = std::min(c.first_burst, c.bytes);
  const uint32_t immediate = c.immediate ? std::min(burst, c.segment) : 0;
  EXPECT_EQ(received.data, pattern(0, immediate));
  EXPECT_EQ(pdu.expected_data_transfer_length, c.bytes);
  EXPECT_NE(pdu.flags & iscsi::scsi_command_flags::kWrite, 0);
  uint32_t at = immediate;
  const bool unsolicited = !c.initial_r2t && immediate < burst;
  EXPECT_EQ(received.bhs.final(), !unsolicited);
  if (unsolicited) {
    expect_sequence(pdu, iscsi::kReservedTag, at, burst);
    at = burst;
  }
  expect_nothing();
  for (uint32_t sn = 0; at < c.bytes; ++sn) {
    const uint32_t length = std::min(c.max_burst, c.bytes - at);
    send_r2t(pdu, 100 + sn, sn, at, length);
    expect_sequence(pdu, 100 + sn, at, at + length);
    at += length;
  }
  respond(pdu);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
  EXPECT_EQ(command.command.moved, c.bytes);
}

std::vector<OutCase> out_cases() {
  std::vector<OutCase> cases;
  for (const bool initial_r2t : {false, true}) {
    for (const bool immediate : {false, true}) {
      for (const uint32_t segment : {512u, 4096u, 65536u}) {
        for (const uint32_t first : {512u, 8192u, 65536u}) {
          for (const uint32_t bytes : {1u, 511u, 8192u, 20'001u, 200'000u}) {
            if (bytes / segment > 100) continue;
            cases.push_back({initial_r2t, immediate, first, 65536, segment, bytes});
          }
        }
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(All, SessionDataOut, testing::ValuesIn(out_cases()));

class SessionWrite : public SessionCommands {
 protected:
  // Everything by R2T, at most 4 open, 4096 bytes each.
  void log_in_solicited() {
    target_.parameters.initial_r2t = true;
    target_.parameters.immediate_data = false;
    target_.parameters.max_burst_length = 4096;
    target_.parameters.first_burst_length = 4096;
    log_in();
    ASSERT_EQ(session_->parameters().max_outstanding_r2t, kMaxOutstandingR2t);
  }
};

TEST_F(SessionWrite, SeveralR2tsOutstandingAreAnsweredInOrder) {
  log_in_solicited();
  TestCommand& command = write(16384);
  const ScsiCommandPdu pdu = expect_command();
  target_.stop_reading();
  for (uint32_t i = 0; i < 4; ++i) send_r2t(pdu, 7 + i, i, i * 4096, 4096);
  settle();
  target_.go_on_reading();
  for (uint32_t i = 0; i < 4; ++i) expect_data_out(pdu, 7 + i, 0, i * 4096, 4096, true);
  respond(pdu);
  EXPECT_TRUE(wait_done(command));
}

TEST_F(SessionWrite, ManyPartsAndManyCommandsInOneSend) {
  log_in_solicited();
  std::vector<ScsiCommandPdu> pdus;
  for (int i = 0; i < 10; ++i) write(kMaxDataIovecs * 16, std::vector<size_t>(kMaxDataIovecs, 16));
  for (int i = 0; i < 10; ++i) pdus.push_back(expect_command());
  for (const ScsiCommandPdu& pdu : pdus) send_r2t(pdu, 1, 0, 0, kMaxDataIovecs * 16);
  for (const ScsiCommandPdu& pdu : pdus) {
    expect_data_out(pdu, 1, 0, 0, kMaxDataIovecs * 16, true);
    respond(pdu);
  }
  EXPECT_TRUE(run_until([this] { return session_->outstanding() == 0; }));
}

// However much the target would take: what is urgent must not wait for it.
TEST_F(SessionWrite, NoSegmentIsLongerThanASend) {
  target_.parameters.initial_r2t = true;
  target_.parameters.immediate_data = false;
  target_.parameters.max_recv_data_segment_length = 4 * kMaxSendBytes;
  target_.parameters.max_burst_length = 4 * kMaxSendBytes;
  log_in();
  ASSERT_EQ(session_->parameters().max_send_data_segment_length, 4 * kMaxSendBytes);
  TestCommand& command = write(4 * kMaxSendBytes);
  const ScsiCommandPdu pdu = expect_command();
  send_r2t(pdu, 1, 0, 0, 4 * kMaxSendBytes);
  for (uint32_t i = 0; i < 4; ++i) {
    expect_data_out(pdu, 1, i, i * kMaxSendBytes, kMaxSendBytes, i == 3);
  }
  respond(pdu);
  EXPECT_TRUE(wait_done(command));
}

TEST_F(SessionWrite, WrongR2tsEndTheSession) {
  struct Case {
    const char* what;
    std::function<void(iscsi::R2tPdu&)> change;
  };
  const Case cases[] = {
      {"no data", [](auto& pdu) { pdu.desired_data_transfer_length = 0; }},
      {"more than MaxBurstLength", [](auto& pdu) { pdu.desired_data_transfer_length = 4097; }},
      {"past the end", [](auto& pdu) { pdu.buffer_offset = 16384 - 4095; }},
      {"an offset that wraps", [](auto& pdu) { pdu.buffer_offset = 0xfffff001; }},
      {"a length that wraps", [](auto& pdu) { pdu.desired_data_transfer_length = 0xffffffff; }},
      {"the reserved tag", [](auto& pdu) { pdu.ttt = iscsi::kReservedTag; }},
      {"R2TSN", [](auto& pdu) { pdu.r2t_sn = 1; }},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    log_in_solicited();
    TestCommand& command = write(16384);
    const ScsiCommandPdu pdu = expect_command();
    iscsi::R2tPdu wrong = r2t(pdu, 5, 0, 0, 4096);
    each.change(wrong);
    target_.send(wrong, false);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    EXPECT_EQ(command.command.outcome, Outcome::unanswered);
    settle();
    target_.received.clear();
  }
}

TEST_F(SessionWrite, MoreR2tsThanAgreedEndTheSession) {
  log_in();
  TestCommand& command = write(1024 * 1024);
  const ScsiCommandPdu pdu = expect_command();
  // What is in the buffers keeps the answers to R2Ts waiting.
  target_.stop_reading();
  for (int i = 0; i < 8; ++i) write(65536);
  settle();
  const uint32_t first = 256 * 1024;
  for (uint32_t i = 0; i < kMaxOutstandingR2t; ++i) send_r2t(pdu, i, i, first + i * 4096, 4096);
  settle();
  EXPECT_FALSE(end_);
  send_r2t(pdu, 9, kMaxOutstandingR2t, first + kMaxOutstandingR2t * 4096, 4096);
  EXPECT_EQ(ended(), EndKind::protocol_error);
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
}

TEST_F(SessionWrite, AnR2tForAReadEndsTheSession) {
  log_in();
  read(4096);
  send_r2t(expect_command(), 1, 0, 0, 512);
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

TEST_F(SessionWrite, AnR2tForNobodyIsCountedOnly) {
  log_in();
  ScsiCommandPdu nobody;
  nobody.itt = 0x123;
  send_r2t(nobody, 1, 0, 0, 512);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  EXPECT_FALSE(end_);
}

TEST_F(SessionWrite, GoodForDataThatWasNeverSentIsNotBelieved) {
  log_in_solicited();
  TestCommand& command = write(8192);
  const ScsiCommandPdu pdu = expect_command();
  send_r2t(pdu, 1, 0, 0, 4096);
  expect_data_out(pdu, 1, 0, 0, 4096, true);
  respond(pdu);
  EXPECT_EQ(ended(), EndKind::protocol_error);
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
}

TEST_F(SessionWrite, AResidualSaysWhatTheTargetDidNotTake) {
  log_in_solicited();
  TestCommand& command = write(8192);
  const ScsiCommandPdu pdu = expect_command();
  send_r2t(pdu, 1, 0, 0, 4096);
  expect_data_out(pdu, 1, 0, 0, 4096, true);
  respond(pdu, scsi::Status::good, kU, 4096);
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.moved, 4096u);
}

}  // namespace
}  // namespace holdfast::initiator
