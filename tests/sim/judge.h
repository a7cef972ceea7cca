#pragma once
// What the whole simulation is measured by: the models of the logical units, which writes are still
// open and what closes them, and the list of what went wrong.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/data_model.h"
#include "tests/sim/reservation_model.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

// A logical unit under test.
struct Unit {
  Unit(uint16_t number, uint32_t block, uint64_t count, bool volatile_cache)
      : lun(number),
        block_size(block),
        blocks(count),
        data(fmt::format("lun {}", number), count * block / DataModel::kSectorBytes,
             volatile_cache) {}

  uint64_t sectors_per_block() const { return block_size / DataModel::kSectorBytes; }
  DataModel::Range sectors(uint64_t lba, uint64_t count) const {
    return {lba * sectors_per_block(), count * sectors_per_block()};
  }

  const uint16_t lun;
  const uint32_t block_size;
  const uint64_t blocks;
  DataModel data;
  ReservationModel reservations;
  // One PERSISTENT RESERVE OUT at a time, and its fate known before the next.
  bool reserve_out_taken = false;
  uint32_t served_by = 0;  // the youngest instance of the target that has served it
};

// Whose write it is: decides which promises of the target cover it.
struct WriteOwner {
  Unit* unit = nullptr;
  WriteId write = 0;
  PrNexus nexus;
  uint32_t instance = 0;  // of the target
  bool received = false;  // the target surely has the command
};

// Owner: the test.
class Judge {
 public:
  explicit Judge(SimWorld& world) : world_(world) {}

  Unit& add_unit(uint16_t lun, uint32_t block_size, uint64_t blocks, bool volatile_cache) {
    units_.push_back(std::make_unique<Unit>(lun, block_size, blocks, volatile_cache));
    return *units_.back();
  }
  const std::vector<std::unique_ptr<Unit>>& units() const { return units_; }

  // Empty text: nothing wrong.
  void check(std::string what);
  bool failed() const { return !breaches_.empty(); }
  const std::vector<std::string>& breaches() const { return breaches_; }

  void write_begun(const WriteOwner& owner);
  void write_received(const Unit& unit, WriteId write);
  void write_ended(const Unit& unit, WriteId write);
  // Writes that the target has for certain, and that have not been answered.
  std::vector<WriteOwner> received_writes(const Unit& unit) const;

  // Promises of the target, each from the moment it was given.
  using Covers = std::function<bool(const WriteOwner&)>;
  void barrier(const char* why, const Covers& covers);
  // PREEMPT AND ABORT of these nexuses was answered. What the target had before has ended. Other
  // writes of theirs can not land as long as a reservation keeps the nexus out; check_fences()
  // notices the end of that.
  void preempted(const Unit& unit, const std::set<PrNexus>& nexuses,
                 const std::vector<WriteOwner>& older);
  void check_fences(const Unit& unit);
  // A login of the nexus to this instance was answered, or a logout.
  void session_replaced(const PrNexus& nexus, uint32_t instance);
  // Some command that needs the medium's lock was answered with GOOD.
  void unit_served(Unit& unit, uint32_t instance);
  void target_killed();
  void power_lost();

  SimWorld& world() { return world_; }
  uint64_t commands = 0;  // answered
  uint64_t unknown = 0;   // lost with their connection

 private:
  static constexpr size_t kMaxBreaches = 10;

  SimWorld& world_;
  std::vector<std::unique_ptr<Unit>> units_;
  std::map<std::pair<uint16_t, WriteId>, WriteOwner> open_;
  std::map<std::pair<uint16_t, WriteId>, WriteOwner> fenced_;
  std::vector<std::string> breaches_;
};

}  // namespace holdfast::sim
