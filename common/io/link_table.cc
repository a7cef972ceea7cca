#include "common/io/link_table.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <cstring>

#include "common/base/log.h"

namespace holdfast::io {
namespace {

// <net/if.h> has the other flags and does not go together with <linux/if.h>.
constexpr unsigned kLowerUp = 1u << 16;

constexpr uint16_t kTypeMask = 0x3fff;  // NLA_TYPE_MASK, which is a negative number

// Reads a struct of the kernel from the front.
template <class T>
bool take(base::Bytes& bytes, T& value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes = bytes.subspan(std::min<size_t>(NLMSG_ALIGN(sizeof(T)), bytes.size()));
  return true;
}

// The next attribute; false at the end, or where what follows is not one.
bool take_attribute(base::Bytes& bytes, uint16_t& type, base::Bytes& value) {
  rtattr header{};
  if (bytes.size() < sizeof(header)) return false;
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.rta_len < sizeof(header) || header.rta_len > bytes.size()) return false;
  type = header.rta_type & kTypeMask;
  value = bytes.subspan(sizeof(header), header.rta_len - sizeof(header));
  bytes = bytes.subspan(std::min<size_t>(RTA_ALIGN(header.rta_len), bytes.size()));
  return true;
}

// IFF_RUNNING is the operational state, IFF_LOWER_UP the carrier: a bond or a bridge may be without
// the first, a port that waits for 802.1X too.
bool is_up(unsigned flags) {
  constexpr unsigned kAll = IFF_UP | IFF_RUNNING | kLowerUp;
  return (flags & kAll) == kAll;
}

std::optional<Endpoint> to_endpoint(uint8_t family, base::Bytes bytes) {
  sockaddr_storage storage{};
  if (family == AF_INET && bytes.size() == sizeof(in_addr)) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    std::memcpy(&v4.sin_addr, bytes.data(), bytes.size());
    std::memcpy(&storage, &v4, sizeof(v4));
    return Endpoint::from(storage);
  }
  if (family == AF_INET6 && bytes.size() == sizeof(in6_addr)) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
    std::memcpy(&storage, &v6, sizeof(v6));
    return Endpoint::from(storage);
  }
  return std::nullopt;
}

bool same_address(const Endpoint& a, const Endpoint& b) {
  return a.is_v6() == b.is_v6() && std::ranges::equal(a.address(), b.address());
}

}  // namespace

void LinkTable::apply(uint16_t type, base::Bytes payload, Events& events) {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      apply_link(type == RTM_DELLINK, payload, events);
      break;
    case RTM_NEWADDR:
    case RTM_DELADDR:
      apply_address(type == RTM_DELADDR, payload, events);
      break;
    default:
      break;
  }
}

void LinkTable::apply_link(bool gone, base::Bytes payload, Events& events) {
  ifinfomsg info{};
  if (!take(payload, info)) return;
  // A bridge tells of its ports in messages of its own family, with less in them.
  if (info.ifi_family != AF_UNSPEC) return;
  if (gone) return drop_link(info.ifi_index, events);
  std::string name;
  uint16_t type = 0;
  base::Bytes value;
  while (take_attribute(payload, type, value)) {
    if (type != IFLA_IFNAME) continue;
    const auto* text = reinterpret_cast<const char*>(value.data());
    name.assign(text, strnlen(text, value.size()));
  }
  if (name.empty()) return;
  const bool is_new = !links_.contains(info.ifi_index);
  if (is_new && links_.size() >= kMaxLinks) {
    LOG_LIMITED(warning, "links", "too many interfaces, one is not watched: name={}", name);
    return;
  }
  Link& link = links_[info.ifi_index];
  link.name = name;
  link.seen = true;
  const bool up = is_up(info.ifi_flags);
  if (up == link.up && !is_new) return;
  link.up = up;
  events.push_back({.change = LinkEvent::Change::link, .interface = link.name, .up = up});
}

void LinkTable::apply_address(bool gone, base::Bytes payload, Events& events) {
  ifaddrmsg info{};
  if (!take(payload, info)) return;
  unsigned flags = info.ifa_flags;
  std::optional<Endpoint> local, address;
  uint16_t type = 0;
  base::Bytes value;
  while (take_attribute(payload, type, value)) {
    if (type == IFA_LOCAL) local = to_endpoint(info.ifa_family, value);
    if (type == IFA_ADDRESS) address = to_endpoint(info.ifa_family, value);
    if (type == IFA_FLAGS && value.size() == sizeof(flags)) {
      std::memcpy(&flags, value.data(), sizeof(flags));
    }
  }
  // Of a point-to-point link IFA_ADDRESS is the other end's.
  if (local) address = local;
  const auto link = links_.find(static_cast<int>(info.ifa_index));
  if (!address || link == links_.end()) return;
  // Not to be used until the kernel knows that nobody else has it; it tells again then.
  if ((flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0 && (flags & IFA_F_OPTIMISTIC) == 0) {
    gone = true;
  }
  const auto known = std::ranges::find_if(addresses_, [&](const Address& other) {
    return other.link == link->first && same_address(other.endpoint, *address);
  });
  if (gone) {
    if (known != addresses_.end()) {
      drop_address(static_cast<size_t>(known - addresses_.begin()), events);
    }
    return;
  }
  if (known != addresses_.end()) {
    known->seen = true;
    return;
  }
  if (addresses_.size() >= kMaxAddresses) {
    LOG_LIMITED(warning, "links", "too many addresses, one is not watched: address={}",
                address->address_to_string());
    return;
  }
  addresses_.push_back({.link = link->first, .endpoint = *address});
  events.push_back({.change = LinkEvent::Change::address_added,
                    .interface = link->second.name,
                    .up = link->second.up,
                    .address = *address});
}

void LinkTable::drop_address(size_t position, Events& events) {
  const Address address = addresses_[position];
  addresses_.erase(addresses_.begin() + static_cast<ptrdiff_t>(position));
  const Link& link = links_.at(address.link);
  events.push_back({.change = LinkEvent::Change::address_removed,
                    .interface = link.name,
                    .up = link.up,
                    .address = address.endpoint});
}

void LinkTable::drop_link(int index, Events& events) {
  const auto link = links_.find(index);
  if (link == links_.end()) return;
  link->second.up = false;
  for (size_t i = addresses_.size(); i > 0; --i) {
    if (addresses_[i - 1].link == index) drop_address(i - 1, events);
  }
  events.push_back({.change = LinkEvent::Change::link, .interface = link->second.name});
  links_.erase(link);
}

void LinkTable::begin_dump() {
  for (auto& [index, link] : links_) link.seen = false;
  for (Address& address : addresses_) address.seen = false;
}

void LinkTable::end_dump(Events& events) {
  for (size_t i = addresses_.size(); i > 0; --i) {
    if (!addresses_[i - 1].seen) drop_address(i - 1, events);
  }
  std::vector<int> gone;
  for (const auto& [index, link] : links_) {
    if (!link.seen) gone.push_back(index);
  }
  for (const int index : gone) drop_link(index, events);
}

std::optional<LinkWatch::Where> LinkTable::find(const Endpoint& address) const {
  std::optional<LinkWatch::Where> found;
  for (const Address& candidate : addresses_) {
    if (!same_address(candidate.endpoint, address)) continue;
    const Link& link = links_.at(candidate.link);
    // Two interfaces can hold the same one, which of them is down is of no use.
    if (!found || (link.up && !found->up)) found = {link.name, link.up};
  }
  return found;
}

}  // namespace holdfast::io
