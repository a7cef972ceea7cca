#include "mpio/isid_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace holdfast::mpio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

class IsidStoreTest : public testing::Test {
 protected:
  IsidStoreTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "holdfast-isid-XXXXXX");
    directory_ = ::mkdtemp(pattern.data());
    state_ = directory_ + "/a/state";
  }
  ~IsidStoreTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<IsidStore> open() {
    auto opened = IsidStore::open(state_, random_);
    EXPECT_TRUE(opened.has_value()) << opened.error();
    return opened ? std::move(*opened) : nullptr;
  }
  std::string open_error() {
    auto opened = IsidStore::open(state_, random_);
    return opened ? "opened" : opened.error();
  }
  std::string file() const { return state_ + "/isids"; }
  std::string content() const {
    std::ostringstream text;
    text << std::ifstream(file()).rdbuf();
    return text.str();
  }

  std::string directory_, state_;
  base::SeededRandom random_{7};
};

TEST_F(IsidStoreTest, EachOwnerHasItsOwnForEver) {
  std::vector<IsidStore::Owner> owners = {
      {.initiator = "i", .device = "a", .portal = "10.1.0.10:3260", .source = "10.1.0.1"},
      {.initiator = "i",
       .device = "a",
       .target = "t",
       .portal = "10.1.0.10:3260",
       .source = "10.1.0.1"},
      {.initiator = "i", .device = "b", .portal = "10.1.0.10:3260", .source = "10.1.0.1"},
      {.initiator = "i", .device = "a", .portal = "10.2.0.10:3260", .source = "10.1.0.1"},
      {.initiator = "i", .device = "a", .portal = "10.1.0.10:3260", .source = "10.2.0.1"},
      {.initiator = "i", .device = "a", .portal = "10.1.0.10:3260", .source = ""},
      {.initiator = "i",
       .device = "a",
       .portal = "10.1.0.10:3260",
       .source = "10.1.0.1",
       .index = 1}};
  std::vector<uint64_t> first;
  {
    const auto store = open();
    for (const auto& owner : owners) first.push_back(store->assign(owner).value());
    ASSERT_TRUE(store->begin().has_value());
  }
  EXPECT_EQ(std::set<uint64_t>(first.begin(), first.end()).size(), owners.size());
  const auto store = open();
  // In another order, and with a new one between.
  const uint64_t fresh = store->assign({.initiator = "i", .device = "c", .portal = "p"}).value();
  for (size_t i = owners.size(); i-- > 0;) EXPECT_EQ(store->assign(owners[i]).value(), first[i]);
  EXPECT_EQ(std::ranges::count(first, fresh), 0);
}

TEST_F(IsidStoreTest, AreOfTheRandomType) {
  const auto store = open();
  const uint64_t isid = store->assign({.initiator = "i", .device = "a", .portal = "p"}).value();
  EXPECT_EQ(isid >> 46, 2u);
  EXPECT_EQ(isid >> 40 & 0x3f, 0u);
  EXPECT_EQ(isid & 0xffff, 1u);
  const std::string other = state_;
  state_ = directory_ + "/b";
  const auto second = open();
  EXPECT_NE(second->assign({.initiator = "i", .device = "a", .portal = "p"}).value() >> 16,
            isid >> 16);
}

TEST_F(IsidStoreTest, NumbersOfWhatIsGoneAreNotUsedAgain) {
  uint64_t old = 0;
  {
    const auto store = open();
    old = store->assign({.initiator = "i", .device = "gone", .portal = "p"}).value();
    ASSERT_TRUE(store->begin().has_value());
  }
  const auto store = open();
  EXPECT_NE(store->assign({.initiator = "i", .device = "new", .portal = "p"}).value(), old);
  EXPECT_EQ(store->count(), 2u);
}

TEST_F(IsidStoreTest, TwoDaemonsNeverShare) {
  auto first = open();
  EXPECT_THAT(open_error(), HasSubstr("another holdfast-mpiod uses the state directory"));
  first.reset();
  EXPECT_EQ(open_error(), "opened");
}

TEST_F(IsidStoreTest, DamageIsFoundAndLeftAlone) {
  {
    const auto store = open();
    for (const char* name : {"a", "b", "c"}) {
      ASSERT_TRUE(store->assign({.device = name, .portal = "p"}).has_value());
    }
    ASSERT_TRUE(store->begin().has_value());
  }
  const std::string good = content();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    std::ofstream(file(), std::ios::trunc) << bad;
    EXPECT_THAT(open_error(), HasSubstr("is damaged")) << "byte " << i;
    EXPECT_EQ(content(), bad);
  }
  for (size_t length = 0; length < good.size(); ++length) {
    std::ofstream(file(), std::ios::trunc) << good.substr(0, length);
    EXPECT_THAT(open_error(), HasSubstr("is damaged")) << length << " bytes";
  }
  std::ofstream(file(), std::ios::trunc) << good << good;
  EXPECT_THAT(open_error(), HasSubstr("is damaged"));
  std::ofstream(file(), std::ios::trunc) << good;
  EXPECT_EQ(open_error(), "opened");
}

// --- what an earlier process has left ---

const SessionTrace kFirst{.portal_group = 1, .unit = "naa.6001"};
const SessionTrace kLast{.portal_group = 65535, .unit = "t10.IET 00010001 \xff"};
const SessionTrace kNameless{.portal_group = std::nullopt, .unit = "naa.6001"};

class LeftSessionsTest : public IsidStoreTest {
 protected:
  LeftSessionsTest() {
    const auto store = open();
    for (size_t i = 0; i < isids_.size(); ++i) isids_[i] = store->assign(owners_[i]).value();
    EXPECT_TRUE(store->begin().has_value());
    EXPECT_TRUE(store->note(isids_[0], {kFirst}).has_value());
    EXPECT_TRUE(store->note(isids_[1], {kLast, kNameless}).has_value());
  }
  // The next process: what it finds, and what it does.
  std::vector<uint64_t> left() {
    std::vector<uint64_t> out;
    for (const LeftSession& each : open()->left()) out.push_back(each.isid);
    return out;
  }
  void run(std::span<const uint64_t> unfenced) {
    const auto store = open();
    ASSERT_TRUE(store->begin().has_value());
    for (const LeftSession& each : std::vector(store->left())) store->fenced(each);
    store->leave(unfenced);
    ASSERT_TRUE(store->close().has_value());
  }

  std::array<IsidStore::Owner, 3> owners_ = {
      {{.initiator = "i",
        .device = "a",
        .target = "t",
        .portal = "10.1.0.10:3260",
        .source = "10.1.0.1"},
       {.initiator = "i", .device = "a", .target = "t", .portal = "10.2.0.10:3260", .source = ""},
       {.initiator = "i", .device = "a", .target = "t", .portal = "10.2.0.10:3260", .index = 1}}};
  std::array<uint64_t, 3> isids_{};
};

TEST_F(LeftSessionsTest, AllThatCarriedIoUnlessTheProcessEndsInOrder) {
  const auto store = open();
  std::vector<SessionTrace> second;
  for (const LeftSession& each : store->left()) {
    EXPECT_EQ(each.initiator_name, "i");
    EXPECT_EQ(each.target, "t");
    if (each.isid == isids_[0]) {
      EXPECT_EQ(each.path, owners_[0].portal);
      EXPECT_EQ(each.trace, kFirst);
    } else {
      EXPECT_EQ(each.isid, isids_[1]);  // the third never logged in
      second.push_back(each.trace);
    }
  }
  EXPECT_EQ(store->left().size(), 3u);
  EXPECT_THAT(second, UnorderedElementsAre(kLast, kNameless));
  EXPECT_THAT(store->traces(isids_[1]), UnorderedElementsAre(kLast, kNameless));
  EXPECT_THAT(store->traces(isids_[2]), IsEmpty());
}

TEST_F(LeftSessionsTest, WhatIsFencedIsLeftNoMore) {
  {
    const auto store = open();
    ASSERT_TRUE(store->begin().has_value());
    const std::vector<LeftSession> all = store->left();
    for (const LeftSession& each : all) {
      if (each.trace != kNameless) store->fenced(each);
    }
    ASSERT_TRUE(store->close().has_value());
  }
  // All of a session, as one of its places is open.
  EXPECT_THAT(left(), ElementsAre(isids_[1], isids_[1]));
}

TEST_F(LeftSessionsTest, OfADeviceThatGoesWhileTheProcessGoesOn) {
  run({});
  const auto store = open();
  EXPECT_THAT(store->left(), IsEmpty());
  store->leave({{isids_[0]}});
  store->leave({{isids_[0]}});
  ASSERT_THAT(store->left(), SizeIs(1));
  EXPECT_EQ(store->left().front().trace, kFirst);
}

TEST_F(LeftSessionsTest, NothingAfterAnOrderlyEnd) {
  run({});
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(LeftSessionsTest, WhatAnOrderlyEndCouldNotFence) {
  run({{isids_[1]}});
  EXPECT_THAT(left(), ElementsAre(isids_[1], isids_[1]));
}

TEST_F(LeftSessionsTest, AllAgainOnceIoMayBegin) {
  run({});
  {
    const auto store = open();
    EXPECT_THAT(store->left(), IsEmpty());
    ASSERT_TRUE(store->assign(owners_[0]).has_value());
    ASSERT_TRUE(store->begin().has_value());
  }
  EXPECT_THAT(left(), ElementsAre(isids_[0]));  // the others are not used any more
}

TEST_F(LeftSessionsTest, ADamagedNoteOfTheEndSaysNothing) {
  run({});
  const std::string file = state_ + "/closed";
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  const std::string good = text.str();
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    std::ofstream(file, std::ios::trunc) << bad;
    EXPECT_THAT(left(), SizeIs(3)) << "byte " << i;
    std::ofstream(file, std::ios::trunc) << good.substr(0, i);
    EXPECT_THAT(left(), SizeIs(3)) << i << " bytes";
  }
  std::ofstream(file, std::ios::trunc) << good;
  EXPECT_THAT(left(), IsEmpty());
}

TEST_F(LeftSessionsTest, ATraceThatCannotBeNotedIsAnErrorUntilItCan) {
  {
    const auto store = open();
    std::filesystem::create_directory(file() + ".new");  // where the new file would be written
    for (int i = 0; i < 3; ++i) {
      EXPECT_THAT(store->note(isids_[2], {kLast}).error(), HasSubstr("cannot write"));
      EXPECT_THAT(store->traces(isids_[2]), IsEmpty());
    }
    std::filesystem::remove(file() + ".new");
    // Nor has it come to disk with somebody else's.
    EXPECT_TRUE(store->note(isids_[0], {kLast}).has_value());
  }
  EXPECT_THAT(open()->traces(isids_[2]), IsEmpty());
  EXPECT_THAT(open()->traces(isids_[0]), ElementsAre(kLast));
  EXPECT_TRUE(open()->note(isids_[2], {kLast}).has_value());
  EXPECT_THAT(open()->traces(isids_[2]), ElementsAre(kLast));
}

TEST_F(LeftSessionsTest, APipeInPlaceOfAFileHoldsNobodyUp) {
  ASSERT_EQ(::mkfifo((state_ + "/closed").c_str(), 0600), 0);
  EXPECT_THAT(left(), SizeIs(3));
}

TEST_F(IsidStoreTest, HalfOfANewFileIsNoDamage) {
  {
    ASSERT_NE(open(), nullptr);
  }
  std::ofstream(file() + ".new") << "half";
  const auto store = open();
  ASSERT_TRUE(store->assign({.initiator = "i", .device = "a", .portal = "p"}).has_value());
  EXPECT_TRUE(store->begin().has_value());
  EXPECT_FALSE(std::filesystem::exists(file() + ".new"));
}

}  // namespace
}  // namespace holdfast::mpio
