#include "common/iscsi/pdu_reader.h"

#include <gtest/gtest.h>

#include <numeric>

#include "common/base/random.h"
#include "common/iscsi/pdu_writer.h"

namespace holdfast::iscsi {
namespace {

using base::Bytes;
using base::Errc;
using Event = PduReader::Event;
using Wire = std::vector<uint8_t>;

struct Sent {
  Bhs bhs;
  Wire ahs;
  Wire data;
};

void append(Wire& wire, Bytes bytes) { wire.insert(wire.end(), bytes.begin(), bytes.end()); }

Wire encode(Sent sent, Digests digests = {}) {
  sent.bhs.total_ahs_length = static_cast<uint8_t>(sent.ahs.size() / 4);
  sent.bhs.data_segment_length = static_cast<uint32_t>(sent.data.size());
  Wire wire;
  append(wire, base::as_bytes(sent.bhs));
  append(wire, sent.ahs);
  if (digests.header) append(wire, base::as_bytes(digest_of(wire)));
  append(wire, sent.data);
  append(wire, data_trailer(sent.data, digests.data).bytes());
  return wire;
}

Sent make(uint32_t itt, size_t data_length, size_t ahs_length = 0) {
  Sent sent;
  sent.bhs.opcode = 0x01;
  sent.bhs.itt = itt;
  sent.ahs.assign(ahs_length, 0xa5);
  sent.data.resize(data_length);
  std::iota(sent.data.begin(), sent.data.end(), static_cast<uint8_t>(itt));
  return sent;
}

struct Received {
  uint32_t itt;
  Wire ahs;
  Wire data;
  bool digest_ok;

  bool operator==(const Received&) const = default;
};

// Feeds `wire` in pieces and lets every other piece go through direct_target(), as a scatter
// receive would.
class Feeder {
 public:
  explicit Feeder(PduReader& reader) : reader_(reader) {}

  base::Result<void> feed(Bytes piece, bool direct) {
    if (direct) {
      const base::MutableBytes target = reader_.direct_target();
      const size_t n = std::min(target.size(), piece.size());
      std::copy_n(piece.begin(), n, target.begin());
      reader_.direct_received(n);
      piece = piece.subspan(n);
    }
    for (;;) {
      TRY_ASSIGN(const Event event, reader_.next(piece));
      if (event == Event::need_more) {
        EXPECT_TRUE(piece.empty());
        return {};
      }
      if (event == Event::header) on_header();
      if (event == Event::pdu) on_pdu();
    }
  }
  std::vector<Received> received{};

 private:
  void on_header() {
    data_.assign(reader_.data_length(), 0);
    if (!data_.empty()) reader_.set_data_target(data_);
  }
  void on_pdu() {
    const Bytes ahs = reader_.ahs();
    received.push_back(
        {reader_.bhs().itt, Wire(ahs.begin(), ahs.end()), data_, reader_.data_digest_ok()});
  }

  PduReader& reader_;
  Wire data_;
};

class PduReaderDigests : public testing::TestWithParam<Digests> {};

TEST_P(PduReaderDigests, ResumesAtEveryByte) {
  const Digests digests = GetParam();
  const std::vector<Sent> sent = {make(1, 0), make(2, 1), make(3, 5, 8), make(4, 8), make(5, 0, 4)};
  Wire wire;
  std::vector<Received> expected;
  for (const Sent& pdu : sent) {
    append(wire, encode(pdu, digests));
    expected.push_back({pdu.bhs.itt, pdu.ahs, pdu.data, true});
  }
  for (size_t piece = 1; piece <= wire.size(); ++piece) {
    for (const bool direct : {false, true}) {
      PduReader reader;
      reader.set_digests(digests.header, digests.data);
      Feeder feeder(reader);
      for (size_t at = 0; at < wire.size(); at += piece) {
        const size_t n = std::min(piece, wire.size() - at);
        ASSERT_TRUE(feeder.feed(Bytes(wire).subspan(at, n), direct && at / piece % 2 == 1));
      }
      ASSERT_EQ(feeder.received, expected) << "pieces of " << piece;
      ASSERT_TRUE(reader.at_boundary());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PduReaderDigests,
                         testing::Values(Digests{}, Digests{.header = true}, Digests{.data = true},
                                         Digests{.header = true, .data = true}));

TEST(PduReader, DataGoesStraightIntoItsPlace) {
  PduReader reader;
  Sent sent = make(9, 1000);
  const Wire wire = encode(sent);
  Bytes input = Bytes(wire).first(kBhsBytes + 10);
  ASSERT_EQ(*reader.next(input), Event::header);
  EXPECT_TRUE(reader.direct_target().empty()) << "nothing to fill before a target is set";
  Wire place(1000);
  reader.set_data_target(place);
  ASSERT_EQ(*reader.next(input), Event::need_more);
  ASSERT_EQ(reader.direct_target().data(), place.data() + 10);
  ASSERT_EQ(reader.direct_target().size(), 990u);
  std::copy_n(wire.begin() + kBhsBytes + 10, 990, reader.direct_target().begin());
  reader.direct_received(990);
  EXPECT_TRUE(reader.direct_target().empty());
  input = {};
  ASSERT_EQ(*reader.next(input), Event::pdu) << "1000 bytes need no padding";
  EXPECT_EQ(place, sent.data);
  EXPECT_EQ(reader.as<ScsiCommandPdu>().itt.get(), 9u);
}

TEST(PduReader, DiscardsDataButStillChecksItsDigest) {
  for (const bool damage : {false, true}) {
    PduReader reader;
    reader.set_digests(false, true);
    Wire wire = encode(make(1, 21), {.data = true});
    if (damage) wire[kBhsBytes + 20] ^= 1;
    Bytes input = wire;
    ASSERT_EQ(*reader.next(input), Event::header);
    reader.discard_data();
    EXPECT_TRUE(reader.direct_target().empty());
    ASSERT_EQ(*reader.next(input), Event::pdu);
    EXPECT_EQ(reader.data_digest_ok(), !damage);
    EXPECT_TRUE(input.empty());
  }
}

TEST(PduReader, DataDigestErrorKeepsTheStream) {
  PduReader reader;
  reader.set_digests(true, true);
  const Digests digests{.header = true, .data = true};
  Wire wire = encode(make(1, 6), digests);
  wire[wire.size() - 5] ^= 0x80;  // the padding is covered too
  append(wire, encode(make(2, 6), digests));
  Feeder feeder(reader);
  ASSERT_TRUE(feeder.feed(wire, false));
  ASSERT_EQ(feeder.received.size(), 2u);
  EXPECT_FALSE(feeder.received[0].digest_ok);
  EXPECT_TRUE(feeder.received[1].digest_ok);
}

TEST(PduReader, HeaderDigestErrorEndsTheStream) {
  for (const size_t at : {size_t{0}, size_t{47}, size_t{50}, size_t{58}}) {
    PduReader reader;
    reader.set_digests(true, false);
    Wire wire = encode(make(1, 0, 8), {.header = true});
    ASSERT_EQ(wire.size(), 60u);
    wire[at] ^= 0x01;
    Bytes input = wire;
    const auto event = reader.next(input);
    ASSERT_FALSE(event.has_value()) << at;
    EXPECT_EQ(event.error().code, Errc::digest);
    const auto again = reader.next(input);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, Errc::digest);
  }
}

// Checklist: DataSegmentLength against the negotiated limit, AHS total.
TEST(PduReader, RefusesLengthsAboveTheLimits) {
  struct Case {
    uint32_t data_length;
    uint8_t ahs_words;
    uint32_t limit;
    bool accepted;
  };
  const Case cases[] = {
      {8192, 0, 8192, true},
      {8193, 0, 8192, false},
      {0xffffff, 0, 8192, false},
      {0xffffff, 0, 0xffffff, true},
      {0, kMaxAhsBytes / 4, 8192, true},
      {0, kMaxAhsBytes / 4 + 1, 8192, false},
      {0, 255, 8192, false},
  };
  for (const Case& c : cases) {
    PduReader reader;
    reader.set_max_data_segment(c.limit);
    Bhs bhs;
    bhs.data_segment_length = c.data_length;
    bhs.total_ahs_length = c.ahs_words;
    Wire wire;
    append(wire, base::as_bytes(bhs));
    wire.resize(wire.size() + size_t{c.ahs_words} * 4);
    Bytes input = wire;
    const auto event = reader.next(input);
    ASSERT_EQ(event.has_value(), c.accepted) << c.data_length << " " << int{c.ahs_words};
    if (c.accepted) {
      EXPECT_EQ(*event, Event::header);
      EXPECT_EQ(reader.data_length(), c.data_length);
      EXPECT_EQ(reader.ahs().size(), size_t{c.ahs_words} * 4);
    } else {
      EXPECT_EQ(event.error().code, Errc::protocol);
    }
  }
}

// 24-bit length plus padding plus digest must not wrap (CVE-2026-53176 is that kind of error).
TEST(PduReader, LongestDataSegmentOfOddLengthIsCountedRight) {
  PduReader reader;
  reader.set_digests(false, true);
  reader.set_max_data_segment(kMaxDataSegmentBytes);
  const Wire data(kMaxDataSegmentBytes, 0x5a);
  Bhs bhs;
  bhs.data_segment_length = kMaxDataSegmentBytes;
  Bytes input = base::as_bytes(bhs);
  ASSERT_EQ(*reader.next(input), Event::header);
  reader.discard_data();
  input = data;
  ASSERT_EQ(*reader.next(input), Event::need_more);
  const DataTrailer trailer = data_trailer(data, true);
  input = trailer.bytes().first(4);
  ASSERT_EQ(*reader.next(input), Event::need_more);
  input = trailer.bytes().subspan(4);
  ASSERT_EQ(*reader.next(input), Event::pdu);
  EXPECT_TRUE(reader.data_digest_ok());
}

TEST(PduReader, LimitsAndDigestsMayChangeBetweenPdus) {
  PduReader reader;
  Wire wire = encode(make(1, 100));
  Feeder feeder(reader);
  ASSERT_TRUE(feeder.feed(wire, false));
  ASSERT_TRUE(reader.at_boundary());
  reader.set_digests(true, true);
  reader.set_max_data_segment(65536);
  wire = encode(make(2, 60000), {.header = true, .data = true});
  ASSERT_TRUE(feeder.feed(Bytes(wire).first(1), false));
  EXPECT_FALSE(reader.at_boundary());
  ASSERT_TRUE(feeder.feed(Bytes(wire).subspan(1), false));
  ASSERT_EQ(feeder.received.size(), 2u);
  EXPECT_TRUE(feeder.received[1].digest_ok);
}

TEST(PduReaderDeathTest, CallerHasToSayWhereDataGoes) {
  PduReader reader;
  const Wire wire = encode(make(1, 4));
  Bytes input = wire;
  ASSERT_EQ(*reader.next(input), Event::header);
  EXPECT_DEATH((void)reader.next(input), "data_length_ == 0");
  Wire wrong(3);
  EXPECT_DEATH(reader.set_data_target(wrong), "target.size");
}

TEST(PduReader, SurvivesNoise) {
  base::SeededRandom random(20261123);
  for (int round = 0; round < 2000; ++round) {
    PduReader reader;
    reader.set_digests(false, round % 2 == 0);
    Wire noise(200);
    random.fill(noise);
    if (round % 3 == 0) noise[4] = noise[5] = noise[6] = 0;
    Feeder feeder(reader);
    (void)feeder.feed(noise, false);
  }
}

}  // namespace
}  // namespace holdfast::iscsi
