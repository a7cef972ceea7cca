// Messages of protobuf's lite runtime in a program built as ours are (holdfast_proto_library), and
// the rule for their users: a payload is parsed before anything of it counts.

#include <gtest/gtest.h>

#include <string>

#include "common/base/random.h"
#include "common/rpc/frame.h"
#include "common/rpc/limits.h"
#include "tests/unit/rpc/test_message.pb.h"

namespace holdfast::rpc {
namespace {

test::Ballot example() {
  test::Ballot ballot;
  ballot.set_epoch(7);
  ballot.set_ballot(0x1234567890abcdef);
  ballot.set_value("what is proposed");
  ballot.add_voters(1);
  ballot.add_voters(63);
  return ballot;
}

TEST(Proto, AMessageSurvivesItsFrame) {
  const std::string bytes = example().SerializeAsString();
  ASSERT_LT(bytes.size(), kMaxPayload);
  test::Ballot parsed;
  ASSERT_TRUE(parsed.ParseFromString(bytes));
  EXPECT_EQ(parsed.epoch(), 7u);
  EXPECT_EQ(parsed.ballot(), 0x1234567890abcdefu);
  EXPECT_EQ(parsed.value(), "what is proposed");
  ASSERT_EQ(parsed.voters_size(), 2);
  EXPECT_EQ(parsed.voters(1), 63u);
}

TEST(Proto, ACutMessageIsAnErrorOrAShorterOneAndNeverACrash) {
  const std::string bytes = example().SerializeAsString();
  size_t refused = 0;
  for (size_t length = 0; length < bytes.size(); ++length) {
    test::Ballot parsed;
    if (!parsed.ParseFromString(bytes.substr(0, length))) ++refused;
  }
  EXPECT_GT(refused, bytes.size() / 2);
}

TEST(Proto, GarbageIsParsedWithoutHarm) {
  base::SeededRandom random(1);
  for (int round = 0; round < 1000; ++round) {
    std::string bytes(random.below(200), '\0');
    random.fill({reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()});
    test::Ballot parsed;
    if (parsed.ParseFromString(bytes)) {
      EXPECT_LE(parsed.value().size(), bytes.size());
    }
  }
}

}  // namespace
}  // namespace holdfast::rpc
