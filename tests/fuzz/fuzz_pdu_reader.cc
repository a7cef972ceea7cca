// The PDU reader over a hostile stream: byte 0 chooses digests and target mode, byte 1 the size of
// the pieces. The stream in one piece and in small pieces must give the same PDUs and error.

#include <algorithm>
#include <vector>

#include "common/base/assert.h"
#include "common/iscsi/pdu_reader.h"

namespace {

using holdfast::base::Bytes;
using holdfast::base::MutableBytes;
using holdfast::iscsi::PduReader;

struct Seen {
  uint32_t itt = 0;
  std::vector<uint8_t> ahs;
  std::vector<uint8_t> data;
  bool digest_ok = false;

  bool operator==(const Seen&) const = default;
};

struct Run {
  std::vector<Seen> pdus;
  bool failed = false;

  bool operator==(const Run&) const = default;
};

constexpr uint32_t kMaxSegment = 1024;

Bytes fill_direct(PduReader& reader, Bytes piece) {
  const MutableBytes target = reader.direct_target();
  const size_t n = std::min(target.size(), piece.size());
  std::copy_n(piece.begin(), n, target.begin());
  reader.direct_received(n);
  return piece.subspan(n);
}

// False at the end of the stream.
bool feed(PduReader& reader, Bytes piece, bool discard, std::vector<uint8_t>& data, Run& run) {
  for (;;) {
    const auto event = reader.next(piece);
    if (!event.has_value()) {
      run.failed = true;
      return false;
    }
    if (*event == PduReader::Event::need_more) {
      ASSERT(piece.empty());
      return true;
    }
    if (*event == PduReader::Event::header) {
      ASSERT(reader.data_length() <= kMaxSegment);
      data.assign(discard ? 0 : reader.data_length(), 0);
      if (!data.empty()) {
        reader.set_data_target(data);
      } else if (reader.data_length() > 0) {
        reader.discard_data();
      }
      continue;
    }
    const Bytes ahs = reader.ahs();
    run.pdus.push_back({reader.bhs().itt, {ahs.begin(), ahs.end()}, data, reader.data_digest_ok()});
  }
}

Run run(Bytes stream, uint8_t mode, size_t piece_size) {
  PduReader reader;
  reader.set_digests((mode & 1) != 0, (mode & 2) != 0);
  reader.set_max_data_segment(kMaxSegment);
  std::vector<uint8_t> data;
  Run result;
  bool direct = false;
  while (!stream.empty()) {
    Bytes piece = stream.first(std::min(piece_size, stream.size()));
    stream = stream.subspan(piece.size());
    if (direct) piece = fill_direct(reader, piece);
    direct = !direct;
    if (!feed(reader, piece, (mode & 4) != 0, data, result)) break;
  }
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const Bytes stream(data + 2, size - 2);
  const Run whole = run(stream, data[0], std::max<size_t>(stream.size(), 1));
  const Run pieces = run(stream, data[0], size_t{data[1]} % 64 + 1);
  ASSERT(whole == pieces);
  return 0;
}
