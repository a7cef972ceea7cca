#include "target/reservations.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/assert.h"

namespace holdfast::target {

using scsi::PrType;
using scsi::ReservationAccess;
using scsi::ReserveOut;
using scsi::Sense;

namespace {

// The table of allowed commands of SPC-4 5.13, by class of command instead of by command. The
// columns are the standard's.
enum Column : uint8_t {
  kWriteExclusiveOther,           // types 1: any nexus but the holder
  kExclusiveAccessOther,          // type 3: any nexus but the holder
  kRegistered,                    // types 5-8: a registered nexus
  kWriteExclusiveNotRegistered,   // types 5, 7
  kExclusiveAccessNotRegistered,  // types 6, 8
};
constexpr bool kReadAllowed[] = {true, false, true, true, false};
constexpr bool kWriteAllowed[] = {false, false, true, false, false};

Column column_of(PrType type, bool registered) {
  const bool write_exclusive = scsi::is_write_exclusive(type);
  if (!scsi::is_registrants_only(type) && !scsi::is_all_registrants(type)) {
    return write_exclusive ? kWriteExclusiveOther : kExclusiveAccessOther;
  }
  if (registered) return kRegistered;
  return write_exclusive ? kWriteExclusiveNotRegistered : kExclusiveAccessNotRegistered;
}

PrOutcome conflict() { return {.status = scsi::Status::reservation_conflict}; }

PrOutcome refuse(const Sense& sense) {
  return {.status = scsi::Status::check_condition, .sense = sense};
}

// SCOPE and TYPE of a reservation to be created (SPC-4 6.15: LU_SCOPE, a valid type).
scsi::Outcome<PrType> new_type(const PrOutRequest& request) {
  if (request.scope != scsi::kPrScopeLogicalUnit) {
    return std::unexpected(scsi::kInvalidFieldInCdb.at_cdb(2, uint8_t{7}));
  }
  const std::optional<PrType> type = scsi::parse_pr_type(request.type);
  if (!type) return std::unexpected(scsi::kInvalidFieldInCdb.at_cdb(2, uint8_t{3}));
  return *type;
}

bool same_scope_and_type(const PrOutRequest& request, PrType type) {
  return request.scope == scsi::kPrScopeLogicalUnit && request.type == static_cast<uint8_t>(type);
}

}  // namespace

struct Reservations::Step {
  const NexusId& nexus;
  const PrOutRequest& request;
  const scsi::PrOutParameters& parameters;
};

PrOutcome Reservations::out(const NexusId& nexus, const PrOutRequest& request) {
  const auto parameters = scsi::parse_pr_out_parameters(request.parameter_list);
  if (!parameters) return refuse(parameters.error());
  const Step step{nexus, request, *parameters};

  const bool registering = request.service_action == ReserveOut::register_key ||
                           request.service_action == ReserveOut::register_and_ignore;
  if (!registering) {
    // SPC-4 5.13, 6.16: the key is verified whatever SCOPE and TYPE say.
    const Registrant* own = find(nexus);
    if (own == nullptr || own->key != parameters->key) return conflict();
  }

  const bool was_kept = aptpl_;
  PrOutcome outcome = [&] {
    switch (request.service_action) {
      case ReserveOut::register_key:
        return register_key(step, false);
      case ReserveOut::register_and_ignore:
        return register_key(step, true);
      case ReserveOut::reserve:
        return reserve(step);
      case ReserveOut::release:
        return release(step);
      case ReserveOut::clear:
        return clear(step);
      case ReserveOut::preempt:
        return preempt(step, false);
      case ReserveOut::preempt_and_abort:
        return preempt(step, true);
    }
    return refuse(scsi::kInvalidFieldInCdb.at_cdb(1, uint8_t{4}));
  }();
  // What is not kept needs no write, unless the disk still holds what was.
  outcome.must_persist = outcome.must_persist && (was_kept || aptpl_);
  ASSERT(consistent());
  return outcome;
}

// SPC-4 5.13, Registering. With ALL_TG_PT it is "as if the same registration request had
// been received individually through each target port" (6.16): the sender's own port decides the
// status, and another port through which the request would have been a conflict keeps what it has.
PrOutcome Reservations::register_key(const Step& step, bool ignore_existing_key) {
  ASSERT(!step.nexus.initiator_name.empty() && !step.nexus.target_name.empty() &&
         step.nexus.initiator_name.size() <= scsi::kMaxInitiatorNameBytes &&
         step.nexus.target_name.size() <= scsi::kMaxInitiatorNameBytes &&
         step.nexus.isid <= scsi::kMaxIsid);
  const Registrant* own = find(step.nexus);
  if (!ignore_existing_key && step.parameters.key != (own == nullptr ? 0 : own->key)) {
    return conflict();
  }

  Reservations next = *this;  // all of the ports or none of them
  bool changed = next.register_one(step.nexus, step, ignore_existing_key);
  if (step.parameters.all_target_ports) {
    NexusId other = step.nexus;
    for (const uint16_t tag : step.request.portal_group_tags) {
      if (tag == step.nexus.portal_group_tag) continue;
      other.portal_group_tag = tag;
      changed = next.register_one(other, step, ignore_existing_key) || changed;
    }
  }
  const bool grows = next.registrants_.size() > registrants_.size();
  if (grows && !next.within_limits(step.nexus.initiator_name)) {
    return refuse(scsi::kInsufficientRegistrationResources);
  }
  if (!changed) return {};  // Registering: "Do nothing except return GOOD status"

  PrOutcome outcome{.must_persist = true};
  // Unregistering: the holder unregistered. The last of all registrants leaves nobody to tell.
  if (type_ && !next.type_ && scsi::is_registrants_only(*type_)) {
    next.attend_others(step.nexus, scsi::kReservationsReleased, outcome);
  }
  next.aptpl_ = step.parameters.aptpl;
  ++next.generation_;
  *this = std::move(next);
  return outcome;
}

// One I_T nexus; true if it changed anything.
bool Reservations::register_one(const NexusId& nexus, const Step& step, bool ignore_existing_key) {
  const uint64_t new_key = step.parameters.service_action_key;
  const auto at = std::ranges::lower_bound(registrants_, nexus, {}, &Registrant::nexus);
  const bool registered = at != registrants_.end() && at->nexus == nexus;
  if (!ignore_existing_key && step.parameters.key != (registered ? at->key : 0)) return false;

  if (new_key != 0) {
    if (registered) {
      at->key = new_key;
    } else {
      registrants_.insert(at, Registrant{.nexus = nexus, .key = new_key});
    }
    return true;
  }
  if (!registered) return false;
  const bool held = at->holds;
  registrants_.erase(at);
  if (held || registrants_.empty()) type_.reset();
  return true;
}

// SPC-4 5.13, Reserving.
PrOutcome Reservations::reserve(const Step& step) {
  Registrant& own = *find(step.nexus);
  if (type_) {
    if (is_holder(own) && same_scope_and_type(step.request, *type_)) return {};
    return conflict();
  }
  const auto type = new_type(step.request);
  if (!type) return refuse(type.error());
  type_ = *type;
  own.holds = !scsi::is_all_registrants(*type);
  return {.must_persist = true};
}

// SPC-4 5.13, Releasing.
PrOutcome Reservations::release(const Step& step) {
  Registrant& own = *find(step.nexus);
  if (!type_ || !is_holder(own)) return {};
  if (!same_scope_and_type(step.request, *type_)) {
    return refuse(scsi::kInvalidReleaseOfPersistentReservation);
  }
  PrOutcome outcome{.must_persist = true};
  if (scsi::is_registrants_only(*type_) || scsi::is_all_registrants(*type_)) {
    attend_others(step.nexus, scsi::kReservationsReleased, outcome);
  }
  type_.reset();
  own.holds = false;
  return outcome;
}

// SPC-4 5.13, Clearing. APTPL stays what the last registration said.
PrOutcome Reservations::clear(const Step& step) {
  PrOutcome outcome{.must_persist = true};
  attend_others(step.nexus, scsi::kReservationsPreempted, outcome);
  registrants_.clear();
  type_.reset();
  ++generation_;
  return outcome;
}

// SPC-4 5.13, Preempting; Preempting and aborting for the list of nexuses to abort, which are those
// that match even where they keep their registration (the sender).
PrOutcome Reservations::preempt(const Step& step, bool abort) {
  const uint64_t victim = step.parameters.service_action_key;
  const auto matches = [&](const Registrant& r) { return victim == 0 || r.key == victim; };
  std::vector<NexusId> to_abort;
  if (abort) {
    for (const Registrant& r : registrants_) {
      if (matches(r)) to_abort.push_back(r.nexus);
    }
  }

  PrOutcome outcome;
  if (victim == 0) {
    // Without a reservation this is Removing registrations, where no registered key is zero.
    if (!type_) return conflict();
    if (!scsi::is_all_registrants(*type_)) {
      return refuse(scsi::kInvalidFieldInParameterList.at_parameter(8));
    }
    outcome = take_over(step);
  } else {
    const auto match = std::ranges::find_if(registrants_, matches);
    if (match == registrants_.end()) return conflict();
    const bool victim_holds = std::ranges::any_of(
        registrants_, [&](const Registrant& r) { return r.holds && matches(r); });
    outcome = victim_holds ? take_over(step) : remove_registrations(step);
  }
  if (outcome.status == scsi::Status::good) outcome.abort = std::move(to_abort);
  return outcome;
}

// SPC-4 5.13, Preempting persistent reservations: it becomes the sender's, in whatever type it
// names. The sender stays registered, also when it preempts itself or its own key.
PrOutcome Reservations::take_over(const Step& step) {
  const auto type = new_type(step.request);
  if (!type) return refuse(type.error());
  PrOutcome outcome = remove_matching(step, true);  // and with it the holder, if not the sender
  Registrant& own = *find(step.nexus);
  own.holds = !scsi::is_all_registrants(*type);
  if (type_ != *type) attend_others(step.nexus, scsi::kReservationsReleased, outcome);
  type_ = *type;
  return outcome;
}

// SPC-4 5.13, Removing registrations: SCOPE and TYPE are ignored, and the sender's own registration
// goes too if it has the key.
PrOutcome Reservations::remove_registrations(const Step& step) {
  PrOutcome outcome = remove_matching(step, false);
  if (registrants_.empty()) type_.reset();  // the last of all registrants
  return outcome;
}

PrOutcome Reservations::remove_matching(const Step& step, bool keep_sender) {
  const uint64_t victim = step.parameters.service_action_key;
  PrOutcome outcome{.must_persist = true};
  std::erase_if(registrants_, [&](const Registrant& r) {
    const bool sender = r.nexus == step.nexus;
    if ((victim != 0 && r.key != victim) || (sender && keep_sender)) return false;
    if (!sender) outcome.attentions.push_back({r.nexus, scsi::kRegistrationsPreempted});
    return true;
  });
  ++generation_;
  return outcome;
}

bool Reservations::within_limits(const std::string& initiator_name) const {
  const auto same = [&](const Registrant& r) { return r.nexus.initiator_name == initiator_name; };
  return registrants_.size() <= kMaxRegistrants &&
         static_cast<size_t>(std::ranges::count_if(registrants_, same)) <=
             kMaxRegistrantsPerInitiator;
}

void Reservations::attend_others(const NexusId& except, const Sense& sense,
                                 PrOutcome& outcome) const {
  for (const Registrant& r : registrants_) {
    if (r.nexus != except) outcome.attentions.push_back({r.nexus, sense});
  }
}

Registrant* Reservations::find(const NexusId& nexus) {
  return const_cast<Registrant*>(std::as_const(*this).find(nexus));
}

const Registrant* Reservations::find(const NexusId& nexus) const {
  const auto at = std::ranges::lower_bound(registrants_, nexus, {}, &Registrant::nexus);
  return at != registrants_.end() && at->nexus == nexus ? &*at : nullptr;
}

// SPC-4 5.13, Persistent reservation holder.
bool Reservations::is_holder(const Registrant& registrant) const {
  return type_ && (registrant.holds || scsi::is_all_registrants(*type_));
}

NexusRights Reservations::rights_of(const NexusId& nexus) const {
  const Registrant* registrant = find(nexus);
  NexusRights rights{.registered = registrant != nullptr,
                     .holder = registrant != nullptr && is_holder(*registrant)};
  if (type_ && !rights.holder) {
    const Column column = column_of(*type_, rights.registered);
    rights.may_read = kReadAllowed[column];
    rights.may_write = kWriteAllowed[column];
  }
  return rights;
}

size_t Reservations::in(scsi::ReserveIn action, base::MutableBytes out) const {
  std::vector<scsi::PrRegistration> registrations;
  registrations.reserve(registrants_.size());
  for (const Registrant& r : registrants_) {
    registrations.push_back({.key = r.key,
                             .holder = is_holder(r),
                             .relative_target_port = r.nexus.portal_group_tag,
                             .initiator_name = r.nexus.initiator_name,
                             .isid = r.nexus.isid});
  }
  const scsi::PrReport report{
      .generation = generation_, .type = type_, .aptpl = aptpl_, .registrations = registrations};
  return scsi::write_pr_in(action, report, out);
}

void Reservations::power_on() {
  if (!aptpl_) *this = {};
  generation_ = 0;
}

// One holder and it is registered; no reservation without a registrant; each nexus once.
bool Reservations::consistent() const {
  const auto holders = std::ranges::count_if(registrants_, &Registrant::holds);
  const bool single = type_ && !scsi::is_all_registrants(*type_);
  return holders == (single ? 1 : 0) && !(type_ && registrants_.empty()) &&
         registrants_.size() <= kMaxRegistrants &&
         std::ranges::none_of(registrants_, [](const Registrant& r) { return r.key == 0; }) &&
         std::ranges::adjacent_find(registrants_, std::ranges::greater_equal{},
                                    &Registrant::nexus) == registrants_.end();
}

}  // namespace holdfast::target
