#include "mpio/embedded_devices.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace holdfast::mpio {
namespace {

using testing::HasSubstr;

class EmbeddedDevicesTest : public testing::Test {
 protected:
  EmbeddedDevicesTest() {
    std::string name = testing::TempDir() + "/holdfast-embedded-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    loop_ = io::UringLoop::open({}).value();
  }
  ~EmbeddedDevicesTest() override { std::filesystem::remove_all(directory_); }
  std::expected<std::unique_ptr<EmbeddedDevices>, std::string> open(const std::string& state_dir) {
    DeviceConfig device;
    device.name = "csv1";
    device.target = "iqn.2026-11.org.holdfast:store";
    // Nobody is there, and nobody is asked.
    device.portals = {{.address = io::Endpoint::parse("127.0.0.1:1").value(),
                       .source = io::Endpoint::parse("127.0.0.1:0").value()}};
    return EmbeddedDevices::open(*loop_, random_, files_,
                                 {.devices = {device},
                                  .initiator_name = "iqn.2026-11.org.holdfast:hv1",
                                  .state_dir = directory_ + state_dir,
                                  .config_file = "f"});
  }
  std::string isids(const std::string& state_dir) const {
    std::ifstream file(directory_ + state_dir + "/isids");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::string directory_;
  base::SystemRandom random_;
  daemon::FileWorker files_;
  std::unique_ptr<io::UringLoop> loop_;
};

TEST_F(EmbeddedDevicesTest, ADeviceIsThereAtOnceAndItsSessionsAreDurable) {
  const auto devices = open("/a");
  ASSERT_TRUE(devices.has_value());
  EXPECT_NE((*devices)->find("csv1"), nullptr);
  EXPECT_EQ((*devices)->find("csv2"), nullptr);
  EXPECT_EQ((*devices)->status().size(), 1U);
  EXPECT_THAT(isids("/a"), HasSubstr("csv1"));
}

TEST_F(EmbeddedDevicesTest, TwoDaemonsOfAHostHaveSessionsOfTheirOwn) {
  ASSERT_TRUE(open("/a").has_value());
  ASSERT_TRUE(open("/b").has_value());
  EXPECT_NE(isids("/a"), isids("/b"));
  const std::string before = isids("/a");
  ASSERT_TRUE(open("/a").has_value());
  EXPECT_EQ(isids("/a"), before) << "unchanged by a restart";
}

TEST_F(EmbeddedDevicesTest, AStateDirectoryThatCannotBeUsedIsSaid) {
  const auto first = open("/a");
  EXPECT_THAT(open("/a").error(), HasSubstr("uses the state directory"));
  std::ofstream(directory_ + "/file") << "x";
  EXPECT_FALSE(open("/file").has_value());
}

// All that it runs is one device, which reaches nobody, and the watch over links.
TEST_F(EmbeddedDevicesTest, ItStopsAlsoWhenNobodyWasReached) {
  auto devices = std::move(open("/a").value());
  bool stopped = false;
  loop_->post([&]() noexcept {
    devices->start();
    devices->stop([&]() noexcept {
      stopped = true;
      loop_->stop();
    });
  });
  loop_->run();
  EXPECT_TRUE(stopped);
  devices->finish();
}

}  // namespace
}  // namespace holdfast::mpio
