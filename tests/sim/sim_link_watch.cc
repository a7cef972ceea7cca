#include "tests/sim/sim_link_watch.h"

#include <algorithm>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {
// The driver notices, the kernel tells.
constexpr Duration kNoticeMax = 20ms;
}  // namespace

SimLinkWatch::SimLinkWatch(SimFabric& fabric, SimLoop& loop,
                           const std::vector<std::string>& addresses)
    : fabric_(fabric), loop_(loop) {
  for (const std::string& address : addresses) up_[address] = fabric.link_up(address);
  fabric_.watch_links(*this);
}

SimLinkWatch::~SimLinkWatch() {
  *alive_ = false;
  fabric_.unwatch_links(*this);
}

std::optional<io::LinkWatch::Where> SimLinkWatch::find(const io::Endpoint& address) const {
  const auto found = up_.find(address.address_to_string());
  if (found == up_.end()) return std::nullopt;
  return Where{"link-" + found->first, found->second};
}

void SimLinkWatch::on_cable(const std::string& address, bool up) {
  if (!up_.contains(address)) return;
  // In the order in which they happened.
  SimWorld& world = loop_.world();
  last_told_ = std::max(last_told_, world.now() + world.between(0us, kNoticeMax));
  world.at(last_told_, [this, alive = alive_, address, up] {
    if (!*alive) return;
    loop_.post([this, alive, address, up]() noexcept {
      if (*alive) on_told(address, up);
    });
  });
}

void SimLinkWatch::on_told(const std::string& address, bool up) {
  up_[address] = up;
  tell({.change = io::LinkEvent::Change::link, .interface = "link-" + address, .up = up});
}

}  // namespace holdfast::sim
