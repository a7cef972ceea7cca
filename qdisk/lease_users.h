#pragma once
// The other daemons of this host that act by its lease: who they are, and of which epoch each has
// dropped what former members had asked of it. A fence is not over before all have. Pure.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "qdisk/decision.h"

namespace holdfast::qdisk {

struct LeaseUser {
  std::string name;    // empty: none
  Epoch quiesced = 0;  // 0: it has said nothing yet to this daemon
  // It has started something that must end with the lease: a virtual machine. What only looks at
  // the lease before each step does not count.
  bool runs = false;
  bool operator==(const LeaseUser&) const = default;
};

class LeaseUsers {
 public:
  static constexpr size_t kMax = 16;
  static constexpr size_t kMaxName = 47;  // bytes
  using Table = std::array<LeaseUser, kMax>;

  LeaseUsers() = default;
  // Those of an earlier daemon of this boot. Whoever has once acted by the lease counts until it
  // says that it has ended: when it dies, what it had under way may go on without it.
  explicit LeaseUsers(Table users) : users_(std::move(users)) {}

  // From now on it is one of them; `runs`: nothing: as before. Errc::limit: there are too many;
  // Errc::invalid_argument: a name that is none.
  base::Result<> attend(std::string_view name, Epoch quiesced, std::optional<bool> runs = {});
  // It has ended all that it did. False: there is none of that name.
  bool leave(std::string_view name);

  bool any() const;
  bool anything_runs() const;
  // Of which all have dropped everything. Nothing: there is nobody.
  std::optional<Epoch> quiesced() const;
  const Table& all() const { return users_; }

 private:
  LeaseUser* find(std::string_view name);

  Table users_{};
};

}  // namespace holdfast::qdisk
