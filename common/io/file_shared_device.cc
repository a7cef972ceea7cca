#include "common/io/file_shared_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/log.h"

namespace holdfast::io {
namespace {

constexpr const char* kNoReservations = "a file has no persistent reservations";
constexpr uint64_t kBounceBytes = 8 * kMaxSlabBytes;  // of the device; empty means wait
constexpr size_t kBouncePart = 256 * 1024;            // of one read or write at a time
constexpr uint64_t kDirectPart = 2 * 1024 * 1024;
// Between two of them a deadline can act.
constexpr uint64_t kZeroPart = 256 * 1024 * 1024;
// Extents are looked up one by one; who wants more asks again.
constexpr uint32_t kMaxLooks = 256;

using Kind = BlockRequest::Kind;

bool changes(Kind kind) {
  return kind != Kind::read && kind != Kind::flush && kind != Kind::status;
}

bool overlap(const BlockRequest& a, const BlockRequest& b) {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

uint64_t bytes_of(std::span<const iovec> data) {
  uint64_t sum = 0;
  for (const iovec& part : data) sum += part.iov_len;
  return sum;
}

// Calls visit(memory, bytes) for each piece of the data from `position` on; false ends it.
template <class Visit>
void walk(std::span<const iovec> data, uint64_t position, uint64_t length, Visit visit) {
  for (const iovec& part : data) {
    if (position >= part.iov_len) {
      position -= part.iov_len;
      continue;
    }
    const auto piece = static_cast<size_t>(std::min<uint64_t>(part.iov_len - position, length));
    if (piece == 0) return;
    if (!visit(static_cast<uint8_t*>(part.iov_base) + position, piece)) return;
    length -= piece;
    position = 0;
  }
}

void gather(base::MutableBytes to, std::span<const iovec> data, uint64_t position) {
  uint8_t* at = to.data();
  walk(data, position, to.size(), [&at](const uint8_t* memory, size_t bytes) {
    at = std::copy_n(memory, bytes, at);
    return true;
  });
}

void scatter(base::Bytes from, std::span<const iovec> data, uint64_t position) {
  const uint8_t* at = from.data();
  walk(data, position, from.size(), [&at](uint8_t* memory, size_t bytes) {
    std::copy_n(at, bytes, memory);
    at += bytes;
    return true;
  });
}

bool aligned(std::span<const iovec> data, uint32_t alignment, uint32_t block_size) {
  if (alignment == 1) return true;
  return std::ranges::all_of(data, [&](const iovec& part) {
    return reinterpret_cast<uintptr_t>(part.iov_base) % alignment == 0 &&
           part.iov_len % block_size == 0;
  });
}

}  // namespace

base::Result<std::unique_ptr<FileSharedDevice>> FileSharedDevice::open(
    Loop& loop, std::shared_ptr<Backing> backing) {
  std::unique_ptr<FileSharedDevice> device(new FileSharedDevice(loop, std::move(backing)));
  TRY(device->attach());
  return device;
}

FileSharedDevice::FileSharedDevice(Loop& loop, std::shared_ptr<Backing> backing)
    : loop_(loop), backing_(std::move(backing)) {}

FileSharedDevice::~FileSharedDevice() {
  ASSERT(active_.empty() && calls_ == 0);
  device_.reset();  // before its backing
}

base::Result<> FileSharedDevice::attach() {
  TRY_ASSIGN(bounce_, BufferPool::create(kBounceBytes));
  device_ = backing_->attach(loop_);
  told_size_ = device_->info().size_bytes;
  return {};
}

BlockInfo FileSharedDevice::info() const { return device_->info(); }

// --- requests ---

int32_t FileSharedDevice::problem_of(const BlockRequest& request) const {
  const BlockInfo info = device_->info();
  if (changes(request.kind) && info.read_only) return -EROFS;
  if (request.kind == Kind::flush) return 0;
  if (request.offset % info.block_size != 0 || request.length % info.block_size != 0) {
    return -EINVAL;
  }
  if (request.length == 0 || request.offset > info.size_bytes ||
      request.length > info.size_bytes - request.offset) {
    return -EINVAL;
  }
  switch (request.kind) {
    case Kind::read:
    case Kind::write:
      return request.length <= kMaxMoveBytes && bytes_of(request.data) == request.length ? 0
                                                                                         : -EINVAL;
    case Kind::compare_and_write:
      return request.length <= kMaxCompareBytes && bytes_of(request.data) == 2 * request.length
                 ? 0
                 : -EINVAL;
    case Kind::status:
      return request.extents.empty() ? -EINVAL : 0;
    default:
      return 0;
  }
}

void FileSharedDevice::submit(BlockRequest& request) {
  int32_t problem = closing_ ? -ENOLINK : refusal();
  if (problem == 0) problem = problem_of(request);
  if (problem != 0) return loop_.complete_soon(request, problem);
  request.begin();
  Job& job = new_job(request);
  active_.push_back(job);
  if (request.kind == Kind::compare_and_write) ++exclusive_;
  if (request.timeout > Duration::zero()) loop_.start(job.deadline, request.timeout);
  start(job);
}

FileSharedDevice::Job& FileSharedDevice::new_job(BlockRequest& request) {
  if (free_.empty()) {
    jobs_.push_back(std::make_unique<Job>(*this));  // only until the callers' depth is reached
    free_.push_back(jobs_.back().get());
  }
  Job& job = *free_.back();
  free_.pop_back();
  const BlockInfo info = device_->info();
  job.request = &request;
  job.direct = aligned(request.data, device_->memory_alignment(), info.block_size);
  job.executed = false;
  job.stop = 0;
  job.done = 0;
  job.looks = 0;
  switch (request.kind) {
    case Kind::read:
    case Kind::write:
      job.step = Job::Step::move;
      break;
    case Kind::flush:
      job.step = Job::Step::flush;
      break;
    case Kind::discard:
      job.step = info.can_discard ? Job::Step::punch : Job::Step::zero;
      break;
    case Kind::write_zeroes:
      job.step = info.can_discard && request.may_deallocate ? Job::Step::punch : Job::Step::zero;
      break;
    case Kind::compare_and_write:
      job.step = Job::Step::compare;
      break;
    case Kind::status:
      job.step = Job::Step::status;
      request.extent_count = 0;
      break;
  }
  return job;
}

// A compare_and_write and another change of the same range take turns, in the order of submission.
bool FileSharedDevice::must_wait(const Job& job) const {
  if (exclusive_ == 0 || !changes(job.request->kind)) return false;
  const bool exclusive = job.request->kind == Kind::compare_and_write;
  for (const Job& earlier : active_) {
    if (&earlier == &job) return false;
    const Kind kind = earlier.request->kind;
    if (changes(kind) && (exclusive || kind == Kind::compare_and_write) &&
        overlap(*earlier.request, *job.request)) {
      return true;
    }
  }
  return false;
}

// Nobody who waits for a buffer is overtaken. True: it has one.
bool FileSharedDevice::acquire_bounce(Job& job) {
  if (job.bounce) return true;
  if (waiting_ > 0) {
    for (const Job& earlier : active_) {
      if (&earlier == &job) break;
      if (earlier.waiting == Job::Waiting::bounce) return false;
    }
  }
  const uint64_t length = job.request->length;
  job.bounce = bounce_->acquire(static_cast<size_t>(
      job.step == Job::Step::compare ? length : std::min<uint64_t>(length, kBouncePart)));
  return static_cast<bool>(job.bounce);
}

// Begins the job, or leaves it waiting.
void FileSharedDevice::start(Job& job) {
  const bool waited = job.waiting != Job::Waiting::no;
  const bool needs_bounce = job.step == Job::Step::compare || job.step == Job::Step::fill ||
                            (job.step == Job::Step::move && !job.direct);
  if (job.step != Job::Step::fill && must_wait(job)) {
    job.waiting = Job::Waiting::range;
  } else if (needs_bounce && !acquire_bounce(job)) {
    job.waiting = Job::Waiting::bounce;
  } else {
    job.waiting = Job::Waiting::no;
  }
  const bool waits = job.waiting != Job::Waiting::no;
  if (waits && !waited) ++waiting_;
  if (!waits && waited) --waiting_;
  if (!waits) run(job);
}

void FileSharedDevice::wake() {
  if (waiting_ == 0) return;
  for (Job& job : active_) {
    if (job.waiting != Job::Waiting::no) start(job);
  }
}

void FileSharedDevice::run(Job& job) {
  const BlockRequest& request = *job.request;
  const uint64_t offset = request.offset + job.done;
  const uint64_t left = request.length - job.done;
  switch (job.step) {
    case Job::Step::move:
      return move(job);
    case Job::Step::compare:
      job.part = request.length;
      return device_->read(job.op, offset, job.bounce.first(static_cast<size_t>(job.part)));
    case Job::Step::swap:
      return swap(job);
    case Job::Step::punch:
      job.part = std::min(left, kZeroPart);
      return device_->discard(job.op, offset, job.part);
    case Job::Step::zero:
      job.part = std::min(left, kZeroPart);
      return device_->write_zeroes(job.op, offset, job.part);
    case Job::Step::fill:
      return fill(job);
    case Job::Step::flush:
      return device_->flush(job.op);
    case Job::Step::status:
      job.extent = {};
      return device_->extent_at(job.op, offset, &job.extent);
  }
}

void FileSharedDevice::move(Job& job) {
  const BlockRequest& request = *job.request;
  const uint64_t offset = request.offset + job.done;
  base::MutableBytes memory;
  if (job.direct) {
    walk(request.data, job.done, kDirectPart, [&memory](uint8_t* part, size_t bytes) {
      memory = {part, bytes};
      return false;
    });
  } else {
    const uint64_t left = request.length - job.done;
    memory = job.bounce.first(static_cast<size_t>(std::min<uint64_t>(left, kBouncePart)));
  }
  job.part = memory.size();
  if (request.kind == Kind::read) return device_->read(job.op, offset, memory);
  if (!job.direct) gather(memory, request.data, job.done);
  device_->write(job.op, offset, memory, request.durability);
}

// Where the file system or the device can do neither: zeroes are written.
void FileSharedDevice::fill(Job& job) {
  const uint64_t left = job.request->length - job.done;
  const base::MutableBytes zeroes =
      job.bounce.first(static_cast<size_t>(std::min<uint64_t>(left, kBouncePart)));
  std::ranges::fill(zeroes, uint8_t{0});
  job.part = zeroes.size();
  device_->write(job.op, job.request->offset + job.done, zeroes, Durability::cached);
}

void FileSharedDevice::swap(Job& job) {
  const BlockRequest& request = *job.request;
  const base::MutableBytes bytes = job.bounce.first(static_cast<size_t>(request.length));
  gather(bytes, request.data, request.length);
  job.part = bytes.size();
  device_->write(job.op, request.offset, bytes, request.durability);
}

void FileSharedDevice::on_done(Job& job, int32_t result) {
  using Step = Job::Step;
  BlockRequest& request = *job.request;
  if (result == -EOPNOTSUPP && (job.step == Step::punch || job.step == Step::zero)) {
    return on_unsupported(job);
  }
  if (result < 0) return finish(job, result == -ECANCELED && job.stop != 0 ? job.stop : result);
  switch (job.step) {
    case Step::compare:
      return on_compared(job);
    case Step::status:
      return on_extent(job);
    case Step::flush:
      return finish(job, 0);
    case Step::swap:
      return finish(job, 0);
    default:
      break;
  }
  if (request.kind == Kind::read && !job.direct) {
    scatter(job.bounce.first(static_cast<size_t>(job.part)), request.data, job.done);
  }
  job.executed = true;
  job.done += job.part;
  const bool moves = job.step == Step::move;
  if (job.done == request.length) {
    if (moves) return finish(job, static_cast<int32_t>(request.length));
    if (request.durability == Durability::cached) return finish(job, 0);
    job.step = Step::flush;
  } else if (job.stop == -ETIMEDOUT) {
    return finish(job, job.stop);
  }
  run(job);
}

void FileSharedDevice::on_compared(Job& job) {
  BlockRequest& request = *job.request;
  const uint8_t* medium = job.bounce.data();
  uint64_t same = 0;
  walk(request.data, 0, request.length, [&](const uint8_t* memory, size_t bytes) {
    const auto differs = std::mismatch(memory, memory + bytes, medium + same).first;
    same += static_cast<uint64_t>(differs - memory);
    return differs == memory + bytes;
  });
  if (same < request.length) {
    request.mismatch_offset = same;
    return finish(job, -EILSEQ);
  }
  if (job.stop != 0) return finish(job, job.stop);
  job.step = Job::Step::swap;
  run(job);
}

void FileSharedDevice::on_unsupported(Job& job) {
  if (job.stop != 0 && !job.executed) return finish(job, job.stop);
  job.step = job.step == Job::Step::punch ? Job::Step::zero : Job::Step::fill;
  start(job);
}

void FileSharedDevice::on_extent(Job& job) {
  BlockRequest& request = *job.request;
  if (job.extent.length_bytes == 0) return finish(job, -EIO);
  const bool continues = request.extent_count > 0 &&
                         request.extents[request.extent_count - 1].state == job.extent.state;
  if (continues) {
    request.extents[request.extent_count - 1].length_bytes += job.extent.length_bytes;
  } else if (request.extent_count == request.extents.size()) {
    return finish(job, 0);
  } else {
    request.extents[request.extent_count++] = job.extent;
  }
  job.done += job.extent.length_bytes;
  if (job.done >= request.length || ++job.looks == kMaxLooks) return finish(job, 0);
  if (job.stop != 0) return finish(job, job.stop);
  run(job);
}

void FileSharedDevice::cancel(BlockRequest& request) {
  for (Job& job : active_) {
    if (job.request == &request) return stop(job, -ECANCELED);
  }
}

void FileSharedDevice::stop(Job& job, int32_t why) {
  // What has begun cannot be undone: only a deadline may leave it in the middle.
  if (job.stop != 0 || (job.executed && why != -ETIMEDOUT)) return;
  job.stop = why;
  if (job.waiting == Job::Waiting::no) return device_->cancel(job.op);
  job.waiting = Job::Waiting::no;
  --waiting_;
  loop_.complete_soon(job.op, -ECANCELED);
}

void FileSharedDevice::finish(Job& job, int32_t result) {
  BlockRequest& request = *job.request;
  active_.erase(JobList::s_iterator_to(job));
  loop_.stop(job.deadline);
  job.bounce = {};
  job.request = nullptr;
  free_.push_back(&job);
  if (request.kind == Kind::compare_and_write) --exclusive_;
  if (result == -EBADE) on_conflict();
  wake();
  request.complete(result);
  check_closed();
}

// --- the rest ---

void FileSharedDevice::wait_ghosts(uint64_t, uint64_t, Done done) {
  loop_.post([done = std::move(done)]() mutable noexcept { done({}); });
}

void FileSharedDevice::use_key(uint64_t key, Done done) {
  loop_.post([key, done = std::move(done)]() mutable noexcept {
    done(key == 0 ? base::Result<>{} : base::fail(base::Errc::unsupported, kNoReservations));
  });
}

void FileSharedDevice::readmit(Done done) { use_key(1, std::move(done)); }

void FileSharedDevice::verify_key(Done done) { readmit(std::move(done)); }

void FileSharedDevice::reserve(ReservationType, Done done) { readmit(std::move(done)); }

void FileSharedDevice::preempt_and_abort(uint64_t, ReservationType, Done done) {
  readmit(std::move(done));
}

void FileSharedDevice::clear_reservations(Done done) { readmit(std::move(done)); }

void FileSharedDevice::read_reservations(GotState done) {
  loop_.post([done = std::move(done)]() mutable noexcept {
    done(base::fail(base::Errc::unsupported, kNoReservations));
  });
}

void FileSharedDevice::tell(BlockEvent::Kind kind, const char* why) {
  if (listener_ != nullptr) listener_->on_block_event({.kind = kind, .why = why});
}

void FileSharedDevice::grow(uint64_t size_bytes, Done done) {
  if (closing_) {
    return loop_.post([done = std::move(done)]() mutable noexcept {
      done(base::fail(base::Errc::closed, "the device is being closed"));
    });
  }
  begin_call();
  backing_->grow(size_bytes, loop_,
                 [this, done = std::move(done)](base::Result<> result) mutable noexcept {
                   if (result.has_value()) backing_->use_grown();
                   check_capacity();
                   done(result);
                   end_call();
                 });
}

void FileSharedDevice::check_capacity() {
  const uint64_t size = device_->info().size_bytes;
  if (size == std::exchange(told_size_, size)) return;
  tell(BlockEvent::Kind::capacity_changed, "it has grown");
}

void FileSharedDevice::end_call() {
  --calls_;
  check_closed();
}

void FileSharedDevice::close(Task closed) {
  ASSERT(!closing_);
  closing_ = true;
  closed_ = std::move(closed);
  for (Job& job : active_) {
    if (job.waiting != Job::Waiting::no) stop(job, -ENOLINK);
  }
  check_closed();
}

void FileSharedDevice::check_closed() {
  if (!closing_ || !active_.empty() || calls_ > 0 || !closed_) return;
  loop_.post(std::exchange(closed_, nullptr));
}

}  // namespace holdfast::io
