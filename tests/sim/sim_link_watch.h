#pragma once
// A simulated host's LinkWatch: SimFabric::set_link is the cable.

#include <map>
#include <memory>

#include "common/io/link_watch.h"
#include "tests/sim/sim_fabric.h"

namespace holdfast::sim {

// Owner: an object of the process. One interface for each of the host's addresses, "link-10.1.0.1".
class SimLinkWatch final : public io::LinkWatch, private LinkObserver {
 public:
  SimLinkWatch(SimFabric& fabric, SimLoop& loop, const std::vector<std::string>& addresses);
  ~SimLinkWatch() override;

  std::optional<Where> find(const io::Endpoint& address) const override;
  bool ready() const override { return true; }

 private:
  void on_cable(const std::string& address, bool up) override;
  void on_told(const std::string& address, bool up);

  SimFabric& fabric_;
  SimLoop& loop_;
  std::map<std::string, bool> up_;  // as far as the process knows
  Duration last_told_{0};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace holdfast::sim
