// Requests into commands, commands onto paths, answers back.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/scsi/build_cdb.h"
#include "common/scsi/lba_status.h"
#include "common/scsi/unmap.h"
#include "mpio/device.h"

namespace holdfast::mpio {
namespace {

using Kind = io::BlockRequest::Kind;

// Zeroes to write where the unit has no WRITE SAME. Only read.
alignas(4096) uint8_t zeroes[64 * 1024];

constexpr size_t kLbaStatusBytes = 8 + 16 * 64;

bool moves_data(Kind kind) { return kind == Kind::read || kind == Kind::write; }

bool changes_medium(Kind kind) {
  return kind == Kind::write || kind == Kind::discard || kind == Kind::write_zeroes ||
         kind == Kind::compare_and_write;
}

// UNMAP and WRITE SAME have no FUA: a SYNCHRONIZE CACHE follows them.
bool flushed_apart(Kind kind) { return kind == Kind::discard || kind == Kind::write_zeroes; }

uint64_t bytes_in(std::span<const iovec> parts) {
  uint64_t bytes = 0;
  for (const iovec& part : parts) bytes += part.iov_len;
  return bytes;
}

}  // namespace

// --- requests ---

bool Device::valid(const io::BlockRequest& request) const {
  if (request.kind == Kind::flush) return true;
  const uint32_t block = info_.block_size;
  const bool in_range =
      request.offset <= info_.size_bytes && request.length <= info_.size_bytes - request.offset;
  if (request.length == 0 || !in_range) return false;
  if (request.offset % block != 0 || request.length % block != 0) return false;
  switch (request.kind) {
    case Kind::read:
    case Kind::write:
      return bytes_in(request.data) == request.length;
    case Kind::compare_and_write:
      return bytes_in(request.data) == 2 * request.length &&
             request.data.size() <= initiator::kMaxDataIovecs &&
             request.length <= most_bytes(request.kind);
    case Kind::status:
      return !request.extents.empty();
    default:
      return true;
  }
}

void Device::submit(io::BlockRequest& request) {
  request.begin();
  ++counters_.requests;
  request.extent_count = 0;
  if (stopping_ || !known()) return complete(request, -ENOLINK);
  if (!valid(request)) return complete(request, -EINVAL);
  if (changes_medium(request.kind) && info_.read_only) return complete(request, -EROFS);
  if (node_fenced_) return complete(request, -EBADE);
  if (no_path_expired_) return complete(request, -ETIMEDOUT);
  if (request.kind == Kind::status && !info_.can_discard) {
    request.extents[0] = {io::ExtentState::mapped, request.length};
    request.extent_count = 1;
    return complete(request, 0);
  }
  if (!requests_.empty() || free_jobs_.empty()) return requests_.push_back(request);
  begin(request);
}

void Device::begin(io::BlockRequest& request) {
  Job& job = *free_jobs_.back();
  free_jobs_.pop_back();
  ++jobs_in_use_;
  job.request = &request;
  job.next = 0;
  job.tasks = 0;
  job.error = 0;
  if (request.timeout > io::Duration::zero()) {
    services_.loop.start(job.deadline, request.timeout);
  }
  feed(job);
  pump();
}

// The most of it that one command covers.
uint64_t Device::most_bytes(Kind kind) const {
  const uint64_t block = info_.block_size;
  const auto within = [block](uint64_t blocks, uint64_t bytes) {
    return blocks == 0 ? bytes : std::min(blocks * block, bytes);
  };
  switch (kind) {
    case Kind::read:
    case Kind::write:
      return within(limits_.max_transfer, kMaxCommandBytes);
    case Kind::compare_and_write:
      return within(limits_.max_compare_and_write, 255 * block) *
             (limits_.max_compare_and_write == 0 ? 0 : 1);
    case Kind::discard:
      return within(limits_.max_unmap, kMaxUnmapBytes);
    case Kind::write_zeroes:
      if (no_write_same_) return within(limits_.max_transfer, kMaxCommandBytes);
      return within(std::min<uint64_t>(limits_.max_write_same, kMaxUnmapBytes / block),
                    kMaxUnmapBytes);
    case Kind::flush:
    case Kind::status:
      return UINT64_MAX;
  }
  return block;
}

void Device::feed(Job& job) {
  const uint64_t length = job.request->kind == Kind::flush ? 1 : job.request->length;
  while (job.error == 0 && job.next < length) {
    if (!make_task(job)) {
      if (!job.hook.is_linked()) hungry_.push_back(job);
      return;
    }
  }
}

bool Device::make_task(Job& job) {
  if (free_tasks_.empty()) return false;
  const io::BlockRequest& request = *job.request;
  Task& task = *free_tasks_.back();
  free_tasks_.pop_back();
  task.job = &job;
  task.step = Task::Step::execute;
  task.reissued = false;
  task.retry = {};
  task.avoid = kNoPath;
  task.session = {};
  task.part_count = 0;
  task.offset = request.offset + job.next;
  task.length = request.kind == Kind::flush
                    ? 0
                    : std::min(request.length - job.next, most_bytes(request.kind));
  if (request.timeout > io::Duration::zero()) task.retry.deadline = job.deadline.deadline;
  if (moves_data(request.kind)) {
    uint64_t skip = job.next;
    uint64_t bytes = 0;
    for (const iovec& part : request.data) {
      if (bytes == task.length || task.part_count == task.parts.size()) break;
      if (skip >= part.iov_len) {
        skip -= part.iov_len;
        continue;
      }
      const uint64_t piece = std::min(part.iov_len - skip, task.length - bytes);
      task.parts[task.part_count++] = {static_cast<uint8_t*>(part.iov_base) + skip,
                                       static_cast<size_t>(piece)};
      bytes += piece;
      skip = 0;
    }
    // Memory in too many parts for one command: whole blocks of what fits.
    uint64_t excess = bytes % info_.block_size;
    task.length = bytes - excess;
    while (excess > 0) {
      iovec& last = task.parts[task.part_count - 1];
      const auto cut = static_cast<size_t>(std::min<uint64_t>(excess, last.iov_len));
      last.iov_len -= cut;
      excess -= cut;
      if (last.iov_len == 0) --task.part_count;
    }
    ASSERT(task.length > 0);
  }
  task.size = size_class(task.length);
  job.next += request.kind == Kind::flush ? 1 : task.length;
  ++job.tasks;
  enqueue(task);
  return true;
}

// --- onto a path ---

void Device::enqueue(Task& task) {
  const ByteRange range{task.offset, task.length};
  // Its own earlier attempt is no reason to wait: the data is the same.
  if (!task.reissued && ghosts_.hold(task.job->request->kind, range)) {
    ++counters_.ghost_waits;
    task.state = Task::State::waiting;
    task.waiter.range = range;
    return ghosts_.wait(task.waiter);
  }
  task.state = Task::State::ready;
  ready_.push_back(task);
  ++waiting_count_;
}

void Device::pump() {
  const io::Instant now = services_.loop.now();
  while (!ready_.empty()) {
    Task& task = ready_.front();
    const PathChoice choice{.size = task.size, .bytes = task.length, .now = now};
    size_t path = kNoPath;
    if (task.avoid != kNoPath) {
      const PathTier tier = std::exchange(loads_[task.avoid].tier, PathTier::unusable);
      path = selector_->select(loads_, choice);
      loads_[task.avoid].tier = tier;
    }
    if (path == kNoPath) path = selector_->select(loads_, choice);
    // A session that ends gives back its commands before its path hears of the end: what it gives
    // back must not go to it again, for it would stay there.
    if (path != kNoPath && !paths_[path]->carries_io()) {
      loads_[path].tier = PathTier::unusable;  // on_path_state() says the rest
      continue;
    }
    if (path == kNoPath || !paths_[path]->session()->has_slot() || !prepare(task)) return;
    ready_.pop_front();
    --waiting_count_;
    task.avoid = kNoPath;
    dispatch(task, path);
  }
}

// Of a task that has a block of scratch memory, unless the unit knows no WRITE SAME.
scsi::OutgoingCdb Device::zeroes_command(Task& task, const scsi::BlockRange& range, bool fua) {
  if (!no_write_same_) {
    std::memset(task.scratch.data(), 0, info_.block_size);
    const bool unmap = task.job->request->may_deallocate && provisioning_.write_same_16;
    return scsi::build::write_same16(range, scsi::WriteSameData::one_block,
                                     unmap && info_.can_discard, info_.block_size);
  }
  task.part_count = 0;
  for (uint64_t bytes = 0; bytes < task.length;) {
    const uint64_t part = std::min<uint64_t>(sizeof(zeroes), task.length - bytes);
    task.parts[task.part_count++] = {zeroes, static_cast<size_t>(part)};
    bytes += part;
  }
  return scsi::build::write16(range, info_.block_size, fua);
}

// The command as it is to be sent now. False: no buffer is free for its parameter data.
bool Device::prepare(Task& task) {
  const io::BlockRequest& request = *task.job->request;
  const uint32_t block = info_.block_size;
  const scsi::BlockRange range{task.offset / block, static_cast<uint32_t>(task.length / block)};
  const bool fua = request.durability == io::Durability::durable;
  const auto scratch = [this, &task](size_t bytes) {
    if (!task.scratch) task.scratch = buffers_.acquire(bytes);
    if (!task.scratch) return false;
    task.parts[0] = {task.scratch.data(), bytes};
    task.part_count = 1;
    return true;
  };
  scsi::OutgoingCdb cdb;
  std::span<const iovec> data;
  if (task.step == Task::Step::make_durable) {
    task.part_count = 0;
    cdb = scsi::build::synchronize_cache16({});
  } else if (task.step == Task::Step::read_back) {
    if (!scratch(task.length)) return false;
    cdb = scsi::build::read16(range, block, false);
  } else {
    switch (request.kind) {
      case Kind::read:
        cdb = scsi::build::read16(range, block, false);
        break;
      case Kind::write:
        cdb = scsi::build::write16(range, block, fua);
        break;
      case Kind::flush:
        cdb = scsi::build::synchronize_cache16({});
        break;
      case Kind::compare_and_write:
        cdb = scsi::build::compare_and_write(range.lba, static_cast<uint8_t>(range.blocks), block,
                                             fua);
        data = request.data;
        break;
      case Kind::discard: {
        const scsi::UnmapRange one{range.lba, range.blocks};
        if (!scratch(scsi::unmap_list_bytes(1))) return false;
        scsi::encode_unmap({&one, 1}, task.scratch.first(scsi::unmap_list_bytes(1)));
        cdb = scsi::build::unmap(1);
        break;
      }
      case Kind::write_zeroes:
        if (!no_write_same_ && !scratch(block)) return false;
        cdb = zeroes_command(task, range, fua);
        break;
      case Kind::status:
        if (!scratch(kLbaStatusBytes)) return false;
        cdb = scsi::build::get_lba_status(range.lba, kLbaStatusBytes);
        break;
    }
  }
  if (data.empty()) data = std::span<const iovec>(task.parts).first(task.part_count);
  task.command.cdb = cdb.bytes;
  task.command.data = data;
  task.command.data_bytes = cdb.length;
  task.command.writes = cdb.direction == scsi::DataDirection::out;
  return true;
}

void Device::dispatch(Task& task, size_t index) {
  Path& path = *paths_[index];
  task.state = Task::State::on_path;
  task.aborting = false;
  task.session = session_of(path);
  task.submitted = services_.loop.now();
  task.command.lun = path.settings().lun;
  task.depth = path.count_submitted(task.size);
  FlightList& flight = flights_[index];
  flight.push_back(task);
  path.load().oldest_in_flight = flight.front().submitted;
  PathCounters& counters = path.counters();
  switch (task.job->request->kind) {
    case Kind::read:
      ++counters.reads;
      counters.bytes_read += task.length;
      break;
    case Kind::write:
      ++counters.writes;
      counters.bytes_written += task.length;
      break;
    default:
      ++counters.others;
  }
  path.session()->submit(task.command);
}

// --- answers ---

void Task::on_command_done(initiator::Command& command) noexcept {
  Task& task = *static_cast<Task*>(command.owner);
  task.device.on_command_done(task);
}

void Device::on_command_done(Task& task) noexcept {
  Path& path = *paths_[task.session.path];
  FlightList& flight = flights_[task.session.path];
  flight.erase(FlightList::s_iterator_to(task));
  PathLoad& load = path.load();
  load.oldest_in_flight = flight.empty() ? std::nullopt : std::optional(flight.front().submitted);
  services_.loop.stop(task.abort_timer);
  const io::Instant now = services_.loop.now();
  const initiator::Command& command = task.command;
  const bool good =
      command.outcome == initiator::Outcome::answered && command.status == scsi::Status::good &&
      (task.job->request->kind == Kind::status || command.moved == command.data_bytes);
  if (good) {
    load.on_completed({.size = task.size, .depth = task.depth, .latency = now - task.submitted},
                      now);
    judge_.on_completed(path.index(), task.size, now - task.submitted);
    queue_limits_[path.index()].on_good();
    widen(path);
  } else {
    load.on_abandoned(task.size);
    if (command.outcome == initiator::Outcome::answered) ++path.counters().errors;
    if (command.outcome == initiator::Outcome::unanswered) ++path.counters().given_back;
  }
  path.count_completed();
  if (good) {
    take_result(task);
  } else {
    recover(task);
  }
  if (!hungry_.empty() || !requests_.empty()) run_waiting_requests();
  pump();
}

void Device::take_result(Task& task) {
  task.retry.unit_attentions = 0;
  if (task.step == Task::Step::read_back) return take_read_back(task);
  const io::BlockRequest& request = *task.job->request;
  if (request.kind == Kind::status) take_extents(task);
  if (task.job->error == 0 && request.durability == io::Durability::durable &&
      flushed_apart(request.kind) && task.step == Task::Step::execute) {
    task.step = Task::Step::make_durable;
    task.reissued = false;
    task.scratch = {};
    task.length = 0;
    return enqueue(task);
  }
  finish(task, 0);
}

void Device::take_extents(Task& task) {
  io::BlockRequest& request = *task.job->request;
  std::array<scsi::LbaExtent, 64> found;
  const auto count = scsi::parse_lba_status(task.scratch.first(task.command.moved),
                                            task.offset / info_.block_size, found);
  if (!count.has_value()) {
    request.extents[0] = {io::ExtentState::mapped, request.length};
    request.extent_count = 1;
    return;
  }
  uint64_t covered = 0;
  for (size_t i = 0; i < *count && i < request.extents.size() && covered < request.length; ++i) {
    const uint64_t bytes = uint64_t{found[i].blocks} * info_.block_size;
    request.extents[i] = {found[i].status == scsi::Provisioning::deallocated
                              ? io::ExtentState::deallocated
                              : io::ExtentState::mapped,
                          bytes};
    request.extent_count = i + 1;
    covered += bytes;
  }
}

// The task ends; its job does when all of them have.
void Device::finish(Task& task, int32_t error) {
  Job& job = *task.job;
  // That a write may still land says more than why another part of the request failed.
  if (error != 0 && (job.error == 0 || error == -ETIMEDOUT)) job.error = error;
  task.scratch = {};
  task.state = Task::State::idle;
  task.job = nullptr;
  if (!task.abort.busy()) reuse(task);  // else when the session gives its ABORT TASK back
  --job.tasks;
  if (job.error == 0) feed(job);
  finish_if_done(job);
}

void Device::reuse(Task& task) { free_tasks_.push_back(&task); }

void Device::finish_if_done(Job& job) {
  if (job.tasks > 0) return;
  const uint64_t length = job.request->kind == Kind::flush ? 1 : job.request->length;
  if (job.error == 0 && job.next < length) return;  // hungry
  if (job.hook.is_linked()) hungry_.erase(JobList::s_iterator_to(job));
  services_.loop.stop(job.deadline);
  io::BlockRequest& request = *std::exchange(job.request, nullptr);
  free_jobs_.push_back(&job);
  --jobs_in_use_;
  if (job.error != 0) ++counters_.failed;
  const bool counted = request.kind == Kind::read || request.kind == Kind::write;
  complete(request, job.error != 0 ? job.error
                    : counted      ? static_cast<int32_t>(request.length)
                                   : 0);
}

// Never from inside a call: the callbacks come at the end of this turn of the loop.
void Device::complete(io::BlockRequest& request, int32_t result) {
  request.pending_result = result;
  completed_.push_back(request);
  if (!completions_op_.busy()) services_.loop.at_turn_end(completions_op_);
}

void Device::on_completions(int32_t) noexcept {
  RequestList due;
  due.swap(completed_);
  while (!due.empty()) {
    io::Op& op = due.front();
    due.pop_front();
    op.complete(op.pending_result);
  }
  check_stopped();
}

void Device::run_waiting_requests() {
  while (!hungry_.empty() && !free_tasks_.empty()) {
    Job& job = hungry_.front();
    hungry_.pop_front();
    feed(job);
    finish_if_done(job);
  }
  while (!requests_.empty() && !free_jobs_.empty() && hungry_.empty()) {
    io::Op& op = requests_.front();
    requests_.pop_front();
    begin(static_cast<io::BlockRequest&>(op));
  }
}

}  // namespace holdfast::mpio
