// What is cut from control PDUs; commands and their data: session_commands_test.cc.

#include "initiator/send_queue.h"

#include <gtest/gtest.h>

#include <string>

#include "common/iscsi/pdu_reader.h"

namespace holdfast::initiator {
namespace {

class SendQueueTest : public testing::Test {
 protected:
  ~SendQueueTest() override { queue_.clear(); }

  ControlPdu& nop(uint32_t tag, size_t data = 0) {
    ControlPdu& pdu = pdus_[next_++];
    iscsi::NopOutPdu nop;
    nop.itt = tag;
    pdu.header = base::load<iscsi::Bhs>(base::as_bytes(nop));
    pdu.data.assign(data, 0x5a);
    pdu.in_use = true;
    queue_.push(pdu);
    return pdu;
  }
  // All of the next send, in one go.
  std::string take() {
    std::string bytes;
    for (const iovec& part : queue_.prepare(numbers_)) {
      bytes.append(static_cast<const char*>(part.iov_base), part.iov_len);
    }
    if (!bytes.empty()) {
      EXPECT_TRUE(queue_.advance(bytes.size()));
      queue_.recycle();
    }
    return bytes;
  }
  static iscsi::NopOutPdu first(const std::string& bytes) {
    return base::load<iscsi::NopOutPdu>(base::as_bytes(std::string_view(bytes)));
  }

  std::array<ControlPdu, kMaxControlPdus> pdus_;
  size_t next_ = 0;
  SequenceNumbers numbers_{.cmd_sn = 10, .max_cmd_sn = 20, .exp_stat_sn = 30};
  SendQueue queue_;
};

TEST_F(SendQueueTest, NumbersAreThoseOfTheMomentOfSending) {
  queue_.configure({});
  const ControlPdu& pdu = nop(1);
  numbers_ = {.cmd_sn = 11, .max_cmd_sn = 20, .exp_stat_sn = 31};
  const std::string bytes = take();
  ASSERT_EQ(bytes.size(), iscsi::kBhsBytes);
  EXPECT_EQ(first(bytes).cmd_sn, 11u);
  EXPECT_EQ(first(bytes).exp_stat_sn, 31u);
  EXPECT_EQ(numbers_.cmd_sn, 11u);  // immediate ones take none
  EXPECT_FALSE(pdu.in_use);
  EXPECT_TRUE(take().empty());
}

TEST_F(SendQueueTest, ALoginHasItsOwnNumbers) {
  nop(1);
  EXPECT_EQ(first(take()).cmd_sn, 0u);
}

TEST_F(SendQueueTest, PaddingAndDigests) {
  iscsi::SessionParameters parameters;
  parameters.header_digest = parameters.data_digest = true;
  queue_.configure(parameters);
  nop(1, 5);
  const std::string bytes = take();
  ASSERT_EQ(bytes.size(), iscsi::wire_length(5, {.header = true, .data = true}));
  iscsi::PduReader reader;
  reader.set_digests(true, true);
  base::Bytes input = base::as_bytes(std::string_view(bytes));
  ASSERT_EQ(reader.next(input), iscsi::PduReader::Event::header);
  std::array<uint8_t, 5> data;
  reader.set_data_target(data);
  ASSERT_EQ(reader.next(input), iscsi::PduReader::Event::pdu);
  EXPECT_TRUE(reader.data_digest_ok());
}

TEST_F(SendQueueTest, ASendGoesOnWhereItStopped) {
  queue_.configure({});
  nop(1);
  nop(2, 4);
  std::string bytes;
  while (true) {
    const std::span<const iovec> left = queue_.prepare(numbers_);
    bytes.push_back(*static_cast<const char*>(left.front().iov_base));
    if (queue_.advance(1)) break;
    EXPECT_TRUE(queue_.has_unsent());
    if (bytes.size() == 20) nop(3);  // for the next send
  }
  queue_.recycle();
  EXPECT_EQ(bytes.size(), 2 * iscsi::kBhsBytes + 4);
  EXPECT_EQ(first(take()).itt, 3u);
}

TEST_F(SendQueueTest, SoManyPdusASend) {
  queue_.configure({});
  for (uint32_t i = 0; i < kMaxSendPdus + 3; ++i) nop(i);
  EXPECT_EQ(take().size(), kMaxSendPdus * iscsi::kBhsBytes);
  EXPECT_EQ(take().size(), 3 * iscsi::kBhsBytes);
}

TEST_F(SendQueueTest, NoRequestFollowsALogout) {
  queue_.configure({});
  ControlPdu& logout = nop(1);
  logout.header.opcode = iscsi::LogoutRequestPdu{}.opcode;
  nop(2);
  EXPECT_EQ(take().size(), iscsi::kBhsBytes);
  EXPECT_TRUE(take().empty());
}

}  // namespace
}  // namespace holdfast::initiator
