#include "common/io/netlink_link_watch.h"

#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

// What changes is in tests/system/link_watch_test.py: it needs interfaces of its own.
class NetlinkLinkWatchTest : public LoopTest {
 protected:
  void run_until_ready(const NetlinkOptions& options, std::function<void()> then) {
    run([this, &options, then = std::move(then)] {
      auto opened = NetlinkLinkWatch::open(loop(), options);
      ASSERT_TRUE(opened.has_value()) << opened.error().what;
      watch = std::move(*opened);
      EXPECT_FALSE(watch->ready());
      loop().start(poll, 1ms);
      when_ready = then;
    });
  }
  void close() {
    watch->close([this]() noexcept {
      watch.reset();
      finish();
    });
    EXPECT_NE(watch, nullptr);  // not from inside the call
  }

  std::unique_ptr<NetlinkLinkWatch> watch;
  std::function<void()> when_ready;
  Alarm poll{[this] {
    if (watch->ready()) return when_ready();
    loop().start(poll, 1ms);
  }};
};

TEST_F(NetlinkLinkWatchTest, KnowsTheHostsAddresses) {
  std::optional<LinkWatch::Where> own, foreign;
  run_until_ready({}, [&] {
    own = watch->find(Endpoint::parse("127.0.0.1:3260").value());
    foreign = watch->find(Endpoint::parse("192.0.2.1:3260").value());
    close();
  });
  ASSERT_TRUE(own.has_value());
  EXPECT_EQ(own->interface, "lo");
  EXPECT_TRUE(own->up);
  EXPECT_FALSE(foreign.has_value());
}

TEST_F(NetlinkLinkWatchTest, LooksAgainFromTimeToTime) {
  uint64_t dumps = 0;
  Alarm again([&] {
    dumps = watch->dumps();
    if (dumps < 4) return loop().start(again, 1ms);
    EXPECT_TRUE(watch->find(Endpoint::parse("127.0.0.1:0").value()).has_value());
    close();
  });
  run_until_ready({.dump_interval = 1ms}, [&] { loop().start(again, 1ms); });
  EXPECT_GE(dumps, 4u);
}

TEST_F(NetlinkLinkWatchTest, MayBeClosedBeforeItIsReady) {
  run([this] {
    watch = NetlinkLinkWatch::open(loop(), {}).value();
    close();
  });
  EXPECT_EQ(watch, nullptr);
}

}  // namespace
}  // namespace holdfast::io
