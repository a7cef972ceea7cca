#pragma once
// The faults of slow_fuse: which requests wait, for how long, and which fail.

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>

namespace holdfast::slow_fuse {

enum class When : uint8_t { before, after };  // the delay, relative to the access to the file

struct Rule {
  std::string name;
  std::string op = "any";
  uint64_t start = 0, end = UINT64_MAX;  // byte range that a request must touch
  std::chrono::milliseconds delay{0};
  bool hang = false;
  int error = 0;
  uint64_t remaining = UINT64_MAX;  // requests it still applies to
  When when = When::before;
};

// Thread-safe: file system requests come from many threads, commands from the control thread.
class Rules {
 public:
  // One line of the control protocol (tests/support/holdfast/slowfs.py); the line to answer.
  std::string command(const std::string& line);

  // What a request suffers. enter() waits as the rule says and returns an errno for the request
  // to fail with, or 0; leave() is the wait after the access.
  struct Verdict {
    int error = 0;
    std::string name_after;  // the rule whose wait comes after the access
    std::chrono::milliseconds delay{0};
    bool hang = false;
  };
  Verdict enter(const char* op, uint64_t offset, uint64_t length);
  void leave(const Verdict& verdict);

 private:
  std::string add(const std::string& words);
  std::string stats();
  Rule* find(const std::string& name);
  void wait(std::unique_lock<std::mutex>& lock, const std::string& name,
            std::chrono::milliseconds delay, bool hang);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Rule> rules_;
  std::map<std::string, uint64_t> counts_;
  uint64_t held_ = 0;
};

}  // namespace holdfast::slow_fuse
