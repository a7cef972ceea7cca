#include "common/rpc/frame.h"

#include <algorithm>

namespace holdfast::rpc {
namespace {

using base::Errc;
using base::fail;
using base::Result;

// What each kind may say beside its type and payload.
const char* problem_of(const FrameHeader& header, uint32_t length) {
  switch (header.kind) {
    case FrameKind::notice:
      return header.id == 0 ? nullptr : "a notice with an id";
    case FrameKind::request:
    case FrameKind::reply:
      return header.id != 0 ? nullptr : "a request or reply without an id";
    case FrameKind::refusal:
      return length == 1 ? nullptr : "a refusal whose payload is not one byte";
    case FrameKind::hello:
      return header.id == 0 && header.type == 0 && length == 0 ? nullptr : "a hello that says more";
  }
  return "a frame of unknown kind";
}

}  // namespace

const char* to_string(Refusal refusal) noexcept {
  switch (refusal) {
    case Refusal::busy:
      return "the peer has too many unanswered requests";
    case Refusal::unknown_type:
      return "the peer does not know this type of request";
    case Refusal::declined:
      return "the peer declined it";
    case Refusal::unanswered:
      return "the peer dropped it without an answer";
  }
  return "the peer refused it for a reason that this version does not know";
}

WireHeader encode_header(const FrameHeader& header, size_t payload_bytes) {
  WireHeader wire;
  wire.magic = kFrameMagic;
  wire.version = kFrameVersion;
  wire.kind = static_cast<uint8_t>(header.kind);
  wire.type = header.type;
  wire.length = static_cast<uint32_t>(payload_bytes);
  wire.id = header.id;
  return wire;
}

Result<FrameReader::Event> FrameReader::next(base::Bytes& input) {
  const bool finished = raw_filled_ == raw_.size() && payload_filled_ == payload_.size();
  if (finished) raw_filled_ = 0;  // the frame that was told last
  if (raw_filled_ < raw_.size()) {
    const size_t part = std::min(raw_.size() - raw_filled_, input.size());
    std::copy_n(input.begin(), part, raw_.begin() + static_cast<ptrdiff_t>(raw_filled_));
    raw_filled_ += part;
    input = input.subspan(part);
    if (raw_filled_ < raw_.size()) return Event::need_more;
    TRY(parse_header());
  }
  const size_t part = std::min(payload_.size() - payload_filled_, input.size());
  std::copy_n(input.begin(), part, payload_.begin() + static_cast<ptrdiff_t>(payload_filled_));
  payload_filled_ += part;
  input = input.subspan(part);
  return payload_filled_ == payload_.size() ? Event::frame : Event::need_more;
}

Result<> FrameReader::parse_header() {
  const auto wire = base::load<WireHeader>(raw_);
  const uint32_t length = wire.length;
  if (wire.magic.get() != kFrameMagic) return fail(Errc::protocol, "not a frame of ours");
  if (wire.version != kFrameVersion) {
    return fail(Errc::protocol, "a frame of a version that this program does not speak");
  }
  if (wire.reserved.get() != 0) return fail(Errc::protocol, "a frame with reserved bits set");
  if (length > max_payload_) return fail(Errc::protocol, "a frame longer than the limit");
  header_ = {.kind = static_cast<FrameKind>(wire.kind), .type = wire.type, .id = wire.id};
  if (const char* problem = problem_of(header_, length)) return fail(Errc::protocol, problem);
  payload_.resize(length);
  payload_filled_ = 0;
  return {};
}

}  // namespace holdfast::rpc
