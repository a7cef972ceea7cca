// Task management: which commands a function ends, and when.

#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using iscsi::ScsiCommandPdu;
using iscsi::TaskFunction;
using iscsi::TaskResponse;
using Strings = std::vector<std::string>;

class SessionTasks : public SessionTest {
 protected:
  bool wait_function(const TestFunction& test, int times = 1) {
    return run_until([&] { return test.done >= times; });
  }
};

TEST_F(SessionTasks, AbortTaskEndsTheCommandBeforeTheFunction) {
  log_in();
  TestCommand& command = read(4096, {}, "command");
  const ScsiCommandPdu pdu = expect_command();
  TestFunction& abort = manage(TaskFunction::abort_task, &command);
  const auto request = expect_function();
  EXPECT_EQ(request.opcode & iscsi::kImmediate, iscsi::kImmediate);
  EXPECT_EQ(request.flags, iscsi::kFinal | 1);
  EXPECT_EQ(request.referenced_task_tag, pdu.itt);
  EXPECT_EQ(request.ref_cmd_sn, pdu.cmd_sn);
  EXPECT_EQ(request.lun, pdu.lun);
  EXPECT_EQ(request.cmd_sn, pdu.cmd_sn + 1);
  answer_function(request);
  ASSERT_TRUE(wait_function(abort));
  EXPECT_TRUE(abort.function.answered);
  EXPECT_EQ(abort.function.response, TaskResponse::function_complete);
  EXPECT_EQ(command.command.outcome, Outcome::ended);
  EXPECT_EQ(order_, (Strings{"command", "function"}));
  // What comes for it now is late.
  send_data_in(pdu, 0, 0, 4096);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  EXPECT_EQ(command.content()[0], 0xee);
}

TEST_F(SessionTasks, TheAnswerMayComeBeforeThatOfTheFunction) {
  log_in();
  TestCommand& command = read(0, {}, "command");
  const ScsiCommandPdu pdu = expect_command();
  TestFunction& abort = manage(TaskFunction::abort_task, &command);
  const auto request = expect_function();
  respond(pdu);
  answer_function(request, TaskResponse::task_does_not_exist);
  ASSERT_TRUE(wait_function(abort));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
  EXPECT_EQ(abort.function.response, TaskResponse::task_does_not_exist);
}

// A reset of the unit on another session may have ended it without a word.
TEST_F(SessionTasks, ATaskThatDoesNotExistIsOver) {
  log_in();
  TestCommand& command = read(0, {}, "command");
  expect_command();
  TestFunction& abort = manage(TaskFunction::abort_task, &command);
  answer_function(expect_function(), TaskResponse::task_does_not_exist);
  ASSERT_TRUE(wait_function(abort));
  EXPECT_EQ(command.command.outcome, Outcome::ended);
}

// The same object, another command: the function was for the first one.
TEST_F(SessionTasks, AbortTaskDoesNotEndWhatReusesTheCommand) {
  log_in();
  TestCommand& command = new_read(0, {}, "command");
  command.then = [&] {
    if (command.done == 1) session_->submit(command.command);
  };
  submit(command);
  const ScsiCommandPdu first = expect_command();
  TestFunction& abort = manage(TaskFunction::abort_task, &command);
  const auto request = expect_function();
  respond(first);
  const ScsiCommandPdu second = expect_command();
  answer_function(request);
  ASSERT_TRUE(wait_function(abort));
  EXPECT_EQ(command.done, 1);
  EXPECT_TRUE(command.command.busy());
  respond(second);
  ASSERT_TRUE(wait_done(command, 2));
  EXPECT_EQ(command.command.outcome, Outcome::answered);
}

TEST_F(SessionTasks, OtherAnswersEndNothing) {
  log_in();
  TestCommand& command = read(0);
  const ScsiCommandPdu pdu = expect_command();
  for (const TaskResponse response :
       {TaskResponse::task_does_not_exist, TaskResponse::lun_does_not_exist,
        TaskResponse::function_not_supported, TaskResponse::authorization_failed,
        TaskResponse::function_rejected, static_cast<TaskResponse>(77)}) {
    TestFunction& reset = manage(TaskFunction::logical_unit_reset);
    answer_function(expect_function(), response);
    ASSERT_TRUE(wait_function(reset));
    EXPECT_TRUE(reset.function.answered);
    EXPECT_EQ(reset.function.response, response);
    EXPECT_EQ(command.done, 0);
  }
  respond(pdu);
  EXPECT_TRUE(wait_done(command));
}

TEST_F(SessionTasks, WhatEachFunctionEnds) {
  struct Case {
    TaskFunction function;
    bool same_unit, other_unit;
  };
  for (const Case& each : {Case{TaskFunction::abort_task_set, true, false},
                           Case{TaskFunction::clear_task_set, true, false},
                           Case{TaskFunction::logical_unit_reset, true, false},
                           Case{TaskFunction::target_warm_reset, true, true},
                           Case{TaskFunction::target_cold_reset, true, true},
                           Case{TaskFunction::clear_aca, false, false},
                           Case{TaskFunction::query_task_set, false, false},
                           Case{TaskFunction::query_asynchronous_event, false, false}}) {
    SCOPED_TRACE(int(each.function));
    target_.window = 2;
    log_in();
    order_.clear();
    TestCommand& same = read(0, {}, "same");
    TestCommand& other = new_read(0, {}, "other");
    other.command.lun = scsi::encode_lun(2);
    submit(other);
    expect_command();
    expect_command();
    TestCommand& waits = read(0, {}, "waits");
    TestFunction& function = manage(each.function);
    const auto request = expect_function();
    EXPECT_EQ(request.referenced_task_tag, iscsi::kReservedTag);
    target_.window = 3;
    target_.send(iscsi::NopInPdu{}, false);
    const ScsiCommandPdu later = expect_command();  // sent after the function
    answer_function(request);
    ASSERT_TRUE(wait_function(function));
    EXPECT_EQ(same.done == 1, each.same_unit);
    EXPECT_EQ(other.done == 1, each.other_unit);
    EXPECT_EQ(waits.done, 0);
    EXPECT_EQ(order_.back(), "function");
    if (each.same_unit) {
      EXPECT_EQ(same.command.outcome, Outcome::ended);
    }
    respond(later);
    EXPECT_TRUE(wait_done(waits));
    session_->close(true, "next");
    ended();
    settle();
  }
}

// A send still names the memory: the function is not over before the command is.
TEST_F(SessionTasks, TheFunctionWaitsForMemoryThatIsBeingSent) {
  target_.parameters.initial_r2t = true;
  target_.parameters.immediate_data = false;
  log_in();
  TestCommand& command = write(1024 * 1024, {}, "command");
  const ScsiCommandPdu pdu = expect_command();
  TestFunction& reset = manage(TaskFunction::logical_unit_reset);
  const auto request = expect_function();
  target_.stop_reading();
  send_r2t(pdu, 1, 0, 0, 1024 * 1024);
  settle();
  answer_function(request);
  settle();
  EXPECT_EQ(command.done, 0);
  EXPECT_EQ(reset.done, 0);
  target_.go_on_reading();
  ASSERT_TRUE(wait_function(reset));
  EXPECT_EQ(command.command.outcome, Outcome::ended);
  EXPECT_EQ(order_, (Strings{"command", "function"}));
}

TEST_F(SessionTasks, AFunctionThatWaitedForMemoryStaysAnswered) {
  target_.parameters.initial_r2t = true;
  target_.parameters.immediate_data = false;
  log_in();
  TestCommand& command = write(1024 * 1024, {}, "command");
  const ScsiCommandPdu pdu = expect_command();
  TestFunction& reset = manage(TaskFunction::logical_unit_reset);
  const auto request = expect_function();
  target_.stop_reading();
  send_r2t(pdu, 1, 0, 0, 1024 * 1024);
  settle();
  answer_function(request);
  settle();
  session_->close(true, "meanwhile");
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(command.command.outcome, Outcome::ended);
  EXPECT_TRUE(reset.function.answered);
  EXPECT_EQ(reset.function.response, TaskResponse::function_complete);
  EXPECT_EQ(order_, (Strings{"command", "function", "end"}));
}

TEST_F(SessionTasks, ManyAtOnceWait) {
  log_in();
  constexpr int kMany = 100;
  for (int i = 0; i < kMany; ++i) manage(TaskFunction::logical_unit_reset);
  std::vector<iscsi::TaskManagementRequestPdu> requests;
  for (int i = 0; i < kMany; ++i) requests.push_back(expect_function());
  for (const auto& request : requests) answer_function(request);
  ASSERT_TRUE(run_until([this] {
    return std::ranges::all_of(functions_, [](const TestFunction& each) { return each.done == 1; });
  }));
  EXPECT_FALSE(end_);
}

// They leave room: a ping of the target is answered all the same.
TEST_F(SessionTasks, ManyLeaveRoomForPings) {
  log_in();
  target_.stop_reading();
  for (int i = 0; i < 8; ++i) write(65536);
  settle();
  for (int i = 0; i < 100; ++i) manage(TaskFunction::logical_unit_reset);
  iscsi::NopInPdu ping;
  ping.ttt = 1;
  for (int i = 0; i < 8; ++i) target_.send(ping, false);
  settle();
  EXPECT_FALSE(end_);
  target_.go_on_reading();
  int pings = 0, functions = 0;
  while (pings < 8 || functions < 100) {
    ASSERT_TRUE(run_until([this] { return !target_.received.empty(); }));
    const auto code = target_.received.front().bhs.code();
    pings += code == Opcode::nop_out ? 1 : 0;
    functions += code == Opcode::task_management_request ? 1 : 0;
    target_.received.pop_front();
  }
}

TEST_F(SessionTasks, WithoutAnAnswerAtTheEnd) {
  log_in();
  TestFunction& reset = manage(TaskFunction::logical_unit_reset);
  expect_function();
  target_.close(true);
  ended();
  EXPECT_EQ(reset.done, 1);
  EXPECT_FALSE(reset.function.answered);
  EXPECT_EQ(order_, (Strings{"function", "end"}));
}

TEST_F(SessionTasks, AnAnswerToNoFunctionIsLate) {
  log_in();
  iscsi::TaskManagementRequestPdu nobody;
  nobody.itt = 77;
  answer_function(nobody);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 1; }));
  TestFunction& reset = manage(TaskFunction::logical_unit_reset);
  const auto request = expect_function();
  answer_function(request);
  answer_function(request);
  ASSERT_TRUE(run_until([this] { return session_->late_answers() == 2; }));
  EXPECT_EQ(reset.done, 1);
}

TEST_F(SessionTasks, CallbacksMayManageAgainOrClose) {
  log_in();
  TestCommand& command = read(0, {}, "command");
  expect_command();
  TestFunction& reset = new_function(TaskFunction::logical_unit_reset);
  reset.then = [&] {
    if (reset.done == 1) session_->manage(reset.function);
  };
  command.then = [&] { session_->submit(command.command); };
  manage(reset);
  answer_function(expect_function());
  ASSERT_TRUE(wait_done(command));
  EXPECT_TRUE(command.command.busy());  // the one submitted from the callback is not concerned
  command.then = [&] { session_->close(true, "from a callback"); };
  expect_function();  // urgent, so before the command
  respond(expect_command());
  EXPECT_EQ(ended(), EndKind::closed);
  EXPECT_EQ(reset.done, 2);
}

}  // namespace
}  // namespace holdfast::initiator
