// holdfast-mpiod: wires the real loops and sockets to multipath devices and their exports.

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/daemon/command_line.h"
#include "common/daemon/control_server.h"
#include "common/daemon/edge_thread.h"
#include "common/daemon/file_worker.h"
#include "common/daemon/notify.h"
#include "common/daemon/signal_watch.h"
#include "common/io/netlink_link_watch.h"
#include "common/io/uring_loop.h"
#include "mpio/config.h"
#include "mpio/control_requests.h"
#include "mpio/session_book.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "mpiod";
constexpr int kExitFailure = 1;
// Who waits for READY is told after this, with the devices that there are: a target that is down
// must not hold up the start of a host.
constexpr auto kReadyLimit = std::chrono::seconds(5);
// Below kEndLimit, so that the rest can still be put away.
constexpr auto kStopLimit = std::chrono::milliseconds(4300);

void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fputc('\n', stderr);
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    LOG_WARNING(kLog, "the limit of open files stays: {}", std::strerror(errno));
  }
}

class Daemon final : private io::LinkListener {
 public:
  Daemon(std::string path, Config config) : path_(std::move(path)), config_(std::move(config)) {}
  ~Daemon() override = default;

  // The exit status.
  int run();

 private:
  struct Worker {  // one thread: devices and their exports
    std::unique_ptr<io::UringLoop> loop;
    std::unique_ptr<io::BufferPool> buffers;
    std::thread thread;
  };
  struct Member {
    std::unique_ptr<DeviceService> service;
    Worker* worker;
  };

  bool open();
  bool open_loops();
  bool make_services();
  void begin();
  bool start_servers();
  void on_known();
  void on_ready_time() noexcept { become_ready(); }
  void become_ready();
  void on_signal(int signal);
  void reload();
  void apply(Config config);
  void on_link(const io::LinkEvent& event) noexcept override;
  void tell_link(const io::Endpoint& source, bool up);
  void stop(int status);
  void on_service_stopped();
  void on_stop_limit() noexcept;
  void close_link_watch();

  const std::string path_;
  Config config_;
  int status_ = 0;
  bool ready_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  size_t known_ = 0;
  size_t running_ = 0;

  base::SystemRandom random_;
  std::unique_ptr<daemon::SignalWatch> signals_;
  std::unique_ptr<SessionBook> sessions_;
  std::unique_ptr<io::UringLoop> loop_;  // of the main thread: signals, links, control
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Member> members_;
  std::unique_ptr<io::NetlinkLinkWatch> links_;
  std::unique_ptr<Control> control_;
  std::unique_ptr<daemon::ControlServer> control_server_;
  std::unique_ptr<daemon::FileWorker> files_;
  io::TimerOf<Daemon, &Daemon::on_ready_time> ready_timer_{*this};
  io::TimerOf<Daemon, &Daemon::on_stop_limit> stop_timer_{*this};
};

bool Daemon::open() {
  auto signals = daemon::SignalWatch::open();
  if (!signals) {
    say(signals.error().what);
    return false;
  }
  signals_ = std::move(*signals);
  files_ = std::make_unique<daemon::FileWorker>();
  signals_->set_step(fmt::format("the session identifiers in {} to be read", config_.state_dir));
  auto book = SessionBook::open(config_.state_dir, random_, *files_);
  if (!book) {
    say(book.error());
    return false;
  }
  sessions_ = std::move(*book);
  signals_->set_step("its threads and buffers to be made");
  return open_loops() && make_services();
}

bool Daemon::open_loops() {
  const auto failed = [](const base::Error& error) {
    say(fmt::format("{} ({})", error.what, std::strerror(error.sys)));
    return false;
  };
  auto loop = io::UringLoop::open({});
  if (!loop) return failed(loop.error());
  loop_ = std::move(*loop);
  const size_t wanted = std::min<size_t>(config_.io_threads, config_.devices.size());
  for (size_t i = 0; i < wanted; ++i) {
    auto own = io::UringLoop::open({});
    if (!own) return failed(own.error());
    auto buffers = io::BufferPool::create(config_.buffer_memory_bytes);
    if (!buffers) return failed(buffers.error());
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->loop = std::move(*own);
    workers_.back()->buffers = std::move(*buffers);
  }
  return true;
}

bool Daemon::make_services() {
  std::vector<DeviceServiceOptions> made;
  for (const DeviceConfig& device : config_.devices) {
    DeviceServiceOptions options{
        .config = device, .config_file = path_, .initiator_name = config_.initiator_name};
    for (const ExportConfig& each : config_.exports) {
      if (each.device == device.name) options.exports.push_back(each);
    }
    io::Loop& loop = *workers_[made.size() % workers_.size()]->loop;
    if (auto taken = sessions_->enter(config_.devices, options, loop); !taken) {
      say(taken.error());
      return false;
    }
    made.push_back(std::move(options));
  }
  // Durable before the first login.
  if (auto begun = sessions_->begin(); !begun) {
    say(begun.error());
    return false;
  }
  for (size_t i = 0; i < made.size(); ++i) {
    Worker& worker = *workers_[i % workers_.size()];
    const Path::Services services{.loop = *worker.loop, .network = *worker.loop, .random = random_};
    members_.push_back(
        {.service = std::make_unique<DeviceService>(services, *worker.buffers, std::move(made[i])),
         .worker = &worker});
  }
  return true;
}

int Daemon::run() {
  if (!open()) return kExitFailure;
  raise_descriptor_limit();
  for (size_t i = 0; i < workers_.size(); ++i) {
    const std::string name = fmt::format("hf-path-{}", i);
    workers_[i]->thread =
        daemon::start_edge_thread(name.c_str(), [loop = workers_[i]->loop.get()] { loop->run(); });
  }
  loop_->post([this]() noexcept { begin(); });
  loop_->run();

  signals_->set_step("the thread of the control socket");
  control_server_.reset();
  if (!stopped_ || files_->busy()) {
    // Requests are still in the kernel, and it would write into memory that we give back.
    LOG_WARNING(kLog, "not everything has ended: exiting all the same");
    std::fflush(nullptr);
    _exit(status_);
  }
  signals_->set_step("the threads of the devices");
  for (const auto& worker : workers_) worker->loop->stop();
  for (const auto& worker : workers_) worker->thread.join();
  signals_->set_step(
      fmt::format("the session identifiers in {} to be put away", config_.state_dir));
  std::vector<uint64_t> unfenced;
  for (const Member& member : members_) {
    std::ranges::copy(member.service->unfenced_sessions(), std::back_inserter(unfenced));
  }
  sessions_->close(std::move(unfenced));
  control_.reset();
  links_.reset();
  members_.clear();
  workers_.clear();
  loop_.reset();
  return status_;
}

void Daemon::begin() {
  signals_->start(*loop_, [this](int signal) noexcept { on_signal(signal); });
  if (!start_servers()) return stop(kExitFailure);
  auto links = io::NetlinkLinkWatch::open(*loop_, {});
  if (links) {
    links_ = std::move(*links);
    links_->add(*this);
  } else {
    LOG_WARNING(kLog, "links are not watched, lost ones are found by silence: {}",
                links.error().what);
  }
  running_ = members_.size();
  loop_->start(ready_timer_, kReadyLimit);
  if (members_.empty()) become_ready();
  for (const Member& member : members_) {
    member.worker->loop->post([this, service = member.service.get()]() noexcept {
      service->start([this]() noexcept { loop_->post([this]() noexcept { on_known(); }); });
    });
  }
}

bool Daemon::start_servers() {
  std::vector<Control::Member> members;
  for (const Member& member : members_) {
    members.push_back({.service = member.service.get(), .loop = member.worker->loop.get()});
  }
  control_ = std::make_unique<Control>(*loop_, std::move(members));
  daemon::ControlServerOptions options{.path = config_.control_socket};
  // The command line gives up after 2 s, and is to hear why.
  options.reply_deadline = std::chrono::milliseconds(1800);
  options.timed_out = "timed out: the thread of that device does not answer; look at the log";
  auto server = daemon::ControlServer::start(options, control_->handler());
  if (!server) {
    say(server.error());
    return false;
  }
  control_server_ = std::move(*server);
  return true;
}

void Daemon::on_known() {
  if (++known_ == members_.size()) become_ready();
}

void Daemon::become_ready() {
  if (stopping_ || std::exchange(ready_, true)) return;
  loop_->stop(ready_timer_);
  if (known_ < members_.size()) {
    LOG_WARNING(kLog, "ready, though {} of {} devices have no path yet", members_.size() - known_,
                members_.size());
  }
  if (!daemon::notify_systemd("READY=1")) LOG_WARNING(kLog, "systemd could not be told");
}

// --- signals ---

void Daemon::on_signal(int signal) {
  if (signal != SIGHUP) {
    LOG_INFO(kLog, "signal {}: stopping", signal);
    return stop(0);
  }
  if (stopping_) return;
  if (!files_->submit([this]() noexcept { reload(); })) {
    LOG_ERROR(kLog, "{} is not read: earlier reloads have not ended", path_);
  }
}

// On the thread that reads files.
void Daemon::reload() {
  auto config = load_config(path_);
  if (!config) {
    for (const daemon::ConfigError& error : config.error()) {
      LOG_ERROR(kLog, "{}", error.to_string());
    }
    LOG_ERROR(kLog, "reload: nothing has changed");
    return;
  }
  loop_->post([this, config = std::move(*config)]() mutable noexcept { apply(std::move(config)); });
}

void Daemon::apply(Config config) {
  if (stopping_) return;
  const std::vector<std::string> obstacles = reload_obstacles(config_, config);
  for (const std::string& obstacle : obstacles) LOG_ERROR(kLog, "reload: {}", obstacle);
  if (!obstacles.empty()) {
    LOG_ERROR(kLog, "reload: nothing has changed");
    return;
  }
  config_ = std::move(config);
  for (const DeviceConfig& device : config_.devices) {
    for (const Member& member : members_) {
      if (member.service->name() != device.name) continue;
      member.worker->loop->post(
          [service = member.service.get(), device]() noexcept { service->apply(device); });
    }
  }
  LOG_INFO(kLog, "reload: done");
}

// --- links ---

void Daemon::on_link(const io::LinkEvent& event) noexcept {
  using Change = io::LinkEvent::Change;
  std::vector<io::Endpoint> told;  // several paths may have one source
  for (const DeviceConfig& device : config_.devices) {
    for (const PortalConfig& portal : device.portals) {
      if (!portal.source || std::ranges::find(told, *portal.source) != told.end()) continue;
      told.push_back(*portal.source);
      if (event.change == Change::link) {
        const auto where = links_->find(*portal.source);
        if (where && where->interface == event.interface) tell_link(*portal.source, event.up);
      } else if (std::ranges::equal(event.address.address(), portal.source->address())) {
        tell_link(*portal.source, event.change == Change::address_added && event.up);
      }
    }
  }
}

void Daemon::tell_link(const io::Endpoint& source, bool up) {
  LOG_INFO(kLog, "the link of {} is {}", source.address_to_string(), up ? "up" : "down");
  for (const Member& member : members_) {
    member.worker->loop->post([service = member.service.get(), source, up]() noexcept {
      service->link_changed(source, up);
    });
  }
}

// --- the end ---

void Daemon::stop(int status) {
  if (std::exchange(stopping_, true)) return;
  status_ = status;
  daemon::notify_systemd("STOPPING=1");
  signals_->begin_end(status);
  loop_->stop(ready_timer_);
  loop_->start(stop_timer_, kStopLimit);
  if (running_ == 0) return close_link_watch();
  for (const Member& member : members_) {
    member.worker->loop->post([this, service = member.service.get()]() noexcept {
      service->stop(
          [this]() noexcept { loop_->post([this]() noexcept { on_service_stopped(); }); });
    });
  }
}

void Daemon::on_service_stopped() {
  if (--running_ == 0) close_link_watch();
}

void Daemon::close_link_watch() {
  const auto end = [this]() noexcept {
    stopped_ = true;
    loop_->stop(stop_timer_);
    loop_->stop();
  };
  if (links_ == nullptr) return end();
  links_->remove(*this);
  links_->close(end);
}

void Daemon::on_stop_limit() noexcept { loop_->stop(); }

int main_of(int argc, char** argv) {
  const auto line = daemon::read_command_line("holdfast-mpiod", HOLDFAST_VERSION, argc, argv);
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
  return Daemon(line->config, std::move(*config)).run();
}

}  // namespace
}  // namespace holdfast::mpio

int main(int argc, char** argv) { return holdfast::mpio::main_of(argc, argv); }
