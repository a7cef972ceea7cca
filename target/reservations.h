#pragma once
// Persistent reservations of one logical unit (SPC-4 5.13) as a value: no I/O, no clock, no locks.
// Owner: the logical unit. A PERSISTENT RESERVE OUT is carried out like this:
//   1. copy the state and call out() on the copy; not GOOD: answer, drop the copy;
//   2. outcome.must_persist: make encode() of the copy durable; failed: answer an error, drop the
//   copy;
//   3. publish the copy: recompute rights_of() every nexus that is logged in;
//   4. establish the unit attentions, abort the listed nexuses' commands and wait until they ended;
//   5. answer.
// One such sequence at a time for a logical unit, so that each is indivisible (SPC-4 5.13).
// A copy costs two small strings per registrant; it is made for PERSISTENT RESERVE OUT only.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/result.h"
#include "common/scsi/cdb.h"
#include "common/scsi/command_table.h"
#include "common/scsi/persistent_reservation.h"
#include "common/scsi/sense.h"
#include "common/scsi/status.h"

namespace holdfast::target {

// Per logical unit. A cluster of 16 nodes with 4 daemons on 4 paths each needs all of them. Beyond
// it: 05/55/04 (CVE-2025-57275 was a registrant array without a bound).
inline constexpr size_t kMaxRegistrants = 256;
// Of one initiator name: 4 daemons on 4 paths, each registered on 4 ports by ALL_TG_PT. A node that
// makes up ISIDs without end must not keep the others from registering.
inline constexpr size_t kMaxRegistrantsPerInitiator = 64;
inline constexpr size_t kMaxEncodedReservationsBytes = 24 + kMaxRegistrants * (24 + 2 * 223);

// An I_T nexus, the same one after every re-login: never a session's identity. The portal group is
// the SCSI target port (RFC 7143 4.4.2); its tag, which is not 0, is also reported as the relative
// target port identifier.
struct NexusId {
  std::string initiator_name{};
  uint64_t isid = 0;  // 48 bits
  std::string target_name{};
  uint16_t portal_group_tag = 0;

  auto operator<=>(const NexusId&) const = default;
};

// What a nexus may do now. Computed once per nexus and change of state, so that the data path tests
// a bit and looks nothing up. A nexus on a logical unit without a reservation has the default
// value.
struct NexusRights {
  bool registered = false;
  bool holder = false;
  bool may_read = true;
  bool may_write = true;

  bool operator==(const NexusRights&) const = default;
};

// True: complete the command with RESERVATION CONFLICT. The one check for every opcode; `access` is
// scsi::reservation_access(command). An access that is not resolved counts as a write.
constexpr bool conflicts(NexusRights rights, scsi::ReservationAccess access) {
  using enum scsi::ReservationAccess;
  if (access == always || access == reserve_out) return false;
  return access == read ? !rights.may_read : !rights.may_write;
}

struct Registrant {
  NexusId nexus{};
  uint64_t key = 0;
  bool holds = false;  // the single holder; false for all when the type is an all registrants one

  bool operator==(const Registrant&) const = default;
};

struct PrOutRequest {
  scsi::ReserveOut service_action{};
  uint8_t scope = 0;             // CDB byte 2, bits 4-7
  uint8_t type = 0;              // CDB byte 2, bits 0-3
  base::Bytes parameter_list{};  // what arrived of it
  // Every portal group tag of the target the command came through (ALL_TG_PT).
  std::span<const uint16_t> portal_group_tags = {};
};

struct PrAttention {
  NexusId nexus{};  // may have no session now
  scsi::Sense sense{};

  bool operator==(const PrAttention&) const = default;
};

struct PrOutcome {
  scsi::Status status = scsi::Status::good;  // or reservation_conflict, check_condition
  scsi::Sense sense{};                       // with check_condition
  std::vector<PrAttention> attentions{};
  // PREEMPT AND ABORT: end every command of these nexuses before the answer, and allow medium
  // removal for them (SPC-4 5.13, Preempting and aborting). May hold the sender itself: then all of
  // its commands but this one. Ascending, no duplicates.
  std::vector<NexusId> abort{};
  bool must_persist = false;  // what power_on() would keep has changed
};

class Reservations {
 public:
  // Changes this object only if the outcome is GOOD. `nexus` is not a part of this object.
  PrOutcome out(const NexusId& nexus, const PrOutRequest& request);

  // PERSISTENT RESERVE IN: see scsi::write_pr_in.
  size_t in(scsi::ReserveIn action, base::MutableBytes out) const;

  NexusRights rights_of(const NexusId& nexus) const;

  // What the loss of power leaves (SPC-4 5.13, Preserving; 6.15): all but PRgeneration if APTPL was
  // last set, else nothing. Call it on what decode() returned when the logical unit is opened.
  void power_on();

  // Versioned and checksummed; equal states have equal encodings.
  std::vector<uint8_t> encode() const;
  // Refuses what encode() could not have written: digest, corrupt, or unsupported for a version
  // this program does not know.
  static base::Result<Reservations> decode(base::Bytes encoded);

  uint32_t generation() const { return generation_; }
  std::optional<scsi::PrType> type() const { return type_; }
  bool aptpl() const { return aptpl_; }
  std::span<const Registrant> registrants() const { return registrants_; }  // by nexus, ascending
  bool is_holder(const Registrant& registrant) const;

  bool operator==(const Reservations&) const = default;

 private:
  struct Step;

  PrOutcome register_key(const Step& step, bool ignore_existing_key);
  PrOutcome reserve(const Step& step);
  PrOutcome release(const Step& step);
  PrOutcome clear(const Step& step);
  PrOutcome preempt(const Step& step, bool abort);
  PrOutcome take_over(const Step& step);
  PrOutcome remove_registrations(const Step& step);
  PrOutcome remove_matching(const Step& step, bool keep_sender);

  Registrant* find(const NexusId& nexus);
  const Registrant* find(const NexusId& nexus) const;
  bool register_one(const NexusId& nexus, const Step& step, bool ignore_existing_key);
  bool within_limits(const std::string& initiator_name) const;
  void attend_others(const NexusId& except, const scsi::Sense& sense, PrOutcome& outcome) const;
  bool consistent() const;

  std::vector<Registrant> registrants_;  // by nexus, ascending
  std::optional<scsi::PrType> type_;     // the reservation, if there is one
  uint32_t generation_ = 0;
  bool aptpl_ = false;
};

}  // namespace holdfast::target
