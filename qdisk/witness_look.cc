#include "qdisk/witness_look.h"

#include <algorithm>
#include <utility>

namespace holdfast::qdisk {

namespace {

using base::Errc;

constexpr size_t kBufferBytes = kDecidedSlots * kSlotBytes;
constexpr io::Duration kRetry = std::chrono::milliseconds(50);

Sector sector_at(base::Bytes bytes, size_t slot) {
  return Sector(bytes.subspan(slot * kSlotBytes, kRecordBytes));
}

}  // namespace

base::Result<std::unique_ptr<WitnessLook>> WitnessLook::create(io::Loop& loop,
                                                               io::SharedBlockDevice& device,
                                                               NodeId self) {
  TRY_ASSIGN(auto pool, io::BufferPool::create(io::kMaxSlabBytes));
  return std::unique_ptr<WitnessLook>(new WitnessLook(loop, device, self, std::move(pool)));
}

WitnessLook::WitnessLook(io::Loop& loop, io::SharedBlockDevice& device, NodeId self,
                         std::unique_ptr<io::BufferPool> pool)
    : loop_(loop),
      device_(device),
      self_(self),
      pool_(std::move(pool)),
      buffer_(pool_->acquire(kBufferBytes)) {
  ASSERT(buffer_);
}

WitnessLook::~WitnessLook() { ASSERT(step_ == Step::done); }

void WitnessLook::start(io::Duration limit, Done done) {
  ASSERT(step_ == Step::done);
  deadline_ = loop_.now() + limit;
  sight_ = {};
  done_ = std::move(done);
  read(Step::superblocks);
}

void WitnessLook::read(Step step) {
  step_ = step;
  uint64_t offset = 0;
  size_t slots = kCopies;
  switch (step) {
    case Step::superblocks:
      break;
    case Step::heartbeats:
      offset = heartbeat_offset(self_, 0);
      break;
    case Step::ballot:
      offset = ballot_offset(self_);
      slots = 1;
      break;
    case Step::decided:
      offset = kDecidedArea;
      slots = kDecidedSlots;
      break;
    case Step::done:
      return finish(sight_);
  }
  const io::Duration left = deadline_ - loop_.now();
  request_.kind = io::BlockRequest::Kind::read;
  request_.offset = offset;
  request_.length = slots * kSlotBytes;
  request_.timeout = std::max(left, io::Duration(std::chrono::milliseconds(1)));
  part_ = {.iov_base = buffer_.data(), .iov_len = slots * kSlotBytes};
  request_.data = {&part_, 1};
  device_.submit(request_);
}

void WitnessLook::on_read(int32_t result) noexcept {
  if (result < 0) {
    if (loop_.now() + kRetry < deadline_) return loop_.start(retry_, kRetry);
    return finish(base::fail(Errc::io, "the witness cannot be read", -result));
  }
  if (step_ == Step::superblocks) {
    const base::Bytes bytes = buffer_.first(kCopies * kSlotBytes);
    const auto found = newest(decode_superblock(sector_at(bytes, 0), 0),
                              decode_superblock(sector_at(bytes, 1), 1));
    if (found.corrupt()) return finish(base::fail(Errc::corrupt, to_string(found.fault)));
    if (!found.valid()) return finish(base::fail(Errc::not_found, "the device is no witness"));
    sight_.superblock = *found.value;
  } else {
    take(step_);
  }
  read(static_cast<Step>(static_cast<uint8_t>(step_) + 1));
}

// What is damaged says nothing: the greatest of what is left counts.
void WitnessLook::take(Step step) {
  const Uuid& cluster = sight_.superblock.cluster;
  const auto note = [this](Incarnation life) { sight_.seen = std::max(sight_.seen, life); };
  const base::Bytes bytes = buffer_.first(kBufferBytes);
  if (step == Step::heartbeats) {
    for (unsigned parity = 0; parity < kCopies; ++parity) {
      const auto found = decode_heartbeat(sector_at(bytes, parity), cluster, self_, parity);
      if (found.valid()) note(found.value->incarnation);
    }
  } else if (step == Step::ballot) {
    const auto found = decode_ballot(sector_at(bytes, 0), cluster, self_);
    if (found.valid()) note(found.value->incarnation);
  } else {
    for (size_t slot = 0; slot < kDecidedSlots; ++slot) {
      const auto found = decode_decided(sector_at(bytes, slot), cluster, slot);
      if (!found.valid()) continue;
      note(found.value->incarnations[self_]);
      sight_.newest = std::max(sight_.newest, found.value->epoch);
    }
  }
}

void WitnessLook::finish(base::Result<WitnessSight> result) {
  step_ = Step::done;
  std::exchange(done_, nullptr)(std::move(result));
}

}  // namespace holdfast::qdisk
