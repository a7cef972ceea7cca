#include "qdisk/config.h"

#include <algorithm>

#include "common/base/assert.h"
#include "common/daemon/config_file.h"
#include "qdisk/config_reader.h"
#include "qdisk/config_validate.h"

namespace holdfast::qdisk {

namespace {
using Errors = std::vector<daemon::ConfigError>;
}  // namespace

const NodeConfig* Config::find(std::string_view name) const {
  const auto found = std::ranges::find(nodes, name, &NodeConfig::name);
  return found == nodes.end() ? nullptr : &*found;
}

const NodeConfig& Config::self() const {
  const NodeConfig* found = find(node);
  ASSERT(found != nullptr);
  return *found;
}

NodeSet Config::configured() const {
  NodeSet set;
  for (const NodeConfig& each : nodes) set.add(each.id);
  return set;
}

VoterPolicy Config::policy() const {
  const NodeConfig* lower = find(lower_priority);
  return {.mode = mode,
          .configured = configured(),
          .lower_priority = lower == nullptr ? kNoNode : lower->id,
          .last_man_solo = last_man_solo};
}

std::string Config::name_of(NodeId id) const {
  const auto found = std::ranges::find(nodes, id, &NodeConfig::id);
  return found == nodes.end() ? std::to_string(id) : found->name;
}

std::expected<Config, Errors> parse_config(std::string_view text, const std::string& path) {
  daemon::ConfigSource source(path);
  std::optional<Config> config = read_config(text, source);
  if (config) validate_config(*config, source);
  if (!source.empty()) return std::unexpected(source.take_errors());
  config->file = path;
  return std::move(*config);
}

std::expected<Config, Errors> load_config(const std::string& path) {
  auto text = daemon::read_config_file(path);
  if (!text) return std::unexpected(std::move(text.error()));
  return parse_config(*text, path);
}

}  // namespace holdfast::qdisk
