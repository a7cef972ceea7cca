#include "common/daemon/config_section.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/units.h"
#include "common/daemon/config_values.h"

namespace holdfast::daemon {
namespace {

std::vector<std::string_view> keys_of(std::string_view section, Section::Keys all) {
  std::vector<std::string_view> keys;
  for (std::string_view key : all) {
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

}  // namespace

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

Section::Section(const toml::table& table, Keys keys, std::string section, std::string at,
                 ConfigSource& source)
    : table_(table),
      keys_(keys),
      section_(std::move(section)),
      place_(std::move(at)),
      allowed_(keys_of(section_, keys)),
      source_(source) {
  for (const auto& [key, node] : table_) {
    source_.locate(place(key.str()), static_cast<uint32_t>(key.source().begin.line));
    if (std::find(allowed_.begin(), allowed_.end(), key.str()) == allowed_.end()) {
      report_unknown(key.str());
    }
  }
}

std::string Section::place(std::string_view key) const {
  return place_.empty() ? std::string(key) : place_ + "." + std::string(key);
}

std::string Section::child(std::string_view key) const {
  return section_.empty() ? std::string(key) : section_ + "." + std::string(key);
}

void Section::read(std::string_view key, std::string& out, Need need) {
  const toml::node* node = find(key, need);
  if (node == nullptr) return;
  if (const auto* value = node->as_string()) {
    out = value->get();
  } else {
    report_type(key, "a string in quotes", *node);
  }
}

void Section::read(std::string_view key, bool& out) {
  const toml::node* node = find(key, Need::optional);
  if (node == nullptr) return;
  if (const auto* value = node->as_boolean()) {
    out = value->get();
  } else {
    report_type(key, "true or false", *node);
  }
}

void Section::read(std::string_view key, std::optional<bool>& out) {
  bool value = false;
  if (find(key, Need::optional) == nullptr) return;
  read(key, value);
  out = value;
}

void Section::read_size(std::string_view key, uint64_t& out) {
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
    return source_.report(place(key),
                          fmt::format("`{}` = \"{}\": {}", key, text->get(), parsed.error().what));
  }
  if (*parsed == 0)
    return source_.report(place(key),
                          fmt::format("`{}` must not be 0: write a size such as \"64GiB\"", key));
  out = *parsed;
}

void Section::read_duration_ms(std::string_view key, uint32_t& out, Range range) {
  const toml::node* node = find(key, Need::optional);
  if (node == nullptr) return;
  const auto* text = node->as_string();
  if (text == nullptr) return report_type(key, "a time such as \"10s\"", *node);
  const auto parsed = base::parse_duration(text->get());
  if (!parsed) {
    return source_.report(place(key),
                          fmt::format("`{}` = \"{}\": {}", key, text->get(), parsed.error().what));
  }
  const auto ms = static_cast<uint64_t>(parsed->count());
  if (ms < range.min || ms > range.max) {
    return source_.report(place(key), fmt::format("`{}` must be from {} to {} seconds", key,
                                                  range.min / 1000, range.max / 1000));
  }
  out = static_cast<uint32_t>(ms);
}

void Section::read_chap(std::string_view key, std::optional<ChapConfig>& out) {
  table(key, [&](Section& chap) {
    out.emplace();
    chap.read("user", out->user, Need::required);
    chap.read("secret_file", out->secret_file, Need::required);
  });
}

void Section::string(const std::string& at, std::string_view key, const toml::node& node,
                     std::string& out) {
  if (const auto* value = node.as_string()) {
    out = value->get();
  } else {
    source_.report(at,
                   fmt::format("`{}` must hold strings in quotes, not {}", key, describe(node)));
  }
}

const toml::node* Section::find(std::string_view key, Need need) {
  ASSERT(std::find(allowed_.begin(), allowed_.end(), key) != allowed_.end());
  const toml::node* node = table_.get(key);
  if (node == nullptr && need == Need::required) {
    source_.report(place(key), fmt::format("missing key `{}`", key));
  }
  return node;
}

const toml::array* Section::find_array(std::string_view key, size_t max, Need need) {
  const toml::node* node = find(key, need);
  if (node == nullptr) return nullptr;
  const toml::array* array = node->as_array();
  if (array == nullptr) {
    report_type(key, "an array in [ ]", *node);
    return nullptr;
  }
  if (need == Need::required && array->empty()) {
    source_.report(place(key), fmt::format("`{}` must not be empty", key));
    return nullptr;
  }
  if (array->size() > max) {
    source_.report(place(key),
                   fmt::format("`{}` has {} entries: at most {}", key, array->size(), max));
    return nullptr;
  }
  return array;
}

const toml::table* Section::find_table(std::string_view key) {
  const toml::node* node = find(key, Need::optional);
  if (node == nullptr) return nullptr;
  const toml::table* table = node->as_table();
  if (table == nullptr) report_type(key, "a table", *node);
  return table;
}

const toml::table* Section::find_element_table(std::string_view key, const toml::node& element,
                                               const std::string& at) {
  const toml::table* table = element.as_table();
  if (table == nullptr) {
    source_.report(at, fmt::format("`{}` must hold tables, not {}", key, describe(element)));
  }
  return table;
}

std::string Section::locate(std::string_view key, size_t index, const toml::node& element) {
  std::string at = place_of(place(key), index);
  source_.locate(at, static_cast<uint32_t>(element.source().begin.line));
  return at;
}

bool Section::report_single_table(std::string_view key, Need need) {
  const toml::node* node = find(key, need);
  if (node == nullptr || !node->is_table()) return false;
  source_.report(place(key),
                 fmt::format("write [[{}]], in double brackets: there may be several", child(key)));
  return true;
}

std::optional<uint64_t> Section::whole(const std::string& at, std::string_view key,
                                       const toml::node& node, Range range) {
  const auto* value = node.as_integer();
  if (value == nullptr || value->get() < 0 || static_cast<uint64_t>(value->get()) < range.min ||
      static_cast<uint64_t>(value->get()) > range.max) {
    source_.report(
        at, fmt::format("`{}` must be a whole number from {} to {}", key, range.min, range.max));
    return std::nullopt;
  }
  return static_cast<uint64_t>(value->get());
}

void Section::report_unknown(std::string_view key) {
  const std::string guess = suggestion(key, allowed_);
  const std::string where = section_.empty() ? "" : " in [" + section_ + "]";
  source_.report(place(key), fmt::format("unknown key `{}`{}{}", key, where,
                                         guess.empty() ? "" : ": " + guess));
}

void Section::report_type(std::string_view key, const char* wanted, const toml::node& node) {
  source_.report(place(key), fmt::format("`{}` must be {}, not {}", key, wanted, describe(node)));
}

}  // namespace holdfast::daemon
