#pragma once
// What ends this host when its daemon no longer says that it may live. It is the last of what
// bounds how long an evicted host goes on: whatever hangs on the host, the watchdog fires, so long
// after its last pet. docs/qdisk-protocol.md, "Watchdog".

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/io/loop.h"

namespace holdfast::qdisk {

// Calls from the loop's thread; none blocks for longer than opening a device takes. Destroyed while
// it is armed it fires, as it does when the process dies.
class Watchdog {
 public:
  virtual ~Watchdog() = default;

  // From now on it fires `timeout` after its last pet, the first of which is this call. Also while
  // it is armed, by this process or by one that has died: then this one takes over. Of an error,
  // `what` is for the administrator; what was armed before stays armed.
  virtual base::Result<> arm(io::Duration timeout) = 0;
  // A failure is remembered until a pet succeeds: problem().
  virtual void pet() noexcept = 0;
  // Only when everything that lived by the lease has ended. With an error it is still armed.
  virtual base::Result<> disarm() = 0;
  // It runs, and by this object's pets.
  virtual bool armed() const = 0;
  // "/dev/watchdog (iTCO_wdt), 10 s"
  virtual std::string describe() const = 0;
  // False: it does not reset the host, so that nobody may count on this host having stopped.
  virtual bool real() const = 0;
  // What is wrong now with a watchdog that was armed.
  virtual std::optional<std::string> problem() const = 0;
};

}  // namespace holdfast::qdisk
