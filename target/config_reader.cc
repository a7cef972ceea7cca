#include "target/config_reader.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <limits>

#include "common/base/assert.h"
#include "common/base/units.h"
#include "target/config_keys.h"
#include "target/config_limits.h"
#include "target/config_values.h"

namespace holdfast::target {
namespace {

enum class Need : uint8_t { required, optional };

const char* describe(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

uint32_t line_of(const toml::node& node) { return static_cast<uint32_t>(node.source().begin.line); }

std::vector<std::string_view> keys_of(std::string_view section) {
  std::vector<std::string_view> keys;
  for (std::string_view key : kConfigKeys) {
    if (!section.empty()) {
      if (!key.starts_with(section) || key.size() <= section.size() || key[section.size()] != '.') {
        continue;
      }
      key.remove_prefix(section.size() + 1);
    }
    if (key.find('.') == std::string_view::npos) keys.push_back(key);
  }
  return keys;
}

// One table of the file. Making it reports the keys that do not belong in it.
class Section {
 public:
  // section: as in kConfigKeys; at: as in ConfigSource ("" for both: the file).
  Section(const toml::table& table, std::string section, std::string at, ConfigSource& source)
      : table_(table),
        section_(std::move(section)),
        place_(std::move(at)),
        allowed_(keys_of(section_)),
        source_(source) {
    for (const auto& [key, node] : table_) {
      const auto line = static_cast<uint32_t>(key.source().begin.line);
      source_.locate(place(key.str()), line);
      if (std::find(allowed_.begin(), allowed_.end(), key.str()) == allowed_.end()) {
        report_unknown(key.str());
      }
    }
  }

  std::string place(std::string_view key) const {
    return place_.empty() ? std::string(key) : place_ + "." + std::string(key);
  }

  void read(std::string_view key, std::string& out, Need need = Need::optional) {
    const toml::node* node = find(key, need);
    if (node == nullptr) return;
    if (const auto* value = node->as_string()) {
      out = value->get();
    } else {
      report_type(key, "a string in quotes", *node);
    }
  }

  void read(std::string_view key, bool& out) {
    const toml::node* node = find(key, Need::optional);
    if (node == nullptr) return;
    if (const auto* value = node->as_boolean()) {
      out = value->get();
    } else {
      report_type(key, "true or false", *node);
    }
  }

  void read(std::string_view key, std::optional<bool>& out) {
    bool value = false;
    if (find(key, Need::optional) == nullptr) return;
    read(key, value);
    out = value;
  }

  struct Range {
    uint64_t min = 0;
    uint64_t max = std::numeric_limits<int64_t>::max();
  };

  template <std::unsigned_integral T>
  void read(std::string_view key, T& out, Range range, Need need = Need::optional) {
    if (const toml::node* node = find(key, need)) number(place(key), key, *node, range, out);
  }

  // "64GiB", or a number of bytes.
  void read_size(std::string_view key, uint64_t& out) {
    const toml::node* node = find(key, Need::optional);
    if (node == nullptr) return;
    if (const auto* bytes = node->as_integer(); bytes != nullptr && bytes->get() > 0) {
      out = static_cast<uint64_t>(bytes->get());
      return;
    }
    const auto* text = node->as_string();
    if (text == nullptr) return report_type(key, "a size such as \"64GiB\"", *node);
    const auto parsed = base::parse_size(text->get());
    if (!parsed) {
      return source_.report(
          place(key), fmt::format("`{}` = \"{}\": {}", key, text->get(), parsed.error().what));
    }
    if (*parsed == 0) return source_.report(place(key), fmt::format("`{}` must not be 0", key));
    out = *parsed;
  }

  void read_duration_ms(std::string_view key, uint32_t& out, Range range) {
    const toml::node* node = find(key, Need::optional);
    if (node == nullptr) return;
    const auto* text = node->as_string();
    if (text == nullptr) return report_type(key, "a time such as \"10s\"", *node);
    const auto parsed = base::parse_duration(text->get());
    if (!parsed) {
      return source_.report(
          place(key), fmt::format("`{}` = \"{}\": {}", key, text->get(), parsed.error().what));
    }
    const auto ms = static_cast<uint64_t>(parsed->count());
    if (ms < range.min || ms > range.max) {
      return source_.report(place(key), fmt::format("`{}` must be from {} to {} seconds", key,
                                                    range.min / 1000, range.max / 1000));
    }
    out = static_cast<uint32_t>(ms);
  }

  // Calls each(element, its place) for the elements of an array, after the bound is checked.
  template <class Each>
  void each(std::string_view key, size_t max, Need need, Each&& each) {
    const toml::node* node = find(key, need);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) return report_type(key, "an array in [ ]", *node);
    if (need == Need::required && array->empty()) {
      return source_.report(place(key), fmt::format("`{}` must not be empty", key));
    }
    if (array->size() > max) {
      return source_.report(
          place(key), fmt::format("`{}` has {} entries: at most {}", key, array->size(), max));
    }
    for (size_t i = 0; i < array->size(); ++i) {
      const std::string at = place_of(place(key), i);
      source_.locate(at, line_of((*array)[i]));
      each((*array)[i], at);
    }
  }

  // The same for [[key]]: each(Section&, place).
  template <class Each>
  void each_table(std::string_view key, size_t max, Need need, Each&& each_one) {
    const toml::node* node = find(key, need);
    if (node != nullptr && node->is_table()) {
      return source_.report(place(key), fmt::format("write [[{}]], in double brackets: there may "
                                                    "be several",
                                                    child(key)));
    }
    each(key, max, need, [&](const toml::node& element, const std::string& at) {
      const toml::table* table = element.as_table();
      if (table == nullptr) {
        return source_.report(at,
                              fmt::format("`{}` must hold tables, not {}", key, describe(element)));
      }
      Section section(*table, child(key), at, source_);
      each_one(section, at);
    });
  }

  template <class Read>
  void table(std::string_view key, Read&& read_table) {
    const toml::node* node = find(key, Need::optional);
    if (node == nullptr) return;
    if (const toml::table* table = node->as_table()) {
      Section section(*table, child(key), place(key), source_);
      read_table(section);
    } else {
      report_type(key, "a table", *node);
    }
  }

  template <std::unsigned_integral T>
  void number(const std::string& at, std::string_view key, const toml::node& node, Range range,
              T& out) {
    const auto* value = node.as_integer();
    if (value == nullptr || value->get() < 0 || static_cast<uint64_t>(value->get()) < range.min ||
        static_cast<uint64_t>(value->get()) > range.max) {
      return source_.report(
          at, fmt::format("`{}` must be a whole number from {} to {}", key, range.min, range.max));
    }
    out = static_cast<T>(value->get());
  }

  void string(const std::string& at, std::string_view key, const toml::node& node,
              std::string& out) {
    if (const auto* value = node.as_string()) {
      out = value->get();
    } else {
      source_.report(at,
                     fmt::format("`{}` must hold strings in quotes, not {}", key, describe(node)));
    }
  }

  bool has(std::string_view key) const { return table_.contains(key); }
  ConfigSource& source() { return source_; }

 private:
  std::string child(std::string_view key) const {
    return section_.empty() ? std::string(key) : section_ + "." + std::string(key);
  }

  const toml::node* find(std::string_view key, Need need) {
    ASSERT(std::find(allowed_.begin(), allowed_.end(), key) != allowed_.end());
    const toml::node* node = table_.get(key);
    if (node == nullptr && need == Need::required) {
      source_.report(place(key), fmt::format("missing key `{}`", key));
    }
    return node;
  }

  void report_unknown(std::string_view key) {
    const std::string guess = suggestion(key, allowed_);
    const std::string where = section_.empty() ? "" : " in [" + section_ + "]";
    source_.report(place(key), fmt::format("unknown key `{}`{}{}", key, where,
                                           guess.empty() ? "" : ": " + guess));
  }

  void report_type(std::string_view key, const char* wanted, const toml::node& node) {
    source_.report(place(key), fmt::format("`{}` must be {}, not {}", key, wanted, describe(node)));
  }

  const toml::table& table_;
  std::string section_;
  std::string place_;
  std::vector<std::string_view> allowed_;
  ConfigSource& source_;
};

void read_chap(Section& section, std::string_view key, std::optional<ChapConfig>& out) {
  section.table(key, [&](Section& chap) {
    out.emplace();
    chap.read("user", out->user, Need::required);
    chap.read("secret_file", out->secret_file, Need::required);
  });
}

void read_portal_group(Section& section, PortalGroupConfig& group) {
  section.read("tag", group.tag, {.min = 1, .max = 65535}, Need::required);
  section.each(
      "portals", kMaxPortals, Need::required, [&](const toml::node& node, const std::string& at) {
        std::string text;
        section.string(at, "portals", node, text);
        group.portals.emplace_back();
        if (section.source().reported(at)) return;
        if (auto parsed = io::Endpoint::parse(text)) {
          group.portals.back() = *parsed;
        } else {
          section.source().report(at, fmt::format("portal \"{}\": {}", text, parsed.error().what));
        }
      });
}

void read_disk(Section& section, DiskConfig& disk) {
  section.read("name", disk.name, Need::required);
  std::string kind;
  section.read("kind", kind, Need::required);
  if (const auto known = backing_kind_of(kind)) {
    disk.backing.kind = *known;
  } else {
    section.source().report(
        section.place("kind"),
        fmt::format("`kind` is \"{}\": it must be \"file\", \"block\" or \"memory\"", kind));
  }
  section.read("path", disk.backing.path);
  section.read_size("size", disk.backing.size_bytes);
  section.read("thin", disk.backing.thin);
  section.read("block_size", disk.backing.block_size, {.max = kMaxPhysicalBlock});
  section.read("physical_block_size", disk.backing.physical_block_size, {.max = kMaxPhysicalBlock});
  section.read("read_only", disk.backing.read_only);
  section.read("removable", disk.removable);
  section.read("write_cache", disk.write_cache);
}

void read_initiator(Section& section, InitiatorConfig& initiator) {
  section.read("name", initiator.name, Need::required);
  section.each("addresses", kMaxAddressesPerInitiator, Need::optional,
               [&](const toml::node& node, const std::string& at) {
                 std::string text;
                 section.string(at, "addresses", node, text);
                 initiator.addresses.emplace_back();
                 if (section.source().reported(at)) return;
                 if (auto parsed = io::AddressRange::parse(text)) {
                   initiator.addresses.back() = *parsed;
                 } else {
                   section.source().report(
                       at, fmt::format("address \"{}\": {}", text, parsed.error().what));
                 }
               });
  // An empty list would read as "any address" to us and as "none" to its author.
  if (initiator.addresses.empty() && section.has("addresses")) {
    section.source().report(section.place("addresses"),
                            "`addresses` must not be empty: leave it out to allow any address");
  }
  read_chap(section, "chap", initiator.chap);
  read_chap(section, "mutual_chap", initiator.mutual_chap);
}

void read_target(Section& section, TargetConfig& target) {
  section.read("name", target.name, Need::required);
  section.each("portal_groups", kMaxPortals, Need::required,
               [&](const toml::node& node, const std::string& at) {
                 target.portal_groups.emplace_back();
                 section.number(at, "portal_groups", node, {.min = 1, .max = 65535},
                                target.portal_groups.back());
               });
  section.each_table("luns", kMaxLunsPerTarget, Need::optional,
                     [&](Section& lun, const std::string&) {
                       LunConfig& made = target.luns.emplace_back();
                       lun.read("lun", made.lun, {.max = kMaxLun}, Need::required);
                       lun.read("disk", made.disk, Need::required);
                     });
  section.each_table("initiator", kMaxInitiatorsPerTarget, Need::optional,
                     [&](Section& initiator, const std::string&) {
                       read_initiator(initiator, target.initiators.emplace_back());
                     });
}

void read_top(Section& file, Config& config) {
  file.read("state_dir", config.state_dir);
  file.read("control_socket", config.control_socket);
  file.read("threads", config.threads, {.max = kMaxThreads});
  file.read("metrics", config.metrics);
  file.read("spin_us", config.spin_us, {.max = kMaxSpinUs});
  file.read_size("buffer_memory", config.buffer_memory_bytes);
  file.read("max_connections", config.max_connections, {.min = 1, .max = kMaxConnections});
  file.read_duration_ms("drain_deadline", config.drain_deadline_ms,
                        {.min = kMinDrainMs, .max = kMaxDrainMs});
  file.read("chap_md5", config.chap_allow_md5);
  file.read("chap_sha1", config.chap_allow_sha1);
  file.table("discovery", [&](Section& discovery) {
    read_chap(discovery, "chap", config.discovery.chap);
    read_chap(discovery, "mutual_chap", config.discovery.mutual_chap);
  });
  file.each_table("portal_group", kMaxPortals, Need::optional,
                  [&](Section& group, const std::string&) {
                    read_portal_group(group, config.portal_groups.emplace_back());
                  });
  file.each_table("disk", kMaxDisks, Need::optional, [&](Section& disk, const std::string&) {
    read_disk(disk, config.disks.emplace_back());
  });
  file.each_table("target", kMaxTargets, Need::optional, [&](Section& target, const std::string&) {
    read_target(target, config.targets.emplace_back());
  });
}

}  // namespace

std::optional<Config> read_config(std::string_view text, ConfigSource& source) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    source.report_at(static_cast<uint32_t>(error.source().begin.line),
                     fmt::format("not valid TOML: {}", error.description()));
    return std::nullopt;
  }
  Config config;
  Section file(parsed.table(), "", "", source);
  read_top(file, config);
  return config;
}

}  // namespace holdfast::target
