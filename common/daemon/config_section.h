#pragma once
// One table of a TOML file, read key by key. What it does not know, and what has the wrong type, is
// reported to the ConfigSource; what could not be read keeps its default.

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <fmt/format.h>
#include <toml++/toml.h>

#include <concepts>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/daemon/chap_config.h"
#include "common/daemon/config_source.h"

namespace holdfast::daemon {

enum class Need : uint8_t { required, optional };

// "a table", "a whole number", ...
const char* describe(const toml::node& node);

class Section {
 public:
  using Keys = std::span<const std::string_view>;
  struct Range {
    uint64_t min = 0;
    uint64_t max = std::numeric_limits<int64_t>::max();
  };

  // keys: every key of the file, as "disk.size"; section: as there; at: as in ConfigSource ("" for
  // both: the file). Making it reports the keys that do not belong in it.
  Section(const toml::table& table, Keys keys, std::string section, std::string at,
          ConfigSource& source);

  std::string place(std::string_view key) const;
  bool has(std::string_view key) const { return table_.contains(key); }
  ConfigSource& source() { return source_; }

  void read(std::string_view key, std::string& out, Need need = Need::optional);
  void read(std::string_view key, bool& out);
  void read(std::string_view key, std::optional<bool>& out);
  template <std::unsigned_integral T>
  void read(std::string_view key, T& out, Range range, Need need = Need::optional) {
    if (const toml::node* node = find(key, need)) number(place(key), key, *node, range, out);
  }
  // "64GiB", or a number of bytes.
  void read_size(std::string_view key, uint64_t& out);
  void read_duration_ms(std::string_view key, uint32_t& out, Range range);
  // { user = "...", secret_file = "..." }
  void read_chap(std::string_view key, std::optional<ChapConfig>& out);

  // Calls each(element, its place) for the elements of an array, after the bound is checked.
  template <class Each>
  void each(std::string_view key, size_t max, Need need, Each&& each) {
    const toml::array* array = find_array(key, max, need);
    if (array == nullptr) return;
    for (size_t i = 0; i < array->size(); ++i) each((*array)[i], locate(key, i, (*array)[i]));
  }
  // The same for [[key]]: each(Section&, place).
  template <class Each>
  void each_table(std::string_view key, size_t max, Need need, Each&& each_one) {
    if (report_single_table(key, need)) return;
    each(key, max, need, [&](const toml::node& element, const std::string& at) {
      const toml::table* table = find_element_table(key, element, at);
      if (table == nullptr) return;
      Section section(*table, keys_, child(key), at, source_);
      each_one(section, at);
    });
  }
  template <class Read>
  void table(std::string_view key, Read&& read_table) {
    const toml::table* table = find_table(key);
    if (table == nullptr) return;
    Section section(*table, keys_, child(key), place(key), source_);
    read_table(section);
  }

  // For a value of a kind of its own; null, and reported if required: absent.
  const toml::node* find(std::string_view key, Need need);
  void report_type(std::string_view key, const char* wanted, const toml::node& node);

  // Elements of each().
  template <std::unsigned_integral T>
  void number(const std::string& at, std::string_view key, const toml::node& node, Range range,
              T& out) {
    if (const auto value = whole(at, key, node, range)) out = static_cast<T>(*value);
  }
  void string(const std::string& at, std::string_view key, const toml::node& node,
              std::string& out);

 private:
  std::string child(std::string_view key) const;
  const toml::array* find_array(std::string_view key, size_t max, Need need);
  const toml::table* find_table(std::string_view key);
  const toml::table* find_element_table(std::string_view key, const toml::node& element,
                                        const std::string& at);
  std::string locate(std::string_view key, size_t index, const toml::node& element);
  bool report_single_table(std::string_view key, Need need);
  std::optional<uint64_t> whole(const std::string& at, std::string_view key, const toml::node& node,
                                Range range);
  void report_unknown(std::string_view key);

  const toml::table& table_;
  Keys keys_;
  std::string section_;
  std::string place_;
  std::vector<std::string_view> allowed_;
  ConfigSource& source_;
};

// Calls read(Section&) with the whole file; false, and reported, when the text is not TOML.
template <class Read>
bool read_toml(std::string_view text, Section::Keys keys, ConfigSource& source, Read&& read) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    source.report_at(static_cast<uint32_t>(error.source().begin.line),
                     fmt::format("not valid TOML: {}", error.description()));
    return false;
  }
  Section file(parsed.table(), keys, "", "", source);
  read(file);
  return true;
}

}  // namespace holdfast::daemon
