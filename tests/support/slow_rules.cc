#include "tests/support/slow_rules.h"

#include <cerrno>
#include <sstream>

namespace holdfast::slow_fuse {
namespace {

int error_number(const std::string& name) {
  static const std::map<std::string, int> kErrors = {{"EIO", EIO},
                                                     {"ENOSPC", ENOSPC},
                                                     {"ENODATA", ENODATA},
                                                     {"EOPNOTSUPP", EOPNOTSUPP},
                                                     {"ETIMEDOUT", ETIMEDOUT}};
  const auto found = kErrors.find(name);
  return found == kErrors.end() ? 0 : found->second;
}

// Sets one "key=value" of a rule; false when it is not known.
bool set_field(Rule& rule, const std::string& key, const std::string& value) {
  if (key == "op") {
    rule.op = value;
  } else if (key == "start") {
    rule.start = std::stoull(value);
  } else if (key == "end") {
    rule.end = std::stoull(value);
  } else if (key == "count") {
    rule.remaining = std::stoull(value);
  } else if (key == "delay_ms") {
    rule.delay = std::chrono::milliseconds(std::stoll(value));
  } else if (key == "hang") {
    rule.hang = value == "1";
  } else if (key == "when") {
    rule.when = value == "after" ? When::after : When::before;
  } else if (key == "error") {
    rule.error = error_number(value);
    return rule.error != 0;
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::string Rules::command(const std::string& line) {
  std::istringstream words(line);
  std::string verb, rest;
  words >> verb;
  std::getline(words, rest);
  if (verb == "add") return add(rest);
  if (verb == "stats") return stats();
  const std::lock_guard lock(mutex_);
  if (verb == "clear") {
    rules_.clear();
  } else if (verb == "remove") {
    rules_.remove_if([&](const Rule& rule) { return " " + rule.name == rest; });
  } else {
    return "error: unknown command";
  }
  changed_.notify_all();
  return "ok";
}

std::string Rules::add(const std::string& text) {
  std::istringstream words(text);
  Rule rule;
  words >> rule.name;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    if (equals == std::string::npos ||
        !set_field(rule, word.substr(0, equals), word.substr(equals + 1))) {
      return "error: what is " + word;
    }
  }
  const std::lock_guard lock(mutex_);
  if (find(rule.name) != nullptr) return "error: a rule " + rule.name + " exists";
  rules_.push_back(rule);
  return "ok";
}

std::string Rules::stats() {
  const std::lock_guard lock(mutex_);
  std::string out = "ok held=" + std::to_string(held_);
  for (const char* op : {"read", "write", "fsync", "fallocate"}) {
    out += std::string(" ") + op + "=" + std::to_string(counts_[op]);
  }
  return out;
}

Rule* Rules::find(const std::string& name) {
  for (Rule& rule : rules_) {
    if (rule.name == name) return &rule;
  }
  return nullptr;
}

// Until the delay is over or the rule is gone.
void Rules::wait(std::unique_lock<std::mutex>& lock, const std::string& name,
                 std::chrono::milliseconds delay, bool hang) {
  const auto gone = [&] { return find(name) == nullptr; };
  ++held_;
  if (hang) {
    changed_.wait(lock, gone);
  } else if (delay.count() > 0) {
    changed_.wait_for(lock, delay, gone);
  }
  --held_;
}

Rules::Verdict Rules::enter(const char* op, uint64_t offset, uint64_t length) {
  std::unique_lock lock(mutex_);
  ++counts_[op];
  for (Rule& rule : rules_) {
    const bool touches = offset < rule.end && offset + length > rule.start;
    if ((rule.op != "any" && rule.op != op) || (length > 0 && !touches)) continue;
    if (rule.remaining == 0) continue;  // used up; kept, as requests may still wait in it
    --rule.remaining;
    const Rule chosen = rule;
    if (chosen.when == When::after) {
      return {chosen.error, chosen.name, chosen.delay, chosen.hang};
    }
    wait(lock, chosen.name, chosen.delay, chosen.hang);
    return {chosen.error, "", {}, false};
  }
  return {};
}

void Rules::leave(const Verdict& verdict) {
  if (verdict.name_after.empty()) return;
  std::unique_lock lock(mutex_);
  wait(lock, verdict.name_after, verdict.delay, verdict.hang);
}

}  // namespace holdfast::slow_fuse
