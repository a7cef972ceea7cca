// The frame reader over a hostile stream: byte 0 is the size of the pieces. The stream in one piece
// and in small pieces must give the same frames and error, and no payload beyond the limit.

#include <algorithm>
#include <vector>

#include "common/base/assert.h"
#include "common/rpc/frame.h"

namespace {

using holdfast::base::Bytes;
using holdfast::rpc::FrameHeader;
using holdfast::rpc::FrameReader;

constexpr uint32_t kMaxPayload = 512;

struct Seen {
  FrameHeader header;
  std::vector<uint8_t> payload;
  bool operator==(const Seen&) const = default;
};

struct Run {
  std::vector<Seen> frames;
  const char* error = nullptr;  // static text
  bool operator==(const Run&) const = default;
};

Run run(Bytes stream, size_t piece_size) {
  FrameReader reader(kMaxPayload);
  Run result;
  while (!stream.empty()) {
    Bytes piece = stream.first(std::min(piece_size, stream.size()));
    stream = stream.subspan(piece.size());
    for (;;) {
      const auto event = reader.next(piece);
      if (!event.has_value()) {
        result.error = event.error().what;
        return result;
      }
      if (*event == FrameReader::Event::need_more) break;
      const Bytes payload = reader.payload();
      ASSERT(payload.size() <= kMaxPayload);
      result.frames.push_back({reader.header(), {payload.begin(), payload.end()}});
    }
    ASSERT(piece.empty());
  }
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const Bytes stream(data + 1, size - 1);
  const Run whole = run(stream, std::max<size_t>(stream.size(), 1));
  const Run pieces = run(stream, size_t{data[0]} % 64 + 1);
  ASSERT(whole == pieces);
  return 0;
}
