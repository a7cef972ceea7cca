#pragma once
// A block device that several hosts write to: what the cluster filesystem and the quorum daemon
// see. A multipath device of ours, a block device of the kernel and a file implement it.

#include <cstdint>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/io/block_device.h"
#include "common/io/loop.h"
#include "common/io/op.h"

namespace holdfast::io {

// One request, embedded in its owner, which keeps it and the memory it names until completion.
// Result: 0 or more (bytes moved), or
//   -EBADE     this node's reservation key is gone or another's reservation forbids it: fenced
//   -EILSEQ    compare_and_write: the medium holds something else; `mismatch_offset` says where
//   -ETIMEDOUT the deadline, or the longest time without any path, went by. A write may still land:
//              its range stays a ghost (wait_ghosts)
//   -ECANCELED cancel() came in time: no more of it will be executed than was until then
//   -ENOLINK   the device is being closed, or the administrator failed its queue
//   -ENOSPC    a thin device is full     -EROFS  write protected
//   -EUCLEAN   executed at most once, and nobody can tell whether: a compare_and_write whose place
//              holds neither its data nor its comparand; never reads and plain writes
//   -EIO       the medium says so; no other path would help
//   -EINVAL    misaligned, or beyond the end
struct BlockRequest : Op {
  enum class Kind : uint8_t {
    read,
    write,
    flush,
    discard,  // reads as zeroes afterwards
    write_zeroes,
    compare_and_write,  // `data` holds the comparand, then as many bytes to write
    status,             // fills `extents` from `offset` on, as many as fit or `length` needs
  };

  using Op::Op;

  Kind kind = Kind::read;
  Durability durability = Durability::cached;
  bool may_deallocate = false;  // write_zeroes
  uint64_t offset = 0;          // bytes; like `length` a multiple of the block size
  uint64_t length = 0;          // bytes of the medium concerned
  std::span<const iovec> data;  // read: filled; write: exactly `length` bytes in all
  Duration timeout{0};          // from submit(); 0: the device's own limits only
  uint64_t mismatch_offset = 0;
  std::span<Extent> extents;  // status: room for at least one
  size_t extent_count = 0;    // ... how many were filled; adjacent; the last may end early or late
};

// BlockRequestOf<Journal, &Journal::on_written> write_{*this};
template <class Owner, auto kMethod>
struct BlockRequestOf : BlockRequest {
  explicit BlockRequestOf(Owner& owner)
      : BlockRequest([](Op& op, int32_t result) noexcept {
          (static_cast<BlockRequestOf&>(op).owner_.*kMethod)(result);
        }),
        owner_(owner) {}

 private:
  Owner& owner_;
};

// Persistent reservations (SPC-4 5.13), as the owner of a node's key needs them.
enum class ReservationType : uint8_t {
  none = 0,
  write_exclusive = 1,
  exclusive_access = 3,
  write_exclusive_registrants_only = 5,
  exclusive_access_registrants_only = 6,
  write_exclusive_all_registrants = 7,
  exclusive_access_all_registrants = 8,
};

struct ReservationState {
  uint32_t generation = 0;
  std::vector<uint64_t> keys;  // one for each registered nexus: a key may appear several times
  ReservationType type = ReservationType::none;
  uint64_t holder_key = 0;
};

struct BlockEvent {
  enum class Kind : uint8_t {
    paths_lost,  // none usable: requests wait
    paths_back,
    path_failed,  // one of several
    path_restored,
    capacity_changed,
    key_lost,    // this node's key is gone: requests end with -EBADE until readmit()
    cache_lost,  // the target was reset or restarted: what was not flushed may be gone
    preempted,   // reservations changed by somebody else
  };
  Kind kind;
  const char* path = "";  // its name, where one path is meant
  const char* why = "";   // static text
};

// One loop's. All callbacks come on it, never from inside a call.
class SharedBlockDevice {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_block_event(const BlockEvent& event) = 0;
  };
  using Done = std::move_only_function<void(base::Result<>) noexcept>;
  using GotState = std::move_only_function<void(base::Result<ReservationState>) noexcept>;

  virtual ~SharedBlockDevice() = default;

  virtual BlockInfo info() const = 0;
  virtual void submit(BlockRequest& request) = 0;
  virtual void cancel(BlockRequest& request) = 0;
  virtual void set_listener(Listener* listener) = 0;

  // Ghosts: writes that were given up on one path, whose fate is not known yet. Answers when none
  // overlaps the range any more: before that nobody may let another node write there.
  virtual void wait_ghosts(uint64_t offset, uint64_t length, Done done) = 0;

  // Control calls; each answers once, within its bounds, and may allocate. Errc::unsupported where
  // the device has no reservations (a file). Errc::permission: conflict.
  // The key of this node, registered on every path before the path carries I/O. 0: none.
  virtual void use_key(uint64_t key, Done done) = 0;
  // After key_lost, and only by the owner's decision: registers the key anew on every path.
  virtual void readmit(Done done) = 0;
  // Asks whether this node's key is still registered. Errc::permission: it is gone, which also has
  // the effects of key_lost.
  virtual void verify_key(Done done) = 0;
  virtual void reserve(ReservationType type, Done done) = 0;
  virtual void preempt_and_abort(uint64_t victim, ReservationType type, Done done) = 0;
  virtual void clear_reservations(Done done) = 0;
  virtual void read_reservations(GotState done) = 0;
};

}  // namespace holdfast::io
