#include "mpio/nbd_transmission.h"

#include <algorithm>
#include <cerrno>

namespace holdfast::mpio::nbd {
namespace {

struct CommandRules {
  bool known = false;
  bool changes = false;
  bool ranged = true;
  uint16_t flags = command_flags::kFua;  // FUA may come with anything, and mean nothing
};

// A command or flag that was not offered is EINVAL, so that a client's probe fails.
CommandRules rules_of(Command command, const ExportInfo& info, Agreed agreed) {
  constexpr uint16_t kFua = command_flags::kFua;
  switch (command) {
    case Command::read:
      return {.known = true,
              .flags = static_cast<uint16_t>(agreed.structured ? kFua | command_flags::kDontFragment
                                                               : kFua)};
    case Command::write:
      return {.known = true, .changes = true};
    case Command::flush:
      return {.known = true, .ranged = false};
    case Command::trim:
      return {.known = (info.flags & export_flags::kTrim) != 0, .changes = true};
    case Command::write_zeroes:
      return {.known = true, .changes = true, .flags = kFua | command_flags::kNoHole};
    case Command::block_status:
      return {.known = agreed.block_status, .flags = kFua | command_flags::kRequestOne};
    case Command::disconnect:
    case Command::cache:
      break;
  }
  return {};
}

ChunkHeader chunk_of(const Request& request, Chunk type, size_t payload) {
  ChunkHeader chunk;
  chunk.type = static_cast<uint16_t>(type);
  chunk.cookie = request.cookie;
  chunk.length = static_cast<uint32_t>(payload);
  return chunk;
}

}  // namespace

uint32_t problem_of(const Request& request, const ExportInfo& info, Agreed agreed) {
  const auto command = static_cast<Command>(request.command.get());
  const CommandRules rules = rules_of(command, info, agreed);
  const uint64_t offset = request.offset;
  const uint32_t length = request.length;
  // Before anything else: also of a TRIM that is not offered.
  if (rules.changes && (info.flags & export_flags::kReadOnly) != 0) return kPermission;
  if (!rules.known || (request.flags & ~rules.flags) != 0) return kInvalid;
  if (!rules.ranged) return offset == 0 && length == 0 ? 0 : kInvalid;
  if (length == 0) return kInvalid;
  if (command == Command::read && length > kMaxPayload) return kInvalid;
  if (offset % info.minimum_block != 0 || length % info.minimum_block != 0) return kInvalid;
  if (offset > info.size_bytes || length > info.size_bytes - offset) {
    return rules.changes ? kNoSpace : kInvalid;
  }
  return 0;
}

uint32_t to_wire_error(int32_t result) {
  switch (-result) {
    case ENOSPC:
      return kNoSpace;
    case EINVAL:
      return kInvalid;
    case EROFS:
    case EPERM:
      return kPermission;
    case ENOTSUP:
      return kNotSupported;
    case ENOLINK:
      return kShutdown;
    default:
      return kIo;  // fenced and timed out too: the protocol has no word for them
  }
}

// Whatever is asked after structured replies were agreed on may have one; a READ must.
size_t write_head(base::MutableBytes out, const Request& request, uint32_t error, bool structured) {
  if (!structured) {
    base::store(out, SimpleReply{.error = error, .cookie = request.cookie});
    return sizeof(SimpleReply);
  }
  const base::MutableBytes payload = out.subspan(sizeof(ChunkHeader));
  if (error != 0) {
    base::store(out, chunk_of(request, Chunk::error, sizeof(ErrorPayload)));
    base::store(payload, ErrorPayload{.error = error, .message_length = uint16_t{0}});
    return sizeof(ChunkHeader) + sizeof(ErrorPayload);
  }
  if (static_cast<Command>(request.command.get()) == Command::read) {
    base::store(out, chunk_of(request, Chunk::offset_data, sizeof(be64) + request.length.get()));
    base::store(payload, request.offset);
    return sizeof(ChunkHeader) + sizeof(be64);
  }
  base::store(out, chunk_of(request, Chunk::none, 0));
  return sizeof(ChunkHeader);
}

size_t write_status(base::MutableBytes out, const Request& request,
                    std::span<const io::Extent> extents) {
  std::array<StatusDescriptor, kStatusExtents> descriptors;
  size_t count = 0;
  uint64_t left = request.length;
  const bool one = (request.flags & command_flags::kRequestOne) != 0;
  for (const io::Extent& extent : extents) {
    // Never beyond what was asked for, so that 32 bits are enough for the sum of neighbours too.
    const auto length = static_cast<uint32_t>(std::min(extent.length_bytes, left));
    if (length == 0) break;
    const uint32_t flags =
        extent.state == io::ExtentState::deallocated ? kStateHole | kStateZero : 0;
    left -= length;
    if (count > 0 && descriptors[count - 1].flags.get() == flags) {
      descriptors[count - 1].length = descriptors[count - 1].length.get() + length;
      continue;
    }
    if (count == (one ? 1 : descriptors.size())) break;
    descriptors[count++] = {.length = length, .flags = flags};
  }
  if (count == 0) return 0;
  const size_t payload = sizeof(be32) + count * sizeof(StatusDescriptor);
  base::store(out, chunk_of(request, Chunk::block_status, payload));
  size_t at = sizeof(ChunkHeader);
  base::store(out.subspan(at), be32(Negotiation::kAllocationContext));
  at += sizeof(be32);
  for (size_t i = 0; i < count; ++i) {
    base::store(out.subspan(at), descriptors[i]);
    at += sizeof(StatusDescriptor);
  }
  return at;
}

}  // namespace holdfast::mpio::nbd
