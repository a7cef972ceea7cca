// What becomes of a command that was not answered with success, of one whose time is up, and of
// what waits for a path.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/base/log.h"
#include "mpio/device.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpio";
using Kind = io::BlockRequest::Kind;

RequestKind kind_of(const Task& task) {
  if (task.step == Task::Step::read_back) return RequestKind::read;
  if (task.step == Task::Step::make_durable) return RequestKind::flush;
  switch (task.job->request->kind) {
    case Kind::read:
      return RequestKind::read;
    case Kind::write:
    case Kind::write_zeroes:
      return RequestKind::write;
    case Kind::flush:
      return RequestKind::flush;
    case Kind::discard:
      return RequestKind::unmap;
    case Kind::compare_and_write:
      return RequestKind::compare_and_write;
    case Kind::status:
      return RequestKind::inquire;
  }
  return RequestKind::other;
}

RequestOutcome outcome_of(const Task& task) {
  const initiator::Command& command = task.command;
  switch (command.outcome) {
    case initiator::Outcome::answered:
      if (command.status == scsi::Status::good) return RequestOutcome::aborted_command;
      return classify(command.status, command.status == scsi::Status::check_condition
                                          ? std::optional(command.sense)
                                          : std::nullopt);
    case initiator::Outcome::unsent:
      return RequestOutcome::not_sent;
    case initiator::Outcome::unanswered:
      return RequestOutcome::data_sent;
    case initiator::Outcome::ended:
      return task.aborting ? RequestOutcome::aborted : RequestOutcome::task_aborted;
    case initiator::Outcome::rejected:
      return RequestOutcome::busy;
  }
  return RequestOutcome::other_error;
}

}  // namespace

void Device::recover(Task& task) {
  Path& path = *paths_[task.session.path];
  const RequestOutcome outcome = outcome_of(task);
  const initiator::Command& command = task.command;
  if (command.outcome == initiator::Outcome::unanswered && options_.fence &&
      waits_for_ghosts(task.job->request->kind) && task.step == Task::Step::execute) {
    const io::Instant now = services_.loop.now();
    ghosts_.add({.range = {task.offset, task.length},
                 .session = task.session,
                 .since = now,
                 .held_until = options_.ghost_hold ? std::optional(now + *options_.ghost_hold)
                                                   : std::nullopt});
  }
  if (outcome == RequestOutcome::unit_attention) on_unit_attention(path, command.sense);
  if (outcome == RequestOutcome::task_set_full) {
    queue_limits_[path.index()].on_task_set_full(path.load().in_flight() + 1);
    widen(path);
  }
  if (task.job->error != 0) {  // its time is up, it was cancelled, or another part of it failed
    const bool may_land = command.outcome == initiator::Outcome::unanswered;
    return finish(task, may_land ? -ETIMEDOUT : task.job->error);
  }
  if (node_fenced_) return finish(task, -EBADE);
  // The time without a path went by while a session still had it: fail_all() left it to this.
  if (no_path_expired_) return finish(task, -ETIMEDOUT);
  // A unit without WRITE SAME is written to instead.
  if (outcome == RequestOutcome::illegal_request && task.step == Task::Step::execute &&
      task.job->request->kind == Kind::write_zeroes) {
    if (!std::exchange(no_write_same_, true)) {
      LOG_INFO(kLog, "{}: the unit has no WRITE SAME: zeroes are written", options_.name);
    }
    if (command.data_bytes < task.length) return split_zeroes(task);
  }
  retry(task, decide(kind_of(task), outcome, task.retry,
                     {.mode = options_.ghost_tracked ? CompletionMode::ghost_tracked
                                                     : CompletionMode::strict,
                      .budget = &retry_budget_,
                      .now = services_.loop.now()}));
}

void Device::retry(Task& task, const RetryDecision& decision) {
  Path& path = *paths_[task.session.path];
  ++counters_.retries;
  switch (decision.action) {
    case RetryAction::complete:
      return finish(task, 0);
    case RetryAction::fail:
      LOG_LIMITED(warning, kLog,
                  "{}: a request at byte {} failed: {} (path {}, sense {:x}/{:02x}/{:02x})",
                  options_.name, task.offset, std::strerror(decision.error), path.settings().name,
                  static_cast<unsigned>(task.command.sense.key), task.command.sense.asc,
                  task.command.sense.ascq);
      return finish(task, -decision.error);
    case RetryAction::check_access:
      on_access_refused(path, task.command.sense);
      break;
    case RetryAction::check_registration:
      return check_registration(task);
    case RetryAction::reprobe_path:
      path.apply(PathEvent::lost, "its logical unit is gone");
      break;
    case RetryAction::other_path:
      task.avoid = task.session.path;
      break;
    case RetryAction::again_as_ghost:
      ++counters_.reissued_writes;
      task.reissued = true;
      break;
    case RetryAction::fence_then_read_back:
      task.step = Task::Step::read_back;
      [[fallthrough]];
    case RetryAction::fence_then_again:
      ++counters_.reissued_writes;
      if (!options_.fence) break;
      task.state = Task::State::fencing;
      return fencing_.push_back(task);
    case RetryAction::read_back:
      task.step = Task::Step::read_back;
      break;
    case RetryAction::again:
    case RetryAction::again_later:
    case RetryAction::abort_task:
      break;
  }
  task.scratch = {};
  if (decision.delay > io::Duration::zero()) return delay(task, decision.delay);
  enqueue(task);
}

// Zeroes that were one WRITE SAME become writes: one for what a command may carry, then the rest.
void Device::split_zeroes(Task& task) {
  task.scratch = {};
  Job& job = *task.job;
  const uint64_t most = most_bytes(Kind::write_zeroes);
  if (task.length <= most) return enqueue(task);
  // Tasks of a job need not come in order: what is cut off is begun anew from the job's cursor,
  // which may repeat zeroes that other tasks have written.
  job.next = std::min(job.next, task.offset - job.request->offset + most);
  task.length = most;
  enqueue(task);
  feed(job);
}

// COMPARE AND WRITE whose answer was lost, and which cannot land any more: what is on the medium?
void Device::take_read_back(Task& task) {
  const io::BlockRequest& request = *task.job->request;
  const base::Bytes medium = task.scratch.first(task.length);
  const auto equals = [&](uint64_t from) {
    uint64_t skip = from;
    size_t at = 0;
    for (const iovec& part : request.data) {
      if (skip >= part.iov_len) {
        skip -= part.iov_len;
        continue;
      }
      const size_t bytes = std::min(part.iov_len - static_cast<size_t>(skip), medium.size() - at);
      if (std::memcmp(static_cast<const uint8_t*>(part.iov_base) + skip, medium.data() + at,
                      bytes) != 0) {
        return false;
      }
      at += bytes;
      skip = 0;
      if (at == medium.size()) break;
    }
    return true;
  };
  const ReadBack found = equals(task.length) ? ReadBack::executed
                         : equals(0)         ? ReadBack::unchanged
                                             : ReadBack::different;
  task.step = Task::Step::execute;
  retry(task, after_read_back(RequestKind::compare_and_write, found, task.retry));
}

// --- waiting ---

void Device::delay(Task& task, io::Duration delay) {
  task.state = Task::State::delayed;
  task.not_before = services_.loop.now() + delay;
  auto at = delayed_.end();
  while (at != delayed_.begin() && std::prev(at)->not_before > task.not_before) --at;
  delayed_.insert(at, task);
  services_.loop.start(delay_timer_, delayed_.front().not_before - services_.loop.now());
}

void Device::on_delayed() noexcept {
  const io::Instant now = services_.loop.now();
  while (!delayed_.empty() && delayed_.front().not_before <= now) {
    Task& task = delayed_.front();
    delayed_.pop_front();
    enqueue(task);
  }
  if (!delayed_.empty()) services_.loop.start(delay_timer_, delayed_.front().not_before - now);
  pump();
}

// --- ends before the answer ---

void Job::on_deadline() noexcept { device.on_job_deadline(*this); }

void Device::on_job_deadline(Job& job) {
  end_early(job, -ETIMEDOUT);
  run_waiting_requests();
  pump();
}

// What no session holds of it ends now; what one holds is aborted. The job may be over after this,
// and even be another request's.
void Device::end_early(Job& job, int32_t error) {
  const io::BlockRequest* const request = job.request;
  if (job.error == 0) job.error = error;
  for (const auto& task : tasks_) {
    if (job.request == request && task->job == &job) end_task_early(*task);
  }
  if (job.request == request) finish_if_done(job);
}

// One that no path has now ends at once; one that has been sent must be known to be over.
void Device::end_task_early(Task& task) {
  const int32_t error = task.job->error;
  switch (task.state) {
    case Task::State::idle:
      return;
    case Task::State::waiting:
      task.waiter.hook.unlink();
      return finish(task, error);
    case Task::State::ready:
      ready_.erase(TaskList::s_iterator_to(task));
      --waiting_count_;
      return finish(task, error);
    case Task::State::delayed:
      delayed_.erase(TaskList::s_iterator_to(task));
      return finish(task, error);
    case Task::State::fencing:  // it may still land: its ghost stays
      fencing_.erase(TaskList::s_iterator_to(task));
      return finish(task, -ETIMEDOUT);
    case Task::State::on_path:  // a device that ends drains its paths
      return stopping_ ? void() : abort_on_path(task);
  }
}

void Device::abort_on_path(Task& task) {
  Path& path = *paths_[task.session.path];
  initiator::Session* session = path.session();
  if (task.aborting || task.abort.busy()) return;
  if (session == nullptr || !session->up()) return;  // it is given back soon
  if (session->withdraw(task.command)) {
    task.command.outcome = initiator::Outcome::unsent;
    return on_command_done(task);
  }
  // Who does not wait at a reset does not at ABORT TASK: then the path ends, and the fence's time
  // is waited for.
  if (waits_for_ghosts(task.job->request->kind) && target_known().unit_reset_waits == Known::no) {
    return path.apply(PathEvent::lost, "a write had to be ended, and the target does not wait");
  }
  task.aborting = true;
  task.abort.function = iscsi::TaskFunction::abort_task;
  task.abort.task = &task.command;
  services_.loop.start(task.abort_timer, kAbortTimeout);
  session->manage(task.abort);
}

void Task::on_aborted(initiator::TaskManagement& function) noexcept {
  Task& task = *static_cast<Task*>(function.owner);
  if (task.state == State::idle) return task.device.reuse(task);
  if (task.state != State::on_path) return;
  if (!task.aborting) {  // that was its last attempt; its time may have gone by since
    if (task.job->error != 0) task.device.abort_on_path(task);
    return;
  }
  task.on_abort_timeout();  // had the target aborted it, it would be over
}

void Task::on_abort_timeout() noexcept {
  if (state != State::on_path) return;
  device.paths_[session.path]->apply(PathEvent::lost, "a command could not be aborted");
}

void Device::cancel(io::BlockRequest& request) {
  if (!request.busy()) return;
  for (const auto& job : jobs_) {
    if (job->request != &request) continue;
    return end_early(*job, -ECANCELED);
  }
  for (io::Op& waiting : requests_) {
    if (&waiting != &request) continue;
    requests_.erase(RequestList::s_iterator_to(waiting));
    return complete(request, -ECANCELED);
  }
}

// Everything that no session has. Those that one has are given back when it ends.
void Device::fail_all(int32_t error) {
  while (!requests_.empty()) {
    io::Op& op = requests_.front();
    requests_.pop_front();
    complete(static_cast<io::BlockRequest&>(op), error);
  }
  for (const auto& job : jobs_) {
    if (job->request == nullptr) continue;
    bool on_path = false;
    for (const auto& task : tasks_) {
      on_path |= task->job == job.get() && task->state == Task::State::on_path;
    }
    if (!on_path || stopping_) {
      end_early(*job, error);
      continue;
    }
    for (const auto& task : tasks_) {
      if (task->job != job.get() || task->state == Task::State::on_path) continue;
      if (job->error == 0) job->error = error;
      end_task_early(*task);
    }
    if (job->hook.is_linked() && job->error == 0) job->error = error;  // it has more to send
  }
}

void Device::fail_queue() { fail_all(-ENOLINK); }

// --- ghosts ---

void Device::after_fence(SessionId session) {
  ghosts_.clear_session(session);
  for (auto at = fencing_.begin(); at != fencing_.end();) {
    Task& task = *at++;
    if (task.session != session) continue;
    fencing_.erase(TaskList::s_iterator_to(task));
    enqueue(task);
  }
  release_ghost_waiters();
}

void Device::release_ghost_waiters() {
  GhostWaiters ready;
  ghosts_.take_ready(ready);
  while (!ready.empty()) {
    GhostWaiter& waiter = ready.front();
    ready.pop_front();
    if (const auto watch = std::ranges::find(ghost_watches_, &waiter,
                                             [](const auto& each) { return &each->waiter; });
        watch != ghost_watches_.end()) {
      const std::unique_ptr<GhostWatch> done = std::move(*watch);
      ghost_watches_.erase(watch);
      done->done({});
      continue;
    }
    for (const auto& task : tasks_) {
      if (&task->waiter == &waiter) enqueue(*task);
    }
  }
  pump();
}

void Device::wait_ghosts(uint64_t offset, uint64_t length, Done done) {
  auto watch = std::make_unique<GhostWatch>();
  watch->waiter.range = {offset, length};
  watch->done = std::move(done);
  if (!ghosts_.overlaps(watch->waiter.range)) {
    services_.loop.post([watch = std::move(watch)]() noexcept { watch->done({}); });
  } else if (stopping_) {
    give_up(std::move(watch));
  } else {
    ghosts_.wait(watch->waiter);
    ghost_watches_.push_back(std::move(watch));
  }
}

void Device::give_up(std::unique_ptr<GhostWatch> watch) {
  services_.loop.post([watch = std::move(watch)]() noexcept {
    watch->done(base::fail(base::Errc::closed, "the device ends, and a write may still land"));
  });
}

// --- without a path ---

void Device::update_no_path() {
  const bool usable = std::ranges::any_of(
      loads_, [](const PathLoad& load) { return load.tier != PathTier::unusable; });
  if (usable && no_path_since_.has_value()) {
    no_path_since_.reset();
    no_path_expired_ = false;
    services_.loop.stop(no_path_timer_);
    for (const auto& path : paths_) path->set_urgent(false);
    LOG_INFO(kLog, "{}: a path is usable", options_.name);
    tell(io::BlockEvent::Kind::paths_back);
  } else if (!usable && !no_path_since_.has_value()) {
    no_path_since_ = services_.loop.now();
    for (const auto& path : paths_) path->set_urgent(true);
    if (stopping_) return;
    services_.loop.start(no_path_timer_, options_.no_path_timeout);
    if (!known()) return;
    ++counters_.path_losses;
    LOG_WARNING(kLog, "{}: no path is usable; requests wait for {} s", options_.name,
                std::chrono::duration_cast<std::chrono::seconds>(options_.no_path_timeout).count());
    tell(io::BlockEvent::Kind::paths_lost);
  }
}

void Device::on_no_path_timeout() noexcept {
  for (const auto& path : paths_) path->set_urgent(false);  // nobody waits any more
  if (!no_path_since_.has_value() || !known()) return;
  no_path_expired_ = true;
  if (jobs_in_use_ == 0) {
    LOG_WARNING(kLog, "{}: no path for {} s: requests end with an error at once", options_.name,
                std::chrono::duration_cast<std::chrono::seconds>(options_.no_path_timeout).count());
    return;
  }
  LOG_ERROR(kLog, "{}: no path for {} s: {} waiting requests end with an error", options_.name,
            std::chrono::duration_cast<std::chrono::seconds>(options_.no_path_timeout).count(),
            jobs_in_use_);
  fail_all(-ETIMEDOUT);
}

}  // namespace holdfast::mpio
