#include "target/disk_opener.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

#include "tests/unit/target/fake_loops.h"

namespace holdfast::target {
namespace {

// Storage that hangs: every opening is kept, and answered when the test says so.
class HangingOpener final : public io::BackingOpener {
 public:
  void open(const io::BackingSpec&, io::Loop&, Opened done) override {
    waiting.push_back(std::move(done));
  }

  std::vector<Opened> waiting;
};

class DiskOpenerTest : public ::testing::Test {
 protected:
  // Opens, and gives up as an administrator's command does after its deadline.
  void open_and_give_up() {
    opener_.cancel(opener_.open({}, [](auto) noexcept { ADD_FAILURE() << "it was cancelled"; }));
  }

  FakeWorld world_;
  FakeLoop loop_{world_};
  HangingOpener storage_;
  DiskOpener opener_{loop_, storage_};
};

TEST_F(DiskOpenerTest, ThreadsOnStorageThatHangsAreBounded) {
  for (size_t i = 0; i < kMaxUnanswered; ++i) open_and_give_up();
  base::Errc code{};
  opener_.open({}, [&code](auto result) noexcept { code = result.error().code; });
  EXPECT_EQ(code, base::Errc{}) << "answered from within the call";
  world_.settle();
  EXPECT_EQ(code, base::Errc::limit);
  EXPECT_EQ(storage_.waiting.size(), kMaxUnanswered);

  // As soon as one has ended there is room again.
  storage_.waiting.back()(base::fail(base::Errc::not_found, "gone"));
  storage_.waiting.pop_back();
  open_and_give_up();
  EXPECT_EQ(storage_.waiting.size(), kMaxUnanswered);
  for (auto& done : storage_.waiting) done(base::fail(base::Errc::not_found, "gone"));
  EXPECT_FALSE(opener_.asked());
}

}  // namespace
}  // namespace holdfast::target
