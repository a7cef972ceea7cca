#include "qdisk/lease_users.h"

#include <algorithm>

namespace holdfast::qdisk {

using base::Errc;

namespace {

bool is_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= LeaseUsers::kMaxName && std::ranges::all_of(name, fits);
}

}  // namespace

LeaseUser* LeaseUsers::find(std::string_view name) {
  const auto found = std::ranges::find(users_, name, &LeaseUser::name);
  return found == users_.end() ? nullptr : &*found;
}

base::Result<> LeaseUsers::attend(std::string_view name, Epoch quiesced, std::optional<bool> runs) {
  if (!is_name(name)) {
    return base::fail(Errc::invalid_argument,
                      "a name has 1 to 47 characters, of a to z, 0 to 9, `-`, `_` and `.`");
  }
  LeaseUser* user = find(name);
  if (user == nullptr) {
    user = find("");
    if (user == nullptr) return base::fail(Errc::limit, "there are 16 users of the lease already");
    user->name = name;
  }
  user->quiesced = std::max(user->quiesced, quiesced);
  user->runs = runs.value_or(user->runs);
  return {};
}

bool LeaseUsers::leave(std::string_view name) {
  LeaseUser* const user = name.empty() ? nullptr : find(name);
  if (user == nullptr) return false;
  *user = {};
  return true;
}

bool LeaseUsers::any() const {
  return std::ranges::any_of(users_, [](const LeaseUser& user) { return !user.name.empty(); });
}

bool LeaseUsers::anything_runs() const { return std::ranges::any_of(users_, &LeaseUser::runs); }

std::optional<Epoch> LeaseUsers::quiesced() const {
  std::optional<Epoch> least;
  for (const LeaseUser& user : users_) {
    if (!user.name.empty()) least = std::min(least.value_or(user.quiesced), user.quiesced);
  }
  return least;
}

}  // namespace holdfast::qdisk
