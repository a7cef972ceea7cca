#pragma once
// io::Backing on simulated disks.

#include "common/io/backing.h"
#include "tests/sim/sim_disk.h"

namespace holdfast::sim {

// Owner: the test, one per process.
class SimBackingOpener final : public io::BackingOpener {
 public:
  SimBackingOpener(SimWorld& world, SimProcess& process, SimDisks& disks)
      : world_(world), process_(process), disks_(disks) {}

  void open(const io::BackingSpec& spec, io::Loop& reply_to, Opened done) override;
  // Opening takes this long; a dead file server makes it long.
  void set_delay(Duration low, Duration high) {
    delay_min_ = low;
    delay_max_ = high;
  }

 private:
  base::Result<std::shared_ptr<io::Backing>> open_now(const io::BackingSpec& spec);

  SimWorld& world_;
  SimProcess& process_;
  SimDisks& disks_;
  Duration delay_min_ = std::chrono::microseconds(50);
  Duration delay_max_ = std::chrono::milliseconds(5);
};

}  // namespace holdfast::sim
