#include "common/iscsi/text_keys.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
bool is_alphanumeric(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

// RFC 7143 6.1, standard-label, and the # of X#, Y# and Z# keys.
bool is_key_character(char c) {
  return is_alphanumeric(c) || c == '.' || c == '-' || c == '+' || c == '@' || c == '_' || c == '#';
}

bool is_binary_constant(std::string_view value) {
  return value.size() >= 2 && value[0] == '0' &&
         (value[1] == 'x' || value[1] == 'X' || value[1] == 'b' || value[1] == 'B');
}

Result<void> check_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) {
    return fail(Errc::protocol, "a key name is empty or longer than 63 bytes");
  }
  // 6.1 wants a capital first, but iSCSIProtocolLevel (13.24) has none.
  if (!is_letter(key.front()) || !std::ranges::all_of(key, is_key_character)) {
    return fail(Errc::protocol, "a key name has an illegal character");
  }
  return {};
}

Result<void> check_value(std::string_view value) {
  if (value.size() > kMaxValueBytes) return fail(Errc::protocol, "a value is too long");
  const auto is_control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(value, is_control)) {
    return fail(Errc::protocol, "a value has a control character");
  }
  if (is_binary_constant(value)) return {};
  ListReader items(value);
  while (const auto item = items.next()) {
    if (item->size() > kMaxSimpleValueBytes) {
      return fail(Errc::protocol, "a value is longer than 255 bytes");
    }
  }
  return {};
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  if (c == '/') return 63;
  return -1;
}

Result<size_t> decode_hex(std::string_view digits, base::MutableBytes out) {
  if (digits.empty() || digits.size() % 2 != 0) {
    return fail(Errc::protocol, "a hexadecimal value has half a byte");
  }
  const size_t length = digits.size() / 2;
  if (length > out.size()) return fail(Errc::limit, "a binary value is too long");
  for (size_t i = 0; i < length; ++i) {
    const int high = hex_digit(digits[2 * i]);
    const int low = hex_digit(digits[2 * i + 1]);
    if (high < 0 || low < 0) return fail(Errc::protocol, "a hexadecimal value has a wrong digit");
    out[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return length;
}

Result<size_t> decode_base64(std::string_view digits, base::MutableBytes out) {
  if (digits.empty() || digits.size() % 4 != 0) {
    return fail(Errc::protocol, "a base64 value is not a multiple of 4 characters");
  }
  size_t padding = 0;
  while (padding < 2 && digits.ends_with('=')) {
    digits.remove_suffix(1);
    ++padding;
  }
  const size_t length = (digits.size() + padding) / 4 * 3 - padding;
  if (length > out.size()) return fail(Errc::limit, "a binary value is too long");
  uint32_t bits = 0;
  unsigned bit_count = 0;
  size_t written = 0;
  for (const char c : digits) {
    const int digit = base64_digit(c);
    if (digit < 0) return fail(Errc::protocol, "a base64 value has a wrong character");
    bits = (bits << 6 | static_cast<uint32_t>(digit)) & 0xffffff;
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    out[written++] = static_cast<uint8_t>(bits >> bit_count);
  }
  // Two spellings of the same bytes would make comparisons of texts and of bytes disagree.
  if ((bits & ((1U << bit_count) - 1)) != 0) {
    return fail(Errc::protocol, "a base64 value has stray bits at its end");
  }
  return written;
}

}  // namespace

Result<KeyValue> TextPairs::next() {
  const size_t end = rest_.find('\0');
  if (end == std::string_view::npos) {
    return fail(Errc::protocol, "the last key=value is not terminated");
  }
  const std::string_view pair = rest_.substr(0, end);
  rest_.remove_prefix(end + 1);
  const size_t equals = pair.find('=');
  if (equals == std::string_view::npos) return fail(Errc::protocol, "a key has no value");
  const KeyValue entry{pair.substr(0, equals), pair.substr(equals + 1)};
  TRY(check_key(entry.key));
  TRY(check_value(entry.value));
  return entry;
}

Result<void> TextMessage::parse(base::Bytes bytes) {
  count_ = 0;
  TextPairs pairs(bytes);
  while (!pairs.at_end()) {
    TRY_ASSIGN(const KeyValue entry, pairs.next());
    if (find(entry.key)) return fail(Errc::protocol, "a key is named twice in one message");
    if (count_ == keys_.size()) return fail(Errc::limit, "too many keys in one message");
    keys_[count_++] = entry;
  }
  return {};
}

std::optional<std::string_view> TextMessage::find(std::string_view key) const {
  for (const KeyValue& entry : *this) {
    if (entry.key == key) return entry.value;
  }
  return std::nullopt;
}

Result<void> TextKeyWriter::add(std::string_view key, std::string_view value) {
  const size_t length = key.size() + 1 + value.size() + 1;
  if (out_.size() > limit_ || length > limit_ - out_.size()) {
    return fail(Errc::limit, "the answer would be longer than we send");
  }
  out_.insert(out_.end(), key.begin(), key.end());
  out_.push_back('=');
  out_.insert(out_.end(), value.begin(), value.end());
  out_.push_back('\0');
  return {};
}

Result<void> TextKeyWriter::add_number(std::string_view key, uint64_t value) {
  std::array<char, 20> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return add(key, {digits.data(), static_cast<size_t>(end - digits.data())});
}

Result<void> TextKeyWriter::add_boolean(std::string_view key, bool value) {
  return add(key, value ? "Yes" : "No");
}

Result<void> TextKeyWriter::add_binary(std::string_view key, base::Bytes value) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  if (value.size() > kMaxChapBinaryBytes) return fail(Errc::limit, "a binary value is too long");
  std::array<char, 2 + 2 * kMaxChapBinaryBytes> text;
  text[0] = '0';
  text[1] = 'x';
  size_t length = 2;
  for (const uint8_t byte : value) {
    text[length++] = kDigits[byte >> 4];
    text[length++] = kDigits[byte & 0x0f];
  }
  return add(key, {text.data(), length});
}

Result<uint64_t> parse_number(std::string_view text) {
  int radix = 10;
  if (is_binary_constant(text)) {
    if (text[1] == 'b' || text[1] == 'B') return fail(Errc::protocol, "not a number");
    radix = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.front() == '0') {
    return fail(Errc::protocol, "a number has a leading zero");
  }
  uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, radix);
  if (parsed.ec != std::errc() || parsed.ptr != end) return fail(Errc::protocol, "not a number");
  return value;
}

Result<bool> parse_boolean(std::string_view text) {
  if (text == "Yes") return true;
  if (text == "No") return false;
  return fail(Errc::protocol, "neither Yes nor No");
}

Result<size_t> decode_binary(std::string_view text, base::MutableBytes out) {
  if (!is_binary_constant(text)) return fail(Errc::protocol, "not a binary value");
  const std::string_view digits = text.substr(2);
  if (text[1] == 'x' || text[1] == 'X') return decode_hex(digits, out);
  return decode_base64(digits, out);
}

std::optional<std::string_view> ListReader::next() {
  if (ended_) return std::nullopt;
  const size_t comma = rest_.find(',');
  const std::string_view item = rest_.substr(0, comma);
  if (comma == std::string_view::npos) {
    ended_ = true;
  } else {
    rest_.remove_prefix(comma + 1);
  }
  return item;
}

bool list_contains(std::string_view list, std::string_view item) {
  ListReader items(list);
  while (const auto candidate = items.next()) {
    if (*candidate == item) return true;
  }
  return false;
}

}  // namespace holdfast::iscsi
