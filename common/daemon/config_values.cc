#include "common/daemon/config_values.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool all_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); });
}

// "2026-11.org.example" or "2026-11.org.example:anything" after "iqn.".
bool is_iqn_body(std::string_view text) {
  constexpr std::string_view kDate = "0000-00.";
  if (text.size() <= kDate.size()) return false;
  for (size_t i = 0; i < kDate.size(); ++i) {
    if (kDate[i] == '0' ? !is_digit(text[i]) : text[i] != kDate[i]) return false;
  }
  const int month = (text[5] - '0') * 10 + (text[6] - '0');
  const std::string_view rest = text.substr(kDate.size());
  const std::string_view domain = rest.substr(0, rest.find(':'));
  return month >= 1 && month <= 12 && !domain.empty() && domain.front() != '.' &&
         domain.back() != '.' && domain.find("..") == std::string_view::npos;
}

}  // namespace

Problem iscsi_name_problem(std::string_view name) {
  constexpr const char* kShape =
      "`{}` is not an iSCSI name: write iqn.YYYY-MM.reversed.domain:name, eui.16 hex digits or "
      "naa.16 or 32 hex digits";
  if (name.size() > kMaxIscsiName) {
    return fmt::format("the name is longer than {} characters", kMaxIscsiName);
  }
  if (std::any_of(name.begin(), name.end(), is_upper)) {
    return fmt::format("`{}` has upper-case letters: iSCSI names are written in lower case", name);
  }
  // '_' as in logins: what may log in by "*" can also be listed.
  const auto allowed = [](char c) {
    return is_lower(c) || is_digit(c) || c == '-' || c == '_' || c == '.' || c == ':';
  };
  if (!std::all_of(name.begin(), name.end(), allowed)) {
    return fmt::format("`{}` has characters other than a-z, 0-9, '-', '_', '.' and ':'", name);
  }
  if (name.starts_with("iqn.") && is_iqn_body(name.substr(4))) return std::nullopt;
  const std::string_view hex = name.substr(std::min<size_t>(4, name.size()));
  if (name.starts_with("eui.") && hex.size() == 16 && all_hex(hex)) return std::nullopt;
  if (name.starts_with("naa.") && (hex.size() == 16 || hex.size() == 32) && all_hex(hex)) {
    return std::nullopt;
  }
  return fmt::format(fmt::runtime(kShape), name);
}

Problem name_problem(const char* what, std::string_view name) {
  const auto allowed = [](char c) {
    return is_lower(c) || is_upper(c) || is_digit(c) || c == '-' || c == '.' || c == '_';
  };
  if (name.empty() || name.size() > kMaxName || !std::all_of(name.begin(), name.end(), allowed) ||
      name.front() == '.' || name.front() == '-') {
    return fmt::format(
        "`{}` is not a {} name: use 1 to {} letters, digits, '-', '_' and '.', beginning with a "
        "letter or digit",
        name, what, kMaxName);
  }
  return std::nullopt;
}

Problem path_problem(std::string_view path, size_t max_bytes) {
  if (!path.starts_with('/')) return fmt::format("`{}` must be an absolute path", path);
  if (path.size() > max_bytes) return fmt::format("the path is longer than {} bytes", max_bytes);
  if (std::any_of(path.begin(), path.end(), is_control)) {
    return "the path has control characters";
  }
  const std::string bounded = std::string(path) + "/";
  if (bounded.find("/../") != std::string::npos) {
    return fmt::format("`{}` must not contain `..`", path);
  }
  return std::nullopt;
}

namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string suggestion(std::string_view wrong, const std::vector<std::string_view>& allowed) {
  constexpr size_t kLongestGuessed = 64;  // bounds the work a hostile key can cause
  if (wrong.size() > kLongestGuessed) return {};
  std::string_view best;
  size_t best_distance = std::max<size_t>(1, wrong.size() / 3) + 1;
  for (const std::string_view candidate : allowed) {
    const size_t distance = edit_distance(wrong, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best.empty() ? std::string{} : fmt::format("did you mean `{}`?", best);
}

}  // namespace holdfast::daemon
