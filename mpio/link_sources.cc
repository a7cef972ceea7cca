#include "mpio/link_sources.h"

#include <algorithm>

namespace holdfast::mpio {

void for_each_source(const std::vector<DeviceConfig>& devices, const io::LinkWatch& links,
                     const io::LinkEvent& event,
                     const std::function<void(const io::Endpoint& source, bool up)>& tell) {
  using Change = io::LinkEvent::Change;
  std::vector<io::Endpoint> told;  // several paths may have one source
  for (const DeviceConfig& device : devices) {
    for (const PortalConfig& portal : device.portals) {
      if (!portal.source || std::ranges::find(told, *portal.source) != told.end()) continue;
      told.push_back(*portal.source);
      if (event.change == Change::link) {
        const auto where = links.find(*portal.source);
        if (where && where->interface == event.interface) tell(*portal.source, event.up);
      } else if (std::ranges::equal(event.address.address(), portal.source->address())) {
        tell(*portal.source, event.change == Change::address_added && event.up);
      }
    }
  }
}

}  // namespace holdfast::mpio
