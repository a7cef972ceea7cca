#pragma once
// The host's interfaces and addresses as rtnetlink tells them. Pure: messages in, changes out.

#include <linux/netlink.h>

#include <map>
#include <vector>

#include "common/base/bytes.h"
#include "common/io/link_watch.h"

namespace holdfast::io {

// More are not remembered: a host has a few dozen, one full of containers some hundreds.
inline constexpr size_t kMaxLinks = 2048;
inline constexpr size_t kMaxAddresses = 8192;

class LinkTable {
 public:
  using Events = std::vector<LinkEvent>;

  // What follows the header of one message; of types other than RTM_*LINK and RTM_*ADDR nothing.
  void apply(uint16_t type, base::Bytes payload, Events& events);

  // Between the two everything that exists is applied; what was not is gone.
  void begin_dump();
  void end_dump(Events& events);

  std::optional<LinkWatch::Where> find(const Endpoint& address) const;

 private:
  struct Link {
    std::string name;
    bool up = false;
    bool seen = true;
  };
  struct Address {
    int link = 0;
    Endpoint endpoint;  // port 0
    bool seen = true;
  };

  void apply_link(bool gone, base::Bytes payload, Events& events);
  void apply_address(bool gone, base::Bytes payload, Events& events);
  void drop_link(int index, Events& events);
  void drop_address(size_t position, Events& events);

  std::map<int, Link> links_;
  std::vector<Address> addresses_;
};

}  // namespace holdfast::io
