#include "common/rpc/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "common/base/random.h"

namespace holdfast::rpc {
namespace {

constexpr uint32_t kLimit = 1000;

struct Seen {
  FrameHeader header;
  std::string payload;
  bool operator==(const Seen&) const = default;
};

void append(std::vector<uint8_t>& out, const FrameHeader& header, std::string_view payload) {
  const WireHeader wire = encode_header(header, payload.size());
  const base::Bytes head = base::as_bytes(wire);
  const base::Bytes body = base::as_bytes(payload);
  out.insert(out.end(), head.begin(), head.end());
  out.insert(out.end(), body.begin(), body.end());
}

// Everything the reader says of these pieces; the last word is an error's text, or empty.
struct Read {
  std::vector<Seen> frames;
  std::string error;
  bool operator==(const Read&) const = default;
};

Read read_all(base::Bytes stream, const std::vector<size_t>& cuts) {
  FrameReader reader(kLimit);
  Read read;
  size_t begin = 0;
  std::vector<size_t> ends = cuts;
  ends.push_back(stream.size());
  for (const size_t end : ends) {
    base::Bytes piece = stream.subspan(begin, end - begin);
    begin = end;
    for (;;) {
      const auto event = reader.next(piece);
      if (!event.has_value()) {
        read.error = event.error().what;
        return read;
      }
      if (*event == FrameReader::Event::need_more) break;
      read.frames.push_back({reader.header(), std::string(base::as_text(reader.payload()))});
    }
    EXPECT_TRUE(piece.empty());
  }
  return read;
}

std::string error_of(WireHeader wire, size_t payload_bytes = 0) {
  std::vector<uint8_t> bytes(sizeof(wire) + payload_bytes);
  base::store(bytes, wire);
  return read_all(bytes, {}).error;
}

WireHeader header_of(FrameKind kind, uint16_t type, uint32_t length, uint64_t id) {
  return encode_header({.kind = kind, .type = type, .id = id}, length);
}

TEST(Frame, TheHeaderIsWhatThePageSays) {
  const WireHeader wire = header_of(FrameKind::request, 0x0203, 5, 0x0102030405060708);
  const base::Bytes bytes = base::as_bytes(wire);
  const std::vector<uint8_t> wanted = {0x48, 0x46, 1, 1, 2, 3, 0, 0, 0, 0,
                                       0,    5,    1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_TRUE(std::ranges::equal(bytes, wanted));
}

TEST(Frame, EverySplitOfTheStreamGivesTheSameFrames) {
  std::vector<uint8_t> stream;
  const std::vector<Seen> frames = {
      {{.kind = FrameKind::hello}, ""},
      {{.kind = FrameKind::notice, .type = 3}, "heart"},
      {{.kind = FrameKind::request, .type = 4, .id = 9}, ""},
      {{.kind = FrameKind::refusal, .type = 4, .id = 9}, "\x01"},
      {{.kind = FrameKind::reply, .type = 0xffff, .id = UINT64_MAX}, "an answer"}};
  for (const Seen& frame : frames) append(stream, frame.header, frame.payload);
  const Read whole = read_all(stream, {});
  ASSERT_EQ(whole.frames, frames);
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      ASSERT_EQ(read_all(stream, {first, second}), whole) << first << " " << second;
    }
  }
  std::vector<size_t> every;
  for (size_t cut = 0; cut < stream.size(); ++cut) every.push_back(cut);
  EXPECT_EQ(read_all(stream, every), whole);
}

TEST(Frame, ATruncatedFrameIsNotTold) {
  std::vector<uint8_t> stream;
  append(stream, {.kind = FrameKind::notice, .type = 1}, "payload");
  for (size_t length = 0; length < stream.size(); ++length) {
    const Read read = read_all(base::Bytes(stream).first(length), {});
    EXPECT_TRUE(read.frames.empty() && read.error.empty()) << length;
  }
}

TEST(Frame, TheLongestPayloadPassesAndOneByteMoreIsRefusedByItsHeader) {
  std::vector<uint8_t> stream;
  append(stream, {.kind = FrameKind::notice}, std::string(kLimit, 'x'));
  EXPECT_EQ(read_all(stream, {}).frames.size(), 1u);
  EXPECT_EQ(error_of(header_of(FrameKind::notice, 0, kLimit + 1, 0)),
            "a frame longer than the limit");
  // No memory is taken for it: the header alone is enough, and 4 GiB would be noticed.
  EXPECT_EQ(error_of(header_of(FrameKind::notice, 0, UINT32_MAX, 0)),
            "a frame longer than the limit");
}

TEST(Frame, EveryRuleOfTheHeaderHasItsError) {
  WireHeader wire = header_of(FrameKind::notice, 1, 0, 0);
  wire.magic = 0x4846 + 1;
  EXPECT_EQ(error_of(wire), "not a frame of ours");
  wire = header_of(FrameKind::notice, 1, 0, 0);
  wire.version = 2;
  EXPECT_EQ(error_of(wire), "a frame of a version that this program does not speak");
  wire = header_of(FrameKind::notice, 1, 0, 0);
  wire.reserved = 1;
  EXPECT_EQ(error_of(wire), "a frame with reserved bits set");
  wire = header_of(FrameKind::notice, 1, 0, 0);
  wire.kind = 5;
  EXPECT_EQ(error_of(wire), "a frame of unknown kind");
  EXPECT_EQ(error_of(header_of(FrameKind::notice, 1, 0, 1)), "a notice with an id");
  EXPECT_EQ(error_of(header_of(FrameKind::request, 1, 0, 0)), "a request or reply without an id");
  EXPECT_EQ(error_of(header_of(FrameKind::reply, 1, 0, 0)), "a request or reply without an id");
  const char* refusal = "a refusal whose payload is not one byte";
  EXPECT_EQ(error_of(header_of(FrameKind::refusal, 1, 0, 1)), refusal);
  EXPECT_EQ(error_of(header_of(FrameKind::refusal, 1, 2, 1)), refusal);
  const char* hello = "a hello that says more";
  EXPECT_EQ(error_of(header_of(FrameKind::hello, 1, 0, 0)), hello);
  EXPECT_EQ(error_of(header_of(FrameKind::hello, 0, 1, 0)), hello);
  EXPECT_EQ(error_of(header_of(FrameKind::hello, 0, 0, 1)), hello);
}

TEST(Frame, GarbageIsRefusedWhateverItsPieces) {
  base::SeededRandom random(7);
  size_t refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint8_t> stream;
    append(stream, {.kind = FrameKind::request, .type = 1, .id = 5}, "good");
    append(stream, {.kind = FrameKind::notice, .type = 2}, "good too");
    const size_t place = random.below(stream.size());
    stream[place] = static_cast<uint8_t>(random.next());
    const Read whole = read_all(stream, {});
    if (!whole.error.empty()) ++refused;
    const size_t cut = random.below(stream.size() + 1);
    ASSERT_EQ(read_all(stream, {cut}), whole);
  }
  EXPECT_GT(refused, 200u);
}

TEST(Frame, EachRefusalSaysSomethingAlsoOneOfALaterVersion) {
  for (unsigned code = 0; code < 256; ++code) {
    EXPECT_GT(std::string(to_string(static_cast<Refusal>(code))).size(), 5u);
  }
}

}  // namespace
}  // namespace holdfast::rpc
