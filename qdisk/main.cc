// holdfast-qdiskd: wires the real loop, network and disks to the node.

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/daemon/command_line.h"
#include "common/daemon/control_server.h"
#include "common/daemon/durable_file.h"
#include "common/daemon/file_worker.h"
#include "common/daemon/metrics_server.h"
#include "common/daemon/notify.h"
#include "common/daemon/signal_watch.h"
#include "common/io/uring_loop.h"
#include "common/rpc/tls_identity.h"
#include "mpio/embedded_devices.h"
#include "qdisk/config.h"
#include "qdisk/control_requests.h"
#include "qdisk/kernel_watchdog.h"
#include "qdisk/lab_watchdog_client.h"
#include "qdisk/node_service.h"
#include "qdisk/path_disk.h"
#include "qdisk/rpc_transport.h"

namespace holdfast::qdisk {
namespace {

constexpr const char* kLog = "qdiskd";
constexpr int kExitFailure = 1;
// Below kEndLimit, so that the rest can still be put away.
constexpr auto kStopLimit = std::chrono::milliseconds(4300);
constexpr size_t kBootIdBytes = 64;

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fputc('\n', stderr);
}

// All zeroes: not known, and each start is taken for a boot.
Uuid boot_id() {
  const auto text = daemon::read_file("/proc/sys/kernel/random/boot_id", kBootIdBytes);
  if (!text) return {};
  std::string_view id = base::as_text(*text);
  return parse_uuid(id.substr(0, id.find('\n'))).value_or(Uuid{});
}

class Daemon {
 public:
  explicit Daemon(Config config) : config_(std::move(config)) {}

  // The exit status.
  int run();

 private:
  using Problem = std::optional<std::string>;

  Problem open();
  Problem open_disks();
  Problem load_identity();
  void make_watchdog();
  void make_fence_agents();
  void make_transport();
  void begin();
  Problem start_servers();
  void finish(QuorumStatus& status) const;
  void on_signal(int signal);
  void reload_identity();
  void stop(int status);
  void close_network();
  void close_disks();
  void on_stop_limit() noexcept { loop_->stop(); }

  const Config config_;
  int status_ = 0;
  bool stopping_ = false;
  bool stopped_ = false;
  size_t open_disks_ = 0;

  base::SystemRandom random_;
  std::unique_ptr<daemon::SignalWatch> signals_;
  std::unique_ptr<daemon::FileWorker> files_;
  std::unique_ptr<io::UringLoop> loop_;
  std::unique_ptr<mpio::EmbeddedDevices> multipath_;
  std::vector<std::unique_ptr<io::FileSharedDevice>> disks_;
  std::vector<GuardedDevice> guarded_;
  std::unique_ptr<rpc::TlsIdentity> identity_;
  std::unique_ptr<RpcTransport> transport_;
  std::unique_ptr<LeasePage> page_;
  std::unique_ptr<FenceAgents> agents_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<NodeService> node_;
  std::unique_ptr<Control> control_;
  std::unique_ptr<daemon::ControlServer> control_server_;
  std::unique_ptr<daemon::MetricsServer> metrics_server_;
  io::TimerOf<Daemon, &Daemon::on_stop_limit> stop_timer_{*this};
};

Daemon::Problem Daemon::open() {
  auto signals = daemon::SignalWatch::open();
  if (!signals) return signals.error().what;
  signals_ = std::move(*signals);
  files_ = std::make_unique<daemon::FileWorker>();
  signals_->set_step("its certificate and disks to be opened");
  if (Problem problem = load_identity()) return problem;
  auto loop = io::UringLoop::open({});
  if (!loop) return fmt::format("{} ({})", loop.error().what, std::strerror(loop.error().sys));
  loop_ = std::move(*loop);
  if (Problem problem = open_disks()) return problem;
  auto page = LeasePage::open(config_.lease_page);
  if (!page) return page.error();
  make_watchdog();
  make_fence_agents();
  page_ = std::make_unique<LeasePage>(std::move(*page));
  make_transport();
  node_ = std::make_unique<NodeService>(NodeService::Services{.loop = *loop_,
                                                              .random = random_,
                                                              .transport = *transport_,
                                                              .files = *files_,
                                                              .page = *page_,
                                                              .agents = *agents_,
                                                              .watchdog = watchdog_.get()},
                                        config_, guarded_, boot_id());
  control_ = std::make_unique<Control>(*loop_, *node_,
                                       [this](QuorumStatus& status) noexcept { finish(status); });
  return std::nullopt;
}

void Daemon::make_watchdog() {
  if (!config_.watchdog.device.empty()) {
    watchdog_ = std::make_unique<KernelWatchdog>(config_.watchdog.device);
  } else if (!config_.watchdog.lab.empty()) {
    watchdog_ = std::make_unique<LabWatchdogClient>(config_.watchdog.lab);
  }
}

void Daemon::make_fence_agents() {
  std::vector<FenceAgent> agents;
  for (const NodeConfig& node : config_.nodes) {
    if (node.fence_agent.empty() || node.name == config_.node) continue;
    agents.push_back({.node = node.id,
                      .command = node.fence_agent,
                      .deadline = std::chrono::milliseconds(node.fence_deadline_ms)});
  }
  auto made = FenceAgents::create(*loop_, std::move(agents));
  ASSERT(made.has_value());  // load_config() refused anything else
  agents_ = std::move(*made);
}

Daemon::Problem Daemon::load_identity() {
  const TlsConfig& tls = config_.tls;
  auto context =
      rpc::TlsContext::load({.ca = tls.ca, .certificate = tls.certificate, .key = tls.key},
                            {.cluster = config_.cluster_name, .node = config_.node});
  if (!context) return context.error();
  identity_ = std::make_unique<rpc::TlsIdentity>(std::move(*context));
  return std::nullopt;
}

Daemon::Problem Daemon::open_disks() {
  const mpio::Config& multipath = config_.multipath;
  if (!multipath.devices.empty()) {
    auto devices = mpio::EmbeddedDevices::open(*loop_, random_, *files_,
                                               {.devices = multipath.devices,
                                                .initiator_name = multipath.initiator_name,
                                                .state_dir = multipath.state_dir,
                                                .config_file = config_.file});
    if (!devices) return devices.error();
    multipath_ = std::move(*devices);
  }
  std::vector<DiskConfig> wanted = config_.volumes;
  if (config_.witness) wanted.push_back(*config_.witness);
  for (const DiskConfig& each : wanted) {
    const bool volume = &each != &wanted.back() || !config_.witness;
    guarded_.push_back({.name = each.name});
    if (volume) guarded_.back().volume = each.number;
    if (!each.device.empty()) {
      guarded_.back().device = multipath_->find(each.device);
      continue;
    }
    auto opened = open_path_disk(*loop_, each.path);
    if (!opened) return fmt::format("{}: {}", each.name, opened.error());
    guarded_.back().device = opened->get();
    disks_.push_back(std::move(*opened));
  }
  open_disks_ = disks_.size();
  return std::nullopt;
}

void Daemon::make_transport() {
  RpcTransport::Options options{.self = config_.self().id,
                                .net_dead = config_.timers.net_dead,
                                .agreement = agreement_of(config_.cluster, config_.timers)};
  for (const NodeConfig& node : config_.nodes) {
    options.nodes.push_back({.id = node.id, .name = node.name, .addresses = node.addresses});
  }
  transport_ = std::make_unique<RpcTransport>(
      RpcTransport::Services{
          .loop = *loop_, .network = *loop_, .random = random_, .identity = *identity_},
      std::move(options));
}

int Daemon::run() {
  if (Problem problem = open()) {
    say(*problem);
    return kExitFailure;
  }
  loop_->post([this]() noexcept { begin(); });
  loop_->run();

  signals_->set_step("the threads of the control socket and the metrics page");
  control_server_.reset();
  metrics_server_.reset();
  if (!stopped_ || files_->busy()) {
    // Requests are still in the kernel, and it would write into memory that we give back.
    LOG_WARNING(kLog, "not everything has ended: exiting all the same");
    std::fflush(nullptr);
    _exit(status_);
  }
  control_.reset();
  node_.reset();
  agents_.reset();
  transport_.reset();
  if (multipath_ != nullptr) {
    signals_->set_step("the session identifiers to be put away");
    multipath_->finish();
  }
  multipath_.reset();
  disks_.clear();
  loop_.reset();
  return status_;
}

void Daemon::begin() {
  signals_->start(*loop_, [this](int signal) noexcept { on_signal(signal); });
  if (Problem problem = start_servers()) {
    say(*problem);
    return stop(kExitFailure);
  }
  const auto running = []() noexcept {
    if (!daemon::notify_systemd("READY=1")) LOG_WARNING(kLog, "systemd could not be told");
  };
  if (multipath_ != nullptr) multipath_->start();
  node_->start(running, [this](const std::string& why) noexcept {
    LOG_ERROR(kLog, "{}", why);
    stop(kExitFailure);
  });
}

Daemon::Problem Daemon::start_servers() {
  if (const auto started = transport_->start(); !started) {
    return fmt::format("the cluster networks cannot be used: {} ({})", started.error().what,
                       std::strerror(started.error().sys));
  }
  daemon::ControlServerOptions options{.path = config_.control_socket};
  // The command line gives up after 2 s, and is to hear why.
  options.reply_deadline = std::chrono::milliseconds(1800);
  options.timed_out = "timed out: the local disk or the witness does not answer; look at the log";
  auto server = daemon::ControlServer::start(options, control_->handler());
  if (!server) return server.error();
  control_server_ = std::move(*server);
  if (config_.metrics.empty()) return std::nullopt;
  const auto endpoint = io::Endpoint::parse(config_.metrics);
  ASSERT(endpoint.has_value());  // load_config() refused anything else
  auto metrics = daemon::MetricsServer::start(*endpoint, control_->metrics_page());
  if (!metrics) return metrics.error();
  metrics_server_ = std::move(*metrics);
  return std::nullopt;
}

void Daemon::finish(QuorumStatus& status) const {
  if (watchdog_ != nullptr) {
    const auto problem = watchdog_->problem();
    status.watchdog = watchdog_->describe() + (watchdog_->armed() ? ", armed" : ", not armed") +
                      (problem ? ": " + *problem : "");
  }
  for (const RpcTransport::LinkStatus& link : transport_->links()) {
    for (HostStatus& host : status.hosts) {
      if (host.id == link.node && !link.up) host.problem = link.why;
    }
  }
}

// --- signals ---

void Daemon::on_signal(int signal) {
  if (signal == SIGHUP) return reload_identity();
  LOG_INFO(kLog, "signal {}: stopping", signal);
  stop(0);
}

// A certificate that has been renewed. Everything else takes a restart.
void Daemon::reload_identity() {
  const auto load = [this]() noexcept {
    const TlsConfig& tls = config_.tls;
    auto context =
        rpc::TlsContext::load({.ca = tls.ca, .certificate = tls.certificate, .key = tls.key},
                              {.cluster = config_.cluster_name, .node = config_.node});
    if (!context) return LOG_ERROR(kLog, "reload: the old certificate stays: {}", context.error());
    loop_->post([this, context = std::move(*context)]() noexcept {
      LOG_INFO(kLog, "reload: the certificate is valid until {}", context->valid_until());
      identity_->replace(context);
    });
  };
  if (!files_->submit(load)) {
    LOG_ERROR(kLog, "reload: the old certificate stays, as earlier work on files has not ended");
  }
}

// --- the end ---

void Daemon::stop(int status) {
  if (std::exchange(stopping_, true)) return;
  status_ = status;
  daemon::notify_systemd("STOPPING=1");
  signals_->begin_end(status);
  loop_->start(stop_timer_, kStopLimit);
  node_->stop([this]() noexcept { close_network(); });
}

void Daemon::close_network() {
  transport_->close([this]() noexcept {
    if (multipath_ == nullptr) return close_disks();
    multipath_->stop([this]() noexcept { close_disks(); });
  });
}

void Daemon::close_disks() {
  const auto end = [this]() noexcept {
    stopped_ = true;
    loop_->stop(stop_timer_);
    loop_->stop();
  };
  if (disks_.empty()) return end();
  for (const auto& disk : disks_) {
    disk->close([this, end]() noexcept {
      if (--open_disks_ == 0) end();
    });
  }
}

int main_of(int argc, char** argv) {
  const auto line = daemon::read_command_line("holdfast-qdiskd", HOLDFAST_VERSION, argc, argv);
  if (!line) return line.error();
  auto config = load_config(line->config);
  if (!config) {
    for (const daemon::ConfigError& error : config.error()) say(error.to_string());
    return kExitFailure;
  }
  if (line->check) {
    say(fmt::format("{}: nothing is wrong with it", line->config));
    return 0;
  }
  return Daemon(std::move(*config)).run();
}

}  // namespace
}  // namespace holdfast::qdisk

int main(int argc, char** argv) { return holdfast::qdisk::main_of(argc, argv); }
