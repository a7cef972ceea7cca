#pragma once
// A reservation key for each session of a device, so that a dead one can be preempted:
// docs/mpio.md, "The fence". A path registers its session's key before it carries I/O, under a
// reservation that lets only registrants write, of which all registrants are holders.
//
// These keys say nothing about this node: one that is gone is registered anew. In a cluster the key
// is the node's (Reservations), and a device has one kind or the other.
//
// Owner: Device. One loop's.

#include <optional>
#include <set>
#include <vector>

#include "common/base/random.h"
#include "mpio/reservation_client.h"

namespace holdfast::mpio {

class Device;

// The first 16 bits of each such key, "Hf": who looks at the registrations of a unit knows them.
inline constexpr uint64_t kSessionKeyPrefix = 0x4866;
constexpr bool is_session_key(uint64_t key) { return key >> 48 == kSessionKeyPrefix; }

class SessionKeys {
 public:
  SessionKeys(Device& device, io::Loop& loop, base::Random& random);
  SessionKeys(const SessionKeys&) = delete;
  SessionKeys& operator=(const SessionKeys&) = delete;

  // A path was probed: its new session registers, and the unit is reserved if it is not. Answers
  // with Path::probed().
  void admit(Path& path);
  // A conflict or a unit attention: what is not there any more, as after somebody's CLEAR, is made
  // anew. Where that is refused, the path is given up.
  void verify(Path& path);
  // The path is about to log out: what dead sessions of ours have left is removed, then its own
  // key, and with the last one the reservation. Answers with Path::log_out().
  void leave(Path& path);

  // That this session of the path registered, or may have; 0: none.
  uint64_t key_of(const Path& path, uint64_t session) const;
  // Until then only the reservation keeps a session of this ISID out: our keys stay at the unit.
  void keep_out(uint64_t isid, std::optional<uint16_t> portal_group_tag, io::Instant until);
  // The keys that sessions of earlier processes left, where nothing of them can land any more.
  void remove_orphans();

  // Was the reservation in force when it was last looked for? Empty: no path has asked yet.
  std::optional<bool> in_force() const { return in_force_; }
  // Of sessions whose keys stayed, or may have stayed, at the unit after they left it: the next
  // process removes them.
  const std::set<uint64_t>& left_behind() const { return left_behind_; }
  bool idle() const { return client_.idle(); }

 private:
  struct Key {
    uint64_t key = 0;
    uint64_t session = 0;
  };
  struct KeptOut {
    uint64_t isid = 0;
    std::optional<uint16_t> portal_group_tag;
    io::Instant until{};
  };
  // Empty text: it succeeded.
  using Then = std::move_only_function<void(const char* why) noexcept>;

  bool is_up(const Path& path, uint64_t session) const;
  void take(Path& path, Then then);
  void reserve(Path& path, Then then);
  void explain_conflict(Path& path, Then then);
  void give_back(Path& path, Then then);
  void sweep(Path& path, Then then);
  void remove(Path& path, std::vector<uint64_t> keys, Then then);
  bool is_orphan(const scsi::FullStatusEntry& entry) const;
  bool must_stay();
  uint64_t draw();

  Device& device_;
  io::Loop& loop_;
  base::Random& random_;
  std::vector<Key> keys_;  // by path
  std::vector<KeptOut> kept_out_;
  std::set<uint64_t> left_behind_;
  std::optional<bool> in_force_;
  std::set<const Path*> verifying_;
  ReservationClient client_;
};

}  // namespace holdfast::mpio
