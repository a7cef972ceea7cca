// Task management functions (RFC 7143 11.5, 4.2.3). With one connection per session and one TCP
// order the response fence of RFC 7143 4.2.2.3 is kept by queueing: the answer to a function is
// queued after every response that precedes it, on this session and (the node collects) on all
// others.

#include <algorithm>

#include "common/iscsi/sequence.h"
#include "target/connection.h"
#include "target/session.h"
#include "target/shard.h"

namespace holdfast::target {

using iscsi::TaskFunction;
using iscsi::TaskManagementRequestPdu;
using iscsi::TaskResponse;

void Session::on_task_management(const iscsi::PduReader& reader) {
  const auto request = reader.as<TaskManagementRequestPdu>();
  const auto function = static_cast<TaskFunction>(request.flags & iscsi::kTaskFunctionMask);
  if (discovery_ || logging_out_) return answer(request.itt, TaskResponse::function_rejected);
  switch (function) {
    case TaskFunction::abort_task:
      return abort_task(request);
    case TaskFunction::target_warm_reset:
    case TaskFunction::target_cold_reset:
      return reset(request, function, 0);
    case TaskFunction::abort_task_set:
    case TaskFunction::clear_task_set:
    case TaskFunction::logical_unit_reset:
      break;
    case TaskFunction::task_reassign:
      return answer(request.itt, TaskResponse::reassignment_not_supported);
    default:
      return answer(request.itt, TaskResponse::function_not_supported);
  }
  NexusUnit* nexus_unit = find_unit(request.lun);
  if (nexus_unit == nullptr) return answer(request.itt, TaskResponse::lun_does_not_exist);
  if (function == TaskFunction::abort_task_set) return abort_task_set(request, *nexus_unit->unit);
  reset(request, function, nexus_unit->unit->id());
}

void Session::abort_task(const TaskManagementRequestPdu& request) {
  Task* task = find_task(request.referenced_task_tag);
  if (task != nullptr && task->state != Task::State::ended) {
    return drain_and_answer({task}, request.itt);
  }
  // RFC 7143 11.6.1: a command that has not arrived but whose number is in the window and below
  // that of the request is counted as received, and the function is complete. A number above is one
  // that the initiator has still to use: counted as received it would be ignored when it comes.
  const SequenceNumbers& numbers = connection_.numbers();
  const uint32_t number = request.ref_cmd_sn;
  const bool expected = iscsi::serial_less(number, request.cmd_sn) &&
                        iscsi::in_window(number, numbers.exp_cmd_sn, numbers.max_cmd_sn) &&
                        std::ranges::none_of(parked_, [number](const Task& parked) {
                          return parked.cmd_sn == number;
                        });
  if (task == nullptr && expected) {
    if (std::ranges::find(skipped_numbers_, number) == skipped_numbers_.end()) {
      skipped_numbers_.push_back(number);
    }
    answer(request.itt, TaskResponse::function_complete);
    return run_parked();
  }
  answer(request.itt, TaskResponse::task_does_not_exist);
}

void Session::abort_task_set(const TaskManagementRequestPdu& request, LogicalUnit& unit) {
  std::vector<Task*> affected;
  for (Task& task : tasks_) {
    const bool on_unit = task.nexus_unit != nullptr && task.nexus_unit->unit == &unit;
    if (on_unit && task.state != Task::State::ended) affected.push_back(&task);
  }
  drain_and_answer(std::move(affected), request.itt);
}

void Session::drain_and_answer(std::vector<Task*> tasks, uint32_t itt) {
  shard().drain(std::move(tasks), id_, shard().options().drain_deadline,
                [this_id = id_, &shard = shard(), itt](bool complete) noexcept {
                  if (Session* session = shard.find_session(this_id)) {
                    session->answer(itt, complete ? TaskResponse::function_complete
                                                  : TaskResponse::function_rejected);
                  }
                });
}

// Affects other sessions, on every shard: the node does it.
void Session::reset(const TaskManagementRequestPdu& request, TaskFunction function, UnitId unit) {
  ResetCall call;
  call.shard = shard().index();
  call.function = function;
  call.unit = unit;
  call.target = nexus_.target_name;
  call.session = id_;
  const bool closes = function == TaskFunction::target_cold_reset;
  shard().node().reset(std::move(call), [this_id = id_, &shard = shard(), itt = request.itt.get(),
                                         closes](bool complete) noexcept {
    if (Session* session = shard.find_session(this_id)) {
      session->answer(itt,
                      complete ? TaskResponse::function_complete : TaskResponse::function_rejected,
                      closes);
    }
  });
}

// `closes`: the connection ends after it.
void Session::answer(uint32_t itt, TaskResponse response, bool closes) {
  ControlPdu* pdu = connection_.new_control_pdu();
  if (pdu == nullptr) return connection_.close("no slot for a task management response");
  iscsi::TaskManagementResponsePdu answer;
  answer.itt = itt;
  answer.response = static_cast<uint8_t>(response);
  pdu->item.header = base::load<iscsi::Bhs>(base::as_bytes(answer));
  pdu->closes = closes;
  connection_.queue_control(*pdu);
}

}  // namespace holdfast::target
