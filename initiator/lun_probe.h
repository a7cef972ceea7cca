#pragma once
// What a logical unit is, asked through one session: identity, size, limits, access state. The same
// questions for the administrator's login test and for a path before it carries I/O. They change
// nothing and are repeated after a unit attention.

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/scsi/alua.h"
#include "common/scsi/build_cdb.h"
#include "common/scsi/capacity.h"
#include "common/scsi/inquiry.h"
#include "common/scsi/mode_pages.h"
#include "common/scsi/parse_vpd.h"
#include "initiator/session.h"

namespace holdfast::initiator {

struct LunFacts {
  scsi::InquiryData inquiry;
  std::string serial;
  scsi::DeviceIdentification identification;
  scsi::Capacity capacity;
  scsi::BlockLimits limits;
  scsi::ProvisioningLimits provisioning;
  scsi::ModeSenseData mode;
  scsi::ReportedPortGroups port_groups;  // empty where the unit has no ALUA
  std::vector<scsi::Sense> attentions;   // unit attentions met on the way, oldest first

  // Of the port that answered; active/optimized where there is no ALUA.
  scsi::AccessState access_state() const;
};

// One at a time. Owner: whoever constructs it; it stays until the answer, from within which it may
// be destroyed. If the session ends, the answer comes before the session's on_ended().
class LunProbe {
 public:
  // Errc::unsupported: no disk there. Errc::protocol: an answer that makes no sense. Errc::busy:
  // not ready. Errc::permission: a reservation forbids even this. Errc::closed: the session ended.
  using Done = std::move_only_function<void(base::Result<LunFacts>) noexcept>;

  explicit LunProbe(Session& session) : session_(session) {}
  LunProbe(const LunProbe&) = delete;
  LunProbe& operator=(const LunProbe&) = delete;

  void start(uint64_t lun, Done done);
  bool busy() const { return command_.busy(); }
  const char* step() const;  // what it is asking

 private:
  struct Step;
  static const Step kSteps[];
  static constexpr uint32_t kMaxAttentions = 8;

  void run();
  void next();
  void on_done() noexcept;
  void finish(base::Result<LunFacts> result);

  base::Result<> take_inquiry(base::Bytes data);
  base::Result<> take_pages(base::Bytes data);
  base::Result<> take_serial(base::Bytes data);
  base::Result<> take_identification(base::Bytes data);
  base::Result<> take_limits(base::Bytes data);
  base::Result<> take_provisioning(base::Bytes data);
  base::Result<> take_capacity(base::Bytes data);
  base::Result<> take_mode(base::Bytes data);
  base::Result<> take_port_groups(base::Bytes data);
  base::Result<> take_nothing(base::Bytes) { return {}; }

  Session& session_;
  Done done_;
  size_t step_ = 0;
  LunFacts facts_;
  scsi::SupportedPages pages_;
  std::array<uint8_t, 4096> data_{};
  iovec part_{};
  Command command_{
      [](Command& command) noexcept { static_cast<LunProbe*>(command.owner)->on_done(); }};
};

}  // namespace holdfast::initiator
