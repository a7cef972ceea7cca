#pragma once
// What nodes send each other to have the configuration document: docs/qdisk-protocol.md,
// "Configuration". None of them is believed: a document counts when its bytes are those of the tag
// that a decision names.

#include <cstdint>
#include <string>
#include <variant>

#include "qdisk/config_document.h"

namespace holdfast::qdisk {

// Of one message: what is urgent waits behind it.
inline constexpr size_t kMaxChunkBytes = size_t{32} << 10;

// To be fetched and saved: the sender wants it to be decided.
struct ConfigOffer {
  ConfigTag tag;
  uint32_t length = 0;
  bool operator==(const ConfigOffer&) const = default;
};

struct ConfigFetch {
  ConfigTag tag;
  uint32_t offset = 0;
  bool operator==(const ConfigFetch&) const = default;
};

struct ConfigChunk {
  ConfigTag tag;
  uint32_t length = 0;  // of the whole document
  uint32_t offset = 0;
  std::string bytes;
  bool operator==(const ConfigChunk&) const = default;
};

// It is durable at the sender.
struct ConfigHave {
  ConfigTag tag;
  bool operator==(const ConfigHave&) const = default;
};

using ConfigMessage = std::variant<ConfigOffer, ConfigFetch, ConfigChunk, ConfigHave>;

}  // namespace holdfast::qdisk
