#include "target/control_json.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "common/daemon/control_message.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

using nlohmann::json;

template <class T, class Plain>
concept Is = std::same_as<std::remove_const_t<T>, Plain>;

// One list of the members of each struct, for writing (A = Writer) and reading (A = Reader).
template <class A>
void members(A& a, Is<io::BackingSpec> auto& s) {
  a("kind", s.kind);
  a("path", s.path);
  a("size_bytes", s.size_bytes);
  a("thin", s.thin);
  a("block_size", s.block_size);
  a("physical_block_size", s.physical_block_size);
  a("read_only", s.read_only);
}

template <class A>
void members(A& a, Is<DiskConfig> auto& s) {
  a("name", s.name);
  a("backing", s.backing);
  a("removable", s.removable);
  a("write_cache", s.write_cache);
}

template <class A>
void members(A& a, Is<daemon::ChapConfig> auto& s) {
  a("user", s.user);
  a("secret_file", s.secret_file);
}

template <class A>
void members(A& a, Is<InitiatorConfig> auto& s) {
  a("name", s.name);
  a("addresses", s.addresses);
  a("chap", s.chap);
  a("mutual_chap", s.mutual_chap);
}

template <class A>
void members(A& a, Is<LunConfig> auto& s) {
  a("lun", s.lun);
  a("disk", s.disk);
}

template <class A>
void members(A& a, Is<TargetConfig> auto& s) {
  a("name", s.name);
  a("portal_groups", s.portal_groups);
  a("luns", s.luns);
  a("initiators", s.initiators);
}

template <class A>
void members(A& a, Is<LatencyHistogram> auto& s) {
  a("buckets", s.buckets);
  a("sum_us", s.sum_us);
  a("count", s.count);
}

template <class A>
void members(A& a, Is<LunCounters> auto& s) {
  a("reads", s.reads);
  a("writes", s.writes);
  a("other_commands", s.other_commands);
  a("read_bytes", s.read_bytes);
  a("written_bytes", s.written_bytes);
  a("check_conditions", s.check_conditions);
  a("reservation_conflicts", s.reservation_conflicts);
  a("aborted", s.aborted);
  a("medium_errors", s.medium_errors);
  a("read_latency", s.read_latency);
  a("write_latency", s.write_latency);
}

template <class A>
void members(A& a, Is<RegistrantStatus> auto& s) {
  a("initiator_name", s.initiator_name);
  a.hex("isid", s.isid, 12);
  a("portal_group_tag", s.portal_group_tag);
  a.hex("key", s.key, 16);
  a("holder", s.holder);
}

template <class A>
void members(A& a, Is<ReservationStatus> auto& s) {
  a("generation", s.generation);
  a("type", s.type);
  a("aptpl", s.aptpl);
  a("registrants", s.registrants);
}

template <class A>
void members(A& a, Is<DiskStatus::Mapping> auto& s) {
  a("target", s.target);
  a("lun", s.lun);
}

template <class A>
void members(A& a, Is<DiskStatus> auto& s) {
  a("config", s.config);
  a("state", s.state);
  a("origin", s.origin);
  a("uuid", s.uuid);
  a("size_bytes", s.size_bytes);
  a("mapped", s.mapped);
  a("reservation", s.reservation);
  a("counters", s.counters);
}

template <class A>
void members(A& a, Is<SessionStatus> auto& s) {
  a("id", s.id);
  a("initiator_name", s.initiator_name);
  a("target_name", s.target_name);
  a.hex("isid", s.isid, 12);
  a("tsih", s.tsih);
  a("portal_group_tag", s.portal_group_tag);
  a("peer", s.peer);
  a("portal", s.portal);
  a("user", s.user);
  a("thread", s.thread);
  a("age_ms", s.age_ms);
  a("commands_in_flight", s.commands_in_flight);
  a("header_digest", s.header_digest);
  a("data_digest", s.data_digest);
  a("state", s.state);
}

template <class A>
void members(A& a, Is<PortalStatus> auto& s) {
  a("address", s.address);
  a("portal_group_tag", s.portal_group_tag);
  a("state", s.state);
}

template <class A>
void members(A& a, Is<AluaStatus> auto& s) {
  a("portal_group_tag", s.portal_group_tag);
  a("state", s.state);
}

template <class A>
void members(A& a, Is<NodeStatus> auto& s) {
  a("version", s.version);
  a("uptime_ms", s.uptime_ms);
  a("threads", s.threads);
  a("portals", s.portals);
  a("alua", s.alua);
  a("disks", s.disks);
  a("targets", s.targets);
  a("sessions", s.sessions);
  a("connections_total", s.connections_total);
  a("connections_refused", s.connections_refused);
  a("logins_failed", s.logins_failed);
  a("pdus_rejected", s.pdus_rejected);
  a("buffer_bytes_used", s.buffer_bytes_used);
  a("buffer_bytes_total", s.buffer_bytes_total);
}

class Writer {
 public:
  explicit Writer(json& out) : out_(out) {}
  template <class T>
  void operator()(const char* name, const T& value) {
    put(out_[name], value);
  }
  // 64-bit keys as text: most JSON readers keep just 53 bits of a number.
  void hex(const char* name, uint64_t value, int digits) {
    out_[name] = fmt::format("0x{:0{}x}", value, digits);
  }

 private:
  template <class T>
  static void put(json& out, const T& value) {
    if constexpr (std::is_arithmetic_v<T> || std::same_as<T, std::string>) {
      out = value;
    } else {
      out = json::object();
      Writer nested(out);
      members(nested, value);
    }
  }
  static void put(json& out, io::BackingKind value) { out = to_string(value); }
  static void put(json& out, const io::AddressRange& value) { out = value.to_string(); }
  template <class T>
  static void put(json& out, const std::optional<T>& value) {
    out = nullptr;
    if (value) put(out, *value);
  }
  template <class T>
  static void put_list(json& out, const T& values) {
    out = json::array();
    for (const auto& value : values) put(out.emplace_back(), value);
  }
  template <class T>
  static void put(json& out, const std::vector<T>& values) {
    put_list(out, values);
  }
  static void put(json& out, const uint64_t (&values)[LatencyHistogram::kBuckets]) {
    put_list(out, values);
  }

  json& out_;
};

class Reader {
 public:
  explicit Reader(const json& in) : in_(in), good_(in.is_object()) {}
  bool good() const { return good_; }

  template <class T>
  void operator()(const char* name, T& value) {
    if (const json* member = find(name); member != nullptr && !get(*member, value)) good_ = false;
  }
  void hex(const char* name, uint64_t& value, int) {
    const json* member = find(name);
    if (member == nullptr) return;
    std::string text;
    if (!get(*member, text) || !text.starts_with("0x")) {
      good_ = false;
      return;
    }
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 2, end, value, 16);
    if (error != std::errc{} || stop != end) good_ = false;
  }

 private:
  const json* find(const char* name) const {
    if (!good_) return nullptr;
    const auto found = in_.find(name);
    return found == in_.end() ? nullptr : &*found;
  }

  static bool get(const json& in, bool& value) {
    if (!in.is_boolean()) return false;
    value = in.get<bool>();
    return true;
  }
  template <std::unsigned_integral T>
  static bool get(const json& in, T& value) {
    if (!in.is_number_unsigned() || in.get<uint64_t>() > std::numeric_limits<T>::max())
      return false;
    value = static_cast<T>(in.get<uint64_t>());
    return true;
  }
  static bool get(const json& in, std::string& value) {
    if (!in.is_string()) return false;
    value = in.get_ref<const std::string&>();
    return true;
  }
  static bool get(const json& in, io::BackingKind& value) {
    std::string text;
    if (!get(in, text)) return false;
    const auto kind = backing_kind_of(text);
    if (kind) value = *kind;
    return kind.has_value();
  }
  static bool get(const json& in, io::AddressRange& value) {
    std::string text;
    if (!get(in, text)) return false;
    const auto range = io::AddressRange::parse(text);
    if (range) value = *range;
    return range.has_value();
  }
  template <class T>
  static bool get(const json& in, std::optional<T>& value) {
    value.reset();
    return in.is_null() || get(in, value.emplace());
  }
  template <class T>
  static bool get(const json& in, std::vector<T>& values) {
    if (!in.is_array()) return false;
    values.clear();
    for (const json& element : in) {
      if (!get(element, values.emplace_back())) return false;
    }
    return true;
  }
  static bool get(const json& in, uint64_t (&values)[LatencyHistogram::kBuckets]) {
    if (!in.is_array() || in.size() > LatencyHistogram::kBuckets) return false;
    for (size_t i = 0; i < in.size(); ++i) {
      if (!get(in[i], values[i])) return false;
    }
    return true;
  }
  template <class T>
    requires std::is_class_v<T>
  static bool get(const json& in, T& value) {
    Reader nested(in);
    members(nested, value);
    return nested.good();
  }

  const json& in_;
  bool good_;
};

template <class T>
json write(const T& value) {
  json out = json::object();
  Writer writer(out);
  members(writer, value);
  return out;
}

template <class T>
std::optional<T> read(const json& in) {
  T value;
  Reader reader(in);
  members(reader, value);
  if (!reader.good()) return std::nullopt;
  return value;
}

}  // namespace

json to_json(const NodeStatus& status) { return write(status); }
json to_json(const DiskConfig& disk) { return write(disk); }
std::optional<NodeStatus> status_from_json(const json& in) { return read<NodeStatus>(in); }
std::optional<DiskConfig> disk_from_json(const json& in) { return read<DiskConfig>(in); }

json to_json(const NodeControl::Outcome& outcome) {
  if (!outcome) return daemon::refusal(outcome.error());
  json out = json::object();
  out["ok"] = true;
  out["lines"] = *outcome;
  return out;
}

}  // namespace holdfast::target
