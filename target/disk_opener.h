#pragma once
// Opening backings: several at once, never blocking the loop, waiting for locks that a killed
// process still holds.

#include <map>
#include <memory>

#include "common/io/backing.h"
#include "common/io/loop.h"
#include "target/config.h"
#include "target/config_limits.h"

namespace holdfast::target {

// A dead process's last requests end in their own time.
inline constexpr io::Duration kLockRetry = std::chrono::milliseconds(200);
// Each holds a thread while its storage hangs, also when nobody waits for it any more.
inline constexpr size_t kMaxUnanswered = 2 * kMaxDisks;

// Owner: NodeState. Thread: the control loop's.
class DiskOpener {
 public:
  using Ticket = uint64_t;
  using Done = std::move_only_function<void(base::Result<std::shared_ptr<io::Backing>>) noexcept>;

  DiskOpener(io::Loop& loop, io::BackingOpener& opener) : loop_(loop), opener_(opener) {}
  DiskOpener(const DiskOpener&) = delete;
  DiskOpener& operator=(const DiskOpener&) = delete;
  ~DiskOpener() { cancel_all(); }

  // `done` is called once, with anything but Errc::busy, unless cancelled before.
  Ticket open(const DiskConfig& disk, Done done);
  // What is opened later is closed again at once. No-op for a ticket that is done.
  void cancel(Ticket ticket);
  void cancel_all();
  // The lock is held by another process (as of the last attempt).
  bool waits_for_lock(Ticket ticket) const;
  // Also cancelled ones: their answer is still to come, to the loop.
  bool asked() const { return unanswered_ > 0; }

 private:
  struct Opening {
    Opening(DiskOpener& all, Ticket number, io::BackingSpec backing, std::string disk,
            Done callback)
        : opener(all),
          ticket(number),
          spec(std::move(backing)),
          name(std::move(disk)),
          done(std::move(callback)) {}
    void on_retry() noexcept { opener.attempt(*this); }

    DiskOpener& opener;
    Ticket ticket;
    io::BackingSpec spec;
    std::string name;
    Done done;
    bool locked = false;
    io::TimerOf<Opening, &Opening::on_retry> retry{*this};
  };
  void attempt(Opening& opening);
  void on_attempted(Ticket ticket, base::Result<std::shared_ptr<io::Backing>> result);

  io::Loop& loop_;
  io::BackingOpener& opener_;
  Ticket last_ticket_ = 0;
  size_t unanswered_ = 0;
  std::map<Ticket, std::unique_ptr<Opening>> openings_;
};

}  // namespace holdfast::target
