// The copies of the configuration document on a LUN that goes wrong.

#include "qdisk/witness_config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/sim/witness_scene.h"

namespace holdfast::sim::witness {
namespace {

using qdisk::ConfigCopies;
using qdisk::ConfigDocument;
using qdisk::kConfigArea;
using qdisk::make_document;
using qdisk::WitnessConfig;

constexpr size_t kPiece = WitnessConfig::kPieceBytes;

// Bytes of which no two pieces are equal.
std::string text(size_t size, char salt = 'a') {
  std::string made(size, salt);
  for (size_t i = 0; i < size; i += 61) made[i] = static_cast<char>(i / 61 % 251);
  return made;
}

struct Formatted : Scene {
  Formatted() { format(); }
};

class WitnessConfigTest : public ::testing::Test {
 protected:
  ~WitnessConfigTest() override { scene_.world.run_for(120s); }

  base::Result<> write(const ConfigDocument& document, unsigned copy) {
    return host_.answer<base::Result<>>(
        [this, document, copy](auto done) { config_->write(document, copy, std::move(done)); });
  }
  base::Result<ConfigCopies> read() {
    return host_.answer<base::Result<ConfigCopies>>(
        [this](auto done) { config_->read(std::move(done)); });
  }
  ConfigCopies copies() {
    auto found = read();
    EXPECT_TRUE(found.has_value());
    return found.value_or(ConfigCopies{});
  }

  Formatted scene_;
  Host& host_ = scene_.opened(0);
  std::unique_ptr<WitnessConfig> config_ =
      WitnessConfig::create(host_.loop, host_.noting, kCluster, kLimit).value();
};

TEST_F(WitnessConfigTest, AnEmptyWitnessHasNone) {
  EXPECT_EQ(copies(), ConfigCopies{});
  EXPECT_EQ(host_.noting.seen.size(), 2U) << "only the headers are read";
}

TEST_F(WitnessConfigTest, DocumentsOfAllLengthsAreReadAsTheyWereWritten) {
  uint64_t version = 0;
  for (const size_t size : {size_t{1}, kSlotBytes, kPiece - 1, kPiece, kPiece + 1,
                            qdisk::kMaxDocumentBytes - 1, qdisk::kMaxDocumentBytes}) {
    const unsigned copy = ++version % 2;
    const ConfigDocument document = make_document(version, text(size));
    const ConfigCopies before = copies();
    ASSERT_TRUE(write(document, copy).has_value());
    const ConfigCopies found = copies();
    EXPECT_EQ(found[copy], document);
    EXPECT_EQ(found[1 - copy], before[1 - copy]);
  }
  EXPECT_FALSE(config_->busy());
}

TEST_F(WitnessConfigTest, TheHeaderComesLastAndEachPieceIsDurableBeforeTheNext) {
  ASSERT_TRUE(write(make_document(1, text(kPiece + 5000)), 1).has_value());
  const uint64_t begin = qdisk::config_offset(1);
  const std::vector<Access> expected = {
      {Kind::write, begin + kSlotBytes, kPiece, true, 0},
      {Kind::write, begin + kSlotBytes + kPiece, 2 * kSlotBytes, true, 1},
      {Kind::write, begin, kSlotBytes, true, 2}};
  EXPECT_EQ(host_.noting.seen, expected);
}

// The programs of administrators read the same.
TEST_F(WitnessConfigTest, ItsHeaderIsThatOfTheFormat) {
  const ConfigDocument document = make_document(3, "abc");
  ASSERT_TRUE(write(document, 0).has_value());
  const auto header =
      qdisk::decode_config(scene_.sector(qdisk::config_offset(0)), kCluster, 0).value;
  ASSERT_TRUE(header.has_value());
  EXPECT_EQ(*header, header_of(document));
}

TEST_F(WitnessConfigTest, ADamagedCopyIsNotThereAndTheOtherIs) {
  const ConfigDocument a = make_document(1, text(20'000));
  const ConfigDocument b = make_document(2, text(20'000, 'b'));
  ASSERT_TRUE(write(a, 0).has_value() && write(b, 1).has_value());
  scene_.lun.corrupt(qdisk::config_offset(1) + kSlotBytes + 8192);
  EXPECT_EQ(copies(), (ConfigCopies{a, std::nullopt}));
  ASSERT_TRUE(write(b, 1).has_value());
  scene_.lun.corrupt(qdisk::config_offset(0));
  EXPECT_EQ(copies(), (ConfigCopies{std::nullopt, b}));
}

TEST_F(WitnessConfigTest, ACopyOfAnotherClusterIsNotThere) {
  ASSERT_TRUE(write(make_document(1, "abc"), 0).has_value());
  auto other = WitnessConfig::create(host_.loop, host_.noting, qdisk::Uuid{0xee}, kLimit).value();
  std::swap(config_, other);
  EXPECT_EQ(copies(), ConfigCopies{});
}

// What a header says of a length is not believed.
TEST_F(WitnessConfigTest, AHeaderOfADocumentThatIsTooLongIsOfNoUse) {
  qdisk::ConfigHeader header = header_of(make_document(1, "abc"));
  header.length = qdisk::kMaxDocumentBytes + 1;
  SharedLun::Sector sector;
  qdisk::encode(header, 0, kCluster, sector);
  scene_.lun.write_now(qdisk::config_offset(0), sector);
  EXPECT_EQ(copies(), ConfigCopies{});
  EXPECT_EQ(host_.noting.seen.size(), 2U) << "its bytes were read";
}

// As of a store that has ended meanwhile.
TEST_F(WitnessConfigTest, WhileItIsBusyAnotherCallIsRefused) {
  const ConfigDocument document = make_document(1, text(kPiece));
  std::vector<Errc> refused;
  bool written = false;
  bool inside = true;
  host_.loop.post([&]() noexcept {
    config_->write(document, 0,
                   [&](base::Result<> result) noexcept { written = result.has_value(); });
    config_->write(make_document(2, "two"), 0, [&](base::Result<> result) noexcept {
      EXPECT_FALSE(inside);
      refused.push_back(result.error().code);
    });
    config_->read([&](base::Result<ConfigCopies> found) noexcept {
      EXPECT_FALSE(inside);
      refused.push_back(found.error().code);
    });
    inside = false;
  });
  ASSERT_TRUE(scene_.world.run_until([&] { return written; }, 10s));
  EXPECT_EQ(refused, (std::vector<Errc>{Errc::busy, Errc::busy}));
  EXPECT_EQ(copies()[0], document);
}

// --- what is cut off

// After each write of a second document into the same copy.
TEST_F(WitnessConfigTest, AWriterThatDiesInTheMidstLeavesTheOtherCopy) {
  const ConfigDocument decided = make_document(1, text(300'000));
  const ConfigDocument before = make_document(2, text(300'000, 'b'));
  const ConfigDocument after = make_document(3, text(300'000, 'c'));
  for (size_t writes = 0; writes < 4; ++writes) {
    Formatted scene;
    Host& host = scene.opened(0);
    auto config = WitnessConfig::create(host.loop, host.noting, kCluster, kLimit).value();
    const auto put = [&](const ConfigDocument& document, unsigned copy) {
      return host.answer<base::Result<>>(
          [&config, document, copy](auto done) { config->write(document, copy, std::move(done)); });
    };
    ASSERT_TRUE(put(decided, 0).has_value());
    ASSERT_TRUE(put(before, 1).has_value());
    const size_t until = scene.landed + writes;
    scene.on_landed = [&](uint64_t, base::Bytes) {
      if (scene.landed >= until) host.device.cut(true);
    };
    if (writes == 0) host.device.cut(true);
    EXPECT_EQ(put(after, 1).error().code, Errc::timed_out);
    host.device.cut(false);
    const auto found = host.answer<base::Result<ConfigCopies>>(
        [&config](auto done) { config->read(std::move(done)); });
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ((*found)[0], decided) << writes;
    // The one before, nothing, or where the answer alone was lost the new one.
    EXPECT_TRUE(!(*found)[1] || (writes == 0 && (*found)[1] == before) ||
                (writes == 3 && (*found)[1] == after));
    scene.world.run_for(120s);
  }
}

TEST_F(WitnessConfigTest, EverythingHasADeadline) {
  host_.device.cut(true);
  const auto start = scene_.world.now();
  EXPECT_EQ(read().error().code, Errc::timed_out);
  EXPECT_EQ(write(make_document(1, text(qdisk::kMaxDocumentBytes)), 0).error().code,
            Errc::timed_out);
  EXPECT_LE(scene_.world.now() - start, 2 * kLimit + kPrompt);
}

// Each piece comes, but all of them do not come in time.
TEST_F(WitnessConfigTest, TheDeadlineIsOfTheWholeAndNotOfAPiece) {
  scene_.lun.options().slow_per_million = 1'000'000;
  scene_.lun.options().slow_max = kLimit / 2;
  const auto start = scene_.world.now();
  EXPECT_FALSE(write(make_document(1, text(qdisk::kMaxDocumentBytes)), 0).has_value());
  EXPECT_LE(scene_.world.now() - start, kLimit + kPrompt);
}

TEST_F(WitnessConfigTest, WhileAGhostIsLeftNothingIsWrittenAndItUndoesNothing) {
  scene_.lun.options().lost_per_million = scene_.lun.options().slow_per_million = 1'000'000;
  scene_.lun.options().slow_max = 60s;
  ASSERT_EQ(write(make_document(2, text(5000, 'b')), 0).error().code, Errc::timed_out);
  scene_.lun.options().lost_per_million = scene_.lun.options().slow_per_million = 0;
  EXPECT_TRUE(config_->busy());
  const size_t before = host_.noting.seen.size();
  const ConfigDocument next = make_document(3, text(5000, 'c'));
  EXPECT_EQ(write(next, 0).error().code, Errc::busy);
  EXPECT_EQ(host_.noting.seen.size(), before);
  EXPECT_TRUE(read().has_value()) << "reading does no harm";
  ASSERT_TRUE(scene_.world.run_until([&] { return !config_->busy(); }, 120s));
  ASSERT_TRUE(write(next, 0).has_value());
  scene_.world.run_for(60s);
  EXPECT_EQ(copies()[0], next);
}

}  // namespace
}  // namespace holdfast::sim::witness
