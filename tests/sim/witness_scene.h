#pragma once
// What the tests of the witness share: nodes with one each on one LUN, what they ask of it, and
// what lands there.

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "qdisk/witness.h"
#include "tests/sim/shared_lun.h"

namespace holdfast::sim::witness {

using namespace std::chrono_literals;
using base::Errc;
using qdisk::BallotBlock;
using qdisk::Decision;
using qdisk::Epoch;
using qdisk::Heartbeat;
using qdisk::kSlotBytes;
using qdisk::NodeId;
using qdisk::Superblock;
using qdisk::Witness;
using qdisk::WitnessResult;
using qdisk::WitnessTask;
using Kind = io::BlockRequest::Kind;

inline constexpr qdisk::Uuid kCluster{0xc1}, kWitness{0x77};
inline constexpr Duration kLimit = 4s, kPrompt = 100ms;
inline constexpr size_t kSlots = 3;
inline constexpr uint64_t kNexus = 100;  // of node 0; the others follow

struct Access {
  Kind kind;
  uint64_t offset;
  uint64_t length;
  bool durable;
  size_t landed;  // writes until it was submitted
  bool operator==(const Access&) const = default;
};

// Notes what is asked of the device.
class Noting final : public io::SharedBlockDevice {
 public:
  Noting(io::SharedBlockDevice& device, const size_t& landed) : device_(device), landed_(landed) {}
  io::BlockInfo info() const override { return device_.info(); }
  void submit(io::BlockRequest& request) override {
    const bool durable =
        request.kind == Kind::write && request.durability == io::Durability::durable;
    seen.push_back({request.kind, request.offset, request.length, durable, landed_});
    device_.submit(request);
  }
  void cancel(io::BlockRequest& request) override { device_.cancel(request); }
  void set_listener(Listener* listener) override { device_.set_listener(listener); }
  void wait_ghosts(uint64_t offset, uint64_t length, Done done) override {
    device_.wait_ghosts(offset, length, std::move(done));
  }
  void use_key(uint64_t key, Done done) override { device_.use_key(key, std::move(done)); }
  void readmit(Done done) override { device_.readmit(std::move(done)); }
  void verify_key(Done done) override { device_.verify_key(std::move(done)); }
  void reserve(io::ReservationType type, Done done) override {
    device_.reserve(type, std::move(done));
  }
  void preempt_and_abort(uint64_t victim, io::ReservationType type, Done done) override {
    device_.preempt_and_abort(victim, type, std::move(done));
  }
  void clear_reservations(Done done) override { device_.clear_reservations(std::move(done)); }
  void read_reservations(GotState got) override { device_.read_reservations(std::move(got)); }

  std::vector<Access> seen;

 private:
  io::SharedBlockDevice& device_;
  const size_t& landed_;
};

struct Host {
  Host(SimWorld& of, SharedLun& lun, NodeId id, const size_t& landed)
      : world(of),
        self(id),
        loop(of.make_process(fmt::format("node {}", id)).make_loop()),
        device(lun, loop, kNexus + id),
        noting(device, landed),
        witness(Witness::create(loop, noting, id, kLimit).value()) {}

  // What the call of `begin(done)` is answered.
  template <class T, class Begin>
  T answer(Begin begin) {
    struct Got {
      int count = 0;
      T value{};
    };
    auto got = std::make_shared<Got>();
    loop.post([begin, got]() mutable noexcept {
      begin([got](T value) noexcept {
        ++got->count;
        got->value = std::move(value);
      });
    });
    EXPECT_TRUE(world.run_until([&] { return got->count > 0; }, 60s));
    EXPECT_EQ(got->count, 1);
    return got->value;
  }
  base::Result<Superblock> open() {
    return answer<base::Result<Superblock>>([this](auto done) { witness->open(std::move(done)); });
  }
  WitnessResult run(const WitnessTask& task, size_t slots = kSlots) {
    return answer<WitnessResult>([this, task, slots](auto done) {
      was_busy = witness->busy();
      witness->run(task, slots, std::move(done));
    });
  }
  void use_key(uint64_t key) {
    ASSERT_TRUE(answer<base::Result<>>([this, key](auto done) {
                  device.use_key(key, std::move(done));
                }).has_value());
  }

  Heartbeat heartbeat(Epoch epoch) {
    return {.node = self,
            .state = qdisk::NodeState::member,
            .incarnation = 1,
            .sequence = ++sequence,
            .epoch = epoch};
  }
  WitnessTask task(const Decision& decided, std::optional<BallotBlock> store = {}) {
    return {.decided = decided, .heartbeat = heartbeat(decided.epoch), .store = store};
  }

  SimWorld& world;
  const NodeId self;
  SimLoop& loop;
  SharedLunDevice device;
  Noting noting;
  std::unique_ptr<Witness> witness;
  uint64_t sequence = 0;
  bool was_busy = false;  // when the last task was given to it
};

inline Decision decision(Epoch epoch) {
  Decision made{.epoch = epoch, .witness_votes = true, .witness = kWitness};
  made.incarnations[0] = made.incarnations[1] = 1;
  return made;
}

inline BallotBlock block(NodeId node, Epoch epoch, uint64_t round) {
  return {.epoch = epoch, .mbal = round << 8 | node, .incarnation = 1};
}

struct Scene {
  explicit Scene(uint64_t seed = 1) : world(seed) {
    lun.set_landed([this](uint64_t, uint64_t offset, base::Bytes bytes) {
      ++landed;
      if (on_landed) on_landed(offset, bytes);
    });
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() {
    world.run_for(120s);
    for (const auto& host : hosts) EXPECT_FALSE(host->witness->busy());
  }

  void format(unsigned copy = 0, uint64_t generation = 1, const qdisk::Uuid& cluster = kCluster) {
    const Superblock made{.generation = generation,
                          .cluster = cluster,
                          .witness = kWitness,
                          .cluster_name = "test",
                          .sector_bytes = 512};
    SharedLun::Sector sector;
    qdisk::encode(made, copy, sector);
    lun.write_now(qdisk::superblock_offset(copy), sector);
  }
  Host& host(NodeId node) {
    hosts.push_back(std::make_unique<Host>(world, lun, node, landed));
    return *hosts.back();
  }
  Host& opened(NodeId node) {
    Host& made = host(node);
    EXPECT_TRUE(made.open().has_value());
    made.noting.seen.clear();
    return made;
  }
  SharedLun::Sector sector(uint64_t offset) const {
    SharedLun::Sector found;
    lun.read_now(offset, found);
    return found;
  }
  std::optional<Decision> decided_at(Epoch epoch) const {
    return qdisk::decode_decided(sector(qdisk::decided_offset(epoch)), kCluster,
                                 qdisk::count_of(epoch) % qdisk::kDecidedSlots)
        .value;
  }
  void put(const Decision& made) {
    SharedLun::Sector sector;
    qdisk::encode(made, kCluster, sector);
    lun.write_now(qdisk::decided_offset(made.epoch), sector);
  }

  SimWorld world;
  SharedLun lun{world, "witness", {}};
  size_t landed = 0;
  std::function<void(uint64_t, base::Bytes)> on_landed;
  std::vector<std::unique_ptr<Host>> hosts;
};

}  // namespace holdfast::sim::witness
