#pragma once
// The configuration document: bytes that mean nothing here, and the tag by which a decision names
// them. Pure.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "qdisk/decision.h"
#include "qdisk/layout.h"

namespace holdfast::qdisk {

// A node holds up to four in memory: the decided one, one that is proposed, one that is being
// fetched and one that is being written.
inline constexpr size_t kMaxDocumentBytes = size_t{1} << 20;
static_assert(kMaxDocumentBytes <= kMaxConfigBytes);

struct ConfigDocument {
  ConfigTag tag;
  std::string bytes;
  bool operator==(const ConfigDocument&) const = default;
};

Sha256 digest_of(base::Bytes bytes);
ConfigDocument make_document(uint64_t version, std::string bytes);
// It has a version, a length that a document may have, and the bytes that its tag names.
bool is_intact(const ConfigDocument& document);
// Before the first decision about it there is none, and nobody lacks it.
inline bool names_document(const ConfigTag& tag) { return tag.version != 0; }

// What stands before the document, on the witness and in a file.
ConfigHeader header_of(const ConfigDocument& document);
// A header of a document that this program can hold.
inline bool is_usable(const ConfigHeader& header) {
  return names_document(header.tag) && header.length >= 1 && header.length <= kMaxDocumentBytes &&
         header.sha256 == header.tag.digest;
}

// The intact ones of two, on the witness or in files.
using ConfigCopies = std::array<std::optional<ConfigDocument>, kCopies>;
// Which of them a document is to be written over: never the decided one; rather what is of no use,
// else the older.
unsigned copy_to_write(const ConfigCopies& copies, const ConfigTag& decided);

}  // namespace holdfast::qdisk
