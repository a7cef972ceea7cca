#include "mpio/device_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/scsi/alua.h"
#include "common/scsi/report_luns.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpiod";
constexpr auto kExportRetry = std::chrono::seconds(1);
// What waits in the kernel before a NOP is its delay: docs/mpio.md, "Detection".
constexpr uint32_t kNotSentLowWater = 128 * 1024;
constexpr size_t kHistoryShown = 16;

uint64_t ms_of(io::Duration duration) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  return ms > 0 ? static_cast<uint64_t>(ms) : 0;
}

std::optional<iscsi::ChapAccount> account(const std::optional<daemon::ChapConfig>& config) {
  if (!config) return std::nullopt;
  auto secret = iscsi::ChapSecret::create(base::as_bytes(std::string_view(config->secret)));
  ASSERT(secret.has_value());  // load_config() refused any other length
  return iscsi::ChapAccount{.user = config->user, .secret = *secret};
}

iscsi::DigestChoice digest(bool wanted) {
  return wanted ? iscsi::DigestChoice::required : iscsi::DigestChoice::none;
}

initiator::Session::Options session_options(const DeviceServiceOptions& options,
                                            const PortalConfig& portal, uint64_t isid) {
  const DeviceConfig& config = options.config;
  initiator::Session::Options made;
  made.portal = portal.address;
  if (portal.source) made.connect.source = *portal.source;
  made.connect.not_sent_low_water = kNotSentLowWater;
  made.login.initiator_name = options.initiator_name;
  made.login.target_name = config.target;
  made.login.isid = isid;
  made.login.parameters.header_digest = digest(config.header_digest);
  made.login.parameters.data_digest = digest(config.data_digest);
  made.login.parameters.max_recv_data_segment_length = initiator::kMaxDataSegment;
  made.login.parameters.max_outstanding_r2t = initiator::kMaxOutstandingR2t;
  if (auto own = account(config.chap)) {
    made.login.chap =
        iscsi::ChapCredentials{.initiator = std::move(*own), .target = account(config.mutual_chap)};
  }
  return made;
}

// "10.1.0.10:3260", with its source where several paths lead there, "#2" for a second session.
std::string path_name(const DeviceConfig& config, const PortalConfig& portal, uint32_t index) {
  std::string name = portal.address.to_string();
  if (portal.source &&
      std::ranges::count(config.portals, portal.address, &PortalConfig::address) > 1) {
    name += "@" + portal.source->address_to_string();
  }
  if (index > 0) name += "#" + std::to_string(index + 1);
  return name;
}

DeviceOptions device_options(const DeviceServiceOptions& options) {
  const DeviceConfig& config = options.config;
  DeviceOptions made;
  made.name = config.name;
  made.lun = config.lun;
  size_t number = 0;
  for (const PortalConfig& portal : config.portals) {
    for (uint32_t index = 0; index < config.sessions_per_portal; ++index) {
      made.paths.push_back({.name = path_name(config, portal, index),
                            .session = session_options(options, portal, options.isids[number]),
                            .lun = uint64_t{scsi::encode_lun(config.lun)},
                            .traces = options.traces[number]});
      ++number;
    }
  }
  made.policy = config.policy;
  made.profile = config.profile;
  made.no_path_timeout = std::chrono::milliseconds(config.no_path_timeout_ms);
  made.ghost_tracked = config.ghost_tracked;
  made.target = config.target_override;
  made.session_keys = config.session_keys;
  made.ghost_hold = std::chrono::milliseconds(config.ghost_hold_ms);
  made.left = options.left;
  made.note = options.note;
  made.in_cluster = options.in_cluster;
  return made;
}

const char* to_string(PathTier tier) {
  switch (tier) {
    case PathTier::preferred:
      return "preferred";
    case PathTier::optimized:
      return "optimized";
    case PathTier::non_optimized:
      return "non-optimized";
    case PathTier::marginal:
      return "marginal";
    case PathTier::unusable:
      break;
  }
  return "unusable";
}

const char* to_string(Known known) {
  return known == Known::yes ? "yes" : known == Known::no ? "no" : "unknown";
}

std::string time_text(uint32_t ms) {
  return ms % 1000 == 0 ? fmt::format("{}s", ms / 1000) : fmt::format("{}ms", ms);
}

}  // namespace

DeviceService::DeviceService(const Path::Services& services, io::BufferPool& buffers,
                             DeviceServiceOptions options)
    : services_(services),
      buffers_(buffers),
      options_(std::move(options)),
      device_(services, buffers, device_options(options_)) {
  for (const ExportConfig& each : options_.exports) add_export(each);
  device_.set_listener(this);
}

DeviceService::~DeviceService() {
  device_.set_listener(nullptr);
  services_.loop.stop(retry_timer_);
}

void DeviceService::start(std::move_only_function<void() noexcept> known) {
  known_ = std::move(known);
  device_.start();
}

void DeviceService::on_block_event(const io::BlockEvent& event) {
  using Kind = io::BlockEvent::Kind;
  if (event.kind == Kind::capacity_changed) {
    for (Export& made : exports_) made.server->refresh_info();
  }
  if (event.kind == Kind::path_restored && !told_known_ && !known_op_.busy()) {
    services_.loop.at_turn_end(known_op_);  // not from within the device
  }
}

void DeviceService::on_known(int32_t) noexcept {
  if (stopping_ || told_known_ || !device_.known()) return;
  told_known_ = true;
  begin_exports();
  if (known_) std::exchange(known_, nullptr)();
}

void DeviceService::add_export(const ExportConfig& config) {
  auto server =
      std::make_unique<NbdServer>(services_.loop, services_.network, buffers_, device_,
                                  NbdServer::Options{.name = config.device, .socket = config.nbd});
  exports_.push_back({.server = std::move(server), .problem = {}});
}

void DeviceService::begin_exports() {
  // Who comes to a new socket must not overtake what clients of the old one left under way.
  if (stopping_ || std::ranges::any_of(exports_, &Export::ending)) return;
  bool again = false;
  for (Export& made : exports_) {
    if (made.serving || made.ending) continue;
    const base::Result<> begun = made.server->start();
    made.serving = begun.has_value();
    const std::string problem = begun.has_value() ? "" : begun.error().what;
    if (made.serving) {
      LOG_INFO(kLog, "{}: exported at {}", name(), made.server->options().socket);
    } else if (problem != made.problem) {
      LOG_ERROR(kLog, "{}: cannot export it at {}: {}", name(), made.server->options().socket,
                problem);
    }
    made.problem = problem;
    again = again || !made.serving;
  }
  if (again) services_.loop.start(retry_timer_, kExportRetry);
}

void DeviceService::end_export(Export& made) {
  if (std::exchange(made.ending, true)) return;
  NbdServer* server = made.server.get();
  // Not from within its own work.
  const auto ended = [this, server]() noexcept {
    services_.loop.post([this, server]() noexcept { on_export_ended(server); });
  };
  made.serving ? server->stop(ended) : ended();
}

void DeviceService::on_export_ended(const NbdServer* server) {
  std::erase_if(exports_, [server](const Export& each) { return each.server.get() == server; });
  if (stopping_) return check_stopped();
  if (told_known_) begin_exports();
}

void DeviceService::stop(std::move_only_function<void() noexcept> stopped) {
  stopping_ = true;
  stopped_ = std::move(stopped);
  known_ = nullptr;
  services_.loop.stop(retry_timer_);
  if (fence_test_ != nullptr) fence_test_->cancel();
  for (Export& made : exports_) end_export(made);
  // Not after them: what their clients have under way may hang in the target, and the device waits
  // only so long for that.
  device_.stop([this]() noexcept {
    services_.loop.post([this]() noexcept {
      device_stopped_ = true;
      check_stopped();
    });
  });
}

void DeviceService::check_stopped() {
  if (!device_stopped_ || !exports_.empty() || fence_test_ != nullptr || !stopped_) return;
  std::exchange(stopped_, nullptr)();
}

// --- administration ---

void DeviceService::set_policy(Policy policy) {
  device_.set_policy(policy);
  if (std::ranges::find(set_at_run_time_, "policy") == set_at_run_time_.end()) {
    set_at_run_time_.emplace_back("policy");
  }
  LOG_INFO(kLog, "{}: policy {}", name(), device_.policy_name());
}

bool DeviceService::set_path_enabled(std::string_view path, bool enabled) {
  return device_.set_path_enabled(path, enabled);
}

void DeviceService::apply(const DeviceConfig& config, const std::vector<ExportConfig>& exports) {
  if (stopping_) return;
  for (Export& made : exports_) {
    const bool stays = std::ranges::find(exports, made.server->options().socket,
                                         &ExportConfig::nbd) != exports.end();
    if (stays || made.ending) continue;
    LOG_INFO(kLog, "{}: no longer exported at {}", name(), made.server->options().socket);
    end_export(made);
  }
  for (const ExportConfig& each : exports) {
    if (std::ranges::find(options_.exports, each) == options_.exports.end()) add_export(each);
  }
  options_.exports = exports;
  if (told_known_) begin_exports();
  options_.config = config;
  set_at_run_time_.clear();
  if (device_.options().policy != config.policy) device_.set_policy(config.policy);
  if (device_.options().profile != config.profile) device_.set_profile(*config.profile);
  device_.set_no_path_timeout(std::chrono::milliseconds(config.no_path_timeout_ms));
}

void DeviceService::link_changed(const io::Endpoint& source, bool up) {
  device_.link_changed(source, up);
}

void DeviceService::test_fence(FenceTest::Done done) {
  const auto refuse = [&done](const char* why) {
    FenceTest::Result result;
    result.lines.emplace_back(why);
    done(std::move(result));
  };
  if (stopping_) return refuse("the daemon ends");
  if (fence_test_ != nullptr) return refuse("a fence test is under way already");
  const Path* first = nullptr;
  const Path* second = nullptr;
  for (const auto& path : device_.paths()) {
    if (!path->carries_io()) continue;
    if (first == nullptr) {
      first = path.get();
    } else if (path->settings().session.portal != first->settings().session.portal) {
      second = path.get();
      break;
    }
  }
  if (second == nullptr) {
    return refuse("a fence test needs two working paths to different portals");
  }
  fence_test_ = std::make_unique<FenceTest>(
      services_, first->settings().session, second->settings().session, options_.fence_test_isid,
      [this, done = std::move(done)](FenceTest::Result result) mutable noexcept {
        fence_test_.reset();
        done(std::move(result));
        check_stopped();
      });
  fence_test_->start();
}

// --- status ---

std::string DeviceService::origin_of(std::string_view key) const {
  if (std::ranges::find(set_at_run_time_, key) != set_at_run_time_.end()) return "runtime";
  const auto line = options_.config.lines.find(key);
  if (line == options_.config.lines.end()) return "default";
  return fmt::format("{}:{}", options_.config_file, line->second);
}

void DeviceService::add_effective(DeviceStatus& out) const {
  const DeviceConfig& config = options_.config;
  const Profile& profile = *device_.options().profile;
  const auto add = [&](const char* key, std::string value) {
    out.effective.push_back({.key = key, .value = std::move(value), .origin = origin_of(key)});
  };
  const auto derived = [&](const char* key, io::Duration value) {
    out.effective.push_back(
        {.key = key,
         .value = fmt::format("{}ms", ms_of(value)),
         .origin = fmt::format("profile {} ({})", profile.name, origin_of("profile"))});
  };
  add("policy", std::string(device_.policy_name()));
  add("profile", std::string(profile.name));
  add("no_path_timeout", fmt::format("{}ms", ms_of(device_.options().no_path_timeout)));
  derived("connect", profile.connect);
  derived("login", profile.login);
  derived("suspect_after", profile.suspect_after);
  derived("nop_timeout", profile.nop_timeout);
  derived("target_stall", profile.target_stall);
  derived("idle_nop", profile.idle_nop);
  derived("link_grace", profile.link_grace);
  add("ghost_mode", config.ghost_tracked ? "ghost-tracked" : "strict");
  add("ghost_hold", time_text(config.ghost_hold_ms));
  const auto add_digest = [&](const char* key, bool wanted) {
    const bool own = config.lines.contains(key) || !config.lines.contains("digests");
    out.effective.push_back({.key = key,
                             .value = wanted ? "crc32c" : "none",
                             .origin = origin_of(own ? key : "digests")});
  };
  add_digest("header_digest", config.header_digest);
  add_digest("data_digest", config.data_digest);
  add("session_keys", config.session_keys ? "true" : "false");
  add("sessions_per_portal", std::to_string(config.sessions_per_portal));
  add("chap", config.chap ? config.chap->user : "none");
  add("mutual_chap", config.mutual_chap ? config.mutual_chap->user : "none");
  const TargetKnowledge known = device_.target_known();
  const auto knowledge = [&](const char* key, Known value, bool said) {
    out.effective.push_back({.key = key,
                             .value = to_string(value),
                             .origin = said ? origin_of(key) : "table of tested targets"});
  };
  knowledge("drains_on_reinstatement", known.drains_on_reinstatement,
            config.target_override.drains_on_reinstatement.has_value());
  knowledge("unit_reset_waits", known.unit_reset_waits,
            config.target_override.unit_reset_waits.has_value());
  knowledge("preempt_drains", known.preempt_drains,
            config.target_override.preempt_drains.has_value());
}

PathStatus DeviceService::status_of(Path& path) const {
  const io::Instant now = services_.loop.now();
  const PathMachine& machine = path.machine();
  const PathLoad& load = path.load();
  const PathCounters& counters = path.counters();
  const initiator::Session::Options& session = path.settings().session;
  PathStatus out;
  out.name = path.settings().name;
  out.state = to_string(path.state());
  out.why = machine.reason();
  out.portal = session.portal.to_string();
  if (!session.connect.source.is_unspecified() || !session.connect.interface.empty()) {
    out.source = session.connect.source.address_to_string();
  } else if (path.session() != nullptr && path.session()->up()) {
    out.source = path.session()->local_endpoint().address_to_string();
  }
  if (path.facts().has_value()) {
    out.alua = path.facts()->inquiry.tpgs == 0
                   ? "no ALUA"
                   : std::string(scsi::to_string(path.facts()->access_state()));
  }
  out.tier = to_string(load.tier);
  out.rank = static_cast<uint8_t>(load.tier);
  out.since_ms = ms_of(now - machine.since());
  out.carries_io = path.carries_io();
  out.disabled = machine.disabled_by_administrator();
  out.portal_group_tag = path.portal_group_tag();
  out.isid = fmt::format("{:012x}", session.login.isid);
  out.in_flight = load.in_flight();
  out.limit = load.limit;
  if (load.measured()) out.latency_us = ms_of(io::Duration(load.latency(SizeClass::small)) * 1000);
  out.weight_permille = load.weight;
  out.reads = counters.reads;
  out.writes = counters.writes;
  out.bytes_read = counters.bytes_read;
  out.bytes_written = counters.bytes_written;
  out.errors = counters.errors;
  out.given_back = counters.given_back;
  out.sessions = counters.sessions;
  out.failures = machine.failures();
  const io::TransportInfo transport = path.transport();
  if (transport.valid) {
    out.rtt_us = transport.rtt_us;
    out.retransmits = transport.retransmits_total;
    out.mtu = transport.path_mtu;
    out.mss = transport.mss;
  }
  for (size_t i = 0; i < std::min(machine.history_count(), kHistoryShown); ++i) {
    const PathTransition& step = machine.history(i);
    out.history.push_back({.ago_ms = ms_of(now - step.at),
                           .from = to_string(step.from),
                           .to = to_string(step.to),
                           .why = step.why});
  }
  return out;
}

void DeviceService::add_fences(DeviceStatus& out) const {
  const io::Instant now = services_.loop.now();
  for (const auto& fence : device_.fences()) {
    out.fences.push_back({.path = fence->path(),
                          .earlier_process = is_left_behind(fence->session()),
                          .step = to_string(fence->plan().step()),
                          .proof = to_string(fence->plan().proof()),
                          .failure = fence->failure(),
                          .since_ms = ms_of(now - fence->since())});
  }
  if (const auto& last = device_.last_fence()) {
    out.last_fence = {
        .path = last->path, .proof = to_string(last->proof), .took_ms = ms_of(last->took)};
  }
}

DeviceStatus DeviceService::status() const {
  const io::Instant now = services_.loop.now();
  const DeviceCounters& counters = device_.counters();
  const io::BlockInfo info = device_.info();
  DeviceStatus out;
  out.name = name();
  out.target = options_.config.target;
  out.lun = options_.config.lun;
  out.known = device_.known();
  out.wwid = device_.wwid();
  out.size_bytes = info.size_bytes;
  out.block_size = info.block_size;
  out.read_only = info.read_only;
  out.policy = device_.policy_name();
  out.profile = device_.options().profile->name;
  add_effective(out);
  for (const auto& path : device_.paths()) {
    out.paths.push_back(status_of(*path));
    if (out.vendor.empty() && path->facts().has_value()) {
      out.vendor = path->facts()->inquiry.vendor;
      out.product = path->facts()->inquiry.product;
      out.revision = path->facts()->inquiry.revision;
    }
  }
  add_fences(out);
  for (const Export& made : exports_) {
    out.exports.push_back({.socket = made.server->options().socket,
                           .state = made.serving           ? "served"
                                    : made.problem.empty() ? "waits for the device"
                                                           : made.problem,
                           .clients = static_cast<uint32_t>(made.server->connections())});
  }
  out.waiting = device_.waiting();
  out.executing = device_.executing();
  if (const auto since = device_.without_path_since()) out.without_path_ms = ms_of(now - *since);
  out.ghosts = device_.ghosts().size();
  for (const Ghosts::Ghost& ghost : device_.ghosts().all()) {
    out.oldest_ghost_ms = std::max(out.oldest_ghost_ms, ms_of(now - ghost.since));
  }
  out.requests = counters.requests;
  out.failed = counters.failed;
  out.retries = counters.retries;
  out.reissued_writes = counters.reissued_writes;
  out.failovers = counters.failovers;
  out.fences_begun = counters.fences;
  out.fences_by_time = counters.fences_by_time;
  out.fences_by_preempt = counters.fences_by_preempt;
  out.path_losses = counters.path_losses;
  out.ghost_waits = counters.ghost_waits;
  const TargetKnowledge known = device_.target_known();
  out.drains_on_reinstatement = to_string(known.drains_on_reinstatement);
  out.unit_reset_waits = to_string(known.unit_reset_waits);
  out.preempt_drains = to_string(known.preempt_drains);
  out.session_keys = device_.options().session_keys;
  out.reserved = device_.session_keys().in_force();
  if (const TargetRow* row = device_.target_row()) {
    out.target_note = row->note;
    out.target_tested = row->tested;
  }
  return out;
}

}  // namespace holdfast::mpio
