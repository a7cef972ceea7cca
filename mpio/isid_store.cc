#include "mpio/isid_store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/result.h"

namespace holdfast::mpio {
namespace {

constexpr std::string_view kMagic = "holdfast-isids 3";
constexpr std::string_view kClosedMagic = "holdfast-closed 1";
constexpr size_t kMaxFileBytes = size_t{32} << 20;  // 65535 lines of any length that we write
constexpr uint32_t kLastQualifier = 0xffff;
constexpr uint64_t kRandomType = uint64_t{2} << 46;  // T = 10b

uint32_t checksum(std::string_view text) {
  base::Crc32c crc;
  crc.update(base::as_bytes(text));
  return crc.value();
}

template <class T>
bool read_hex(std::string_view text, size_t digits, T& out) {
  if (text.size() != digits) return false;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, 16);
  return error == std::errc() && end == text.data() + text.size();
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool read_decimal(std::string_view text, uint32_t most, uint32_t& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out <= most;
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (;;) {
    const size_t end = line.find(' ');
    words.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return words;
    line.remove_prefix(end + 1);
  }
}

// The lines between the magic one and the checksum; none: the text is not what was once written.
std::optional<std::vector<std::string_view>> checked_lines(std::string_view text,
                                                           std::string_view magic) {
  const size_t end = text.rfind("end ");
  uint32_t sum = 0;
  if (end == std::string_view::npos || !text.ends_with('\n') ||
      !read_hex(text.substr(end + 4, text.size() - end - 5), 8, sum) ||
      sum != checksum(text.substr(0, end))) {
    return std::nullopt;
  }
  std::vector<std::string_view> lines = lines_of(text.substr(0, end));
  if (lines.empty() || lines.front() != magic) return std::nullopt;
  lines.erase(lines.begin());
  return lines;
}

// "1:6e61612e36", "-:6e61612e36": portal group and unit.
std::string to_word(const SessionTrace& trace) {
  std::string word = trace.portal_group ? std::to_string(*trace.portal_group) : "-";
  word += ':';
  for (const uint8_t byte : base::as_bytes(trace.unit)) word += fmt::format("{:02x}", byte);
  return word;
}

std::optional<SessionTrace> read_trace(std::string_view word) {
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  SessionTrace trace;
  uint32_t tag = 0;
  if (word.substr(0, colon) != "-") {
    if (!read_decimal(word.substr(0, colon), UINT16_MAX, tag)) return std::nullopt;
    trace.portal_group = static_cast<uint16_t>(tag);
  }
  word.remove_prefix(colon + 1);
  if (word.size() % 2 != 0) return std::nullopt;
  for (size_t i = 0; i < word.size(); i += 2) {
    uint8_t byte = 0;
    if (!read_hex(word.substr(i, 2), 2, byte)) return std::nullopt;
    trace.unit += static_cast<char>(byte);
  }
  return trace;
}

std::string with_checksum(std::string text) {
  return text + fmt::format("end {:08x}\n", checksum(text));
}

std::expected<std::string, int> read_text(const std::string& path) {
  const auto content = daemon::read_file(path, kMaxFileBytes);
  if (!content) return std::unexpected(content.error());
  return std::string(base::as_text(*content));
}

}  // namespace

std::expected<std::unique_ptr<IsidStore>, std::string> IsidStore::open(const std::string& state_dir,
                                                                       base::Random& random) {
  TRY(daemon::make_directory(state_dir));
  TRY_ASSIGN(std::optional<daemon::Fd> lock, daemon::lock_file(state_dir + "/lock"));
  if (!lock) {
    return std::unexpected(fmt::format(
        "another holdfast-mpiod uses the state directory {}: two daemons must never use "
        "the same ISIDs; stop it or choose another `state_dir`",
        state_dir));
  }
  std::unique_ptr<IsidStore> store(new IsidStore(state_dir, std::move(*lock)));
  if (auto loaded = store->load(random); !loaded) return std::unexpected(loaded.error());
  return store;
}

std::expected<void, std::string> IsidStore::load(base::Random& random) {
  const auto text = read_text(file());
  if (!text.has_value() && text.error() == ENOENT) {
    std::array<uint8_t, 3> drawn{};
    random.fill(drawn);
    random_ = uint32_t{drawn[0]} << 16 | uint32_t{drawn[1]} << 8 | drawn[2];
    changed_ = true;
    return save();
  }
  if (!text.has_value()) {
    return std::unexpected(fmt::format("cannot read {}: {}", file(), std::strerror(text.error())));
  }
  if (!parse(*text)) {
    return std::unexpected(fmt::format(
        "{} is damaged: put back a copy of it. Only if no session of this node is left at any "
        "target may it be removed: then new ISIDs are drawn, and old sessions are not reinstated",
        file()));
  }
  find_left();
  return {};
}

bool IsidStore::parse(std::string_view text) {
  const auto lines = checked_lines(text, kMagic);
  if (!lines || lines->empty() || !lines->front().starts_with("random ") ||
      !read_hex(lines->front().substr(7), 6, random_)) {
    return false;
  }
  std::set<uint16_t> seen;
  for (const std::string_view line : std::span(*lines).subspan(1)) {
    const std::vector<std::string_view> words = words_of(line);
    Session session;
    Owner owner;
    if (words.size() < 7 || !read_hex(words[0], 4, session.qualifier) ||
        !read_decimal(words[6], UINT32_MAX, owner.index)) {
      return false;
    }
    owner.initiator = words[1];
    owner.device = words[2];
    owner.target = words[3];
    owner.portal = words[4];
    if (words[5] != "-") owner.source = words[5];
    for (const std::string_view word : std::span(words).subspan(7)) {
      auto trace = read_trace(word);
      if (!trace) return false;
      session.traces.insert(std::move(*trace));
    }
    if (!seen.insert(session.qualifier).second) return false;
    if (!sessions_.emplace(std::move(owner), session).second) return false;
    next_ = std::max(next_, uint32_t{session.qualifier} + 1);
  }
  return true;
}

// Whatever is wrong with the other file, it then says of no session that it left nothing.
void IsidStore::find_left() {
  std::set<uint16_t> closed;
  const auto text = read_text(closed_file());
  const auto lines = text ? checked_lines(*text, kClosedMagic) : std::nullopt;
  for (const std::string_view line : lines.value_or(std::vector<std::string_view>{})) {
    uint16_t qualifier = 0;
    if (read_hex(line, 4, qualifier)) closed.insert(qualifier);
  }
  for (const auto& [owner, session] : sessions_) {
    if (!closed.contains(session.qualifier)) add_left(owner, session);
  }
}

void IsidStore::leave(std::span<const uint64_t> isids) {
  for (const auto& [owner, session] : sessions_) {
    const uint64_t isid = isid_of(session.qualifier);
    if (std::ranges::find(isids, isid) != isids.end()) add_left(owner, session);
  }
}

void IsidStore::add_left(const Owner& owner, const Session& session) {
  for (const SessionTrace& trace : session.traces) {
    LeftSession left{.path = owner.portal,
                     .initiator_name = owner.initiator,
                     .target = owner.target,
                     .isid = isid_of(session.qualifier),
                     .trace = trace};
    if (std::ranges::find(left_, left) == left_.end()) left_.push_back(std::move(left));
  }
}

void IsidStore::fenced(const LeftSession& session) { std::erase(left_, session); }

uint64_t IsidStore::isid_of(uint16_t qualifier) const {
  return kRandomType | uint64_t{random_} << 16 | qualifier;
}

std::expected<uint64_t, std::string> IsidStore::assign(const Owner& owner) {
  auto found = sessions_.find(owner);
  if (found == sessions_.end()) {
    if (next_ > kLastQualifier) {
      return std::unexpected(
          fmt::format("{}: all {} ISIDs of this node are used up", file(), kLastQualifier));
    }
    found = sessions_.emplace(owner, Session{.qualifier = static_cast<uint16_t>(next_++)}).first;
    changed_ = true;
  }
  found->second.assigned = true;
  return isid_of(found->second.qualifier);
}

std::string IsidStore::text() const {
  std::string out = fmt::format("{}\nrandom {:06x}\n", kMagic, random_);
  for (const auto& [owner, session] : sessions_) {
    out += fmt::format("{:04x} {} {} {} {} {} {}", session.qualifier, owner.initiator, owner.device,
                       owner.target, owner.portal, owner.source.empty() ? "-" : owner.source,
                       owner.index);
    for (const SessionTrace& trace : session.traces) out += " " + to_word(trace);
    out += "\n";
  }
  return with_checksum(std::move(out));
}

std::expected<void, std::string> IsidStore::begin() {
  const bool needed = changed_;
  if (forget_old()) changed_ = true;
  if (auto saved = save(); !saved && needed) return saved;
  if (::unlink(closed_file().c_str()) != 0 && errno != ENOENT) {
    return std::unexpected(
        fmt::format("cannot remove {}: {}", closed_file(), std::strerror(errno)));
  }
  if (const auto synced = daemon::sync_directory(directory_); !synced) {
    return std::unexpected(
        fmt::format("cannot sync {}: {}", directory_, std::strerror(synced.error())));
  }
  return {};
}

// Traces of sessions that left nothing and are not used any more: they would count as left again.
bool IsidStore::forget_old() {
  bool forgot = false;
  for (auto& [owner, session] : sessions_) {
    const uint64_t isid = isid_of(session.qualifier);
    if (session.assigned || session.traces.empty()) continue;
    if (std::ranges::find(left_, isid, &LeftSession::isid) != left_.end()) continue;
    session.traces.clear();
    forgot = true;
  }
  return forgot;
}

IsidStore::Traces IsidStore::traces(uint64_t isid) const {
  for (const auto& [owner, session] : sessions_) {
    if (isid_of(session.qualifier) == isid) return session.traces;
  }
  return {};
}

std::expected<void, std::string> IsidStore::note(uint64_t isid, Traces traces) {
  for (auto& [owner, session] : sessions_) {
    if (isid_of(session.qualifier) != isid) continue;
    if (session.traces == traces && !changed_) return {};
    changed_ = true;
    std::swap(session.traces, traces);
    auto saved = save();
    if (!saved) std::swap(session.traces, traces);
    return saved;
  }
  return std::unexpected(fmt::format("{} knows no session {:012x}", file(), isid));
}

std::expected<void, std::string> IsidStore::close() {
  std::string out = fmt::format("{}\n", kClosedMagic);
  for (const auto& [owner, session] : sessions_) {
    const uint64_t isid = isid_of(session.qualifier);
    const bool open = std::ranges::find(left_, isid, &LeftSession::isid) != left_.end();
    if (!open) out += fmt::format("{:04x}\n", session.qualifier);
  }
  return replace(closed_file(), with_checksum(std::move(out)));
}

std::expected<void, std::string> IsidStore::save() {
  if (!changed_) return {};
  if (auto replaced = replace(file(), text()); !replaced) return replaced;
  changed_ = false;
  return {};
}

std::expected<void, std::string> IsidStore::replace(const std::string& file,
                                                    std::string_view text) const {
  const auto replaced = daemon::replace_file(file, base::as_bytes(text));
  if (replaced) return {};
  return std::unexpected(fmt::format("cannot write {}: {}", replaced.error().path,
                                     std::strerror(replaced.error().sys)));
}

}  // namespace holdfast::mpio
