#pragma once
// Work on a device that may never answer, in a process of its own. A thread would not do: a call
// that the device does not answer cannot be ended, not even by SIGKILL, and a process whose thread
// is in one stays, and with it whoever waits for it. A child can be left behind.

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace holdfast::qdisk {

struct Outcome {
  int status = 0;
  std::string out;
  std::string err;
};
using Progress = std::function<void()>;
using GuardedWork = std::function<Outcome(const Progress&)>;

// Runs the work in a child of this process, which has none of its files open, and returns what it
// returns; nothing: neither its end nor a call of Progress came for `silence`. Then the child is
// killed, and ends when its device answers, if ever: a write under way may still land.
// The caller has no other thread. A child that crashes is an outcome of status 1.
std::optional<Outcome> call_guarded(const GuardedWork& work, std::chrono::milliseconds silence);

}  // namespace holdfast::qdisk
