#include "qdisk/cli_report.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/unit/qdisk/layout_samples.h"

namespace holdfast::qdisk {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::unique_ptr<WitnessContents> sample_contents() {
  auto made = std::make_unique<WitnessContents>();
  made->size_bytes = kMinWitnessBytes;
  made->sector_bytes = 512;
  made->superblock = made->superblocks[0] = made->superblocks[1] = {.value = sample_superblock()};
  Heartbeat before = sample_heartbeat();
  before.sequence -= 1;
  made->heartbeats[2] = {Decoded<Heartbeat>{.value = before},
                         Decoded<Heartbeat>{.value = sample_heartbeat()}};
  made->ballots[2].value = sample_ballot();
  made->mail[2].value = sample_mail();
  made->decided[5].value = sample_decision();
  made->configs[1] = {.header = {.value = sample_config()},
                      .document = ConfigCopy::Document::intact};
  return made;
}

// clang-format off
constexpr const char* kShown = R"(Witness b0b1b2b3-b4b5-b6b7-b8b9-babbbcbdbebf of the cluster `store`
  cluster  a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf
  times    hb_net 1s, net_dead 10s, hb_disk 2s, disk_io_to 4s, lease 15s, kill 3s, watchdog 10s, takeover 30s, margin 1s
  device   64 MiB, sectors of 512 bytes; superblock generation 1

Heartbeats: a node lives whose sequence changes from one look to the next
NODE  STATE   LIFE  SEQUENCE  EPOCH  HEARS ON 1  ON 2  SEES ON DISK  VOLUMES  KEY                 P99    QUIESCED  FENCED
2     member  7     4711      261    0-2         0,2   0-2           0,15     0x51abcd0200000007  1.8ms  261       260 by time

Ballot blocks
NODE  LIFE  EPOCH    BEGUN  PROPOSED  MEMBERS                 VOTERS
2     7     1/2/261  4.2    3.2       0(5) 2(7) 63(16909060)  0-2 and the witness

Decisions
EPOCH    MEMBERS (LIFE)          VOTERS               COORDINATORS (TERM)     CONFIGURATION
1/2/261  0(5) 2(7) 63(16909060)  0-2 and the witness  0:2(9) 15:63(84281096)  12 404142434445...  forced

Configuration
COPY  CONFIGURATION       SIZE     DOCUMENT
B     12 404142434445...  1.2 KiB  intact

Mail
FROM  LIFE  SEQUENCE  TO  SAYS   EPOCH
2     7     3         1   leave  261
)";
// clang-format on

TEST(CliReport, ShowsEverything) { EXPECT_EQ(describe(*sample_contents()), kShown); }

TEST(CliReport, ShowsDamageWithPlaceAndReason) {
  auto made = sample_contents();
  made->ballots[3].fault = Fault::place;
  made->configs[1].document = ConfigCopy::Document::damaged;
  const std::string text = describe(*made);
  EXPECT_THAT(text, HasSubstr("0x093000  ballot block of node 3  a record of another place"));
  EXPECT_THAT(text, HasSubstr("0x601000  configuration B"));
  EXPECT_THAT(text, HasSubstr("Heartbeats"));
  const json report = to_json(*made);
  ASSERT_EQ(report["corrupt"].size(), 2U);
  EXPECT_EQ(report["corrupt"][0]["offset"], 0x93000);
  EXPECT_EQ(report["configs"][0]["intact"], false);
}

TEST(CliReport, SaysThatThereIsNoWitness) {
  WitnessContents nothing;
  EXPECT_EQ(describe(nothing), "No witness: both superblocks are empty.\n");
  EXPECT_EQ(to_json(nothing)["condition"], "empty");
  EXPECT_TRUE(to_json(nothing)["superblock"].is_null());
  nothing.superblock.fault = nothing.superblocks[1].fault = Fault::version;
  EXPECT_THAT(describe(nothing), HasSubstr("No witness that can be used: written by a newer"));
  EXPECT_EQ(to_json(nothing)["superblocks"][1]["why"], to_string(Fault::version));
}

TEST(CliReport, WarnsOfWhatIsValidAndOdd) {
  auto made = sample_contents();
  EXPECT_THAT(warnings_of(*made), IsEmpty());
  made->sector_bytes = 4096;
  made->superblock.value->timers.takeover = Milliseconds(1000);
  made->superblocks[1] = {};
  EXPECT_THAT(warnings_of(*made),
              ElementsAre(HasSubstr("formatted with sectors of 512"), HasSubstr("takeover"),
                          HasSubstr("superblock B is empty")));
  EXPECT_THAT(describe(*made), HasSubstr("  warning: superblock B is empty\n"));
}

TEST(CliReport, ManyDecisionsAreShownInPartAndReportedWhole) {
  auto made = sample_contents();
  for (size_t i = 0; i < kDecidedSlots; ++i) {
    made->decided[i].value = Decision{.epoch = 64 + i};
  }
  const std::string text = describe(*made);
  EXPECT_THAT(text, HasSubstr("\n127 "));
  EXPECT_THAT(text, HasSubstr("\n120 "));
  EXPECT_THAT(text, Not(HasSubstr("\n119 ")));
  EXPECT_EQ(to_json(*made)["decisions"].size(), kDecidedSlots);
}

TEST(CliReport, AsJsonNothingIsLeftOut) {
  const json report = to_json(*sample_contents());
  EXPECT_EQ(report["superblock"]["timers"]["lease_ms"], 15000);
  EXPECT_EQ(report["superblock"]["timers"].size(), 9U);
  ASSERT_EQ(report["heartbeats"].size(), 2U);
  EXPECT_EQ(report["heartbeats"][0]["counts"], false);
  EXPECT_EQ(report["heartbeats"][1], json::parse(R"({
    "node": 2, "offset": 86016, "counts": true, "state": "member", "incarnation": 7,
    "sequence": 4711, "boottime_ns": 123456789000, "epoch": 261, "heard_net": [[0, 1, 2], [0, 2]],
    "heard_disk": [0, 1, 2], "volumes_ok": [0, 15], "reservation_key": "0x51abcd0200000007",
    "io_p99_us": 1800, "remembers": true, "watchdog": "none", "quiesced": 261,
    "fenced": 260, "fenced_timed": true})"));
  const json& decision = report["decisions"][0];
  EXPECT_EQ(decision["members"], json::parse(R"([{"node": 0, "incarnation": 5},
    {"node": 2, "incarnation": 7}, {"node": 63, "incarnation": 16909060}])"));
  EXPECT_EQ(decision["volumes"], json::parse(R"([{"volume": 0, "coordinator": 2, "term": 9},
    {"volume": 15, "coordinator": 63, "term": 84281096}])"));
  EXPECT_EQ(decision["generation"], 1);
  EXPECT_EQ(decision["forced"], true);
  EXPECT_EQ(report["ballots"][0]["value"], decision);
  EXPECT_EQ(report["ballots"][0]["mbal"], 0x402);
  EXPECT_EQ(report["mail"][0], json::parse(R"({"from": 2, "incarnation": 7, "sequence": 3,
    "kind": "leave", "to": [1], "epoch": 261})"));
  EXPECT_EQ(report["configs"][0]["copy"], "B");
  EXPECT_EQ(report["configs"][0]["length"], 1234);
}

}  // namespace
}  // namespace holdfast::qdisk
