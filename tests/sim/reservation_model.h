#pragma once
// Persistent reservations as SPC-4 5.13 describes them, written independently of target/, and the
// set of states a logical unit may be in while PERSISTENT RESERVE OUT commands are under way or
// have an unknown fate. Pure.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/scsi/cdb.h"
#include "common/scsi/persistent_reservation.h"
#include "common/scsi/status.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

struct PrNexus {
  std::string initiator;
  uint64_t isid = 0;
  auto operator<=>(const PrNexus&) const = default;
};

struct PrState {
  std::map<PrNexus, uint64_t> keys;
  uint8_t type = 0;  // 0: no reservation
  PrNexus holder;    // unless the type is an all registrants one
  uint32_t generation = 0;
  bool aptpl = false;

  bool operator==(const PrState&) const = default;
  bool registered(const PrNexus& nexus) const { return keys.contains(nexus); }
  bool holds(const PrNexus& nexus) const;
  bool allows(const PrNexus& nexus, bool write) const;
  std::string describe() const;
  // What a restart of the target leaves.
  PrState after_power_on() const;
};

struct PrCommand {
  scsi::ReserveOut action{};
  uint8_t type = 0;
  uint64_t key = 0;
  uint64_t service_action_key = 0;
  bool aptpl = false;
};

struct PrEffect {
  scsi::Status status = scsi::Status::good;  // or reservation_conflict, check_condition
  PrState state;
  std::set<PrNexus> preempted;  // lost their registration
};
PrEffect apply(const PrState& state, const PrNexus& nexus, const PrCommand& command);

// One logical unit's states over time. At most one PERSISTENT RESERVE OUT is under way; its caller
// sees to that.
class ReservationModel {
 public:
  ReservationModel() { versions_.push_back({{}, Duration::zero(), kNever}); }

  void begin(Duration now, const PrNexus& nexus, const PrCommand& command);
  // What the command was answered with. Empty: allowed.
  std::string end(Duration now, scsi::Status status);
  // It was not carried out.
  void cancel() { pending_.reset(); }
  // It may or may not have happened. settled: from now on it can not happen any more.
  void end_unknown(bool settled);
  void restarted(Duration now);  // the target process has ended

  // READ FULL STATUS that began at `began` reported this.
  std::string reported(Duration began, Duration now, const PrState& seen);
  // A command of the nexus, sent at `began`, was answered with RESERVATION CONFLICT, or was carried
  // out. Empty: allowed.
  std::string answered(Duration began, Duration now, const PrNexus& nexus, bool write,
                       bool conflict) const;
  // In every state that is possible now the nexus may not write.
  bool surely_fenced(const PrNexus& nexus) const;
  // Any of the states possible now.
  const PrState& likely() const { return versions_.back().state; }
  bool busy() const { return pending_.has_value(); }
  // Who lost the registration by the last command that ended GOOD.
  const std::set<PrNexus>& preempted() const { return preempted_; }

 private:
  static constexpr Duration kNever = Duration::max();
  struct Version {
    PrState state;
    Duration from{0};         // not before
    Duration until = kNever;  // not after
  };
  struct Pending {
    PrNexus nexus;
    PrCommand command;
    Duration began{0};
  };

  std::vector<Version*> current();
  void add(const PrState& state, Duration from);
  void forget(Duration now);

  std::vector<Version> versions_;
  std::optional<Pending> pending_;
  bool settled_ = true;  // false: one that was given up may still take effect
  std::set<PrNexus> preempted_;
};

}  // namespace holdfast::sim
