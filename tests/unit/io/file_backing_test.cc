#include "common/io/file_backing.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "common/io/backing_opener.h"
#include "common/io/file_device.h"
#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

constexpr uint64_t kMiB = 1024 * 1024;

template <class T>
base::Errc code_of(const base::Result<T>& result) {
  return result.has_value() ? base::Errc{} : result.error().code;
}

class FileBackingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "holdfast-backing-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override {
    device_.reset();
    backing_.reset();
    std::filesystem::remove_all(folder_);
  }

  BackingSpec spec(uint64_t size_bytes = kMiB) const {
    return {.path = folder_ / "disk.img", .size_bytes = size_bytes};
  }
  static base::Result<std::shared_ptr<FileBacking>> open(const BackingSpec& spec) {
    auto worker = BlockingWorker::start();
    auto opened = FileBacking::open(spec, worker);
    if (!opened.has_value()) worker->finish();
    return opened;
  }
  void attach(const BackingSpec& spec) {
    auto opened = open(spec);
    ASSERT_TRUE(opened.has_value()) << opened.error().what;
    backing_ = *opened;
    device_ = backing_->attach(thread_.loop());
  }
  void make_file(uint64_t size_bytes) const {
    const int fd = ::open(spec().path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(ftruncate(fd, static_cast<off_t>(size_bytes)), 0);
    ::close(fd);
  }
  struct stat status() const {
    struct stat found{};
    EXPECT_EQ(stat(spec().path.c_str(), &found), 0);
    return found;
  }

  int32_t write(uint64_t offset, base::Bytes bytes, Durability durability = Durability::cached) {
    return thread_.complete([&](Op& op) { device_->write(op, offset, bytes, durability); });
  }
  int32_t read(uint64_t offset, base::MutableBytes bytes) {
    return thread_.complete([&](Op& op) { device_->read(op, offset, bytes); });
  }
  Extent extent_at(uint64_t offset) {
    Extent extent;
    EXPECT_EQ(thread_.complete([&](Op& op) { device_->extent_at(op, offset, &extent); }), 0);
    return extent;
  }
  base::Result<> grow(uint64_t size_bytes) {
    std::promise<base::Result<>> done;
    backing_->grow(size_bytes, thread_.loop(),
                   [&](base::Result<> result) noexcept { done.set_value(result); });
    return done.get_future().get();
  }

  std::filesystem::path folder_;
  LoopThread thread_;
  std::shared_ptr<FileBacking> backing_;
  std::unique_ptr<BlockDevice> device_;
};

TEST_F(FileBackingTest, CreatesAPrivateSparseFile) {
  attach(spec(64 * kMiB));
  EXPECT_EQ(status().st_size, static_cast<off_t>(64 * kMiB));
  EXPECT_EQ(status().st_mode & 0777, 0600u);
  EXPECT_LT(status().st_blocks * 512, static_cast<off_t>(kMiB));
  const BlockInfo info = device_->info();
  EXPECT_EQ(info.size_bytes, 64 * kMiB);
  EXPECT_EQ(info.block_size, 512u);
  EXPECT_FALSE(info.read_only);
  EXPECT_TRUE(info.can_discard);
  EXPECT_TRUE(info.volatile_cache);  // a file: unknown, so the careful thing
  EXPECT_TRUE(device_->mapped().empty());
}

TEST_F(FileBackingTest, UsesODirectWhereTheFileSystemHasIt) {
  const int probe =
      ::open((folder_ / "probe").c_str(), O_CREAT | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
  if (probe >= 0) ::close(probe);
  attach(spec());
  EXPECT_EQ((fcntl(backing_->fd(), F_GETFL) & O_DIRECT) != 0, probe >= 0);
  EXPECT_EQ(fcntl(backing_->fd(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(backing_->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(FileBackingTest, ThickTakesItsSpaceAtOnce) {
  BackingSpec thick = spec(4 * kMiB);
  thick.thin = false;
  attach(thick);
  EXPECT_GE(status().st_blocks * 512, static_cast<off_t>(4 * kMiB));
  EXPECT_FALSE(device_->info().can_discard);
  ASSERT_TRUE(grow(6 * kMiB).has_value());
  EXPECT_GE(status().st_blocks * 512, static_cast<off_t>(6 * kMiB));
}

TEST_F(FileBackingTest, WhatWasWrittenIsRead) {
  attach(spec());
  AlignedBytes written(8192, 0xa5), got(8192, 0x11);
  ASSERT_EQ(write(4096, written.all()), 8192);
  ASSERT_EQ(write(65536, written.all(), Durability::durable), 8192);
  EXPECT_EQ(thread_.complete([&](Op& op) { device_->flush(op); }), 0);
  for (const uint64_t offset : {4096u, 65536u}) {
    std::ranges::fill(got.all(), uint8_t{0x11});
    ASSERT_EQ(read(offset, got.all()), 8192);
    EXPECT_TRUE(got.all_are(0xa5));
  }
  ASSERT_EQ(read(0, got.all().first(512)), 512);  // one block, before what was written
  EXPECT_TRUE(got.all_are(0, 0, 512));
}

TEST_F(FileBackingTest, DiscardedRangesReadAsZeroesAndAreHoles) {
  attach(spec());
  AlignedBytes bytes(256 * 1024, 0x5a);
  ASSERT_EQ(write(0, bytes.all()), 256 * 1024);
  Extent extent = extent_at(0);
  EXPECT_EQ(extent.state, ExtentState::mapped);
  EXPECT_EQ(extent.length_bytes, 256u * 1024);

  ASSERT_EQ(thread_.complete([&](Op& op) { device_->discard(op, 65536, 65536); }), 0);
  ASSERT_EQ(read(0, bytes.all()), 256 * 1024);
  EXPECT_TRUE(bytes.all_are(0x5a, 0, 65536));
  EXPECT_TRUE(bytes.all_are(0, 65536, 65536));
  EXPECT_TRUE(bytes.all_are(0x5a, 131072, 131072));

  extent = extent_at(4096);  // from the offset asked for, not from the extent's start
  EXPECT_EQ(extent.state, ExtentState::mapped);
  EXPECT_EQ(extent.length_bytes, 65536u - 4096);
  extent = extent_at(65536);
  EXPECT_EQ(extent.state, ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, 65536u);
  extent = extent_at(512 * 1024);  // never written: to the end
  EXPECT_EQ(extent.state, ExtentState::deallocated);
  EXPECT_EQ(extent.length_bytes, kMiB - 512 * 1024);
}

// Part of a file system block cannot be given back, but must read as zeroes.
TEST_F(FileBackingTest, APartOfABlockIsDiscardedToZeroes) {
  attach(spec());
  AlignedBytes bytes(8192, 0x77);
  ASSERT_EQ(write(0, bytes.all()), 8192);
  ASSERT_EQ(thread_.complete([&](Op& op) { device_->discard(op, 512, 1024); }), 0);
  ASSERT_EQ(read(0, bytes.all()), 8192);
  EXPECT_TRUE(bytes.all_are(0x77, 0, 512));
  EXPECT_TRUE(bytes.all_are(0, 512, 1024));
  EXPECT_TRUE(bytes.all_are(0x77, 1536, 8192 - 1536));
}

TEST_F(FileBackingTest, WriteZeroes) {
  attach(spec());
  AlignedBytes bytes(16384, 0x33);
  ASSERT_EQ(write(0, bytes.all()), 16384);
  const int32_t result = thread_.complete([&](Op& op) { device_->write_zeroes(op, 4096, 4096); });
  ASSERT_EQ(read(0, bytes.all()), 16384);
  EXPECT_TRUE(bytes.all_are(0x33, 0, 4096));
  EXPECT_TRUE(bytes.all_are(0x33, 8192, 8192));
  if (result == -EOPNOTSUPP) {  // tmpfs: the caller writes the zeroes itself
    EXPECT_TRUE(bytes.all_are(0x33, 4096, 4096));
  } else {
    EXPECT_EQ(result, 0);
    EXPECT_TRUE(bytes.all_are(0, 4096, 4096));
  }
}

TEST_F(FileBackingTest, ErrorsOfTheKernelArriveAsTheyAre) {
  attach(spec());
  AlignedBytes bytes(4096, 1);
  EXPECT_EQ(write(uint64_t{1} << 62, bytes.all()), -EFBIG);
  EXPECT_LT(thread_.complete([&](Op& op) { device_->discard(op, uint64_t{1} << 63, 4096); }), 0);
}

TEST_F(FileBackingTest, AShortReadIsAnError) {
  attach(spec());
  AlignedBytes bytes(8192, 1);
  ASSERT_EQ(truncate(spec().path.c_str(), 4096), 0);  // behind its back
  EXPECT_EQ(read(0, bytes.all()), -EIO);
  EXPECT_EQ(read(0, bytes.all().first(4096)), 4096);
}

TEST_F(FileBackingTest, IsLockedAsLongAsItLives) {
  attach(spec());
  const auto second = open(spec());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, base::Errc::busy);
  device_.reset();
  backing_.reset();
  EXPECT_TRUE(open(spec()).has_value());
}

// Waiting for the lock, as for another process's, would never end.
TEST_F(FileBackingTest, ASecondPathToAFileOfThisProcessIsToldFromALock) {
  const auto claims = std::make_shared<FileClaims>();
  const auto open_with_claims = [&](const std::filesystem::path& path) {
    auto worker = BlockingWorker::start();
    BackingSpec wanted = spec();
    wanted.path = path;
    auto opened = FileBacking::open(wanted, worker, claims);
    if (!opened.has_value()) worker->finish();
    return opened;
  };
  auto first = open_with_claims(spec().path);
  ASSERT_TRUE(first.has_value());
  std::filesystem::create_symlink(spec().path, folder_ / "soft");
  std::filesystem::create_hard_link(spec().path, folder_ / "hard");
  EXPECT_EQ(code_of(open_with_claims(folder_ / "soft")), base::Errc::exists);
  EXPECT_EQ(code_of(open_with_claims(folder_ / "hard")), base::Errc::exists);
  EXPECT_EQ(code_of(open_with_claims(spec().path)), base::Errc::busy);  // closing, perhaps
  first->reset();
  EXPECT_TRUE(open_with_claims(folder_ / "soft").has_value());
  const auto other = open(spec());  // of another process, as far as these claims know
  EXPECT_EQ(code_of(open_with_claims(folder_ / "hard")), base::Errc::busy);
}

TEST_F(FileBackingTest, IsMadeOnlyWhenAskedFor) {
  BackingSpec wanted = spec();
  wanted.served_bytes = kMiB;
  EXPECT_EQ(code_of(open(wanted)), base::Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(wanted.path));
  make_file(kMiB);
  EXPECT_TRUE(open(wanted).has_value());
}

TEST_F(FileBackingTest, AReadOnlyDiskIsLockedToo) {
  make_file(kMiB);
  BackingSpec read_only = spec();
  read_only.read_only = true;
  attach(read_only);
  EXPECT_EQ(code_of(open(spec())), base::Errc::busy);
}

// A larger size that is refused for the lock must not have touched the file.
TEST_F(FileBackingTest, ALockedFileIsNotGrown) {
  attach(spec());
  ASSERT_FALSE(open(spec(2 * kMiB)).has_value());
  EXPECT_EQ(status().st_size, static_cast<off_t>(kMiB));
}

TEST_F(FileBackingTest, ALargerFileIsRefusedAndKept) {
  make_file(2 * kMiB);
  const auto opened = open(spec(kMiB));
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code, base::Errc::invalid_argument);
  EXPECT_EQ(status().st_size, static_cast<off_t>(2 * kMiB));
}

TEST_F(FileBackingTest, ASmallerFileIsGrownUnlessReadOnly) {
  make_file(kMiB);
  BackingSpec read_only = spec(2 * kMiB);
  read_only.read_only = true;
  EXPECT_EQ(code_of(open(read_only)), base::Errc::invalid_argument);
  EXPECT_EQ(status().st_size, static_cast<off_t>(kMiB));
  attach(spec(2 * kMiB));
  EXPECT_EQ(device_->info().size_bytes, 2 * kMiB);
  EXPECT_EQ(status().st_size, static_cast<off_t>(2 * kMiB));
}

TEST_F(FileBackingTest, ReadOnlyNeitherWritesNorCreates) {
  BackingSpec read_only = spec();
  read_only.read_only = true;
  EXPECT_EQ(code_of(open(read_only)), base::Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(read_only.path));
  make_file(kMiB);
  attach(read_only);
  EXPECT_TRUE(device_->info().read_only);
  EXPECT_FALSE(device_->info().can_discard);
  AlignedBytes bytes(4096, 1);
  EXPECT_EQ(write(0, bytes.all()), -EBADF);
  EXPECT_EQ(read(0, bytes.all()), 4096);
}

TEST_F(FileBackingTest, WhatIsNotAFileIsRefused) {
  BackingSpec wrong = spec();
  wrong.path = folder_ / "none" / "disk.img";
  EXPECT_EQ(code_of(open(wrong)), base::Errc::not_found);
  wrong.path = folder_;
  EXPECT_FALSE(open(wrong).has_value());
  wrong.path = "/dev/null";
  EXPECT_EQ(code_of(open(wrong)), base::Errc::invalid_argument);
  make_file(kMiB);
  wrong = spec();
  wrong.kind = BackingKind::block;
  EXPECT_EQ(code_of(open(wrong)), base::Errc::invalid_argument);
}

TEST_F(FileBackingTest, Grows) {
  attach(spec());
  ASSERT_TRUE(grow(3 * kMiB).has_value());
  EXPECT_EQ(device_->info().size_bytes, kMiB) << "not before it is used";
  EXPECT_EQ(status().st_size, static_cast<off_t>(3 * kMiB));
  backing_->use_grown();
  EXPECT_EQ(device_->info().size_bytes, 3 * kMiB);
  AlignedBytes bytes(4096, 9);
  EXPECT_EQ(write(3 * kMiB - 4096, bytes.all()), 4096);

  EXPECT_EQ(code_of(grow(kMiB)), base::Errc::invalid_argument);
  EXPECT_EQ(code_of(grow(uint64_t{1} << 62)), base::Errc::limit);
  EXPECT_EQ(device_->info().size_bytes, 3 * kMiB);
  EXPECT_EQ(status().st_size, static_cast<off_t>(3 * kMiB));
}

TEST_F(FileBackingTest, GrowthThatIsNotUsedIsGivenBack) {
  attach(spec());
  ASSERT_TRUE(grow(3 * kMiB).has_value());
  backing_->undo_grow();
  ASSERT_TRUE(grow(2 * kMiB).has_value()) << "in their order";
  EXPECT_EQ(status().st_size, static_cast<off_t>(2 * kMiB));
  backing_->use_grown();
  backing_->undo_grow();  // nothing is left to undo
  ASSERT_TRUE(grow(2 * kMiB).has_value());
  EXPECT_EQ(status().st_size, static_cast<off_t>(2 * kMiB));
}

TEST_F(FileBackingTest, WhatOthersHaveAddedToTheFileIsNotCutOff) {
  attach(spec());
  std::filesystem::resize_file(spec().path, 4 * kMiB);
  EXPECT_EQ(code_of(grow(3 * kMiB)), base::Errc::invalid_argument);
  EXPECT_EQ(status().st_size, static_cast<off_t>(4 * kMiB));
  EXPECT_TRUE(grow(5 * kMiB).has_value());
}

TEST_F(FileBackingTest, AFileThatOpenHasMadeCanBeTakenBack) {
  const BackingSpec wanted = spec();
  {
    auto opened = open(wanted);
    ASSERT_TRUE(opened.has_value());
    (*opened)->undo_open();
  }
  for (int i = 0; i < 1000 && std::filesystem::exists(wanted.path); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_FALSE(std::filesystem::exists(wanted.path));
  make_file(kMiB);
  attach(wanted);
  backing_->undo_open();
  ASSERT_TRUE(grow(kMiB).has_value()) << "after it";
  EXPECT_TRUE(std::filesystem::exists(wanted.path)) << "it was there before";
}

TEST_F(FileBackingTest, AFileThatIsSmallerThanWhatWasServedHasLostData) {
  make_file(kMiB);
  BackingSpec wanted = spec(4 * kMiB);
  wanted.served_bytes = 2 * kMiB;
  EXPECT_EQ(code_of(open(wanted)), base::Errc::corrupt);
  EXPECT_EQ(status().st_size, static_cast<off_t>(kMiB));
  wanted.served_bytes = kMiB;
  attach(wanted);
  EXPECT_EQ(device_->info().size_bytes, 4 * kMiB);
}

TEST_F(FileBackingTest, WhatWasNeverServedOfALargerFileIsLeftAlone) {
  make_file(4 * kMiB);  // as after a kill while it was grown
  BackingSpec wanted = spec(2 * kMiB);
  wanted.served_bytes = 3 * kMiB;
  EXPECT_EQ(code_of(open(wanted)), base::Errc::invalid_argument);
  wanted.served_bytes = 2 * kMiB;
  const int fd = ::open(wanted.path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(pwrite(fd, "data", 4, static_cast<off_t>(2 * kMiB)), 4);
  attach(wanted);
  EXPECT_EQ(device_->info().size_bytes, 2 * kMiB);
  EXPECT_EQ(status().st_size, static_cast<off_t>(4 * kMiB));
  EXPECT_EQ(extent_at(0).length_bytes, 2 * kMiB) << "a hole";
  std::array<char, 4> behind{};
  EXPECT_EQ(pread(fd, behind.data(), 4, static_cast<off_t>(2 * kMiB)), 4);
  EXPECT_EQ(std::string_view(behind.data(), 4), "data");
  ::close(fd);
}

TEST_F(FileBackingTest, AThickDiskHasAllOfItsSpaceAlsoInAFileThatWasThin) {
  make_file(kMiB);
  ASSERT_EQ(status().st_blocks, 0);
  BackingSpec thick = spec();
  thick.thin = false;
  attach(thick);
  EXPECT_GE(status().st_blocks * 512, static_cast<blkcnt_t>(kMiB));
}

TEST_F(FileBackingTest, APipeIsNotWaitedFor) {
  ASSERT_EQ(::mkfifo(spec().path.c_str(), 0600), 0);
  BackingSpec read_only = spec();
  read_only.read_only = true;
  EXPECT_EQ(code_of(open(read_only)), base::Errc::invalid_argument);
}

TEST_F(FileBackingTest, AFileOfTheProcessItselfIsRefused) {
  make_file(kMiB);
  SystemBackingOpener opener;
  opener.claim(spec().path);
  std::filesystem::create_hard_link(spec().path, folder_ / "other");
  for (const std::string& path : {spec().path, (folder_ / "other").string()}) {
    std::promise<base::Errc> failure;
    BackingSpec wanted = spec();
    wanted.path = path;
    opener.open(wanted, thread_.loop(),
                [&](base::Result<std::shared_ptr<Backing>> result) noexcept {
                  failure.set_value(code_of(result));
                });
    EXPECT_EQ(failure.get_future().get(), base::Errc::exists) << path;
  }
}

TEST_F(FileBackingTest, TheOpenerAnswersOnTheLoop) {
  SystemBackingOpener opener;
  const auto open_by = [&](const BackingSpec& wanted) {
    std::promise<base::Result<std::shared_ptr<Backing>>> opened;
    opener.open(wanted, thread_.loop(),
                [&](base::Result<std::shared_ptr<Backing>> result) noexcept {
                  opened.set_value(std::move(result));
                });
    return opened.get_future().get();
  };
  auto file = open_by(spec());
  ASSERT_TRUE(file.has_value()) << file.error().what;
  EXPECT_EQ((*file)->info().size_bytes, kMiB);
  EXPECT_EQ(code_of(open_by(spec())), base::Errc::busy);
  const auto memory = open_by({.kind = BackingKind::memory, .size_bytes = kMiB});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ((*memory)->info().size_bytes, kMiB);
}

}  // namespace
}  // namespace holdfast::io
