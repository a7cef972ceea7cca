#pragma once
// Where each value of a configuration stood in its file, and what is wrong with it.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::daemon {

// One thing wrong with the file. All are reported, not only the first.
struct ConfigError {
  std::string file;
  uint32_t line = 0;  // 0: the file as a whole
  std::string message;
  std::string to_string() const;  // "file:line: message"
  bool operator==(const ConfigError&) const = default;
};

// A place is a path such as "disk[2].size" or "target[0].luns[1].lun".
class ConfigSource {
 public:
  explicit ConfigSource(std::string file) : file_(std::move(file)) {}

  void locate(const std::string& place, uint32_t line) { lines_[place] = line; }
  // Of the place, else of the nearest place that contains it; 0: the file as a whole.
  uint32_t line(std::string_view place) const;

  // One error a place: what follows from a value that is already reported is noise.
  void report(const std::string& place, std::string message);
  void report_at(uint32_t line, std::string message);
  void report(ConfigError error) { errors_.push_back(std::move(error)); }
  // As report() would, without reporting it.
  ConfigError make_error(std::string_view place, std::string message) const;
  bool empty() const { return errors_.empty(); }
  bool reported(const std::string& place) const { return reported_.contains(place); }

  // In the order of the file.
  std::vector<ConfigError> take_errors();

 private:
  std::string file_;
  std::map<std::string, uint32_t, std::less<>> lines_;
  std::set<std::string> reported_;
  std::vector<ConfigError> errors_;
};

// "disk" and "2" give "disk[2]".
std::string place_of(std::string_view list, size_t index);

}  // namespace holdfast::daemon
