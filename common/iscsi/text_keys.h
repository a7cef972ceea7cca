#pragma once
// key=value lists of login and text PDUs (RFC 7143 6.1). Everything is a string_view into the
// received bytes: no terminating zero is assumed, nothing is copied (CVE-2026-90011).

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/iscsi/limits.h"

namespace holdfast::iscsi {

struct KeyValue {
  std::string_view key;
  std::string_view value;
};

// One key=value after the other, for texts that may name a key again (answers to SendTargets).
class TextPairs {
 public:
  explicit TextPairs(base::Bytes bytes) : rest_(base::as_text(bytes)) {}

  bool at_end() const { return rest_.empty(); }
  // Not at the end. Errc::protocol: not key=value\0, an illegal key name or value.
  base::Result<KeyValue> next();

 private:
  std::string_view rest_;
};

// All keys of one message: one PDU, or several joined by the C bit. The views live as long as the
// bytes given to parse().
class TextMessage {
 public:
  // Errc::protocol: not key=value\0, an illegal key name or value, or a key named twice.
  // Errc::limit: more than kMaxKeysPerMessage keys.
  base::Result<void> parse(base::Bytes bytes);

  const KeyValue* begin() const { return keys_.data(); }
  const KeyValue* end() const { return keys_.data() + count_; }
  size_t size() const { return count_; }
  // The value of a key, or nothing if it is not there.
  std::optional<std::string_view> find(std::string_view key) const;

 private:
  std::array<KeyValue, kMaxKeysPerMessage> keys_;
  size_t count_ = 0;
};

// Appends key=value\0 to a buffer whose growth ends at `limit`: a peer can not make our answer as
// long as it likes (CVE-2026-63887, CVE-2013-2850).
class TextKeyWriter {
 public:
  TextKeyWriter(std::vector<uint8_t>& out, size_t limit) : out_(out), limit_(limit) {}

  // All: Errc::limit when the pair does not fit; then nothing of it is written.
  base::Result<void> add(std::string_view key, std::string_view value);
  base::Result<void> add_number(std::string_view key, uint64_t value);
  base::Result<void> add_boolean(std::string_view key, bool value);
  base::Result<void> add_binary(std::string_view key, base::Bytes value);  // hexadecimal

 private:
  std::vector<uint8_t>& out_;
  size_t limit_;
};

// decimal-constant or hex-constant: no sign, no spaces, no leading zero, at most 64 bits.
base::Result<uint64_t> parse_number(std::string_view text);
base::Result<bool> parse_boolean(std::string_view text);  // exactly Yes or No

// hex-constant (0x...) or base64-constant (0b...). The decoded length is computed and compared
// with out.size() before the first byte is written (CVE-2018-14633, CVE-2026-63886). Returns the
// number of bytes. Errc::limit: does not fit.
base::Result<size_t> decode_binary(std::string_view text, base::MutableBytes out);

// One item of a comma-separated list after the other; empty at the end.
class ListReader {
 public:
  explicit ListReader(std::string_view list) : rest_(list) {}
  std::optional<std::string_view> next();

 private:
  std::string_view rest_;
  bool ended_ = false;
};
bool list_contains(std::string_view list, std::string_view item);

}  // namespace holdfast::iscsi
