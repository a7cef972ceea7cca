#pragma once
// Which source addresses of devices' paths a change of the host's links concerns.

#include <functional>
#include <vector>

#include "common/io/link_watch.h"
#include "mpio/config.h"

namespace holdfast::mpio {

// Each source once, with whether it is up now.
void for_each_source(const std::vector<DeviceConfig>& devices, const io::LinkWatch& links,
                     const io::LinkEvent& event,
                     const std::function<void(const io::Endpoint& source, bool up)>& tell);

}  // namespace holdfast::mpio
