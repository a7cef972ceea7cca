#pragma once
// The NBD protocol as it lies on the wire (doc/proto.md of the NetworkBlockDevice project): fixed
// newstyle negotiation, simple and structured replies. Big-endian throughout.

#include <cstddef>
#include <cstdint>

#include "common/base/endian.h"

namespace holdfast::mpio::nbd {

using base::be16;
using base::be32;
using base::be64;

inline constexpr uint64_t kServerMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;
inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;

inline constexpr uint16_t kFixedNewstyle = 1;  // handshake and client flags
inline constexpr uint16_t kNoZeroes = 2;

enum class Option : uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
};

enum class OptionReply : uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  invalid = 0x80000003,
  unknown = 0x80000006,
  too_big = 0x80000009,
};

enum class Info : uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

namespace export_flags {
inline constexpr uint16_t kHasFlags = 1 << 0;
inline constexpr uint16_t kReadOnly = 1 << 1;
inline constexpr uint16_t kFlush = 1 << 2;
inline constexpr uint16_t kFua = 1 << 3;
inline constexpr uint16_t kTrim = 1 << 5;
inline constexpr uint16_t kWriteZeroes = 1 << 6;
inline constexpr uint16_t kDontFragment = 1 << 7;
inline constexpr uint16_t kMultiConn = 1 << 8;
inline constexpr uint16_t kFastZero = 1 << 11;
}  // namespace export_flags

enum class Command : uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

namespace command_flags {
inline constexpr uint16_t kFua = 1 << 0;
inline constexpr uint16_t kNoHole = 1 << 1;
inline constexpr uint16_t kDontFragment = 1 << 2;
inline constexpr uint16_t kRequestOne = 1 << 3;
inline constexpr uint16_t kFastZero = 1 << 4;
}  // namespace command_flags

inline constexpr uint16_t kChunkDone = 1;
enum class Chunk : uint16_t {
  none = 0,
  offset_data = 1,
  block_status = 5,
  error = 0x8001,
};

inline constexpr uint32_t kStateHole = 1;  // base:allocation
inline constexpr uint32_t kStateZero = 2;

// Errors on the wire.
inline constexpr uint32_t kPermission = 1, kIo = 5, kNoMemory = 12, kInvalid = 22, kNoSpace = 28,
                          kNotSupported = 95, kShutdown = 108;

struct ServerHello {
  be64 magic = kServerMagic;
  be64 option_magic = kOptionMagic;
  be16 flags = kFixedNewstyle | kNoZeroes;
};
static_assert(base::WireStruct<ServerHello, 18>);

struct OptionHeader {
  be64 magic;
  be32 option;
  be32 length;
};
static_assert(base::WireStruct<OptionHeader, 16>);

struct OptionReplyHeader {
  be64 magic = kOptionReplyMagic;
  be32 option;
  be32 type;
  be32 length;
};
static_assert(base::WireStruct<OptionReplyHeader, 20>);

struct InfoExport {
  be16 type = static_cast<uint16_t>(Info::export_);
  be64 size;
  be16 flags;
};
static_assert(base::WireStruct<InfoExport, 12>);

struct InfoBlockSize {
  be16 type = static_cast<uint16_t>(Info::block_size);
  be32 minimum;
  be32 preferred;
  be32 maximum_payload;
};
static_assert(base::WireStruct<InfoBlockSize, 14>);

// After NBD_OPT_EXPORT_NAME; 124 zeroes follow unless both sides said otherwise.
struct ExportAnswer {
  be64 size;
  be16 flags;
};
static_assert(base::WireStruct<ExportAnswer, 10>);

struct Request {
  be32 magic;
  be16 flags;
  be16 command;
  be64 cookie;
  be64 offset;
  be32 length;
};
static_assert(base::WireStruct<Request, 28>);

struct SimpleReply {
  be32 magic = kSimpleReplyMagic;
  be32 error;
  be64 cookie;
};
static_assert(base::WireStruct<SimpleReply, 16>);

struct ChunkHeader {
  be32 magic = kStructuredReplyMagic;
  be16 flags = kChunkDone;
  be16 type;
  be64 cookie;
  be32 length;
};
static_assert(base::WireStruct<ChunkHeader, 20>);

// Of an error chunk, without a text.
struct ErrorPayload {
  be32 error;
  be16 message_length;
};
static_assert(base::WireStruct<ErrorPayload, 6>);

struct StatusDescriptor {
  be32 length;
  be32 flags;
};
static_assert(base::WireStruct<StatusDescriptor, 8>);

}  // namespace holdfast::mpio::nbd
