#pragma once
// Simulated disks: requests that take time, hang, fail, outlive their process; the lock that
// protects against that; io::Backing on top.

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/io/backing.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_medium.h"
#include "tests/sim/world.h"

namespace holdfast::sim {

struct DiskOptions {
  bool volatile_cache = true;
  bool can_discard = true;
  Duration delay_min = std::chrono::microseconds(10);
  Duration delay_max = std::chrono::microseconds(500);
  // One request in a million takes this long instead (a file system's journal, a bad sector).
  uint32_t slow_per_million = 0;
  Duration slow_min = std::chrono::milliseconds(100);
  Duration slow_max = std::chrono::seconds(3);
  uint32_t error_per_million = 0;  // -EIO at random
  // A cancelled request that has not started: chance that the cancel comes in time.
  uint32_t cancel_per_million = 500'000;
  // Bytes that thin allocation may still use.
  uint64_t free_bytes = std::numeric_limits<uint64_t>::max();
  // The lock is held until the last request of its process has ended. False: it goes with the
  // process, as with a lock file or a lock through another file description (negative control).
  bool lock_outlives_process = true;
  // Negative controls: a cancelled request is reported ended and lands all the same; a flush and a
  // durable write are acknowledged and nothing is made durable.
  bool cancel_lies = false;
  bool flush_lies = false;
};

// A disk of a host, by path. Owner: SimDisks. Outlives the processes that use it.
class SimDisk {
 public:
  SimDisk(SimWorld& world, std::string path, uint64_t size_bytes, const DiskOptions& options);

  DiskOptions& options() { return options_; }
  SimMedium& medium() { return medium_; }
  const std::string& path() const { return path_; }

  // Requests submitted, of living and dead processes, that can still change the medium.
  size_t in_flight() const { return requests_.size(); }
  size_t in_flight_of_dead() const;
  bool hanging() const { return hanging_; }
  // From now on no request starts or ends, until release().
  void hang();
  void release();
  // Requests that touch the range fail with -EIO.
  void add_bad_range(uint64_t offset, uint64_t length) { bad_ranges_.push_back({offset, length}); }
  void clear_bad_ranges() { bad_ranges_.clear(); }
  // Every process that used it must have ended too. Writes under way are torn.
  void lose_power();

  // For SimBacking.
  enum class Kind : uint8_t { read, write, flush, discard, zeroes, extent };
  struct Request {
    Kind kind = Kind::read;
    SimProcess* process = nullptr;
    SimLoop* loop = nullptr;
    uint64_t op = 0;
    uint64_t offset = 0, length = 0;
    base::MutableBytes read_into;
    base::Bytes write_from;
    std::vector<uint8_t> data;  // what the device takes from write_from when it starts
    io::Extent* extent = nullptr;
    bool cached = true;
    uint64_t flush_mark = 0;
    uint64_t done = 0;  // bytes that landed
    bool started = false;
    SimWorld::EventId event;
  };
  void submit(Request request);
  void cancel(SimLoop& loop, uint64_t op);
  void process_ended(SimProcess& process, bool power_lost);
  base::Result<> lock(SimProcess& process);
  void unlock(SimProcess& process);
  bool locked() const;

 private:
  struct Range {
    uint64_t offset = 0, length = 0;
  };
  using Requests = std::map<uint64_t, Request>;

  void schedule(uint64_t id, Duration delay);
  void advance(uint64_t id);
  void start(Request& request);
  int32_t failure(const Request& request);
  bool land_part(Request& request);
  void end(uint64_t id, int32_t result);

  SimWorld& world_;
  const std::string path_;
  DiskOptions options_;
  SimMedium medium_;
  std::vector<Range> bad_ranges_;
  bool hanging_ = false;
  uint64_t next_request_ = 1;
  Requests requests_;
  SimProcess* lock_holder_ = nullptr;
};

// The storage of one host.
class SimDisks final : public ProcessWatcher {
 public:
  explicit SimDisks(SimWorld& world);
  ~SimDisks() override;
  SimDisk* find(const std::string& path);
  SimDisk& make(const std::string& path, uint64_t size_bytes, const DiskOptions& options);
  // What SimBackingOpener uses for disks it creates.
  void set_defaults(const DiskOptions& options) { defaults_ = options; }
  const DiskOptions& defaults() const { return defaults_; }
  // After the processes' own end.
  void lose_power();
  void on_process_ended(SimProcess& process, bool power_lost) override;

 private:
  SimWorld& world_;
  DiskOptions defaults_;
  std::map<std::string, std::unique_ptr<SimDisk>> disks_;
};

}  // namespace holdfast::sim
