#include "qdisk/config_document.h"

#include <openssl/evp.h>

#include <string_view>
#include <utility>

namespace holdfast::qdisk {

Sha256 digest_of(base::Bytes bytes) {
  Sha256 made{};
  unsigned size = 0;
  const int ok = EVP_Digest(bytes.data(), bytes.size(), made.data(), &size, EVP_sha256(), nullptr);
  ASSERT(ok == 1 && size == made.size());  // it fails only where there is no memory
  return made;
}

ConfigDocument make_document(uint64_t version, std::string bytes) {
  const Sha256 digest = digest_of(base::as_bytes(std::string_view(bytes)));
  return {.tag = {.version = version, .digest = digest}, .bytes = std::move(bytes)};
}

bool is_intact(const ConfigDocument& document) {
  return names_document(document.tag) && !document.bytes.empty() &&
         document.bytes.size() <= kMaxDocumentBytes &&
         digest_of(base::as_bytes(std::string_view(document.bytes))) == document.tag.digest;
}

ConfigHeader header_of(const ConfigDocument& document) {
  return {.tag = document.tag,
          .length = static_cast<uint32_t>(document.bytes.size()),
          .sha256 = document.tag.digest};
}

unsigned copy_to_write(const ConfigCopies& copies, const ConfigTag& decided) {
  const auto& [a, b] = copies;
  if (a && a->tag == decided) return 1;
  if (b && b->tag == decided) return 0;
  if (!a || !b) return a ? 1 : 0;
  return a->tag.version < b->tag.version ? 0 : 1;
}

}  // namespace holdfast::qdisk
