// Everything at once, and wishes of administrators, too: tests/unit/qdisk/storm.h. Thousands of
// other seeds have found no more.

#include <gmock/gmock.h>

#include "tests/unit/qdisk/storm.h"

namespace holdfast::qdisk {
namespace {

// Among them each number of nodes in both modes, lost state (7, 14) and forced quorums (11, 22).
TEST(MembershipStorm, BreaksNothingAndPasses) {
  for (uint64_t seed = 1; seed <= 22; ++seed) EXPECT_EQ(Storm(seed).run(), "") << seed;
}

}  // namespace
}  // namespace holdfast::qdisk
