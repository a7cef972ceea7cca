#pragma once
// What the control loop knows, in one place, for the parts of TargetNode that work on it.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "target/config.h"
#include "target/disk_opener.h"
#include "target/node_sessions.h"
#include "target/portals.h"
#include "target/reservation_pipeline.h"
#include "target/shards.h"
#include "target/unit.h"

namespace holdfast::target {

// Until what could not be noted of a disk is noted again.
inline constexpr io::Duration kNoteAgain = std::chrono::seconds(10);

// What a node works with. All of it outlives the node.
struct NodeServices {
  io::Loop& loop;  // the control loop: the one of shard 0
  io::Network& network;
  base::Random& random;
  io::BackingOpener& opener;
  StateStore& store;
  std::string version{};  // of this program
};

// Owner: TargetNode. Thread: the control loop's.
struct NodeState {
  explicit NodeState(const NodeServices& given)
      : services(given),
        shards(given.loop),
        reservations(given.loop, shards, units, given.store),
        sessions(given.loop, shards),
        portals(given.loop, given.network, shards),
        opener(given.loop, given.opener) {}
  ~NodeState() { loop().stop(note_again); }

  io::Loop& loop() { return services.loop; }
  io::Duration drain_deadline() const {
    return std::chrono::milliseconds(config.drain_deadline_ms);
  }
  // Of the running configuration with the disks there are now; it is `map` from then on.
  std::shared_ptr<const NodeMap> make_map();
  // Disks made by `disk create`.
  std::vector<DiskConfig> created_disks() const;
  // Opens the unit's backing, however long its lock takes, and tells the shards; a failure shows in
  // its state. `settled` is called once, unless the unit is removed before.
  void open(Unit& unit, std::move_only_function<void(Unit&) noexcept> settled);
  // Those that could not be opened are tried again; a sentence for each.
  std::vector<std::string> open_failed();
  void publish(const Unit& unit);
  // What initiators may have seen of it: the store notes it, now or when it can.
  void note_served(Unit& unit);
  void note_all_served() noexcept;
  // A file that could not be grown at its opening (the file system is full): with the size it has
  // in the configuration that runs, the next apply of the file grows it.
  void note_smaller(Unit& unit);

  NodeServices services;
  Shards shards;
  Units units;
  ReservationPipeline reservations;
  NodeSessions sessions;
  Portals portals;
  DiskOpener opener;
  std::map<UnitId, DiskOpener::Ticket> opening;

  Config config;  // what runs; sizes as they are now
  std::shared_ptr<const NodeMap> map = std::make_shared<NodeMap>();  // as the shards have it
  struct Alua {
    scsi::AluaState state = scsi::AluaState::active_optimized;
    bool changed = false;  // since the process began
  };
  std::map<uint16_t, Alua> alua;  // by portal group tag; absent: active/optimized
  io::Instant started_at{};
  bool serving = false;  // the shards have the map
  bool stopping = false;
  io::TimerOf<NodeState, &NodeState::note_all_served> note_again{*this};
};

// "/srv/a.img: cannot be opened (Permission denied)"
std::string describe_failure(const DiskConfig& disk, const base::Error& error);

}  // namespace holdfast::target
