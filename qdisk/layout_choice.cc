// Which of two copies counts; names.

#include <fmt/format.h>

#include <charconv>
#include <utility>

#include "qdisk/layout.h"

namespace holdfast::qdisk {

const char* to_string(Fault fault) {
  switch (fault) {
    case Fault::none:
      return "nothing is wrong";
    case Fault::magic:
      return "no record of a witness";
    case Fault::checksum:
      return "wrong checksum: damaged, or of another cluster";
    case Fault::place:
      return "a record of another place: a write went astray";
    case Fault::version:
      return "written by a newer version of this program";
    case Fault::kind:
      return "a record of another kind";
    case Fault::reserved:
      return "reserved bits are set";
    case Fault::owner:
      return "it says to be of another node or epoch than this slot's";
    case Fault::value:
      return "a value is out of range";
    case Fault::copies:
      return "the two copies contradict each other";
  }
  return "unknown";
}

const char* to_string(NodeState state) {
  switch (state) {
    case NodeState::none:
      return "none";
    case NodeState::joining:
      return "joining";
    case NodeState::member:
      return "member";
    case NodeState::stopped:
      return "stopped";
  }
  return "unknown";
}

const char* to_string(WatchdogKind kind) {
  switch (kind) {
    case WatchdogKind::none:
      return "none";
    case WatchdogKind::lab:
      return "lab";
    case WatchdogKind::real:
      return "real";
  }
  return "unknown";
}

const char* to_string(MailKind kind) {
  switch (kind) {
    case MailKind::none:
      return "none";
    case MailKind::look:
      return "look";
    case MailKind::leave:
      return "leave";
  }
  return "unknown";
}

Decoded<Superblock> newest(const Decoded<Superblock>& a, const Decoded<Superblock>& b) {
  for (const Decoded<Superblock>* each : {&a, &b}) {
    if (each->fault == Fault::version) return *each;
  }
  if (a.valid() && b.valid()) {
    const bool contradict = a.value->cluster != b.value->cluster ||
                            (a.value->generation == b.value->generation && *a.value != *b.value);
    if (contradict) return {.value = std::nullopt, .fault = Fault::copies};
    return a.value->generation >= b.value->generation ? a : b;
  }
  if (a.valid() || b.valid()) return a.valid() ? a : b;
  return a.corrupt() ? a : b;
}

Decoded<Heartbeat> newest(const Decoded<Heartbeat>& a, const Decoded<Heartbeat>& b) {
  if (a.valid() && b.valid()) {
    const auto age = [](const Heartbeat& h) { return std::pair(h.incarnation, h.sequence); };
    return age(*a.value) >= age(*b.value) ? a : b;
  }
  if (a.valid() || b.valid()) return a.valid() ? a : b;
  return a.corrupt() ? a : b;
}

std::string to_text(const Uuid& uuid) {
  std::string out;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += fmt::format("{:02x}", uuid[i]);
  }
  return out;
}

std::optional<Uuid> parse_uuid(std::string_view text) {
  Uuid out;
  if (text.size() != 36) return std::nullopt;
  for (size_t i = 0; i < out.size(); ++i) {
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    if (dash && text.front() != '-') return std::nullopt;
    if (dash) text.remove_prefix(1);
    const char* end = text.data() + 2;
    if (std::from_chars(text.data(), end, out[i], 16).ptr != end) return std::nullopt;
    text.remove_prefix(2);
  }
  return out;
}

}  // namespace holdfast::qdisk
