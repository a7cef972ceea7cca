#include "qdisk/metrics_text.h"

#include <gmock/gmock.h>

namespace holdfast::qdisk {
namespace {

using testing::HasSubstr;

QuorumStatus sample() {
  QuorumStatus out{.cluster = "lab", .self = 0, .member = true, .lease_left = Milliseconds(3500)};
  out.hosts = {{.id = 0, .name = "hv1", .heard = true, .networks = {true, true}},
               {.id = 1, .name = "hv2", .networks = {false, false}}};
  out.disks = {{.name = "witness", .usable = true},
               {.name = "Volume1", .number = 0, .usable = false}};
  out.decision.epoch = Epoch{2} << kGenerationShift | 17;
  out.decision.incarnations[0] = 1;
  out.decision.voters = NodeSet(3);
  out.decision.witness_votes = true;
  out.decision.volumes[0] = {.coordinator = 0, .term = 3};
  out.vouching = {.nodes = NodeSet(1), .witness = true};
  return out;
}

TEST(QuorumMetrics, ShowWhatTheNodeKnows) {
  const std::string page = metrics_text(sample());
  for (const char* line :
       {"holdfast_qdisk_quorum 1\n", "holdfast_qdisk_lease_seconds 3.5\n",
        "holdfast_qdisk_generation 2\n", "holdfast_qdisk_epoch 17\n", "holdfast_qdisk_fenced 0\n",
        "holdfast_qdisk_votes 3\n", "holdfast_qdisk_votes_there 2\n",
        "holdfast_qdisk_next_failure_stops 2\n", "holdfast_qdisk_node_member{node=\"hv1\"} 1\n",
        "holdfast_qdisk_node_member{node=\"hv2\"} 0\n",
        "holdfast_qdisk_node_heard{node=\"hv2\",network=\"1\"} 0\n",
        "holdfast_qdisk_witness_usable 1\n", "holdfast_qdisk_volume_usable{volume=\"Volume1\"} 0\n",
        "holdfast_qdisk_volume_term{volume=\"Volume1\",coordinator=\"hv1\"} 3\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
}

TEST(QuorumMetrics, WithoutAClusterTheyAreNaught) {
  const std::string page = metrics_text({});
  EXPECT_THAT(page, HasSubstr("holdfast_qdisk_quorum 0\n"));
  EXPECT_THAT(page, HasSubstr("holdfast_qdisk_lease_seconds 0\n"));
  EXPECT_THAT(page, HasSubstr("holdfast_qdisk_votes 0\n"));
}

}  // namespace
}  // namespace holdfast::qdisk
