#pragma once
// What the tests of a node's guard share: lives of nodes with a guard each, on one LUN, and what
// lands there.

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "qdisk/device_guard.h"
#include "qdisk/reservation_key.h"
#include "tests/sim/shared_lun.h"

namespace holdfast::sim::guard {

using namespace std::chrono_literals;
using base::Errc;
using io::ReservationType;
using qdisk::Decision;
using qdisk::DeviceGuard;
using qdisk::FenceOrder;
using qdisk::FenceProof;
using qdisk::Life;
using Keys = std::vector<uint64_t>;

inline constexpr auto kType = ReservationType::write_exclusive_registrants_only;  // 5
inline constexpr qdisk::Uuid kCluster{0xc1};
inline constexpr Duration kHold = 7s, kTakeover = 8s;
inline constexpr Duration kSlowest = 6s;    // of a command at the target
inline constexpr Duration kPrompt = 100ms;  // some answers of an idle target
inline constexpr uint64_t kForeignKey = 0x1234;

inline uint64_t key_of(const Life& life) { return qdisk::reservation_key(kCluster, life); }

inline Decision members(std::initializer_list<Life> lives) {
  Decision decision{.epoch = 5};
  for (const Life& life : lives) decision.incarnations[life.node] = life.incarnation;
  return decision;
}

template <class T>
struct Answer {
  int count = 0;
  std::optional<base::Result<T>> result;
  Duration at{};
  bool ok() const { return count == 1 && result->has_value(); }
  bool is(Errc code) const { return count == 1 && !*result && result->error().code == code; }
};

struct Write {
  void on_done(int32_t value) noexcept { result = value; }
  std::array<uint8_t, SharedLun::kSector> bytes{};
  iovec part{.iov_base = bytes.data(), .iov_len = bytes.size()};
  std::optional<int32_t> result;
  io::BlockRequestOf<Write, &Write::on_done> request{*this};
};

// A file, or a target without this feature.
class PlainDevice final : public io::SharedBlockDevice {
 public:
  explicit PlainDevice(SimLoop& loop) : loop_(loop) {}
  io::BlockInfo info() const override { return {}; }
  void submit(io::BlockRequest&) override {}
  void cancel(io::BlockRequest&) override {}
  void set_listener(Listener*) override {}
  void wait_ghosts(uint64_t, uint64_t, Done done) override { refuse(std::move(done)); }
  void use_key(uint64_t, Done done) override { refuse(std::move(done)); }
  void readmit(Done done) override { refuse(std::move(done)); }
  void verify_key(Done done) override { refuse(std::move(done)); }
  void reserve(ReservationType, Done done) override { refuse(std::move(done)); }
  void preempt_and_abort(uint64_t, ReservationType, Done done) override { refuse(std::move(done)); }
  void clear_reservations(Done done) override { refuse(std::move(done)); }
  void read_reservations(GotState got) override {
    loop_.post([got = std::move(got)]() mutable noexcept {
      got(base::fail(Errc::unsupported, "a file"));
    });
  }

 private:
  void refuse(Done done) {
    loop_.post([done = std::move(done)]() mutable noexcept {
      done(base::fail(Errc::unsupported, "a file"));
    });
  }
  SimLoop& loop_;
};

// One life of a node, with its guard and writes of its own.
struct Host {
  Host(SimWorld& of, SharedLun& lun, Life self)
      : world(of),
        life(self),
        process(of.make_process(fmt::format("node {}.{}", self.node, self.incarnation))),
        loop(process.make_loop()),
        device(lun, loop, uint64_t{self.node} << 8 | self.incarnation),
        guard(loop, device, settings()) {}

  DeviceGuard::Settings settings() const {
    return {.name = "lun", .cluster = kCluster, .self = life, .hold = kHold, .takeover = kTakeover};
  }
  uint64_t key() const { return key_of(life); }

  template <class T>
  auto note(const std::shared_ptr<Answer<T>>& answer) {
    return [this, answer](base::Result<T> result) noexcept {
      ++answer->count;
      answer->result = result;
      answer->at = world.now();
    };
  }
  std::shared_ptr<Answer<void>> claim() {
    auto answer = std::make_shared<Answer<void>>();
    loop.post([this, answer]() noexcept { guard.claim(note(answer)); });
    return answer;
  }
  std::shared_ptr<Answer<void>> check() {
    auto answer = std::make_shared<Answer<void>>();
    loop.post([this, answer]() noexcept { guard.check(note(answer)); });
    return answer;
  }
  std::shared_ptr<Answer<FenceProof>> fence(const FenceOrder& order) {
    auto answer = std::make_shared<Answer<FenceProof>>();
    loop.post([this, answer, order]() noexcept { guard.fence(order, note(answer)); });
    return answer;
  }
  void use_key(uint64_t with) {
    loop.post([this, with]() noexcept { device.use_key(with, [](base::Result<>) noexcept {}); });
  }
  // One sector each, from 0 on, all at once.
  void write(size_t count) {
    const size_t first = writes.size();
    for (size_t place = 0; place < count; ++place) {
      Write& one = *writes.emplace_back(std::make_unique<Write>());
      one.request.kind = io::BlockRequest::Kind::write;
      one.request.offset = place * SharedLun::kSector;
      one.request.length = SharedLun::kSector;
      one.request.data = {&one.part, 1};
      one.request.timeout = 20s;
    }
    loop.post([this, first]() noexcept {
      for (size_t i = first; i < writes.size(); ++i) device.submit(writes[i]->request);
      submitted = writes.size();
    });
  }

  SimWorld& world;
  const Life life;
  SimProcess& process;
  SimLoop& loop;
  SharedLunDevice device;
  DeviceGuard guard;
  std::vector<std::unique_ptr<Write>> writes;
  size_t submitted = 0;
};

struct Scene {
  explicit Scene(uint64_t seed = 1) : world(seed) {
    lun.set_landed([this](uint64_t nexus, uint64_t, base::Bytes) {
      ++landed[nexus];
      last_landed[nexus] = world.now();
    });
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() {
    for (const auto& host : hosts) kill(*host);
    for (auto& host : hosts) SimProcess::bury(std::move(host));
  }

  Host& host(qdisk::NodeId node, qdisk::Incarnation incarnation = 1) {
    hosts.push_back(std::make_shared<Host>(world, lun, Life{node, incarnation}));
    return *hosts.back();
  }
  // ... and it has claimed the device.
  Host& claimed(qdisk::NodeId node, qdisk::Incarnation incarnation = 1) {
    Host& made = host(node, incarnation);
    EXPECT_TRUE(wait(*made.claim()).ok());
    made.guard.set_members(members({made.life}));
    return made;
  }
  static void kill(Host& host) {
    if (host.process.alive()) host.process.kill();
  }
  template <class T>
  Answer<T>& wait(Answer<T>& answer, Duration within = 60s) {
    EXPECT_TRUE(world.run_until([&] { return answer.count > 0; }, within));
    return answer;
  }
  io::ReservationState state() {
    if (looks == nullptr) looks = &host(63);
    io::ReservationState got;
    bool done = false;
    looks->loop.post([&]() noexcept {
      looks->device.read_reservations([&](base::Result<io::ReservationState> found) noexcept {
        got = *found;
        done = true;
      });
    });
    EXPECT_TRUE(world.run_until([&] { return done; }, 1s));
    return got;
  }
  // 40 writes that the target has accepted, each with up to some seconds to go.
  void hang_writes(Host& host) {
    host.write(40);
    ASSERT_TRUE(world.run_until([&] { return host.submitted == host.writes.size(); }, 1s));
    lun.options().slow_per_million = 1'000'000;
    world.run_for(5ms);
    lun.options().slow_per_million = 0;
    EXPECT_LT(landed[host.device.nexus()], 10U);
  }

  SimWorld world;
  SharedLun lun{world, "lun", {.slow_max = kSlowest}};
  std::map<uint64_t, size_t> landed;  // by nexus
  std::map<uint64_t, Duration> last_landed;
  std::vector<std::shared_ptr<Host>> hosts;
  Host* looks = nullptr;
};

}  // namespace holdfast::sim::guard
