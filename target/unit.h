#pragma once
// One disk as the control loop owns it: the master copy of what all shards are told of it.

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "target/config.h"
#include "target/exclusive_ranges.h"
#include "target/node_control.h"
#include "target/node_map.h"
#include "target/state_store.h"

namespace holdfast::target {

enum class DiskOrigin : uint8_t { file, cli };
std::string_view to_string(DiskOrigin origin);

// Owner: Units. Thread: the control loop's.
struct Unit {
  Unit(UnitId unit_id, DiskConfig disk, DiskOrigin disk_origin, const DiskIdentity& disk_identity)
      : id(unit_id), config(std::move(disk)), origin(disk_origin), identity(disk_identity) {
    if (config.removable) medium = std::make_shared<MediumState>();
  }

  std::string state_text() const;  // DiskStatus::state
  uint64_t size_bytes() const;
  // All that the shards are told, from the members below.
  std::shared_ptr<const UnitState> snapshot() const;

  const UnitId id;
  DiskConfig config;
  const DiskOrigin origin;
  const DiskIdentity identity;
  std::shared_ptr<io::Backing> backing;  // null: opening, or failed
  std::string failure;                   // not empty: why it will not be opened
  uint64_t served_bytes = 0;             // DiskRecord's
  bool unfit = false;                    // its reservations are damaged: it must not be opened
  bool leaving = false;                  // removed; its last commands are ending
  scsi::ModeState mode;
  Reservations reservations;
  ExclusiveRanges exclusive;
  std::shared_ptr<MediumState> medium;  // removable disks only
};

class Units {
 public:
  Unit& add(DiskConfig disk, DiskOrigin origin, const DiskIdentity& identity);
  Unit* find(UnitId id);
  Unit* find(std::string_view name);  // not those that are leaving
  const Unit* find(std::string_view name) const;
  void erase(UnitId id) { units_.erase(id); }
  void clear() { units_.clear(); }
  const std::map<UnitId, std::unique_ptr<Unit>>& all() const { return units_; }

 private:
  UnitId last_id_ = 0;
  std::map<UnitId, std::unique_ptr<Unit>> units_;
};

std::string format_uuid(const DiskIdentity& identity);  // "f81d4fae-7dec-4..."

}  // namespace holdfast::target
