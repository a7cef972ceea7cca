#include "qdisk/state_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <optional>
#include <set>
#include <sstream>
#include <vector>

#include "common/base/crc32c.h"
#include "tests/unit/io/loop_fixture.h"
#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using testing::HasSubstr;

class StateFileTest : public testing::Test {
 protected:
  StateFileTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "holdfast-state-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    state_ = directory_ + "/a/state";
  }
  ~StateFileTest() override { std::filesystem::remove_all(directory_); }

  std::shared_ptr<StateDirectory> open() {
    auto opened = StateDirectory::open(state_, owner_, random_);
    EXPECT_TRUE(opened.has_value()) << opened.error();
    return opened ? *opened : nullptr;
  }
  // As a daemon that starts and is killed.
  NodeRecord start() {
    const auto opened = open();
    return opened ? opened->opened() : NodeRecord{};
  }
  std::string open_error() {
    auto opened = StateDirectory::open(state_, owner_, random_);
    return opened ? "opened" : opened.error();
  }
  // Starts, and saves what a member has.
  NodeRecord live(bool ended = false) {
    const auto opened = open();
    NodeRecord record = opened->opened();
    record.remembers = true;
    record.fenced = 3;
    record.ended = ended;
    record.acceptor.decided = sample_decision();
    record.acceptor.blocks[2] = sample_ballot();
    EXPECT_TRUE(opened->replace(opened->encode(record)).has_value());
    return record;
  }
  std::string file() const { return state_ + "/node"; }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(file(), std::ios::binary).rdbuf();
    return text.str();
  }
  static void write(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }

  std::string directory_, state_;
  StateOwner owner_{.node = 2, .cluster = kSampleCluster, .boot = sample_uuid(0xc0), .seen = 0};
  base::SeededRandom random_{7};
};

// --- which life it is

TEST_F(StateFileTest, TheFirstLifeRemembersNothingAndIsDurable) {
  const NodeRecord first = start();
  EXPECT_NE(first.incarnation, 0U);
  EXPECT_EQ(first, (NodeRecord{.incarnation = first.incarnation}));
  EXPECT_EQ(start(), first);
}

TEST_F(StateFileTest, WithinABootTheSameLifeGoesOnWithAllItKnew) {
  const NodeRecord before = live();
  EXPECT_EQ(start(), before);
  EXPECT_EQ(start(), before);
}

TEST_F(StateFileTest, AfterABootANewLifeRemembersWhatTheOldOneHadPromised) {
  NodeRecord expected = live();
  owner_.boot = sample_uuid(0xc1);
  ++expected.incarnation;
  EXPECT_EQ(start(), expected);
  EXPECT_EQ(start(), expected);  // it was durable before it was used
  owner_.boot = sample_uuid(0xc0);
  ++expected.incarnation;
  EXPECT_EQ(start(), expected);
}

TEST_F(StateFileTest, ABootThatIsNotKnownIsNeverTheSame) {
  owner_.boot = {};
  const Incarnation first = start().incarnation;
  EXPECT_EQ(start().incarnation, first + 1);
}

TEST_F(StateFileTest, AfterALifeThatHasEndedComesANewOne) {
  NodeRecord expected = live(true);
  ++expected.incarnation;
  expected.ended = false;
  EXPECT_EQ(start(), expected);
  EXPECT_EQ(start(), expected);
}

TEST_F(StateFileTest, ALostFileMakesANewLifeThatRemembersNothing) {
  std::set<Incarnation> lives;
  for (int i = 0; i < 20; ++i) {
    lives.insert(live().incarnation);
    std::filesystem::remove(file());
  }
  EXPECT_EQ(lives.size(), 20U);
  for (const Incarnation life : lives) EXPECT_LT(life, Incarnation{1} << 31);  // room for more
  EXPECT_FALSE(start().remembers);
}

TEST_F(StateFileTest, ALostFileMakesALaterLifeThanOthersHaveSeen) {
  const NodeRecord before = live();
  std::filesystem::remove(file());
  owner_.seen = before.incarnation;
  const NodeRecord after = start();
  EXPECT_GT(after.incarnation, before.incarnation);
  EXPECT_EQ(after, (NodeRecord{.incarnation = after.incarnation}));
}

TEST_F(StateFileTest, AFileThatIsOlderThanTheLifeOthersHaveSeenIsNotBelieved) {
  const NodeRecord old = live();
  owner_.seen = old.incarnation;
  EXPECT_EQ(start(), old);
  owner_.seen = old.incarnation + 1;
  const NodeRecord next = start();
  EXPECT_FALSE(next.remembers);
  EXPECT_GT(next.incarnation, owner_.seen);
  EXPECT_EQ(start(), next);
}

TEST_F(StateFileTest, AfterTheLastIncarnationNoneIsUsedTwice) {
  owner_.seen = UINT32_MAX;
  EXPECT_THAT(open_error(), HasSubstr("all incarnations of node 2 are used up"));
  EXPECT_FALSE(std::filesystem::exists(file()));
}

// --- what is refused

TEST_F(StateFileTest, ADamagedFileIsRefusedAndKept) {
  live();
  const std::string whole = content();
  for (const size_t size : {size_t{0}, size_t{511}, size_t{1024}, whole.size() - 1}) {
    write(file(), whole.substr(0, size));
    EXPECT_THAT(open_error(), HasSubstr(file() + " is not used"));
    EXPECT_THAT(open_error(), HasSubstr("Move it away"));
    EXPECT_EQ(content(), whole.substr(0, size));
  }
  std::string flipped = whole;
  flipped[700] ^= 4;
  write(file(), flipped);
  EXPECT_THAT(open_error(), HasSubstr("its checksum is wrong"));
  write(file(), whole + std::string(kMaxStateBytes, '\0'));
  EXPECT_THAT(open_error(), HasSubstr("its size is wrong"));
  write(file(), whole);
  EXPECT_EQ(open_error(), "opened");
}

TEST_F(StateFileTest, ALaterVersionIsRefusedAndSaidToBeOne) {
  live();
  std::string text = content();
  text[6] = 9;
  text.replace(8, 4, 4, '\0');
  const base::le32 crc = base::crc32c(base::as_bytes(std::string_view(text)));
  text.replace(8, 4, base::as_text(base::as_bytes(crc)));
  write(file(), text);
  EXPECT_THAT(open_error(), HasSubstr("it is of a later version: start the newer program again"));
  EXPECT_EQ(content(), text);
}

TEST_F(StateFileTest, TheFileOfAnotherNodeOrClusterIsRefused) {
  const NodeRecord record = live();
  owner_.node = 3;
  EXPECT_THAT(open_error(), HasSubstr("is of node 2 of cluster a0a1a2a3-"));
  owner_.node = 2;
  owner_.cluster = sample_uuid(0x10);
  EXPECT_THAT(open_error(), HasSubstr("this is node 2 of cluster 10111213-"));
  owner_.cluster = kSampleCluster;
  EXPECT_EQ(start(), record);
}

TEST_F(StateFileTest, WhatIsNoRegularFileIsRefused) {
  start();
  std::filesystem::remove(file());
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_THAT(open_error(), HasSubstr("cannot read " + file()));
  std::filesystem::remove(file());
  std::filesystem::create_symlink("/dev/null", file());
  EXPECT_THAT(open_error(), HasSubstr("cannot read " + file()));
}

TEST_F(StateFileTest, TwoDaemonsCannotShareIt) {
  auto first = open();
  EXPECT_THAT(open_error(), HasSubstr("another daemon uses the state directory " + state_));
  first.reset();
  EXPECT_EQ(open_error(), "opened");
}

// --- crashes and errors

TEST_F(StateFileTest, ACrashBeforeTheRenameLeavesTheOldFile) {
  const NodeRecord before = live();
  owner_.boot = sample_uuid(0xc1);
  for (const std::string& torn : {std::string("HFNODE"), std::string(5000, 'x'), content()}) {
    write(file() + ".new", torn);
    EXPECT_GT(start().incarnation, before.incarnation);
    EXPECT_EQ(start().acceptor, before.acceptor);
    owner_.boot[0]++;
  }
  EXPECT_FALSE(std::filesystem::exists(file() + ".new"));
}

TEST_F(StateFileTest, ACrashBeforeTheFirstRenameLeavesNothing) {
  std::filesystem::create_directories(state_);
  write(file() + ".new", "HFNODE");
  EXPECT_FALSE(start().remembers);
}

TEST_F(StateFileTest, ADirectoryThatCannotBeWrittenToIsRefused) {
  start();
  std::filesystem::remove(file() + ".lock");
  std::filesystem::permissions(directory_, std::filesystem::perms(0755));
  std::filesystem::permissions(state_, std::filesystem::perms(0555));
  if (::getuid() == 0) ::setfsuid(65534);
  const std::string error = open_error();
  if (::getuid() == 0) ::setfsuid(0);
  EXPECT_THAT(error, HasSubstr("cannot open " + state_ + "/node.lock: Permission denied"));
  std::filesystem::permissions(state_, std::filesystem::perms(0755));
}

TEST_F(StateFileTest, ALifeThatCannotBeMadeDurableDoesNotBegin) {
  std::filesystem::create_directories(file() + ".new");
  EXPECT_THAT(open_error(), HasSubstr("cannot write " + file() + ".new: "));
  std::filesystem::remove(file() + ".new");
  const NodeRecord before = live();
  owner_.boot = sample_uuid(0xc1);
  std::filesystem::create_directories(file() + ".new");
  EXPECT_THAT(open_error(), HasSubstr("cannot write " + file() + ".new: "));
  std::filesystem::remove(file() + ".new");
  owner_.boot = sample_uuid(0xc0);
  EXPECT_EQ(start(), before);
}

// Files may become no longer than that, as where a quota ends.
class SizeLimit {
 public:
  explicit SizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  SizeLimit(const SizeLimit&) = delete;
  SizeLimit& operator=(const SizeLimit&) = delete;
  ~SizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST_F(StateFileTest, AFileThatCannotGrowIsNotPutInTheOldOnesPlace) {
  const NodeRecord before = live();
  auto opened = open();
  NodeRecord record = before;
  record.acceptor.blocks[5] = {.epoch = 1, .incarnation = 1, .value = {}};
  const auto bytes = opened->encode(record);
  std::expected<void, daemon::WriteFailure> saved;
  {
    const SizeLimit limit(1000);
    saved = opened->replace(bytes);
  }
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().sys, EFBIG);
  EXPECT_FALSE(std::filesystem::exists(file() + ".new"));
  opened.reset();
  EXPECT_EQ(start(), before);
}

// Without the right to mount a small disk, its end is that of the file's size.
TEST_F(StateFileTest, AFullDiskIsSaidAndTheOldFileStays) {
  std::filesystem::create_directories(state_);
  const bool mounted = ::mount("tmpfs", state_.c_str(), "tmpfs", 0, "size=64k") == 0;
  const NodeRecord before = live();
  std::optional<SizeLimit> limit;
  if (mounted) {
    write(state_ + "/filler", std::string(size_t{128} << 10, 'x'));  // as much as there is room for
  } else {
    limit.emplace(1000);
  }
  auto opened = open();
  const auto saved = opened->replace(opened->encode(before));
  opened.reset();
  const NodeRecord after = start();
  owner_.boot = sample_uuid(0xc1);
  const std::string error = open_error();
  limit.reset();
  EXPECT_TRUE(!mounted || ::umount2(state_.c_str(), MNT_DETACH) == 0);
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().sys, mounted ? ENOSPC : EFBIG);
  EXPECT_EQ(after, before);
  EXPECT_THAT(error, HasSubstr("is full"));
}

// --- saving on the loop

class StateSaveTest : public StateFileTest {
 protected:
  StateSaveTest() { make(io::Duration(std::chrono::seconds(20))); }
  ~StateSaveTest() override {
    thread_.call([this] { store_.reset(); });
    while (files_.busy()) std::this_thread::yield();
    thread_.call([] {});  // what it has posted has run
  }
  void make(io::Duration patience) {
    thread_.call([&] {
      store_.reset();
      record_ = {};
      auto directory = open();
      record_ = directory->opened();
      store_ = std::make_unique<StateFile>(thread_.loop(), files_, directory, patience);
    });
  }
  // What the next save answers.
  base::Result<> save() {
    ++record_.fenced;
    std::promise<base::Result<>> answered;
    bool inside = true;
    thread_.call([&] {
      store_->save(record_, [&](base::Result<> result) noexcept {
        EXPECT_FALSE(inside) << "answered from inside the call";
        answered.set_value(result);
      });
      inside = false;
    });
    return answered.get_future().get();
  }
  base::Errc save_error() {
    const auto saved = save();
    return saved ? base::Errc{} : saved.error().code;
  }
  void settle() {
    while (files_.busy()) std::this_thread::yield();
    thread_.call([] {});
  }
  NodeRecord stored() {
    const std::string text = content();
    const auto decoded = decode_state(base::as_bytes(std::string_view(text)));
    EXPECT_TRUE(decoded.has_value());
    return decoded ? decoded->record : NodeRecord{};
  }

  io::LoopThread thread_;
  daemon::FileWorker files_;
  NodeRecord record_;
  std::unique_ptr<StateFile> store_;
};

TEST_F(StateSaveTest, WhatIsAnsweredIsInTheFile) {
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(save().has_value());
    EXPECT_EQ(stored(), record_);
  }
}

TEST_F(StateSaveTest, TheNextMayBeSavedFromWithinTheAnswer) {
  std::promise<void> done;
  thread_.call([&] {
    store_->save(record_, [&](base::Result<> first) noexcept {
      EXPECT_TRUE(first.has_value());
      record_.fenced = 99;
      store_->save(record_, [&](base::Result<> second) noexcept {
        EXPECT_TRUE(second.has_value());
        done.set_value();
      });
    });
  });
  done.get_future().wait();
  EXPECT_EQ(stored().fenced, 99U);
}

TEST_F(StateSaveTest, AnErrorOfTheDiskIsAnsweredAndTheNextSaveTriesAgain) {
  std::filesystem::create_directories(file() + ".new");
  const auto failed = save();
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, base::Errc::io);
  EXPECT_EQ(failed.error().sys, EISDIR);
  std::filesystem::remove(file() + ".new");
  EXPECT_TRUE(save().has_value());
  EXPECT_EQ(stored(), record_);
}

TEST_F(StateSaveTest, AFullDiskIsSaid) {
  base::Errc error{};
  {
    const SizeLimit limit(10);
    error = save_error();
  }
  EXPECT_EQ(error, base::Errc::no_space);
  EXPECT_TRUE(save().has_value());
}

TEST_F(StateSaveTest, ADiskThatHangsIsAnsweredForAndNothingWaitsBehindIt) {
  make(std::chrono::milliseconds(50));
  std::promise<void> hang;
  ASSERT_TRUE(files_.submit([&]() noexcept { hang.get_future().wait(); }));
  EXPECT_EQ(save_error(), base::Errc::timed_out);
  const Epoch first = record_.fenced;
  for (int i = 0; i < 2000; ++i) ASSERT_EQ(save_error(), base::Errc::busy);
  hang.set_value();
  settle();
  EXPECT_EQ(stored().fenced, first);  // the others were not taken
  make(std::chrono::seconds(20));
  EXPECT_TRUE(save().has_value());
}

TEST_F(StateSaveTest, ALateAnswerIsNotTakenForThatOfTheNextSave) {
  make(std::chrono::milliseconds(50));
  std::promise<void> hang;
  ASSERT_TRUE(files_.submit([&]() noexcept { hang.get_future().wait(); }));
  EXPECT_EQ(save_error(), base::Errc::timed_out);
  std::promise<base::Result<>> answered;
  thread_.call([&] {
    hang.set_value();
    while (files_.busy()) std::this_thread::yield();  // its answer is posted before the next
    store_->save(record_, [&](base::Result<> result) noexcept { answered.set_value(result); });
  });
  const auto result = answered.get_future().get();
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, base::Errc::busy);
}

TEST_F(StateSaveTest, AHangingSaveOutlivesTheStoreAndKeepsTheLock) {
  std::promise<void> hang;
  ASSERT_TRUE(files_.submit([&]() noexcept { hang.get_future().wait(); }));
  thread_.call([&] {
    store_->save(record_, [](base::Result<>) noexcept { ADD_FAILURE() << "answered"; });
    store_.reset();
  });
  EXPECT_THAT(open_error(), HasSubstr("another daemon uses"));
  hang.set_value();
  settle();
  EXPECT_EQ(open_error(), "opened");
}

TEST_F(StateSaveTest, WhereTheWorkerTakesNoMoreThatIsAnswered) {
  std::promise<void> hangs, hang;
  ASSERT_TRUE(files_.submit([&]() noexcept {
    hangs.set_value();
    hang.get_future().wait();
  }));
  hangs.get_future().wait();
  while (files_.submit([]() noexcept {})) {
  }
  EXPECT_EQ(save_error(), base::Errc::busy);
  hang.set_value();
  settle();
  EXPECT_TRUE(save().has_value());
}

}  // namespace
}  // namespace holdfast::qdisk
