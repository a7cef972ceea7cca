#pragma once
// F3 of the fence ladder: PREEMPT AND ABORT of a dead session's key on a surviving path. It keeps
// out what the target has not read yet, and at a target that drains ends what it has. It counts
// only under a reservation of registrants only, which is looked for before and after.
//
// Owner: Fence. One loop's.

#include "mpio/fence_plan.h"
#include "mpio/reservation_client.h"

namespace holdfast::mpio {

// What the sessions of a device hold together: all registrants are its holders, so that it lasts
// when one of them leaves or dies (docs/decisions/007).
inline constexpr auto kSessionReservation = scsi::PrType::write_exclusive_all_registrants;

class Preemption {
 public:
  // `why` is static text, empty when it was done.
  using Done = std::move_only_function<void(FenceOutcome outcome, const char* why) noexcept>;
  struct Keys {
    uint64_t own = 0;   // of the surviving path's session
    uint64_t dead = 0;  // of the dead session
    // False: it counts without a reservation. For tests.
    bool under_reservation = true;
  };

  explicit Preemption(io::Loop& loop) : client_(loop) {}

  // `done` once, perhaps from within, and when the survivor's session ends at the latest.
  void start(Path& survivor, const Keys& keys, Done done);
  bool busy() const { return done_ != nullptr; }

 private:
  void look(FenceOutcome then, const char* otherwise);
  void reserve();
  void preempt();
  void on_preempted(base::Result<base::Bytes> answer);
  void find_keys();
  void answer(FenceOutcome outcome, const char* why = "");

  ReservationClient client_;
  Path* survivor_ = nullptr;
  Keys keys_;
  Done done_;
};

}  // namespace holdfast::mpio
