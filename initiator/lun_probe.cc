#include "initiator/lun_probe.h"

#include <algorithm>
#include <utility>

namespace holdfast::initiator {
namespace {

using base::Errc;
using base::Result;

constexpr uint16_t kAllocation = 4096;
constexpr uint8_t kPagesPage = 0x00, kSerialPage = 0x80, kIdentificationPage = 0x83,
                  kLimitsPage = 0xb0, kProvisioningPage = 0xb2, kCachingPage = 0x08;

}  // namespace

scsi::AccessState LunFacts::access_state() const {
  if (inquiry.tpgs == 0 || !identification.target_port_group.has_value()) {
    return scsi::AccessState::active_optimized;
  }
  const scsi::ReportedPortGroup* group = port_groups.find(*identification.target_port_group);
  return group == nullptr ? scsi::AccessState::active_optimized : group->state;
}

struct LunProbe::Step {
  const char* name;
  scsi::OutgoingCdb (*cdb)();
  Result<> (LunProbe::*take)(base::Bytes data);
  // A unit without an optional answer is one that lacks the feature.
  bool mandatory;
  int page;  // asked only where VPD page 00h lists it; -1: always
};

const LunProbe::Step LunProbe::kSteps[] = {
    {"TEST UNIT READY", [] { return scsi::build::test_unit_ready(); }, &LunProbe::take_nothing,
     true, -1},
    {"INQUIRY", [] { return scsi::build::inquiry(kAllocation); }, &LunProbe::take_inquiry, true,
     -1},
    {"VPD page 00h", [] { return scsi::build::inquiry_vpd(kPagesPage, kAllocation); },
     &LunProbe::take_pages, true, -1},
    {"VPD page 80h", [] { return scsi::build::inquiry_vpd(kSerialPage, kAllocation); },
     &LunProbe::take_serial, false, kSerialPage},
    {"VPD page 83h", [] { return scsi::build::inquiry_vpd(kIdentificationPage, kAllocation); },
     &LunProbe::take_identification, true, -1},
    {"VPD page B0h", [] { return scsi::build::inquiry_vpd(kLimitsPage, kAllocation); },
     &LunProbe::take_limits, false, kLimitsPage},
    {"VPD page B2h", [] { return scsi::build::inquiry_vpd(kProvisioningPage, kAllocation); },
     &LunProbe::take_provisioning, false, kProvisioningPage},
    {"READ CAPACITY(16)", [] { return scsi::build::read_capacity16(); }, &LunProbe::take_capacity,
     true, -1},
    {"MODE SENSE(10)", [] { return scsi::build::mode_sense10(kCachingPage, kAllocation); },
     &LunProbe::take_mode, false, -1},
    {"REPORT TARGET PORT GROUPS",
     [] { return scsi::build::report_target_port_groups(true, kAllocation); },
     &LunProbe::take_port_groups, false, -1},
    // Older targets refuse to be asked for the extended header.
    {"REPORT TARGET PORT GROUPS without extended header",
     [] { return scsi::build::report_target_port_groups(false, kAllocation); },
     &LunProbe::take_port_groups, false, -1},
};

const char* LunProbe::step() const {
  return step_ < std::size(kSteps) ? kSteps[step_].name : "nothing";
}

void LunProbe::start(uint64_t lun, Done done) {
  ASSERT(!busy() && !done_);
  done_ = std::move(done);
  facts_ = {};
  pages_.reset();
  step_ = 0;
  command_.lun = lun;
  command_.owner = this;
  run();
}

void LunProbe::run() {
  const scsi::OutgoingCdb cdb = kSteps[step_].cdb();
  command_.cdb = cdb.bytes;
  command_.writes = false;
  command_.data_bytes = cdb.length;
  part_ = {data_.data(), cdb.length};
  command_.data = std::span(&part_, cdb.length > 0 ? 1u : 0u);
  session_.submit(command_);
}

void LunProbe::next() {
  while (++step_ < std::size(kSteps)) {
    const Step& step = kSteps[step_];
    if (step.page >= 0 && !pages_.test(static_cast<size_t>(step.page))) continue;
    const bool grouped = facts_.inquiry.tpgs != 0 && facts_.port_groups.groups.empty();
    if (step.take == &LunProbe::take_port_groups && !grouped) continue;
    return run();
  }
  finish(std::move(facts_));
}

void LunProbe::on_done() noexcept {
  using scsi::SenseKey;
  if (command_.outcome != Outcome::answered) {
    return finish(base::fail(Errc::closed, "the session ended while the unit was asked"));
  }
  if (command_.status == scsi::Status::good) {
    const auto take = kSteps[step_].take;  // g++ 12 with sanitizers mistrusts the table itself
    const Result<> taken = (this->*take)(base::Bytes(data_).first(command_.moved));
    if (taken.has_value() || !kSteps[step_].mandatory) return next();
    return finish(std::unexpected(taken.error()));
  }
  if (command_.status == scsi::Status::check_condition) {
    if (command_.sense.key == SenseKey::unit_attention) {
      if (facts_.attentions.size() == kMaxAttentions) {
        return finish(base::fail(Errc::busy, "the unit has no end of unit attentions"));
      }
      facts_.attentions.push_back(command_.sense);
      return run();
    }
    // An ALUA state in which it serves nothing else is told by REPORT TARGET PORT GROUPS.
    const bool goes_on =
        !kSteps[step_].mandatory || (step_ == 0 && command_.sense.key == SenseKey::not_ready);
    if (goes_on) return next();
    if (command_.sense.key == SenseKey::not_ready) {
      return finish(base::fail(Errc::busy, "the unit is not ready"));
    }
    if (command_.sense.asc == 0x25) {
      return finish(base::fail(Errc::not_found, "there is no such LUN for this initiator"));
    }
    return finish(base::fail(Errc::unsupported, "the unit refuses what every disk has to answer"));
  }
  if (command_.status == scsi::Status::reservation_conflict) {
    if (!kSteps[step_].mandatory) return next();
    return finish(base::fail(Errc::permission, "a reservation forbids to ask the unit"));
  }
  finish(base::fail(Errc::busy, "the unit is busy"));
}

void LunProbe::finish(Result<LunFacts> result) {
  Done done = std::exchange(done_, nullptr);
  done(std::move(result));  // may destroy this object
}

// --- answers ---

Result<> LunProbe::take_inquiry(base::Bytes data) {
  TRY_ASSIGN(facts_.inquiry, scsi::parse_standard_inquiry(data));
  if (!facts_.inquiry.is_disk()) {
    return base::fail(Errc::unsupported, "there is no disk at this LUN");
  }
  return {};
}

Result<> LunProbe::take_pages(base::Bytes data) {
  TRY_ASSIGN(pages_, scsi::parse_supported_pages(data));
  return {};
}

Result<> LunProbe::take_serial(base::Bytes data) {
  TRY_ASSIGN(facts_.serial, scsi::parse_serial_number(data));
  return {};
}

Result<> LunProbe::take_identification(base::Bytes data) {
  TRY_ASSIGN(facts_.identification, scsi::parse_device_identification(data));
  return {};
}

Result<> LunProbe::take_limits(base::Bytes data) {
  TRY_ASSIGN(facts_.limits, scsi::parse_block_limits(data));
  return {};
}

Result<> LunProbe::take_provisioning(base::Bytes data) {
  TRY_ASSIGN(facts_.provisioning, scsi::parse_provisioning(data));
  return {};
}

Result<> LunProbe::take_capacity(base::Bytes data) {
  TRY_ASSIGN(facts_.capacity, scsi::parse_read_capacity16(data));
  return {};
}

Result<> LunProbe::take_mode(base::Bytes data) {
  TRY_ASSIGN(facts_.mode, scsi::parse_mode_sense10(data));
  return {};
}

Result<> LunProbe::take_port_groups(base::Bytes data) {
  TRY_ASSIGN(facts_.port_groups, scsi::parse_target_port_groups(data));
  return {};
}

}  // namespace holdfast::initiator
