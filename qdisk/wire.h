#pragma once
// The messages of this folder to and from the bytes that nodes send each other (messages.proto).
// Pure.
//
// encode() takes values that this program has made. decode_...() takes whatever a peer may send:
// what no node can mean is refused, with the reason.

#include <cstdint>
#include <string>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/rpc/limits.h"
#include "qdisk/config_message.h"
#include "qdisk/message.h"

namespace holdfast::qdisk {

// The types of the notices that bear them.
enum class MessageType : uint16_t { heartbeat = 1, request = 2, reply = 3, config = 4 };

// The longest is a reply with a block of every node; it is shorter (`Wire` in its tests).
inline constexpr size_t kMaxMessageBytes = rpc::kMaxPayload;
static_assert(kMaxChunkBytes <= kMaxMessageBytes / 2);

std::string encode(const Heartbeat& heartbeat);
std::string encode(const Request& request);
std::string encode(const Reply& reply);
std::string encode(const ConfigMessage& message);

base::Result<Heartbeat> decode_heartbeat(base::Bytes bytes);
base::Result<Request> decode_request(base::Bytes bytes);
base::Result<Reply> decode_reply(base::Bytes bytes);
base::Result<ConfigMessage> decode_config_message(base::Bytes bytes);

}  // namespace holdfast::qdisk
