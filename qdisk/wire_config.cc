// The messages about the configuration document, to and from bytes.

#include <algorithm>

#include "qdisk/messages.pb.h"
#include "qdisk/wire.h"

namespace holdfast::qdisk {

using base::Errc;
using base::fail;
using base::Result;

namespace {

Result<ConfigTag> read_tag(const messages::ConfigTag& from) {
  ConfigTag to{.version = from.version()};
  if (!names_document(to)) return fail(Errc::protocol, "a configuration of version 0");
  if (from.digest().size() != to.digest.size()) {
    return fail(Errc::protocol, "a digest has another length");
  }
  std::ranges::copy(base::as_bytes(from.digest()), to.digest.begin());
  return to;
}

Result<> check_length(uint32_t length) {
  if (length == 0 || length > kMaxDocumentBytes) {
    return fail(Errc::protocol, "no configuration has this length");
  }
  return {};
}

Result<ConfigMessage> read_chunk(const ConfigTag& tag, const messages::ConfigChunk& from) {
  TRY(check_length(from.length()));
  const size_t size = from.bytes().size();
  if (size == 0 || size > kMaxChunkBytes) return fail(Errc::protocol, "no part has this length");
  if (from.offset() >= from.length() || size > from.length() - from.offset()) {
    return fail(Errc::protocol, "a part beyond the end of the configuration");
  }
  return ConfigChunk{
      .tag = tag, .length = from.length(), .offset = from.offset(), .bytes = from.bytes()};
}

void write(const ConfigOffer& from, messages::Config& to) {
  to.mutable_offer()->set_length(from.length);
}
void write(const ConfigFetch& from, messages::Config& to) {
  to.mutable_fetch()->set_offset(from.offset);
}
void write(const ConfigChunk& from, messages::Config& to) {
  ASSERT(from.bytes.size() <= kMaxChunkBytes);
  messages::ConfigChunk& chunk = *to.mutable_chunk();
  chunk.set_length(from.length);
  chunk.set_offset(from.offset);
  chunk.set_bytes(from.bytes);
}
void write(const ConfigHave&, messages::Config& to) { to.mutable_have(); }

}  // namespace

std::string encode(const ConfigMessage& message) {
  messages::Config made;
  std::visit(
      [&made](const auto& body) {
        messages::ConfigTag& tag = *made.mutable_tag();
        tag.set_version(body.tag.version);
        tag.set_digest(body.tag.digest.data(), body.tag.digest.size());
        write(body, made);
      },
      message);
  std::string bytes = made.SerializeAsString();
  ASSERT(bytes.size() <= kMaxMessageBytes);
  return bytes;
}

Result<ConfigMessage> decode_config_message(base::Bytes bytes) {
  if (bytes.size() > kMaxMessageBytes) return fail(Errc::protocol, "the message is too long");
  messages::Config from;
  if (!from.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return fail(Errc::protocol, "the message is cut off, or none");
  }
  TRY_ASSIGN(const ConfigTag tag, read_tag(from.tag()));
  switch (from.body_case()) {
    case messages::Config::kOffer:
      TRY(check_length(from.offer().length()));
      return ConfigOffer{.tag = tag, .length = from.offer().length()};
    case messages::Config::kFetch:
      if (from.fetch().offset() >= kMaxDocumentBytes) {
        return fail(Errc::protocol, "no configuration is so long");
      }
      return ConfigFetch{.tag = tag, .offset = from.fetch().offset()};
    case messages::Config::kChunk:
      return read_chunk(tag, from.chunk());
    case messages::Config::kHave:
      return ConfigHave{.tag = tag};
    case messages::Config::BODY_NOT_SET:
      break;
  }
  return fail(Errc::protocol, "a message about the configuration that says nothing");
}

}  // namespace holdfast::qdisk
