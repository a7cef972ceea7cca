#pragma once
// CHAP accounts of a configuration: `{ user = "hv1", secret_file = "/etc/holdfast/hv1.secret" }`.

#include <optional>
#include <string>

#include "common/daemon/config_source.h"
#include "common/daemon/config_values.h"

namespace holdfast::daemon {

struct ChapConfig {
  std::string user;
  std::string secret_file;
  std::string secret;  // read from secret_file when the configuration is loaded; never logged
  bool operator==(const ChapConfig&) const = default;
};

Problem chap_user_problem(std::string_view user);
// Fills chap.secret from chap.secret_file.
Problem read_secret(ChapConfig& chap);
// Both of one login: reads the secrets, and reports what is wrong at "PLACE.chap" and
// "PLACE.mutual_chap".
void check_chap_pair(std::optional<ChapConfig>& chap, std::optional<ChapConfig>& mutual,
                     const std::string& place, ConfigSource& source);

}  // namespace holdfast::daemon
