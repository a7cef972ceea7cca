#include "common/daemon/durable_file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace holdfast::daemon {
namespace {

using namespace std::string_view_literals;
using testing::HasSubstr;

class DurableFile : public testing::Test {
 protected:
  DurableFile() {
    std::string pattern = testing::TempDir() + "holdfast-durable-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  ~DurableFile() override { std::filesystem::remove_all(directory_); }

  std::string path(const char* name) const { return directory_ + "/" + name; }
  static std::string text(const std::expected<std::vector<uint8_t>, int>& content) {
    return std::string(base::as_text(content.value()));
  }

  std::string directory_;
};

TEST_F(DurableFile, IsReplacedWhole) {
  ASSERT_TRUE(replace_file(path("a"), base::as_bytes("the first, which is longer"sv)));
  ASSERT_TRUE(replace_file(path("a"), base::as_bytes("second"sv)));
  EXPECT_EQ(text(read_file(path("a"), 100)), "second");
  EXPECT_FALSE(std::filesystem::exists(path("a.new")));
  struct stat status{};
  ASSERT_EQ(::stat(path("a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
}

TEST_F(DurableFile, AReplacementThatFailsLeavesTheOldOne) {
  ASSERT_TRUE(replace_file(path("a"), base::as_bytes("old"sv)));
  std::filesystem::create_directory(path("a.new"));
  const auto replaced = replace_file(path("a"), base::as_bytes("new"sv));
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().sys, EISDIR);
  EXPECT_EQ(replaced.error().path, path("a.new"));
  EXPECT_EQ(text(read_file(path("a"), 100)), "old");
}

TEST_F(DurableFile, OfOneThatIsTooLongOneByteMoreIsRead) {
  const std::string content(200'000, 'x');
  ASSERT_TRUE(replace_file(path("a"), base::as_bytes(content)));
  EXPECT_EQ(text(read_file(path("a"), 200'000)), content);
  EXPECT_EQ(read_file(path("a"), 199'999)->size(), 200'000U);
  EXPECT_EQ(read_file(path("a"), 10)->size(), 11U);
}

TEST_F(DurableFile, OnlyARegularFileIsRead) {
  EXPECT_EQ(read_file(path("none"), 10).error(), ENOENT);
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_file(path("pipe"), 10).error(), EINVAL);
  std::filesystem::create_symlink("pipe", path("link"));
  EXPECT_EQ(read_file(path("link"), 10).error(), ELOOP);
}

TEST_F(DurableFile, ALockIsHeldAsLongAsItsOwnerLives) {
  {
    const auto held = lock_file(path("lock"));
    ASSERT_TRUE(held.has_value() && held->has_value());
    const auto second = lock_file(path("lock"));
    ASSERT_TRUE(second.has_value());
    EXPECT_FALSE(second->has_value());
  }
  EXPECT_TRUE(lock_file(path("lock"))->has_value());
  EXPECT_THAT(lock_file(path("no/lock")).error(), HasSubstr("cannot open"));
}

TEST_F(DurableFile, ADirectoryIsMadeWithItsParentsOrItIsSaidWhyNot) {
  EXPECT_TRUE(make_directory(path("a/b/c")));
  EXPECT_TRUE(std::filesystem::is_directory(path("a/b/c")));
  EXPECT_TRUE(make_directory(path("a/b/c")));
  std::ofstream(path("file")) << "x";
  EXPECT_THAT(make_directory(path("file/sub")).error(),
              HasSubstr("cannot create the state directory " + path("file/sub")));
}

}  // namespace
}  // namespace holdfast::daemon
