#include "qdisk/config_directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "common/daemon/durable_file.h"

namespace holdfast::qdisk {

namespace {

std::string write_failure(const daemon::WriteFailure& failure) {
  const bool full = failure.sys == ENOSPC || failure.sys == EDQUOT || failure.sys == EFBIG;
  return fmt::format("the configuration cannot be saved on this node: {}: {}{}", failure.path,
                     std::strerror(failure.sys), full ? ": make room on that disk" : "");
}

}  // namespace

std::string ConfigDirectory::file(unsigned copy) const {
  return fmt::format("{}/configuration.{}", directory_, static_cast<char>('a' + copy));
}

std::expected<ConfigDocument, std::string> ConfigDirectory::read(unsigned copy) const {
  auto content = daemon::read_file(file(copy), kRecordBytes + kMaxDocumentBytes);
  if (!content) {
    return std::unexpected(content.error() == ENOENT ? std::string()
                                                     : std::strerror(content.error()));
  }
  const base::Bytes bytes(*content);
  if (bytes.size() < kRecordBytes) return std::unexpected("it is cut off");
  const auto header = decode_config(Sector(bytes.first<kRecordBytes>()), cluster_, copy);
  if (!header.valid()) {
    return std::unexpected(header.corrupt() ? to_string(header.fault) : "it is empty");
  }
  const base::Bytes document = bytes.subspan(kRecordBytes);
  if (!is_usable(*header.value) || document.size() != header.value->length) {
    return std::unexpected("it has another length than it says");
  }
  ConfigDocument found{.tag = header.value->tag, .bytes = std::string(base::as_text(document))};
  if (!is_intact(found)) return std::unexpected("its bytes are not those of its SHA-256");
  return found;
}

ConfigDirectory::Contents ConfigDirectory::load() const {
  Contents found;
  for (unsigned copy = 0; copy < kCopies; ++copy) {
    auto one = read(copy);
    if (one) {
      found.copies[copy] = std::move(*one);
    } else if (!one.error().empty()) {
      found.problems.push_back(fmt::format("{} is not used: {}", file(copy), one.error()));
    }
  }
  return found;
}

std::expected<void, std::string> ConfigDirectory::save(const ConfigDocument& document,
                                                       const ConfigTag& decided) const {
  ASSERT(!document.bytes.empty() && document.bytes.size() <= kMaxDocumentBytes);
  const ConfigCopies copies = load().copies;
  const bool there = std::ranges::any_of(
      copies, [&document](const auto& each) { return each && each->tag == document.tag; });
  if (there) return {};
  const unsigned copy = copy_to_write(copies, decided);
  std::vector<uint8_t> content(kRecordBytes + document.bytes.size());
  const base::MutableBytes out(content);
  encode(header_of(document), copy, cluster_, MutableSector(out.first<kRecordBytes>()));
  std::ranges::copy(base::as_bytes(std::string_view(document.bytes)),
                    out.subspan(kRecordBytes).begin());
  if (const auto written = daemon::replace_file(file(copy), content); !written) {
    return std::unexpected(write_failure(written.error()));
  }
  return {};
}

}  // namespace holdfast::qdisk
