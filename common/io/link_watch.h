#pragma once
// What the host knows about its own network interfaces: a path whose cable is out need not be
// waited for.

#include <optional>
#include <string>
#include <vector>

#include "common/io/network.h"

namespace holdfast::io {

struct LinkEvent {
  enum class Change : uint8_t { link, address_added, address_removed };
  Change change = Change::link;
  std::string interface;
  bool up = false;   // of the interface, now: administratively and its carrier
  Endpoint address;  // port 0; only with address_added and address_removed
};

class LinkListener {
 public:
  virtual ~LinkListener() = default;
  virtual void on_link(const LinkEvent& event) noexcept = 0;
};

// Owner: whoever makes it; outlives its listeners' registrations. Thread: its loop's.
class LinkWatch {
 public:
  struct Where {
    std::string interface;
    bool up = false;
  };

  LinkWatch() = default;
  LinkWatch(const LinkWatch&) = delete;
  LinkWatch& operator=(const LinkWatch&) = delete;
  virtual ~LinkWatch() { ASSERT(listeners_.empty()); }

  // The interface that holds this local address (its port is ignored); none: no interface does.
  virtual std::optional<Where> find(const Endpoint& address) const = 0;
  // False until the first look at the host is complete: find() knows nothing before.
  virtual bool ready() const = 0;

  // Only changes are told: what is there already is find()'s. Both may be called from on_link().
  void add(LinkListener& listener);
  void remove(LinkListener& listener);

 protected:
  void tell(const LinkEvent& event);

 private:
  std::vector<LinkListener*> listeners_;  // null: removed while being told
  bool telling_ = false;
};

}  // namespace holdfast::io
