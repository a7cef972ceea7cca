#pragma once
// The frames that nodes exchange within TLS: docs/rpc.md. Pure. The payload is opaque; the meaning
// of the types is the users'.

#include <array>
#include <cstdint>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"

namespace holdfast::rpc {

enum class FrameKind : uint8_t {
  notice = 0,   // wants no answer; id 0
  request = 1,  // id: the sender's, not 0, never used twice on one connection
  reply = 2,    // id and type of the request
  refusal = 3,  // the same: it was not done; payload: one byte, Refusal. Id 0: you are not wanted
  hello = 4,    // the first frame of the accepting side: you are let in. Id, type and length 0
};

// Why a request was not done.
enum class Refusal : uint8_t {
  busy = 1,      // too many are unanswered
  unknown_type,  // the peer does not know such requests
  declined,      // for a reason of its user
  unanswered,    // its user forgot it
};
const char* to_string(Refusal refusal) noexcept;

struct WireHeader {
  base::be16 magic;
  uint8_t version = 0;
  uint8_t kind = 0;
  base::be16 type;
  base::be16 reserved;  // 0
  base::be32 length;    // of the payload
  base::be64 id;
};
static_assert(base::WireStruct<WireHeader, 20>);
inline constexpr size_t kFrameHeaderBytes = sizeof(WireHeader);
inline constexpr uint16_t kFrameMagic = 0x4846;  // "HF"
inline constexpr uint8_t kFrameVersion = 1;

struct FrameHeader {
  FrameKind kind = FrameKind::notice;
  uint16_t type = 0;
  uint64_t id = 0;
  bool operator==(const FrameHeader&) const = default;
};

WireHeader encode_header(const FrameHeader& header, size_t payload_bytes);

// A stream of bytes to frames, resumable at any byte. Holds one payload of at most the limit, which
// is checked before memory is taken for it.
class FrameReader {
 public:
  enum class Event : uint8_t { need_more, frame };

  explicit FrameReader(uint32_t max_payload) : max_payload_(max_payload) {}

  // Takes bytes from the front of the input. need_more: all were taken. frame: header() and
  // payload() hold until the next call. An error: the peer breaks the protocol, and nothing may be
  // read any more.
  base::Result<Event> next(base::Bytes& input);
  const FrameHeader& header() const { return header_; }
  base::Bytes payload() const { return payload_; }

 private:
  base::Result<> parse_header();

  const uint32_t max_payload_;
  std::array<uint8_t, kFrameHeaderBytes> raw_{};
  size_t raw_filled_ = 0;
  FrameHeader header_;
  std::vector<uint8_t> payload_;
  size_t payload_filled_ = 0;
};

}  // namespace holdfast::rpc
