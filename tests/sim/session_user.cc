#include "tests/sim/session_user.h"

#include <algorithm>

#include "common/scsi/build_cdb.h"
#include "common/scsi/report_luns.h"
#include "common/scsi/unmap.h"
#include "tests/sim/target_host.h"

namespace holdfast::sim {

using namespace std::chrono_literals;
using initiator::Outcome;

namespace {

constexpr Duration kTickMin = 200us;
constexpr Duration kTickMax = 20ms;
constexpr Duration kReconnectMax = 500ms;
constexpr Duration kPingPatience = 8s;
// More than the target's drain deadline, which a login that reinstates may wait for.
constexpr Duration kLoginPatience = 14s;
constexpr uint64_t kHotBlocks = 32;
constexpr uint64_t kLargeBytes = 300 * 1024;

// What lies in a sector says where it belongs, so that data of another offset is none of the
// model's values. Zeroes are zeroes everywhere.
uint64_t mask(const Unit& unit, uint64_t sector, uint64_t word) {
  uint64_t x = (uint64_t{unit.lun} << 48 | sector << 8 | word) + 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

void toggle(const Unit& unit, uint64_t first_sector, base::MutableBytes data) {
  constexpr size_t kWords = DataModel::kSectorBytes / 8;
  for (size_t at = 0; at < data.size(); at += DataModel::kSectorBytes, ++first_sector) {
    const base::MutableBytes sector = data.subspan(at, DataModel::kSectorBytes);
    if (std::ranges::all_of(sector, [](uint8_t byte) { return byte == 0; })) continue;
    for (size_t word = 0; word < kWords; ++word) {
      const base::MutableBytes place = sector.subspan(word * 8, 8);
      const uint64_t value = base::load<base::le64>(place);
      base::store(place, base::le64(value ^ mask(unit, first_sector, word)));
    }
  }
}

iscsi::LocalParameters random_parameters(base::Random& random) {
  iscsi::LocalParameters parameters;
  const auto digest = [&] {
    return random.below(3) == 0 ? iscsi::DigestChoice::required : iscsi::DigestChoice::none;
  };
  parameters.header_digest = digest();
  parameters.data_digest = digest();
  parameters.initial_r2t = random.below(2) == 0;
  parameters.immediate_data = random.below(3) != 0;
  const uint32_t unit = random.below(2) == 0 ? 512 : 65536;
  parameters.max_burst_length = static_cast<uint32_t>(unit * (1 + random.below(16)));
  parameters.first_burst_length =
      std::min(parameters.max_burst_length, static_cast<uint32_t>(unit * (1 + random.below(8))));
  return parameters;
}

}  // namespace

SessionUser::SessionUser(Judge& judge, SimFabric& fabric, const Options& options)
    : judge_(judge),
      options_(options),
      world_(judge.world()),
      process_(world_.make_process("hv1")),
      loop_(process_.make_loop()),
      network_(fabric, loop_),
      random_(world_.fork_random()),
      session_random_(world_.fork_random()) {
  for (uint32_t i = 0; i < options.depth; ++i) {
    operations_.push_back(std::make_unique<Operation>(*this));
  }
}

SessionUser::~SessionUser() { process_.kill(); }

void SessionUser::start() {
  loop_.post([this]() noexcept { on_tick(); });
}

void SessionUser::drop(bool reset) {
  loop_.post([this, reset]() noexcept {
    if (session_ != nullptr) session_->close(reset, "dropped");
  });
}

void SessionUser::stop() {
  stopping_ = true;
  drop(false);
}

void SessionUser::connect() {
  initiator::Session::Options options;
  options.portal = options_.portal;
  options.connect.source = io::Endpoint::parse(options_.address + ":0").value();
  options.connect.user_timeout = 5s;
  options.login.initiator_name = "iqn.2026-11.org.holdfast:hv1";
  options.login.target_name = kTargetName;
  options.login.isid = 0x400000010000;  // always the same: a login makes an end of the last session
  options.login.parameters = random_parameters(random_);
  options.login_timeout = kLoginPatience;
  ++sessions_;
  closed_ = logging_out_ = false;
  session_ = std::make_unique<initiator::Session>(loop_, network_, session_random_,
                                                  std::move(options), *this);
  session_->start();
}

void SessionUser::on_tick() noexcept {
  if (stopping_ && session_ == nullptr) return;
  if (session_ == nullptr) {
    if (world_.now() >= next_connect_) connect();
  } else if (up()) {
    watch_patience();
    for (const auto& operation : operations_) {
      if (quiet_ || logging_out_ || !up()) break;
      if (operation->idle() && random_.below(3) != 0) issue_one(*operation);
      if (operation->command.busy() && random_.below(400) == 0) take_back(*operation);
    }
    if (!unverified_.empty() && up() && busy_ == 0 && operations_.front()->idle()) {
      read_whole(*unverified_.back());
    }
    if (!quiet_ && !logging_out_ && up() && random_.below(2000) == 0) {
      logging_out_ = true;
      session_->logout();
    }
  }
  loop_.start(timer_, Duration(kTickMin.count() + static_cast<int64_t>(random_.below(
                                                      uint64_t((kTickMax - kTickMin).count())))));
}

// A command that waits for the window; if it has been sent, it is aborted without need.
void SessionUser::take_back(Operation& operation) {
  if (session_->withdraw(operation.command)) {
    operation.command.outcome = Outcome::unsent;
    return on_done(operation);
  }
  if (operation.abort.busy() || !operation.command.sent()) return;
  operation.abort.function = random_.below(4) == 0 ? iscsi::TaskFunction::logical_unit_reset
                                                   : iscsi::TaskFunction::abort_task;
  operation.abort.lun = operation.command.lun;
  operation.abort.task = &operation.command;
  session_->manage(operation.abort);
}

void SessionUser::watch_patience() {
  if (session_->ping()) {
    pinged_ = world_.now();
  } else if (world_.now() - pinged_ > kPingPatience) {
    return session_->close(true, "a ping is not answered");
  }
  for (const auto& operation : operations_) {
    if (!operation->command.busy()) continue;
    const Duration age = world_.now() - operation->began;
    if (age > 3 * options_.patience) return session_->close(true, "a command hangs");
    if (age > options_.patience && !operation->abort.busy()) take_back(*operation);
  }
}

// --- commands ---

void SessionUser::issue_one(Operation& operation) {
  const auto& units = judge_.units();
  Unit& unit = *units[random_.below(units.size())];
  operation.unit = &unit;
  const uint64_t most = std::max<uint64_t>(1, kLargeBytes / unit.block_size);
  const bool large = random_.below(12) == 0;
  const uint64_t count = 1 + random_.below(large ? most : 8);
  const uint64_t within = random_.below(4) == 0 || count > kHotBlocks ? unit.blocks : kHotBlocks;
  const uint64_t lba = random_.below(within - count + 1);
  operation.range = unit.sectors(lba, count);
  operation.write = operation.read = 0;
  operation.fua = random_.below(4) == 0;
  const scsi::BlockRange range{lba, static_cast<uint32_t>(count)};
  const size_t bytes = count * unit.block_size;
  const Duration now = world_.now();
  const uint64_t what = random_.below(100);
  if (what < 40) {
    operation.kind = Kind::read;
    operation.read = unit.data.begin_read(now);
    operation.memory.assign(bytes, 0xee);
    issue(operation, scsi::build::read16(range, unit.block_size, operation.fua).bytes, bytes,
          false);
  } else if (what < 80) {
    operation.kind = Kind::write;
    operation.write = unit.data.begin_write(now, operation.range, false);
    operation.memory.resize(bytes);
    DataModel::fill(operation.memory, operation.write);
    toggle(unit, operation.range.first, operation.memory);
    issue(operation, scsi::build::write16(range, unit.block_size, operation.fua).bytes, bytes,
          true);
  } else if (what < 86) {
    operation.kind = Kind::zero;
    operation.write = unit.data.begin_write(now, operation.range, true);
    const scsi::UnmapRange list{lba, static_cast<uint32_t>(count)};
    operation.memory.resize(scsi::unmap_list_bytes(1));
    scsi::encode_unmap({&list, 1}, operation.memory);
    issue(operation, scsi::build::unmap(1).bytes, operation.memory.size(), true);
  } else if (what < 96) {
    const auto blocks = static_cast<uint8_t>(std::min<uint64_t>(count, 8));
    operation.kind = Kind::swap;
    operation.range = unit.sectors(lba, blocks);
    const size_t half = size_t{blocks} * unit.block_size;
    operation.compared.resize(half);
    for (uint64_t i = 0; i < operation.range.count; ++i) {
      DataModel::fill(base::MutableBytes(operation.compared)
                          .subspan(i * DataModel::kSectorBytes, DataModel::kSectorBytes),
                      unit.data.likely_value(operation.range.first + i));
    }
    operation.read = unit.data.begin_read(now);
    operation.write = unit.data.begin_write(now, operation.range, false);
    operation.memory = operation.compared;
    operation.memory.resize(2 * half);
    DataModel::fill(base::MutableBytes(operation.memory).subspan(half), operation.write);
    toggle(unit, operation.range.first, base::MutableBytes(operation.memory).first(half));
    toggle(unit, operation.range.first, base::MutableBytes(operation.memory).subspan(half));
    issue(operation,
          scsi::build::compare_and_write(lba, blocks, unit.block_size, operation.fua).bytes,
          2 * half, true);
  } else {
    operation.kind = Kind::sync;
    operation.memory.clear();
    issue(operation, scsi::build::synchronize_cache16({0, 0}).bytes, 0, false);
  }
}

// The memory in pieces of any length.
void SessionUser::cut(Operation& operation, size_t bytes) {
  operation.parts.clear();
  uint8_t* at = operation.memory.data();
  while (bytes > 0) {
    const bool last = operation.parts.size() + 1 == initiator::kMaxDataIovecs;
    const size_t part = last || random_.below(3) == 0 ? bytes : 1 + random_.below(bytes);
    operation.parts.push_back({at, part});
    at += part;
    bytes -= part;
  }
  if (options_.sabotage == SessionSabotage::offset && operation.kind == Kind::write &&
      random_.below(8) == 0) {
    std::ranges::reverse(operation.parts);
  }
}

void SessionUser::issue(Operation& operation, const std::array<uint8_t, 16>& cdb, size_t bytes,
                        bool writes) {
  ++busy_;
  operation.began = world_.now();
  cut(operation, bytes);
  operation.command.lun = scsi::encode_lun(operation.unit->lun);
  operation.command.cdb = cdb;
  operation.command.data = operation.parts;
  operation.command.data_bytes = static_cast<uint32_t>(bytes);
  operation.command.writes = writes;
  world_.trace("lun {} opcode {:02x} sectors {}+{} write {} in {} parts", operation.unit->lun,
               cdb[0], operation.range.first, operation.range.count, operation.write,
               operation.parts.size());
  session_->submit(operation.command);
  if (options_.sabotage == SessionSabotage::reuse && operation.kind == Kind::write &&
      random_.below(16) == 0) {
    world_.after(1ms, [&operation] {
      if (operation.command.busy()) std::ranges::fill(operation.memory, uint8_t{0x5a});
    });
  }
}

// --- answers ---

SessionUser::Verdict SessionUser::judge_outcome(const Operation& operation) {
  const initiator::Command& command = operation.command;
  switch (command.outcome) {
    case Outcome::unsent:
    case Outcome::rejected:
      return Verdict::refused;
    case Outcome::unanswered:
      return options_.sabotage == SessionSabotage::unsent ? Verdict::refused : Verdict::unknown;
    case Outcome::ended:
      return Verdict::ended;
    case Outcome::answered:
      break;
  }
  switch (command.status) {
    case scsi::Status::good:
      if (command.moved != command.data_bytes) judge_.check("GOOD, and not all bytes moved");
      return Verdict::done;
    case scsi::Status::busy:
    case scsi::Status::task_set_full:
      return Verdict::refused;
    case scsi::Status::check_condition:
      break;
    default:
      return Verdict::ended;
  }
  switch (command.sense.key) {
    case scsi::SenseKey::unit_attention:
    case scsi::SenseKey::not_ready:
      return Verdict::refused;
    case scsi::SenseKey::miscompare:
      return Verdict::miscompare;
    case scsi::SenseKey::illegal_request:
      judge_.check(fmt::format("opcode {:02x} is illegal: {:02x}/{:02x}", command.cdb[0],
                               command.sense.asc, command.sense.ascq));
      return Verdict::refused;
    default:
      return Verdict::ended;
  }
}

void SessionUser::on_done(Operation& operation) {
  --busy_;
  const Verdict verdict = judge_outcome(operation);
  DataModel& data = operation.unit->data;
  const Duration now = world_.now();
  world_.trace("opcode {:02x} write {}: {}, status {:02x} sense {:x}/{:02x}/{:02x}",
               operation.command.cdb[0], operation.write,
               initiator::to_string(operation.command.outcome), int(operation.command.status),
               int(operation.command.sense.key), operation.command.sense.asc,
               operation.command.sense.ascq);
  ++(verdict == Verdict::unknown ? judge_.unknown : judge_.commands);
  if (operation.kind == Kind::sync) {
    if (verdict == Verdict::done) data.flushed(operation.began, now);
  } else if (operation.kind == Kind::read) {
    if (verdict != Verdict::done) return data.cancel_read(operation.read);
    toggle(*operation.unit, operation.range.first, operation.memory);
    judge_.check(data.end_read(operation.read, now, operation.range, operation.memory));
    if (!unverified_.empty() && unverified_.back() == operation.unit) unverified_.pop_back();
  } else {
    write_ended(operation, verdict);
  }
}

void SessionUser::write_ended(Operation& operation, Verdict verdict) {
  DataModel& data = operation.unit->data;
  const Duration now = world_.now();
  if (operation.kind == Kind::swap) {
    if (verdict == Verdict::done) {
      judge_.check(data.swap_succeeded(operation.write, operation.read, now, operation.range,
                                       operation.compared));
    } else if (verdict == Verdict::miscompare) {
      judge_.check(data.swap_miscompared(operation.read, now, operation.range, operation.compared));
    } else {
      data.cancel_read(operation.read);
    }
  } else if (verdict == Verdict::miscompare) {
    judge_.check("a miscompare of a write");
  }
  switch (verdict) {
    case Verdict::done:
      return data.write_acknowledged(operation.write, now, operation.fua);
    case Verdict::refused:
    case Verdict::miscompare:
      return judge_.check(data.write_refused(operation.write));
    case Verdict::ended:
      return data.write_failed(operation.write, now);
    case Verdict::unknown:
      open_.push_back({operation.unit, operation.write});
  }
}

void SessionUser::on_aborted(const initiator::TaskManagement& function) {
  world_.trace("function {}: {} {}", int(function.function), function.answered,
               int(function.response));
}

// --- the session ---

void SessionUser::on_up() noexcept {
  world_.trace("up, the {}th session", sessions_);
  pinged_ = world_.now();
  // The target has made an end of the last session before it answered this login.
  for (const Open& each : open_) each.unit->data.write_failed(each.write, world_.now());
  open_.clear();
}

void SessionUser::on_ended(const initiator::SessionEnd& end) noexcept {
  world_.trace("ended: {} ({})", initiator::to_string(end.kind), end.why);
  if (busy_ > 0) judge_.check("a session ended before its commands");
  for (const auto& operation : operations_) {
    if (!operation->idle()) judge_.check("a session ended before its functions");
  }
  if (end.kind == initiator::EndKind::protocol_error ||
      end.kind == initiator::EndKind::login_failed) {
    judge_.check(fmt::format("{}: {}", initiator::to_string(end.kind), end.why));
  }
  session_.reset();
  next_connect_ = world_.now() + world_.between(0ms, kReconnectMax);
}

void SessionUser::on_ping_answered() noexcept { pinged_ = world_.now(); }

// Until every unit has been read whole: a unit attention may come between.
void SessionUser::verify() {
  for (const auto& unit : judge_.units()) unverified_.push_back(unit.get());
}

void SessionUser::read_whole(Unit& unit) {
  Operation& operation = *operations_.front();
  const auto all = static_cast<uint32_t>(unit.blocks);
  operation.kind = Kind::read;
  operation.unit = &unit;
  operation.range = unit.sectors(0, all);
  operation.write = 0;
  operation.read = unit.data.begin_read(world_.now());
  operation.memory.assign(size_t{all} * unit.block_size, 0);
  issue(operation, scsi::build::read16({0, all}, unit.block_size, false).bytes,
        operation.memory.size(), false);
}

std::string SessionUser::describe() const {
  return fmt::format("session {}, {} under way, up {}", sessions_, busy_, up());
}

}  // namespace holdfast::sim
