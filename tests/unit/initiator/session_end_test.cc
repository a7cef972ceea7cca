// How sessions end, and what becomes of the commands; memory that a send still names.

#include <cerrno>

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using namespace std::chrono_literals;
using iscsi::ScsiCommandPdu;
using iscsi::TaskFunction;

class SessionEndTest : public SessionTest {
 protected:
  using Strings = std::vector<std::string>;

  void log_in_solicited() {
    target_.parameters.initial_r2t = true;
    target_.parameters.immediate_data = false;
    log_in();
  }
  void log_in_unsolicited(uint32_t first_burst) {
    target_.parameters.initial_r2t = false;
    target_.parameters.immediate_data = false;
    target_.parameters.first_burst_length = first_burst;
    log_in();
  }
};

TEST_F(SessionEndTest, UnsentAndUnanswered) {
  target_.window = 1;
  log_in();
  TestCommand& answered = read(0, {}, "answered");
  const ScsiCommandPdu first = expect_command();
  TestCommand& sent = read(0, {}, "sent");
  respond(first);
  expect_command();
  TestCommand& waits = read(0, {}, "waits");
  settle();
  target_.close(true);
  EXPECT_EQ(ended(), EndKind::connection_failed);
  EXPECT_EQ(end_->error, ECONNRESET);
  EXPECT_EQ(answered.command.outcome, Outcome::answered);
  EXPECT_EQ(sent.command.outcome, Outcome::unanswered);
  EXPECT_EQ(waits.command.outcome, Outcome::unsent);
  EXPECT_FALSE(waits.command.sent());
  EXPECT_EQ(order_.back(), "end");  // after all commands
  EXPECT_EQ(order_.size(), 4u);
}

// Whether it is given to the network decides, not what the target got.
TEST_F(SessionEndTest, TheBoundaryIsWhatTheNetworkWasGiven) {
  log_in();
  TestCommand& never = write(512);
  session_->close(true, "in the same turn");
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(never.command.outcome, Outcome::unsent);
  EXPECT_TRUE(target_.received.empty());

  settle();
  log_in();
  target_.stop_reading();
  std::vector<TestCommand*> all;
  for (int i = 0; i < 20; ++i) all.push_back(&write(65536));
  settle();  // as much as the buffers take
  session_->close(true, "in the middle of a send");
  EXPECT_EQ(ended(), EndKind::closed);
  target_.go_on_reading();
  settle();
  size_t arrived = 0;
  for (const ReceivedPdu& pdu : target_.received) {
    arrived += pdu.bhs.code() == Opcode::scsi_command ? 1u : 0u;
  }
  bool unsent = false;
  size_t unanswered = 0;
  for (const TestCommand* each : all) {
    EXPECT_EQ(each->done, 1);
    EXPECT_EQ(each->command.sent(), each->command.outcome == Outcome::unanswered);
    EXPECT_FALSE(unsent && each->command.sent());  // in order
    unsent = unsent || !each->command.sent();
    unanswered += each->command.sent() ? 1u : 0u;
  }
  EXPECT_TRUE(unsent);
  EXPECT_GE(unanswered, arrived);
  target_.received.clear();
}

TEST_F(SessionEndTest, CloseWithoutResetSendsAFin) {
  for (const bool reset : {true, false}) {
    log_in();
    session_->close(reset, "closed");
    EXPECT_EQ(ended(), EndKind::closed);
    ASSERT_TRUE(run_until([this] { return target_.peer_closed; }));
    EXPECT_EQ(target_.peer_error, reset ? ECONNRESET : 0);
    settle();
  }
}

TEST_F(SessionEndTest, ThePeerCloses) {
  log_in();
  TestCommand& command = read(4096);
  expect_command();
  target_.close(false);
  EXPECT_EQ(ended(), EndKind::peer_closed);
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
}

TEST_F(SessionEndTest, AHalfReceivedReadIsGivenBackOnlyOnce) {
  log_in();
  TestCommand& command = read(8192);
  const ScsiCommandPdu pdu = expect_command();
  iscsi::DataInPdu half = data_in(pdu, 0, 0);
  target_.number(half, false);
  half.data_segment_length = 8192;
  std::string bytes(base::as_text(base::as_bytes(half)));
  bytes += std::string(1000, 'x');
  target_.send_bytes(base::as_bytes(std::string_view(bytes)));
  settle();
  EXPECT_EQ(command.done, 0);
  session_->close(true, "while data goes to its place");
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(command.done, 1);
  EXPECT_EQ(command.command.outcome, Outcome::unanswered);
}

TEST_F(SessionEndTest, CallbacksOfTheEndMaySubmitAgain) {
  target_.window = 2;
  log_in();
  TestFunction& function = new_function(TaskFunction::logical_unit_reset);
  bool text_failed = false;
  TestCommand& again = new_read(0, {}, "again");
  TestCommand& last = new_read(0, {}, "last");
  again.then = [&] {
    EXPECT_FALSE(session_->up());
    if (again.done == 1) {
      session_->submit(again.command);
      manage(function);
    }
  };
  function.then = [&] {
    if (function.done == 1) {
      session_->text(base::as_bytes(std::string_view("SendTargets=\0", 13)),
                     [&](base::Result<std::vector<uint8_t>> text) noexcept {
                       text_failed = !text.has_value();
                       submit(last);
                     });
    }
  };
  submit(again);
  expect_command();
  target_.close(true);
  EXPECT_EQ(ended(), EndKind::connection_failed);
  EXPECT_EQ(again.done, 2);
  EXPECT_EQ(again.command.outcome, Outcome::unsent);
  EXPECT_EQ(last.done, 1);
  EXPECT_EQ(last.command.outcome, Outcome::unsent);
  EXPECT_EQ(function.done, 1);
  EXPECT_FALSE(function.function.answered);
  EXPECT_TRUE(text_failed);
  EXPECT_EQ(order_.back(), "end");
}

TEST_F(SessionEndTest, CallbacksMayCloseAndWithdraw) {
  target_.window = 3;
  log_in();
  TestCommand& closes = read(0, {}, "closes");
  TestCommand& other = read(0, {}, "other");
  const ScsiCommandPdu pdu = expect_command();
  expect_command();
  closes.then = [&] { session_->close(true, "from a callback"); };
  target_.window = 0;
  respond(pdu);
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(closes.command.outcome, Outcome::answered);
  EXPECT_EQ(other.command.outcome, Outcome::unanswered);
}

// Both are over and wait for their callbacks: one is no command to take back any more.
TEST_F(SessionEndTest, ACommandThatIsOverIsNotWithdrawn) {
  target_.window = 2;
  log_in();
  TestCommand& first = read(0, {}, "first");
  TestCommand& second = read(0, {}, "second");
  TestCommand& third = read(0, {}, "third");
  expect_command();
  expect_command();
  bool withdrawn = false;
  const auto take_back = [&] {
    for (TestCommand* each : {&first, &second, &third}) {
      withdrawn = withdrawn || session_->withdraw(each->command);
    }
  };
  for (TestCommand* each : {&first, &second, &third}) each->then = take_back;
  target_.close(true);
  ended();
  EXPECT_FALSE(withdrawn);
  EXPECT_EQ(first.done + second.done + third.done, 3);
}

TEST_F(SessionEndTest, DestroyedInOnEndedWithCommands) {
  log_in();
  write(4096);
  expect_command();
  when_ended_ = [this] { session_.reset(); };
  target_.close(true);
  EXPECT_EQ(ended(), EndKind::connection_failed);
  EXPECT_EQ(session_, nullptr);
  settle();
  EXPECT_EQ(ends_, 1);
}

TEST_F(SessionEndTest, AnUnknownOpcodeOrALengthThatLies) {
  for (const uint8_t opcode : std::initializer_list<uint8_t>{0x01, 0x23, 0x2f}) {
    log_in();
    iscsi::NopInPdu pdu;
    pdu.opcode = opcode;
    target_.send(pdu, false);
    EXPECT_EQ(ended(), EndKind::protocol_error);
    settle();
  }
  for (const uint32_t length : {kMaxDataSegment + 1, 0xffffffu}) {
    log_in();
    iscsi::NopInPdu pdu;
    target_.number(pdu, false);
    pdu.data_segment_length = length;
    target_.send_bytes(base::as_bytes(pdu));
    EXPECT_EQ(ended(), EndKind::protocol_error);
    settle();
  }
}

TEST_F(SessionEndTest, AReceptionIsToldBeforeWhatItBrings) {
  log_in();
  TestCommand& command = read(0);
  const ScsiCommandPdu pdu = expect_command();
  const int before = receptions_;
  command.then = [&] { EXPECT_GT(receptions_, before); };
  respond(pdu);
  EXPECT_TRUE(wait_done(command));
}

// --- memory that a send names ---

TEST_F(SessionEndTest, MemoryStaysWhileItIsSent) {
  log_in_solicited();
  TestCommand& command = write(1024 * 1024);
  const ScsiCommandPdu pdu = expect_command();
  target_.stop_reading();
  send_r2t(pdu, 1, 0, 0, 1024 * 1024);
  settle();  // the send stalls in the middle
  respond_check(pdu, scsi::kWriteError);
  settle();
  EXPECT_EQ(command.done, 0) << "given back while the kernel reads it";
  EXPECT_FALSE(session_->withdraw(command.command));
  target_.go_on_reading();
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
  EXPECT_TRUE(command.command.sense.same_code(scsi::kWriteError));
  // What was not given to the network when the answer came is not sent.
  settle();
  uint32_t sent = 0;
  while (!target_.received.empty()) {
    sent += static_cast<uint32_t>(expect(Opcode::data_out).data.size());
  }
  EXPECT_LT(sent, 1024u * 1024);
}

TEST_F(SessionEndTest, MemoryStaysWhileItIsSentAlsoWhenTheSessionEnds) {
  log_in_solicited();
  TestCommand& command = write(1024 * 1024);
  const ScsiCommandPdu pdu = expect_command();
  target_.stop_reading();
  send_r2t(pdu, 1, 0, 0, 1024 * 1024);
  settle();
  respond_check(pdu, scsi::kWriteError);
  settle();
  session_->close(true, "in the middle of a send");
  EXPECT_EQ(command.done, 0);
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(command.done, 1);
  EXPECT_EQ(command.command.outcome, Outcome::answered);  // it was
}

// Announced data is owed whatever the answer is; an R2T's is not, and no memory may stay queued.
TEST_F(SessionEndTest, AnEarlyAnswerLeavesOnlyAnnouncedDataToSend) {
  constexpr uint32_t kFirst = 65536, kAll = 512 * 1024, kSegment = 8192;
  target_.parameters.max_recv_data_segment_length = kSegment;
  log_in_unsolicited(kFirst);
  target_.stop_reading();
  TestCommand* commands[4];
  for (TestCommand*& each : commands) each = &write(kAll);
  settle();
  // The third is cut in the middle of what it announced, and that send stalls. The target has not
  // seen it, and guesses its tag: that of the third slot.
  TestCommand& command = *commands[2];
  ASSERT_TRUE(command.command.sent());
  ASSERT_FALSE(commands[3]->command.sent());
  ScsiCommandPdu guess;
  guess.lun = command.command.lun;
  guess.itt = 2;
  send_r2t(guess, 10, 0, kFirst, kAll - kFirst);
  respond_check(guess, scsi::kSpaceAllocationFailed);
  settle();
  EXPECT_EQ(command.done, 0);
  command.then = [&] { std::memset(command.memory[0].get(), 0, kAll); };  // it is the owner's again
  target_.go_on_reading();
  ASSERT_TRUE(wait_done(command));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
  settle();
  uint32_t announced = 0;
  for (const ReceivedPdu& each : target_.received) {
    if (each.bhs.itt != guess.itt || each.bhs.code() != Opcode::data_out) continue;
    const auto out = each.as<iscsi::DataOutPdu>();
    EXPECT_EQ(out.ttt, iscsi::kReservedTag);
    EXPECT_EQ(each.data, pattern(out.buffer_offset, kSegment));
    announced += static_cast<uint32_t>(each.data.size());
  }
  EXPECT_EQ(announced, kFirst);
}

TEST_F(SessionEndTest, SendsThatFail) {
  log_in();
  target_.stop_reading();
  for (int i = 0; i < 8; ++i) write(65536);
  settle();
  fabric_.reset_between("10.1.0.1", "10.1.0.10");
  EXPECT_EQ(ended(), EndKind::connection_failed);
  for (const TestCommand& each : commands_) EXPECT_EQ(each.done, 1);
}

}  // namespace
}  // namespace holdfast::initiator
