#include "qdisk/witness.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {

using base::Errc;

// The largest single read: both heartbeats of all nodes.
constexpr size_t kBufferBytes = kMaxNodes * kCopies * kSlotBytes;
static_assert(kBufferBytes >= kMaxNodes * kSlotBytes && kBufferBytes >= kDecidedSlots * kSlotBytes);

Sector sector_at(base::Bytes bytes, size_t slot) {
  return Sector(bytes.subspan(slot * kSlotBytes, kRecordBytes));
}

}  // namespace

base::Result<std::unique_ptr<Witness>> Witness::create(io::Loop& loop,
                                                       io::SharedBlockDevice& device, NodeId self,
                                                       io::Duration io_limit) {
  TRY_ASSIGN(auto pool, io::BufferPool::create(io::kMaxSlabBytes));
  return std::unique_ptr<Witness>(new Witness(loop, device, self, io_limit, std::move(pool)));
}

Witness::Witness(io::Loop& loop, io::SharedBlockDevice& device, NodeId self, io::Duration io_limit,
                 std::unique_ptr<io::BufferPool> pool)
    : loop_(loop),
      device_(device),
      self_(self),
      io_limit_(io_limit),
      pool_(std::move(pool)),
      buffer_(pool_->acquire(kBufferBytes)) {
  ASSERT(buffer_);
}

Witness::~Witness() { ASSERT(!busy()); }

// --- the superblock ---

void Witness::open(Opened opened) {
  ASSERT(!busy_);
  busy_ = opening_ = true;
  opened_ = std::move(opened);
  deadline_ = loop_.now() + io_limit_;
  read(superblock_offset(0), kCopies * kSlotBytes);
}

void Witness::on_superblock(int32_t result) {
  busy_ = opening_ = false;
  auto opened = std::exchange(opened_, nullptr);
  if (result < 0) return opened(base::fail(Errc::io, "the witness cannot be read", -result));
  const base::Bytes bytes = buffer_.first(kCopies * kSlotBytes);
  const auto found =
      newest(decode_superblock(sector_at(bytes, 0), 0), decode_superblock(sector_at(bytes, 1), 1));
  if (found.corrupt()) return opened(base::fail(Errc::corrupt, to_string(found.fault)));
  if (!found.valid()) return opened(base::fail(Errc::not_found, "the device is no witness"));
  superblock_ = *found.value;
  opened(superblock_);
}

// --- a task ---

void Witness::run(const WitnessTask& task, size_t slots, Done done) {
  ASSERT(!busy_ && slots <= kMaxNodes);
  busy_ = true;
  task_ = task;
  slots_ = slots;
  done_ = std::move(done);
  result_ = {};
  deadline_ = loop_.now() + io_limit_;
  if (waiting_for_ghosts_) return fail(-EBUSY);
  step_ = Step::look;
  next();
}

// From the current step on, whichever has something to do.
void Witness::next() {
  while (step_ != Step::done) {
    if (begin(step_)) return;
    step_ = static_cast<Step>(static_cast<uint8_t>(step_) + 1);
  }
  busy_ = fenced_ = false;
  result_.ok = true;
  auto done = std::exchange(done_, nullptr);
  done(std::move(result_));
}

bool Witness::begin(Step step) {
  const Uuid& cluster = superblock_.cluster;
  switch (step) {
    case Step::look:
      if (task_.decided.epoch <= ring_epoch_) return false;
      read(decided_offset(task_.decided.epoch), kSlotBytes);
      return true;
    case Step::decided:
      if (task_.decided.epoch <= ring_epoch_) return false;
      encode(task_.decided, cluster, record());
      write(decided_offset(task_.decided.epoch));
      return true;
    case Step::heartbeat:
      encode(task_.heartbeat, cluster, record());
      write(heartbeat_offset(self_, task_.heartbeat.sequence));
      return true;
    case Step::ballot:
      if (!task_.store) return false;
      encode(*task_.store, self_, cluster, record());
      write(ballot_offset(self_));
      return true;
    case Step::read_heartbeats:
      read(heartbeat_offset(0, 0), slots_ * kCopies * kSlotBytes);
      return true;
    case Step::read_ballots:
      read(ballot_offset(0), slots_ * kSlotBytes);
      return true;
    case Step::read_decided:
      read(decided_offset(ring_epoch_ + 1), kSlotBytes);
      return true;
    case Step::read_ring:
      if (!ring_is_behind()) return false;
      read(kDecidedArea, kDecidedSlots * kSlotBytes);
      return true;
    case Step::done:
      break;
  }
  return false;
}

// Somebody knows of a later decision than the one next to ours: after a while away, or forced.
bool Witness::ring_is_behind() const {
  const Epoch known = result_.decided.epoch;
  return known > task_.decided.epoch ||
         std::ranges::any_of(result_.heartbeats,
                             [known](const Heartbeat& each) { return each.epoch > known; }) ||
         std::ranges::any_of(result_.blocks, [known](const NodeBlock& each) {
           return each.block.epoch > known + 1;
         });
}

// Of the slot to be written: all that lies behind the record is zero.
MutableSector Witness::record() {
  const auto slot = buffer_.first(kSlotBytes);
  std::ranges::fill(slot, uint8_t{0});
  return MutableSector(slot.first(kRecordBytes));
}

void Witness::write(uint64_t offset) {
  request_.kind = io::BlockRequest::Kind::write;
  request_.durability = io::Durability::durable;
  request_.offset = offset;
  submit(kSlotBytes);
}

void Witness::read(uint64_t offset, uint64_t length) {
  request_.kind = io::BlockRequest::Kind::read;
  request_.offset = offset;
  submit(length);
}

void Witness::submit(uint64_t length) {
  const io::Duration left = deadline_ - loop_.now();
  if (left <= io::Duration::zero()) return fail(-ETIMEDOUT);
  part_ = {.iov_base = buffer_.data(), .iov_len = length};
  request_.length = length;
  request_.data = {&part_, 1};
  request_.timeout = left;
  device_.submit(request_);
}

void Witness::on_done(int32_t result) noexcept {
  if (opening_) return on_superblock(result);
  if (result < 0) return fail(result);
  take(step_);
  step_ = static_cast<Step>(static_cast<uint8_t>(step_) + 1);
  next();
}

void Witness::fail(int32_t result) {
  if (opening_) return on_superblock(result);
  fenced_ = result == -EBADE;
  const bool wrote = step_ >= Step::decided && step_ <= Step::ballot && result != -EBUSY;
  busy_ = false;
  if (wrote) wait_for_ghosts();
  auto done = std::exchange(done_, nullptr);
  done({.ok = false, .heartbeats = {}, .decided = {}, .blocks = {}});
}

void Witness::wait_for_ghosts() {
  waiting_for_ghosts_ = true;
  device_.wait_ghosts(0, kRecordsEnd, [this](base::Result<> result) noexcept {
    waiting_for_ghosts_ = false;
    // The device is being closed: nothing more will be asked of it.
    if (!result) LOG_INFO("qdisk", "ghosts on the witness are left: {}", result.error().what);
  });
}

// --- what was read ---

void Witness::take(Step step) {
  switch (step) {
    case Step::look:
      // Decisions of one slot may be a round of the ring apart, or a forced one between them. One
      // that is damaged is written anew.
      take_decided(buffer_.first(kSlotBytes),
                   (decided_offset(task_.decided.epoch) - kDecidedArea) / kSlotBytes);
      if (result_.decided.epoch >= task_.decided.epoch) ring_epoch_ = result_.decided.epoch;
      return;
    case Step::decided:
      ring_epoch_ = task_.decided.epoch;
      return;
    case Step::read_heartbeats:
      for (size_t node = 0; node < slots_; ++node) {
        const auto bytes = buffer_.first(slots_ * kCopies * kSlotBytes);
        const auto id = static_cast<NodeId>(node);
        const auto found = newest(
            decode_heartbeat(sector_at(bytes, node * kCopies), superblock_.cluster, id, 0),
            decode_heartbeat(sector_at(bytes, node * kCopies + 1), superblock_.cluster, id, 1));
        if (found.valid()) result_.heartbeats.push_back(*found.value);
        if (found.corrupt()) ++corrupt_records_;
      }
      return;
    case Step::read_ballots:
      for (size_t node = 0; node < slots_; ++node) {
        const auto id = static_cast<NodeId>(node);
        const auto found = decode_ballot(sector_at(buffer_.first(slots_ * kSlotBytes), node),
                                         superblock_.cluster, id);
        if (found.valid()) result_.blocks.push_back({id, *found.value});
        // What a damaged block said cannot be known: the witness is no acceptor until its owner
        // has written it anew.
        if (found.corrupt()) result_.unreadable = true;
        if (found.corrupt()) ++corrupt_records_;
      }
      return;
    case Step::read_decided:
      if (task_.decided.epoch > result_.decided.epoch) result_.decided = task_.decided;
      // A later decision may have lain there.
      result_.unreadable |= !take_decided(
          buffer_.first(kSlotBytes), (decided_offset(ring_epoch_ + 1) - kDecidedArea) / kSlotBytes);
      return;
    case Step::read_ring:
      for (size_t slot = 0; slot < kDecidedSlots; ++slot) {
        take_decided(buffer_.first(kDecidedSlots * kSlotBytes).subspan(slot * kSlotBytes), slot);
      }
      ring_epoch_ = std::max(ring_epoch_, result_.decided.epoch);
      return;
    default:
      return;
  }
}

bool Witness::take_decided(base::Bytes slot, size_t index) {
  const auto found = decode_decided(sector_at(slot, 0), superblock_.cluster, index);
  if (found.valid() && found.value->epoch > result_.decided.epoch) result_.decided = *found.value;
  if (found.corrupt()) ++corrupt_records_;
  return !found.corrupt();
}

}  // namespace holdfast::qdisk
