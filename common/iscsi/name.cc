#include "common/iscsi/name.h"

#include <algorithm>
#include <cstdint>

#include "common/iscsi/limits.h"

namespace holdfast::iscsi {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

// '_' is not in RFC 7143 4.2.7.2, but names in use have it and it does no harm.
bool is_name_character(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || c == '.' || c == ':' || c == '-' || c == '_';
}

// RFC 7143 4.2.7.4: iqn.yyyy-mm.<naming authority>
bool is_iqn(std::string_view name) {
  static constexpr std::string_view kPattern = "iqn.dddd-dd.";
  if (name.size() <= kPattern.size()) return false;
  for (size_t i = 0; i < kPattern.size(); ++i) {
    const bool date_digit = i >= 4 && kPattern[i] == 'd';
    if (date_digit ? !is_digit(name[i]) : name[i] != kPattern[i]) return false;
  }
  return true;
}

bool is_hex_of(std::string_view text, size_t length) {
  return text.size() == length && std::ranges::all_of(text, is_hex);
}

}  // namespace

base::Result<std::string> normalize_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) {
    return base::fail(base::Errc::invalid_argument,
                      "an iSCSI name is empty or longer than 223 bytes");
  }
  std::string normal(name);
  for (char& c : normal) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  if (!std::ranges::all_of(normal, is_name_character)) {
    return base::fail(base::Errc::invalid_argument,
                      "an iSCSI name has a character other than letters, digits and . : - _");
  }
  const std::string_view view = normal;
  const bool known_form = is_iqn(view) ||
                          (view.starts_with("eui.") && is_hex_of(view.substr(4), 16)) ||
                          (view.starts_with("naa.") &&
                           (is_hex_of(view.substr(4), 16) || is_hex_of(view.substr(4), 32)));
  if (!known_form) {
    return base::fail(base::Errc::invalid_argument,
                      "an iSCSI name must be iqn.yyyy-mm.*, eui.<16 hex> or naa.<16 or 32 hex>");
  }
  return normal;
}

}  // namespace holdfast::iscsi
