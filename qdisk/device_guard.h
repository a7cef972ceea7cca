#pragma once
// This node's hold on one device of the cluster, the witness or a volume: its key, the reservation,
// and the fence of those who are no members any more. docs/qdisk-protocol.md, "Fencing".
//
// Type 5 (write exclusive, registrants only): any registered life may write. It vanishes when its
// holder unregisters or releases it, so neither is ever done; when the holder is fenced, the
// reservation passes to whoever preempts it (SPC-4 5.13.11.2.4).
//
// Owner: Node. One call at a time, each answered once, within its bounds.

#include <functional>
#include <map>
#include <vector>

#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "qdisk/membership.h"

namespace holdfast::qdisk {

// How it is known that nothing of the fenced can land.
enum class FenceProof : uint8_t {
  drained,  // the device removed each key on our demand, and answered after the commands had ended
  timed,    // only the device's own bound has gone by
};

class DeviceGuard {
 public:
  struct Settings {
    const char* name = "";  // for the log; static, or lives as long as this
    Uuid cluster{};
    Life self{};
    // The longest that a command can be under way in the device after its initiator is gone.
    io::Duration hold = std::chrono::seconds(15);
    // In which a node that is no member any more has stopped by itself: what a device without
    // reservations depends on.
    io::Duration takeover = std::chrono::seconds(30);
  };
  using Done = std::move_only_function<void(base::Result<>) noexcept>;
  using Fenced = std::move_only_function<void(base::Result<FenceProof>) noexcept>;

  DeviceGuard(io::Loop& loop, io::SharedBlockDevice& device, const Settings& settings);
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard();

  bool busy() const { return busy_; }
  // The device has no reservations: only time fences.
  bool without_reservations() const { return without_reservations_; }
  // A claim has found the key of an earlier life of this node and ended it, drained.
  bool ended_earlier_life() const { return ended_earlier_life_; }

  // Registers this life, ends whatever earlier lives of this node have under way, and sees to it
  // that there is a reservation. Errc::busy: somebody else's reservation is in the way.
  void claim(Done done);
  // The newest decision, also while a fence is under way: its members are spared.
  void set_members(const Decision& members) { members_ = members; }
  // Errc::permission: this life is not registered itself.
  void fence(const FenceOrder& order, Fenced fenced);
  // Is our key there, and a reservation? Errc::permission: no. A target that was restarted may have
  // forgotten both.
  void check(Done done);
  // Nothing further is begun, and no hold is waited for; what the device has under way answers,
  // then busy() is false.
  void stop();

 private:
  void read(std::move_only_function<void(const io::ReservationState&) noexcept> got);
  void ended(base::Result<> result);
  void give_back(const io::ReservationState& state);
  void claim_step(const io::ReservationState& state);
  void fence_step(const io::ReservationState& state);
  void preempt(uint64_t key, std::move_only_function<void(bool removed) noexcept> next);
  void reserve(std::move_only_function<void() noexcept> next);
  void after_victims();
  void on_hold_over() noexcept;
  void hold_proves();
  void finish_fence();
  bool is_victim(const Life& life) const;
  bool foreign(const io::ReservationState& state) const;

  io::Loop& loop_;
  io::SharedBlockDevice& device_;
  const Settings settings_;
  const uint64_t key_;
  bool busy_ = false;
  bool stopping_ = false;
  bool used_ = false;  // the device has the key
  bool without_reservations_ = false;
  bool ended_earlier_life_ = false;
  int rounds_ = 0;
  Done done_;

  Fenced fenced_;
  FenceOrder order_;
  Decision members_;
  // Of earlier orders, too: a fence may take longer than an epoch.
  std::map<Life, FenceProof> ended_;
  Epoch unknown_ended_ = 0;  // ... and everybody who left until this epoch
  bool held_ = false;        // the hold has gone by, under a reservation
  io::TimerOf<DeviceGuard, &DeviceGuard::on_hold_over> hold_{*this};
};

}  // namespace holdfast::qdisk
