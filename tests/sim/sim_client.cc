#include "tests/sim/sim_client.h"

#include <algorithm>

namespace holdfast::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration kTickMin = 200us;
constexpr Duration kTickMax = 12ms;
constexpr Duration kQuietTick = 20ms;
constexpr Duration kReconnectMax = 1s;
// A login that takes longer is given up: more than the target's drain deadline.
constexpr Duration kLoginPatience = 14s;
constexpr Duration kManagePatience = 14s;
constexpr uint64_t kIsidBase = 0x4000'0000'0000;

std::string initiator_name(uint32_t index) {
  return fmt::format("iqn.2026-11.org.holdfast:hv{}", index);
}

iscsi::LocalParameters random_parameters(base::Random& random) {
  const auto digest = [&] {
    return random.below(3) == 0 ? iscsi::DigestChoice::required : iscsi::DigestChoice::none;
  };
  iscsi::LocalParameters parameters;
  parameters.header_digest = digest();
  parameters.data_digest = digest();
  parameters.initial_r2t = random.below(2) == 0;
  parameters.immediate_data = random.below(3) != 0;
  const uint32_t unit = random.below(2) == 0 ? 512 : 65536;
  parameters.max_recv_data_segment_length = static_cast<uint32_t>(unit * (1 + random.below(16)));
  parameters.max_burst_length = static_cast<uint32_t>(unit * (1 + random.below(16)));
  parameters.first_burst_length =
      std::min(parameters.max_burst_length, static_cast<uint32_t>(unit * (1 + random.below(8))));
  parameters.max_outstanding_r2t = static_cast<uint16_t>(1 + random.below(8));
  parameters.response_fence = random.below(2) == 0;
  return parameters;
}

}  // namespace

SimClient::SimClient(Judge& judge, SimFabric& fabric, TargetHost& target,
                     const ClientOptions& options)
    : judge_(judge),
      target_(target),
      options_(options),
      name_(initiator_name(options.index)),
      world_(judge.world()),
      fabric_(fabric),
      process_(world_.make_process(fmt::format("hv{}", options.index))),
      loop_(process_.make_loop()),
      network_(fabric, loop_),
      random_(world_.fork_random()),
      isid_(kIsidBase | uint64_t{options.index} << 16) {
  for (const auto& unit : judge.units()) units_.push_back({.unit = unit.get()});
}

SimClient::~SimClient() { process_.kill(); }

void SimClient::start() { loop_.start(timer_, Duration::zero()); }

void SimClient::drop() {
  if (connection_ != nullptr) connection_->drop(true);
}

bool SimClient::settled() const {
  return logged_in_ && operations_.empty() && !management_.active &&
         unsettled_reserve_out_ == nullptr &&
         std::ranges::all_of(units_, [](const UnitView& view) { return view.ready; });
}

std::string SimClient::describe() const {
  std::string text = fmt::format("{} isid {:x} {} {} operations", name_, isid_,
                                 logged_in_ ? "logged in" : "not logged in", operations_.size());
  for (const auto& [tag, operation] : operations_) {
    text +=
        fmt::format(" [tag {} kind {} lun {} since {}us]", tag, static_cast<int>(operation.kind),
                    operation.unit->lun, operation.began.count() / 1000);
  }
  for (const UnitView& view : units_) {
    if (!view.ready) text += fmt::format(" lun {} not ready", view.unit->lun);
  }
  if (management_.active) {
    text += fmt::format(" function {} since {}us", static_cast<int>(management_.function),
                        management_.began.count() / 1000);
  }
  return text;
}

void SimClient::on_tick() noexcept {
  const bool slow = quiet_ || !logged_in_;
  loop_.start(timer_, slow ? kQuietTick : world_.between(kTickMin, kTickMax));
  std::erase_if(closing_, [](const auto& connection) { return connection->gone(); });
  if (connection_ == nullptr) {
    if (world_.now() >= next_connect_) connect();
    return;
  }
  if (!logged_in_) {
    if (world_.now() - connect_began_ > kLoginPatience) connection_->drop(true);
    return;
  }
  connection_->answer_r2ts();
  watch_patience();
  if (!logged_in_) return;
  for (UnitView& view : units_) {
    if (!view.ready && !view.probing) probe(view);
  }
  if (!quiet_ && !logging_out_ && operations_.size() < options_.depth) issue_one();
}

void SimClient::connect() {
  choose_isid();
  LoginOptions login;
  login.initiator_name = name_;
  login.isid = isid_;
  login.target_name = kTargetName;
  const auto& portals = target_.options().portals;
  login.portal = io::Endpoint::parse(portals[random_.below(portals.size())]).value();
  login.source = io::Endpoint::parse(options_.address + ":0").value();
  login.parameters = random_parameters(random_);
  connect_began_ = world_.now();
  connection_ = std::make_unique<SimInitiator>(loop_, network_, random_, login, *this);
  connection_->start();
}

// Whoever does not know the fate of a PERSISTENT RESERVE OUT comes back as the same nexus, as that
// is what ends it.
void SimClient::choose_isid() {
  if (!options_.new_isids || unsettled_reserve_out_ != nullptr || quiet_) return;
  if (random_.below(5) != 0) return;
  isid_ = kIsidBase | uint64_t{options_.index} << 16 | ++isids_used_ % 3;
}

void SimClient::on_logged_in() {
  logged_in_ = true;
  logging_out_ = false;
  instance_ = target_.instance_of(fabric_.peer_process(connection_->socket()));
  judge_.session_replaced(nexus(), instance_);
  settle_reserve_out();
  for (UnitView& view : units_) view.ready = view.probing = false;
}

void SimClient::settle_reserve_out() {
  if (unsettled_reserve_out_ == nullptr) return;
  Unit& unit = *std::exchange(unsettled_reserve_out_, nullptr);
  if (unit.reservations.busy()) unit.reservations.end_unknown(true);
  judge_.check_fences(unit);
  unit.reserve_out_taken = false;
}

void SimClient::on_login_refused(iscsi::LoginStatus status) {
  world_.trace("{}: login refused {:04x}", name_, static_cast<uint16_t>(status));
  // The one legal reason: the old session does not drain. Or the target is going down.
  if (status != iscsi::LoginStatus::out_of_resources &&
      status != iscsi::LoginStatus::service_unavailable) {
    judge_.check(
        fmt::format("{}: login refused with {:04x}", name_, static_cast<uint16_t>(status)));
  }
}

void SimClient::on_logged_out() { judge_.session_replaced(nexus(), instance_); }

void SimClient::on_connection_lost() {
  logged_in_ = false;
  logging_out_ = false;
  management_.active = false;
  for (UnitView& view : units_) view.ready = view.probing = false;
  closing_.push_back(std::move(connection_));
  next_connect_ = world_.now() + world_.between(0us, kReconnectMax);
}

void SimClient::on_breach(const std::string& what) { judge_.check(what); }

void SimClient::watch_patience() {
  const Duration now = world_.now();
  for (const auto& [tag, operation] : operations_) {
    if (connection_->was_received(tag)) judge_.write_received(*operation.unit, operation.write);
  }
  if (management_.active) {
    if (now - management_.began > kManagePatience) connection_->drop(true);
    return;
  }
  for (const auto& [tag, operation] : operations_) {
    if (now - operation.began < options_.patience) continue;
    escalate(tag, operation);
    return;
  }
}

void SimClient::escalate(uint32_t tag, const Operation& operation) {
  switch (random_.below(4)) {
    case 0:
      manage(iscsi::TaskFunction::abort_task, *operation.unit, tag);
      break;
    case 1:
      manage(iscsi::TaskFunction::abort_task_set, *operation.unit, 0);
      break;
    case 2:
      manage(iscsi::TaskFunction::logical_unit_reset, *operation.unit, 0);
      break;
    default:
      connection_->drop(random_.below(2) == 0);
  }
}

void SimClient::manage(iscsi::TaskFunction function, Unit& unit, uint32_t referenced) {
  if (function == iscsi::TaskFunction::abort_task && !connection_->was_sent(referenced)) return;
  management_ = {.active = true, .unit = &unit, .function = function, .began = world_.now()};
  for (const auto& [tag, operation] : operations_) {
    if (operation.unit != &unit || !connection_->was_sent(tag)) continue;
    if (function == iscsi::TaskFunction::abort_task && tag != referenced) continue;
    management_.victims.push_back(tag);
  }
  if (function == iscsi::TaskFunction::logical_unit_reset ||
      function == iscsi::TaskFunction::clear_task_set) {
    management_.others = judge_.received_writes(unit);
  }
  management_.tag = connection_->manage(function, unit.lun, referenced);
  world_.trace("{}: function {} lun {} tag {}", name_, static_cast<int>(function), unit.lun,
               referenced);
}

void SimClient::on_task_management_done(uint32_t tag, bool answered, iscsi::TaskResponse response) {
  ASSERT(management_.active && management_.tag == tag);
  const Management done = std::exchange(management_, {});
  world_.trace("{}: function {} -> {} {}", name_, static_cast<int>(done.function), answered,
               static_cast<int>(response));
  if (!answered) return;
  if (response == iscsi::TaskResponse::function_rejected) return;  // did not end in time
  if (response == iscsi::TaskResponse::task_does_not_exist &&
      done.function == iscsi::TaskFunction::abort_task) {
    return;  // its answer came before this one, or the next lines of it would be a breach
  }
  if (response != iscsi::TaskResponse::function_complete) {
    judge_.check(fmt::format("{}: task management function {} answered {}", name_,
                             static_cast<int>(done.function), static_cast<int>(response)));
    return;
  }
  for (const uint32_t victim : done.victims) forget(victim);
  for (const WriteOwner& other : done.others) {
    if (other.unit->data.is_open(other.write)) {
      other.unit->data.barrier(other.write, world_.now());
    }
  }
}

// An own command that a function has ended: no answer, and nothing of it lands any more.
void SimClient::forget(uint32_t tag) {
  const auto found = operations_.find(tag);
  if (found == operations_.end()) return;  // it was answered meanwhile
  const Operation operation = found->second;
  operations_.erase(found);
  connection_->forget(tag);
  if (operation.read != 0) operation.unit->data.cancel_read(operation.read);
  if (operation.write != 0) {
    operation.unit->data.write_failed(operation.write, world_.now());
    judge_.write_ended(*operation.unit, operation.write);
  }
  if (operation.kind == Kind::probe) {
    for (UnitView& view : units_) {
      if (view.unit == operation.unit) view.probing = false;
    }
  }
  if (operation.kind == Kind::reserve_out) {
    operation.unit->reservations.end_unknown(false);
    judge_.check_fences(*operation.unit);
    operation.unit->reserve_out_taken = false;
  }
}

}  // namespace holdfast::sim
