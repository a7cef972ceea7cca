// Random commands against a second model, written naively from the text of SPC-4 5.13 and 6.16 and
// sharing nothing with the product but the names of nexuses. Outcomes and states are compared as
// text.

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/base/random.h"
#include "target/reservations.h"
#include "tests/unit/target/reservations_fixture.h"

namespace holdfast::target {
namespace {

using Name = std::string;  // "a1"

class Model {
 public:
  // The whole answer, as text(PrOutcome).
  std::string out(const Name& me, const Send& command) {
    attentions_.clear();
    aborted_.clear();
    persist_ = false;
    const bool aptpl_before = aptpl_;
    std::string answer = status_of(me, command);
    if (answer == "GOOD") {
      for (const auto& [name, code] : attentions_) answer += " " + name + ":" + code;
      for (const Name& name : aborted_) answer += " abort:" + name;
      if (persist_ && (aptpl_before || aptpl_)) answer += " persist";
    }
    return answer;
  }

  std::string state() const {
    static const std::map<int, std::string> kNames = {
        {0, "free"}, {1, "WE"}, {3, "EA"}, {5, "WERO"}, {6, "EARO"}, {7, "WEAR"}, {8, "EAAR"}};
    std::string text = fmt::format("gen {} {}", generation_, kNames.at(type_));
    for (const auto& [name, key] : keys_) {
      text += fmt::format(" {}={:x}{}", name, key, holders().contains(name) ? "*" : "");
    }
    return text + (aptpl_ ? " aptpl" : "");
  }

  std::set<Name> holders() const {
    std::set<Name> all;
    if (type_ == 7 || type_ == 8) {
      for (const auto& [name, key] : keys_) all.insert(name);
    } else if (type_ != 0) {
      all.insert(holder_);
    }
    return all;
  }
  bool registered(const Name& name) const { return keys_.contains(name); }

  // 6.15, TYPE: "Writes exclusive", "Reads exclusive" of each type.
  bool may_write(const Name& name) const {
    if (type_ == 0) return true;
    if (type_ == 1 || type_ == 3) return name == holder_;
    return registered(name);
  }
  bool may_read(const Name& name) const {
    return type_ == 1 || type_ == 5 || type_ == 7 || may_write(name);
  }

 private:
  std::string status_of(const Name& me, const Send& command) {
    switch (command.action) {
      case Action::register_key:
      case Action::register_and_ignore:
        return registration(me, command);
      case Action::reserve:
        return verified(me, command) ? reserve(me, command) : "CONFLICT";
      case Action::release:
        return verified(me, command) ? release(me, command) : "CONFLICT";
      case Action::clear:
        return verified(me, command) ? clear(me) : "CONFLICT";
      default:
        return verified(me, command) ? preempt(me, command) : "CONFLICT";
    }
  }

  bool verified(const Name& me, const Send& command) const {
    return registered(me) && keys_.at(me) == command.key;
  }

  bool through_port(const Name& name, const Send& command) {  // Registering, one nexus
    const uint64_t key = command.service_action_key;
    if (command.action == Action::register_key) {
      if (!registered(name) && command.key != 0) return false;
      if (registered(name) && command.key != keys_[name]) return false;
    }
    if (!registered(name) && key == 0) return true;  // do nothing
    persist_ = true;
    if (key != 0) {
      keys_[name] = key;
      return true;
    }
    const bool was_holder = holders().contains(name);
    keys_.erase(name);
    if (was_holder && (type_ < 7 || keys_.empty())) {
      released_by_unregistering_ = type_;
      type_ = 0;
    }
    return true;
  }

  std::string registration(const Name& me, const Send& command) {
    released_by_unregistering_ = 0;
    if (!through_port(me, command)) return "CONFLICT";
    if (command.all_target_ports) {
      Name other = me;
      other[1] = me[1] == '1' ? '2' : '1';
      through_port(other, command);
    }
    if (!persist_) return "GOOD";
    if (released_by_unregistering_ == 5 || released_by_unregistering_ == 6) tell_others(me, "2A04");
    aptpl_ = command.aptpl;
    ++generation_;
    return "GOOD";
  }

  std::string reserve(const Name& me, const Send& command) {
    if (type_ != 0) {
      const bool same = command.type == type_ && command.scope == 0;
      return holders().contains(me) && same ? "GOOD" : "CONFLICT";
    }
    if (!valid(command)) return "CHECK 05/24/00";
    type_ = command.type;
    holder_ = me;
    persist_ = true;
    return "GOOD";
  }

  std::string release(const Name& me, const Send& command) {
    if (!holders().contains(me)) return "GOOD";
    if (command.type != type_ || command.scope != 0) return "CHECK 05/26/04";
    if (type_ >= 5) tell_others(me, "2A04");
    type_ = 0;
    persist_ = true;
    return "GOOD";
  }

  std::string clear(const Name& me) {
    tell_others(me, "2A03");
    keys_.clear();
    type_ = 0;
    persist_ = true;
    ++generation_;
    return "GOOD";
  }

  std::string preempt(const Name& me, const Send& command) {
    const uint64_t victim = command.service_action_key;
    const bool all_registrants = type_ == 7 || type_ == 8;
    std::set<Name> victims;
    for (const auto& [name, key] : keys_) {
      if (key == victim || (victim == 0 && all_registrants)) victims.insert(name);
    }
    bool takes = all_registrants && victim == 0;
    if (type_ != 0 && !all_registrants) {
      if (victim == 0) return "CHECK 05/26/00";
      takes = victim == keys_.at(holder_);
    }
    if (victims.empty()) return "CONFLICT";
    if (takes && !valid(command)) return "CHECK 05/24/00";

    for (const Name& name : victims) {
      if (command.action == Action::preempt_and_abort) aborted_.push_back(name);
      if (name != me) attentions_.emplace_back(name, "2A05");
      if (name != me || !takes) keys_.erase(name);
    }
    if (takes) {
      if (command.type != type_) tell_others(me, "2A04");
      type_ = command.type;
      holder_ = me;
    }
    if (keys_.empty()) type_ = 0;
    persist_ = true;
    ++generation_;
    return "GOOD";
  }

  void tell_others(const Name& me, const std::string& code) {
    for (const auto& [name, key] : keys_) {
      if (name != me) attentions_.emplace_back(name, code);
    }
  }

  static bool valid(const Send& command) {
    return command.scope == 0 && std::set<int>{1, 3, 5, 6, 7, 8}.contains(command.type);
  }

  std::map<Name, uint64_t> keys_;
  int type_ = 0;
  Name holder_;
  uint32_t generation_ = 0;
  bool aptpl_ = false;

  std::vector<std::pair<Name, std::string>> attentions_;
  std::vector<Name> aborted_;
  bool persist_ = false;
  int released_by_unregistering_ = 0;
};

Send random_command(base::Random& random, const Reservations& lu, const NexusId& from) {
  constexpr Action kActions[] = {Action::register_key,     Action::register_and_ignore,
                                 Action::reserve,          Action::reserve,
                                 Action::release,          Action::clear,
                                 Action::preempt,          Action::preempt,
                                 Action::preempt_and_abort};
  constexpr uint8_t kTypes[] = {1, 3, 5, 6, 7, 8};
  Send command{.action = kActions[random.below(std::size(kActions))],
               .key = random.below(4),
               .service_action_key = random.below(4),
               .type = kTypes[random.below(std::size(kTypes))]};
  if (command.action == Action::clear && random.below(4) != 0) command.action = Action::release;
  // Mostly the right key and the present type: else nearly all is refused and nothing is reached.
  for (const Registrant& r : lu.registrants()) {
    if (r.nexus == from && random.below(8) != 0) command.key = r.key;
  }
  if (lu.type() && command.action == Action::release && random.below(3) != 0) {
    command.type = static_cast<uint8_t>(*lu.type());
  }
  if (random.below(12) == 0) command.type = static_cast<uint8_t>(random.below(16));
  if (random.below(12) == 0) command.scope = static_cast<uint8_t>(random.below(16));
  command.aptpl = random.below(2) == 0;
  command.all_target_ports = random.below(4) == 0;
  return command;
}

void check_invariants(const Reservations& lu) {
  size_t holders = 0;
  for (const Registrant& r : lu.registrants()) {
    ASSERT_NE(r.key, 0u);
    if (lu.is_holder(r)) ++holders;
  }
  if (!lu.type()) {
    ASSERT_EQ(holders, 0u);
  } else if (scsi::is_all_registrants(*lu.type())) {
    ASSERT_EQ(holders, lu.registrants().size());
    ASSERT_GT(holders, 0u);
  } else {
    ASSERT_EQ(holders, 1u);
  }
  const auto copy = Reservations::decode(lu.encode());
  ASSERT_TRUE(copy.has_value()) << copy.error().what;
  ASSERT_EQ(*copy, lu);
}

void run_seed(uint64_t seed, std::map<std::string, uint64_t>& seen) {
  base::SeededRandom random(seed);
  Reservations lu;
  Model model;
  for (int step = 0; step < 200; ++step) {
    const NexusId from = nexus(static_cast<char>('a' + random.below(4)), kTags[random.below(2)]);
    const Send command = random_command(random, lu, from);
    SCOPED_TRACE(fmt::format(
        "seed {} step {}: {} sends {} key {} sa key {} type {} scope {}{} to {}", seed, step,
        short_name(from), static_cast<int>(command.action), command.key, command.service_action_key,
        command.type, command.scope, command.all_target_ports ? " all ports" : "", text(lu)));
    const Reservations before = lu;
    const PrOutcome outcome = send(lu, from, command);
    const std::string expected = model.out(short_name(from), command);
    ASSERT_EQ(text(outcome), expected);
    ASSERT_EQ(text(lu), model.state());
    if (outcome.status != scsi::Status::good) {
      ASSERT_EQ(lu, before);
    }
    ++seen[expected.substr(0, expected.find(' ') == 5 ? 14 : expected.find(' '))];

    ASSERT_NO_FATAL_FAILURE(check_invariants(lu));
    for (const char who : {'a', 'b', 'c', 'd', 'x'}) {
      for (const uint16_t tag : kTags) {
        const NexusId id = nexus(who, tag);
        const Name name = short_name(id);
        const NexusRights expected_rights{.registered = model.registered(name),
                                          .holder = model.holders().contains(name),
                                          .may_read = model.may_read(name),
                                          .may_write = model.may_write(name)};
        ASSERT_EQ(lu.rights_of(id), expected_rights) << name;
      }
    }
  }
}

TEST(ReservationsModel, RandomCommandsAgreeWithTheText) {
  std::map<std::string, uint64_t> seen;
  for (uint64_t seed = 1; seed <= 100 && !HasFatalFailure(); ++seed) run_seed(seed, seen);
  // The test is worth nothing if the random commands do not reach every kind of answer.
  for (const char* answer :
       {"GOOD", "CONFLICT", "CHECK 05/24/00", "CHECK 05/26/00", "CHECK 05/26/04"}) {
    EXPECT_GT(seen[answer], 50u) << answer;
  }
}

}  // namespace
}  // namespace holdfast::target
