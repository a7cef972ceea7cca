#include "target/config_values.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "common/base/units.h"
#include "target/config_limits.h"

namespace holdfast::target {
namespace {

constexpr mode_t kForbiddenSecretMode = S_IWGRP | S_IRWXO;

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

// What the file says must stand: no link to a device or a FIFO that would block the reader.
struct OpenFile {
  int fd = -1;
  ~OpenFile() {
    if (fd >= 0) ::close(fd);
  }
};

Problem secret_text_problem(std::string_view file, std::string_view secret) {
  if (std::any_of(secret.begin(), secret.end(), is_control)) {
    return fmt::format("secret file {} must hold one line of text", file);
  }
  if (secret.size() < kMinSecret) {
    return fmt::format("the secret in {} has {} characters: use {} to 16 (Windows takes no more)",
                       file, secret.size(), kMinSecret);
  }
  if (secret.size() > kMaxSecret) {
    return fmt::format("the secret in {} is longer than {} characters", file, kMaxSecret);
  }
  return std::nullopt;
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

Problem disk_name_problem(std::string_view name) {
  const auto allowed = [](char c) {
    return is_lower(c) || is_upper(c) || is_digit(c) || c == '-' || c == '.' || c == '_';
  };
  if (name.empty() || name.size() > kMaxDiskName ||
      !std::all_of(name.begin(), name.end(), allowed) || name.front() == '.' ||
      name.front() == '-') {
    return fmt::format(
        "`{}` is not a disk name: use 1 to {} letters, digits, '-', '_' and '.', beginning with a "
        "letter or digit",
        name, kMaxDiskName);
  }
  return std::nullopt;
}

Problem chap_user_problem(std::string_view user) {
  if (user.empty()) return "the CHAP user must not be empty";
  if (user.size() > kMaxChapUser) {
    return fmt::format("the CHAP user is longer than {} characters", kMaxChapUser);
  }
  if (std::any_of(user.begin(), user.end(), is_control)) {
    return "the CHAP user has control characters";
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

Problem read_secret(ChapConfig& chap) {
  const std::string& file = chap.secret_file;
  if (const Problem problem = path_problem(file, kMaxPath)) return "secret_file: " + *problem;
  const OpenFile opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
  if (opened.fd < 0) {
    return fmt::format("cannot read secret file {}: {}", file, std::strerror(errno));
  }
  struct stat info{};
  if (::fstat(opened.fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    return fmt::format("secret file {} is not a regular file", file);
  }
  if ((info.st_mode & kForbiddenSecretMode) != 0) {
    return fmt::format("secret file {} is open to other users (mode {:04o}): chmod 600 {}", file,
                       info.st_mode & 07777u, file);
  }
  std::array<char, kMaxSecret + 3> buffer{};
  const ssize_t count = ::read(opened.fd, buffer.data(), buffer.size());
  if (count < 0) return fmt::format("cannot read secret file {}: {}", file, std::strerror(errno));
  std::string_view text(buffer.data(), static_cast<size_t>(count));
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.ends_with('\r')) text.remove_suffix(1);
  Problem problem = secret_text_problem(file, text);
  if (!problem) chap.secret = text;
  ::explicit_bzero(buffer.data(), buffer.size());
  return problem;
}

std::vector<DiskProblem> disk_problems(const DiskConfig& disk) {
  std::vector<DiskProblem> problems;
  const auto add = [&](const char* key, std::string message) {
    problems.push_back({key, std::move(message)});
  };
  const io::BackingSpec& backing = disk.backing;
  if (Problem problem = disk_name_problem(disk.name)) add("name", std::move(*problem));
  if (backing.kind == io::BackingKind::memory) {
    if (!backing.path.empty()) add("path", "a disk of kind `memory` has no `path`");
  } else if (backing.path.empty()) {
    add("path", fmt::format("a disk of kind `{}` needs `path`", to_string(backing.kind)));
  } else if (Problem problem = path_problem(backing.path, kMaxPath)) {
    add("path", std::move(*problem));
  }
  const bool block_size_right = backing.block_size == 512 || backing.block_size == 4096;
  if (!block_size_right) {
    add("block_size",
        fmt::format("`block_size` is {}: it must be 512 or 4096", backing.block_size));
  }
  if (backing.kind == io::BackingKind::block) {
    if (backing.size_bytes != 0) {
      add("size", "a disk of kind `block` has the size of its device: remove `size`");
    }
  } else if (backing.size_bytes == 0) {
    add("size", fmt::format("a disk of kind `{}` needs `size`, such as \"64GiB\"",
                            to_string(backing.kind)));
  } else if (backing.size_bytes > kMaxDiskBytes) {
    add("size", "`size` is larger than " + base::format_size(kMaxDiskBytes));
  } else if (block_size_right && backing.size_bytes % backing.block_size != 0) {
    add("size", fmt::format("`size` is {} bytes: it must be a multiple of the block size {}",
                            backing.size_bytes, backing.block_size));
  }
  const uint32_t physical = backing.physical_block_size;
  if (block_size_right && (!std::has_single_bit(physical) || physical < backing.block_size ||
                           physical > kMaxPhysicalBlock)) {
    add("physical_block_size",
        fmt::format("`physical_block_size` is {}: it must be a power of two from the block size {} "
                    "to {}",
                    physical, backing.block_size, kMaxPhysicalBlock));
  }
  return problems;
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

std::string_view to_string(io::BackingKind kind) {
  switch (kind) {
    case io::BackingKind::file:
      return "file";
    case io::BackingKind::block:
      return "block";
    case io::BackingKind::memory:
      return "memory";
  }
  return "file";
}

std::optional<io::BackingKind> backing_kind_of(std::string_view name) {
  for (const auto kind : {io::BackingKind::file, io::BackingKind::block, io::BackingKind::memory}) {
    if (name == to_string(kind)) return kind;
  }
  return std::nullopt;
}

}  // namespace holdfast::target
