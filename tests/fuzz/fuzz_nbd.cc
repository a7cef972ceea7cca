// A hostile NBD client: its options in pieces of any length, then its requests. What is let through
// lies within the export; what is answered has the lengths that it says.

#include <algorithm>
#include <array>
#include <vector>

#include "common/base/assert.h"
#include "mpio/nbd_negotiation.h"
#include "mpio/nbd_transmission.h"

using namespace holdfast::mpio::nbd;  // NOLINT(google-build-using-namespace): a program of one file
using holdfast::base::Bytes;
using holdfast::base::load;

namespace {

// Of one option: a name each for SERVER or INFO, and the fixed parts.
constexpr size_t kMaxReply = 1024;

void check_replies(Bytes output) {
  while (!output.empty()) {
    const auto header = load<OptionReplyHeader>(output);
    ASSERT(header.magic.get() == kOptionReplyMagic);
    output = output.subspan(sizeof(header));
    ASSERT(header.length <= output.size() && header.length < kMaxReply);
    output = output.subspan(header.length);
  }
}

void check_request(const Request& request, const ExportInfo& info, Agreed agreed) {
  std::array<uint8_t, kMaxHeadBytes> out{};
  const uint32_t problem = problem_of(request, info, agreed);
  if (problem == 0 && static_cast<Command>(request.command.get()) != Command::flush) {
    ASSERT(request.offset < info.size_bytes);
    ASSERT(request.length > 0 && request.length <= info.size_bytes - request.offset);
    ASSERT(request.offset % info.minimum_block == 0 && request.length % info.minimum_block == 0);
  }
  ASSERT(write_head(out, request, problem, agreed.structured) <= out.size());
  // Whatever a device says of the range.
  const std::array<holdfast::io::Extent, 3> extents = {{
      {holdfast::io::ExtentState::mapped, request.cookie.get()},
      {holdfast::io::ExtentState::deallocated, ~uint64_t{0}},
      {holdfast::io::ExtentState::mapped, 1},
  }};
  const size_t bytes = write_status(out, request, extents);
  uint64_t told = 0;
  for (size_t at = sizeof(ChunkHeader) + sizeof(be32); at < bytes; at += sizeof(StatusDescriptor)) {
    told += load<StatusDescriptor>(Bytes(out).subspan(at)).length;
  }
  ASSERT(told <= request.length);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t step = data[0] == 0 ? size : data[0];
  const ExportInfo info{.name = "csv1",
                        .size_bytes = 1 << 20,
                        .flags = static_cast<uint16_t>(data[1]),
                        .maximum_payload = kMaxPayload};
  Negotiation negotiation(info);
  Bytes input = Bytes(data, size).subspan(2);
  auto next = Negotiation::Next::more;
  while (next == Negotiation::Next::more && !input.empty()) {
    Bytes part = input.first(std::min(step, input.size()));
    const size_t given = part.size();
    next = negotiation.feed(part);
    ASSERT(next != Negotiation::Next::more || part.empty());
    input = input.subspan(given - part.size());
    const std::vector<uint8_t>& output = negotiation.output();
    // EXPORT_NAME is answered without a header, and only as the last.
    if (next != Negotiation::Next::transmission) check_replies(output);
  }
  if (next != Negotiation::Next::transmission) return 0;
  const Agreed agreed{.structured = negotiation.structured(),
                      .block_status = negotiation.block_status()};
  ASSERT(agreed.structured || !agreed.block_status);
  while (input.size() >= sizeof(Request)) {
    check_request(load<Request>(input), info, agreed);
    input = input.subspan(sizeof(Request));
  }
  return 0;
}
