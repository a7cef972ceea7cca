#include "qdisk/config_files.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <future>

#include "tests/unit/io/loop_fixture.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using ::testing::HasSubstr;

class ConfigFilesTest : public io::LoopTest {
 protected:
  ConfigFilesTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-config-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
    open();
  }
  ~ConfigFilesTest() override { std::filesystem::remove_all(path_); }

  std::string path_;
  daemon::FileWorker worker_;
};

TEST_F(ConfigFilesTest, WhatWasSavedIsLoadedAndAnswersComeOnTheLoop) {
  const ConfigDocument document = make_document(1, "one");
  ConfigFileWorker files(loop(), worker_, std::make_shared<ConfigDirectory>(path_, kSampleCluster));
  ConfigCopies found;
  bool inside = false;
  run([&] {
    inside = true;
    files.save(document, {}, [&](std::expected<void, std::string> saved) noexcept {
      EXPECT_FALSE(inside);
      EXPECT_TRUE(saved.has_value());
      files.load([&](ConfigCopies loaded) noexcept {
        found = std::move(loaded);
        finish();
      });
    });
    inside = false;
  });
  EXPECT_EQ(found[0], document);
}

TEST_F(ConfigFilesTest, AFailureIsAnswered) {
  ConfigFileWorker files(loop(), worker_,
                         std::make_shared<ConfigDirectory>(path_ + "/gone", kSampleCluster));
  std::string error;
  run([&] {
    files.save(make_document(1, "one"), {}, [&](std::expected<void, std::string> saved) noexcept {
      error = saved ? "" : saved.error();
      finish();
    });
  });
  EXPECT_THAT(error, HasSubstr("cannot be saved on this node"));
}

// Storage that hangs: what is asked for then is answered, and nothing piles up.
TEST_F(ConfigFilesTest, WhatTheWorkerDoesNotTakeIsAnswered) {
  ConfigFileWorker files(loop(), worker_, std::make_shared<ConfigDirectory>(path_, kSampleCluster));
  std::promise<void> hang;
  ASSERT_TRUE(worker_.submit([until = hang.get_future()]() noexcept { until.wait(); }));
  while (worker_.submit([]() noexcept {})) {
  }
  int answers = 0;
  const auto count = [&]() noexcept {
    if (++answers == 2) finish();
  };
  run([&] {
    files.save(make_document(1, "one"), {}, [&](std::expected<void, std::string> saved) noexcept {
      EXPECT_THAT(saved.error(), HasSubstr("does not answer"));
      count();
    });
    files.load([&](ConfigCopies loaded) noexcept {
      EXPECT_EQ(loaded, ConfigCopies{});
      count();
    });
  });
  hang.set_value();
  EXPECT_EQ(answers, 2);
}

}  // namespace
}  // namespace holdfast::qdisk
