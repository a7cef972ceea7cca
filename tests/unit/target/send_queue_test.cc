#include "target/send_queue.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "common/iscsi/pdu_reader.h"

namespace holdfast::target {
namespace {

using iscsi::PduReader;

struct CountedItem {
  int sent = 0;
  SendItem item{this,
                [](SendItem& done) noexcept { ++static_cast<CountedItem*>(done.owner)->sent; }};
};

// Sends all of the queue in pieces of at most `piece` bytes; the wire bytes.
std::vector<uint8_t> drain(SendQueue& queue, SequenceNumbers& numbers, size_t piece) {
  std::vector<uint8_t> wire;
  while (!queue.empty()) {
    const std::span<const iovec> iovecs = queue.prepare(numbers);
    size_t left = piece;
    size_t taken = 0;
    for (const iovec& part : iovecs) {
      const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
      const size_t count = std::min(left, part.iov_len);
      wire.insert(wire.end(), bytes, bytes + count);
      left -= count;
      taken += count;
    }
    queue.advance(taken);
  }
  return wire;
}

struct Parsed {
  iscsi::DataInPdu header;
  std::vector<uint8_t> data;
};

std::vector<Parsed> parse(const std::vector<uint8_t>& wire, bool digests) {
  PduReader reader;
  reader.set_digests(digests, digests);
  reader.set_max_data_segment(1 << 20);
  std::vector<Parsed> pdus;
  base::Bytes input(wire);
  std::vector<uint8_t> data;
  while (true) {
    const auto event = reader.next(input);
    EXPECT_TRUE(event.has_value());
    if (!event.has_value() || *event == PduReader::Event::need_more) break;
    if (*event == PduReader::Event::header) {
      data.assign(reader.data_length(), 0);
      if (!data.empty()) reader.set_data_target(data);
    } else {
      EXPECT_TRUE(reader.data_digest_ok());
      pdus.push_back({reader.as<iscsi::DataInPdu>(), data});
    }
  }
  EXPECT_TRUE(reader.at_boundary());
  return pdus;
}

class SendQueueTest : public testing::TestWithParam<std::tuple<bool, size_t>> {
 protected:
  bool digests() const { return std::get<0>(GetParam()); }
  size_t piece() const { return std::get<1>(GetParam()); }
};

TEST_P(SendQueueTest, ReadIsCutAtSegmentAndBurstWithStatusInTheLast) {
  SendQueue queue;
  queue.configure({.header = digests(), .data = digests()}, 1000, 2500);
  std::vector<uint8_t> data(6001);
  std::iota(data.begin(), data.end(), uint8_t{0});
  DataInProgress progress{.data_sn = 0, .burst_left = queue.max_burst()};
  CountedItem read;
  read.item.kind = SendItem::Kind::data_in;
  read.item.itt = 77;
  read.item.data = data;
  read.item.progress = &progress;
  read.item.ends_data = read.item.with_status = true;
  read.item.residual_flags = iscsi::residual_flags::kUnderflow;
  read.item.residual = 3;
  queue.push(read.item);
  SequenceNumbers numbers{.stat_sn = 40, .exp_cmd_sn = 5, .max_cmd_sn = 9};
  const std::vector<Parsed> pdus = parse(drain(queue, numbers, piece()), digests());

  std::vector<uint8_t> joined;
  uint32_t in_burst = 0;
  for (size_t i = 0; i < pdus.size(); ++i) {
    const iscsi::DataInPdu& pdu = pdus[i].header;
    EXPECT_EQ(pdu.itt, 77u);
    EXPECT_EQ(pdu.data_sn, i);
    EXPECT_EQ(pdu.buffer_offset, joined.size());
    EXPECT_EQ(pdu.exp_cmd_sn, 5u);
    EXPECT_EQ(pdu.max_cmd_sn, 9u);
    EXPECT_LE(pdus[i].data.size(), 1000u);
    in_burst += static_cast<uint32_t>(pdus[i].data.size());
    EXPECT_LE(in_burst, 2500u);
    const bool last = i + 1 == pdus.size();
    EXPECT_EQ((pdu.flags & iscsi::kFinal) != 0, last || in_burst == 2500);
    EXPECT_EQ((pdu.flags & iscsi::data_in_flags::kStatus) != 0, last);
    if ((pdu.flags & iscsi::kFinal) != 0) in_burst = 0;
    joined.insert(joined.end(), pdus[i].data.begin(), pdus[i].data.end());
  }
  EXPECT_EQ(joined, data);
  EXPECT_EQ(pdus.back().header.stat_sn, 40u);
  EXPECT_EQ(pdus.back().header.residual_count, 3u);
  EXPECT_EQ(numbers.stat_sn, 41u);
  EXPECT_EQ(read.sent, 1);
}

TEST_P(SendQueueTest, ManyPdusKeepOrderAndNumbers) {
  SendQueue queue;
  queue.configure({.header = digests(), .data = digests()}, 8192, 65536);
  std::vector<CountedItem> items(100);
  const std::vector<uint8_t> sense = {0, 3, 1, 2, 3};
  for (uint32_t i = 0; i < items.size(); ++i) {
    iscsi::ScsiResponsePdu pdu;
    pdu.itt = i;
    items[i].item.header = base::load<iscsi::Bhs>(base::as_bytes(pdu));
    if (i % 3 == 0) items[i].item.data = sense;
    items[i].item.takes_stat_sn = i % 2 == 0;
    queue.push(items[i].item);
  }
  SequenceNumbers numbers{.stat_sn = 0xfffffff0, .exp_cmd_sn = 1, .max_cmd_sn = 2};
  const std::vector<Parsed> pdus = parse(drain(queue, numbers, piece()), digests());
  ASSERT_EQ(pdus.size(), items.size());
  uint32_t stat_sn = 0xfffffff0;
  for (uint32_t i = 0; i < pdus.size(); ++i) {
    EXPECT_EQ(pdus[i].header.itt, i);
    EXPECT_EQ(pdus[i].header.stat_sn, stat_sn);
    EXPECT_EQ(pdus[i].data.size(), i % 3 == 0 ? sense.size() : 0);
    if (i % 2 == 0) ++stat_sn;
    EXPECT_EQ(items[i].sent, 1);
  }
}

INSTANTIATE_TEST_SUITE_P(DigestsAndPieces, SendQueueTest,
                         testing::Combine(testing::Bool(), testing::Values(1, 47, 4096, 1 << 20)));

TEST(SendQueue, ClearCallsEveryItemBack) {
  SendQueue queue;
  queue.configure({}, 8192, 65536);
  std::vector<CountedItem> items(30);
  for (CountedItem& item : items) queue.push(item.item);
  SequenceNumbers numbers;
  const auto iovecs = queue.prepare(numbers);
  queue.advance(iovecs[0].iov_len);
  queue.clear();
  for (const CountedItem& item : items) EXPECT_EQ(item.sent, 1);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace holdfast::target
