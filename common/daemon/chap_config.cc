#include "common/daemon/chap_config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "common/daemon/limits.h"

namespace holdfast::daemon {
namespace {

constexpr mode_t kForbiddenSecretMode = S_IWGRP | S_IRWXO;

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

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
    return fmt::format(
        "the secret in {} has {} characters: use {} to {} (Windows takes at most 16)", file,
        secret.size(), kMinSecret, kMaxSecret);
  }
  if (secret.size() > kMaxSecret) {
    return fmt::format("the secret in {} is longer than {} characters", file, kMaxSecret);
  }
  return std::nullopt;
}

void check_chap(ChapConfig& chap, const std::string& place, ConfigSource& source) {
  if (Problem problem = chap_user_problem(chap.user)) source.report(place + ".user", *problem);
  const std::string at = place + ".secret_file";
  if (source.reported(at)) return;
  if (Problem problem = read_secret(chap)) source.report(at, *problem);
}

}  // namespace

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

void check_chap_pair(std::optional<ChapConfig>& chap, std::optional<ChapConfig>& mutual,
                     const std::string& place, ConfigSource& source) {
  if (chap) check_chap(*chap, place + ".chap", source);
  if (!mutual) return;
  check_chap(*mutual, place + ".mutual_chap", source);
  if (!chap) {
    if (source.reported(place + ".chap")) return;
    return source.report(
        place + ".mutual_chap",
        "`mutual_chap` needs `chap`: the target proves itself only to an initiator that "
        "proves itself (RFC 7143 12.1.3)");
  }
  // Equal secrets let an attacker answer our challenge with our own answer (RFC 7143 9.2.1).
  if (!chap->secret.empty() && chap->secret == mutual->secret) {
    source.report(place + ".mutual_chap",
                  "`chap` and `mutual_chap` have the same secret: use two different ones");
  }
}

}  // namespace holdfast::daemon
