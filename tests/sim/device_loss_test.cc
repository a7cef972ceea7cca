// How long a multipath device takes to find a path that has fallen silent under load, in virtual
// time: the profile's times, and not more.

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "common/scsi/report_luns.h"
#include "mpio/device.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kBlock = 4096;
constexpr const char* kAddresses[] = {"10.1.0.1", "10.2.0.1"};
constexpr const char* kPortals[] = {"10.1.0.10", "10.2.0.10"};
constexpr uint64_t kPoolBytes = 4 * 1024 * 1024;
// Silence begins with the last byte, and the other path's answer takes a moment.
constexpr Duration kRoom = 20ms;

mpio::DeviceOptions device_options() {
  mpio::DeviceOptions options{.name = "disk", .policy = mpio::Policy::failover};
  for (size_t i = 0; i < 2; ++i) {
    const std::string portal = std::string(kPortals[i]) + ":3260";
    mpio::PathSettings path{.name = portal, .lun = scsi::encode_lun(uint16_t{0})};
    path.session.portal = io::Endpoint::parse(portal).value();
    path.session.connect.source = io::Endpoint::parse(std::string(kAddresses[i]) + ":0").value();
    path.session.login.initiator_name = "iqn.2026-11.org.holdfast:hv1";
    path.session.login.target_name = kTargetName;
    path.session.login.isid = 0x80'0000'000000 + i;
    options.paths.push_back(std::move(path));
  }
  return options;
}

// Reads all the time, `depth` of them under way.
class Reader {
 public:
  Reader(SimWorld& world, SimFabric& fabric, uint32_t depth)
      : world_(world),
        process_(world.make_process("hv1")),
        loop_(process_.make_loop()),
        network_(fabric, loop_),
        random_(world.fork_random()),
        buffers_(io::BufferPool::create(kPoolBytes).value()),
        device_({loop_, network_, random_}, *buffers_, device_options()) {
    for (uint32_t i = 0; i < depth; ++i) lanes_.push_back(std::make_unique<Lane>(*this));
    loop_.post([this]() noexcept { device_.start(); });
  }
  ~Reader() { process_.kill(); }

  bool up() const {
    for (const auto& path : device_.paths()) {
      if (!path->carries_io()) return false;
    }
    return device_.known();
  }
  void begin() {
    loop_.post([this]() noexcept {
      for (const auto& lane : lanes_) next(*lane);
    });
  }
  void end() {
    ending_ = true;
    loop_.post([this]() noexcept { device_.stop([this]() noexcept { ended_ = true; }); });
  }
  bool ended() const { return ended_; }
  Duration last() const { return last_; }
  Duration longest() const { return longest_; }
  uint64_t count() const { return count_; }

 private:
  struct Lane {
    explicit Lane(Reader& its_reader) : reader(its_reader), memory(kBlock) {
      part = {memory.data(), memory.size()};
    }
    void on_done(int32_t result) noexcept { reader.on_done(*this, result); }
    Reader& reader;
    std::vector<uint8_t> memory;
    iovec part{};
    Duration began{0};
    io::BlockRequestOf<Lane, &Lane::on_done> request{*this};
  };

  void next(Lane& lane) {
    lane.request.offset = 0;
    lane.request.length = kBlock;
    lane.request.data = {&lane.part, 1};
    lane.began = world_.now();
    device_.submit(lane.request);
  }
  void on_done(Lane& lane, int32_t result) {
    if (ending_) return;
    EXPECT_GE(result, 0);
    ++count_;
    last_ = world_.now();
    longest_ = std::max(longest_, last_ - lane.began);
    next(lane);
  }

  SimWorld& world_;
  SimProcess& process_;
  SimLoop& loop_;
  SimNetwork network_;
  base::SeededRandom random_;
  std::unique_ptr<io::BufferPool> buffers_;
  mpio::Device device_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  Duration last_{0}, longest_{0};
  uint64_t count_ = 0;
  bool ending_ = false, ended_ = false;
};

// The longest a read took when its path fell silent after so much load.
Duration pause_of_silent_loss(uint32_t depth, Duration load) {
  SimWorld world(1);
  // A slow network: fewer events in the same time.
  SimFabric fabric(world, {.delay_min = 1ms, .delay_max = 2ms, .partial_per_million = 0});
  TargetHost target(world, fabric, {},
                    {{.lun = 0, .path = "/disks/a", .block_size = 512, .blocks = 1024}});
  target.start();
  Reader reader(world, fabric, depth);
  EXPECT_TRUE(world.run_until([&] { return reader.up(); }, 10s));
  reader.begin();
  world.run_for(load);
  EXPECT_GT(reader.count(), 50U);
  EXPECT_LT(reader.longest(), kRoom);
  fabric.isolate(kPortals[0]);
  const uint64_t before = reader.count();
  world.run_for(1500ms);
  EXPECT_GT(reader.count(), before + 50) << "the other path goes on";
  const Duration longest = reader.longest();
  reader.end();
  EXPECT_TRUE(world.run_until([&] { return reader.ended(); }, 10s));
  EXPECT_TRUE(target.stop(60s));
  return longest;
}

TEST(DeviceLoss, SilenceUnderLoadIsFoundInTheTimesOfTheProfile) {
  constexpr Duration kDetection = mpio::kLan.suspect_after + mpio::kLan.nop_timeout;
  for (const uint32_t depth : {1U, 2U, 8U}) {
    for (const Duration load : {Duration(400ms), Duration(470ms), Duration(1130ms)}) {
      const Duration pause = pause_of_silent_loss(depth, load);
      EXPECT_GE(pause, kDetection - kRoom) << depth << " under way";
      EXPECT_LE(pause, kDetection + kRoom) << depth << " under way";
    }
  }
}

}  // namespace
}  // namespace holdfast::sim
