// holdfast-mpiod: wires the real loops and sockets to multipath devices and their exports.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/daemon/command_line.h"
#include "common/daemon/control_server.h"
#include "common/daemon/descriptor_limit.h"
#include "common/daemon/edge_thread.h"
#include "common/daemon/file_worker.h"
#include "common/daemon/notify.h"
#include "common/daemon/signal_watch.h"
#include "common/io/netlink_link_watch.h"
#include "common/io/uring_loop.h"
#include "mpio/config.h"
#include "mpio/control_requests.h"
#include "mpio/device_set.h"
#include "mpio/link_sources.h"
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
    size_t number = 0;
    size_t devices = 0;
  };
  struct Placed {  // a device that is not there yet
    DeviceServiceOptions options;
    Worker* worker;
  };
  struct Reload {
    Config config;
    std::vector<Placed> added;
    std::vector<std::string> removed;
  };
  using Problem = std::optional<std::string>;

  bool open();
  Problem make_workers(size_t devices);
  void start_thread(Worker& worker);
  Placed place(const Config& config, const DeviceConfig& device);
  Problem assign(std::vector<Placed>& placed);
  void hand_over(std::vector<Placed>& placed);
  void add(Placed placed, DeviceSet::Done known);
  void begin();
  bool start_servers();
  void on_known();
  void on_ready_time() noexcept { become_ready(); }
  void become_ready();
  void on_signal(int signal);
  void begin_reload();
  void read_file();
  void reload_to(Config config);
  void on_assigned(const Problem& problem);
  void on_removed();
  void carry_out(bool handed_over);
  void end_reload();
  void on_link(const io::LinkEvent& event) noexcept override;
  void tell_link(const io::Endpoint& source, bool up);
  void stop(int status);
  void on_stop_limit() noexcept;
  void close_link_watch();

  const std::string path_;
  Config config_;
  int status_ = 0;
  bool ready_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
  size_t known_ = 0;  // of first_
  size_t first_count_ = 0;
  bool reloading_ = false;
  bool reload_again_ = false;

  base::SystemRandom random_;
  std::unique_ptr<daemon::SignalWatch> signals_;
  std::unique_ptr<SessionBook> sessions_;
  std::unique_ptr<io::UringLoop> loop_;  // of the main thread: signals, links, control
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<DeviceSet> devices_;
  std::vector<Placed> first_;  // until begin()
  std::unique_ptr<Reload> reload_;
  std::vector<DeviceRemains> remains_;  // of devices that are gone
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
  auto loop = io::UringLoop::open({});
  if (!loop) {
    say(fmt::format("{} ({})", loop.error().what, std::strerror(loop.error().sys)));
    return false;
  }
  loop_ = std::move(*loop);
  devices_ = std::make_unique<DeviceSet>(*loop_);
  control_ = std::make_unique<Control>(*loop_, *devices_);
  Problem problem = make_workers(config_.devices.size());
  if (!problem) {
    for (const DeviceConfig& device : config_.devices) first_.push_back(place(config_, device));
    problem = assign(first_);
  }
  if (problem) {
    say(*problem);
    return false;
  }
  hand_over(first_);
  first_count_ = first_.size();
  return true;
}

// As many as so many devices are to have. They do not run yet.
Daemon::Problem Daemon::make_workers(size_t devices) {
  const auto failed = [](const base::Error& error) {
    return fmt::format("{} ({})", error.what, std::strerror(error.sys));
  };
  while (workers_.size() < std::min<size_t>(config_.io_threads, devices)) {
    auto own = io::UringLoop::open({});
    if (!own) return failed(own.error());
    auto buffers = io::BufferPool::create(config_.buffer_memory_bytes);
    if (!buffers) return failed(buffers.error());
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->number = workers_.size() - 1;
    workers_.back()->loop = std::move(*own);
    workers_.back()->buffers = std::move(*buffers);
  }
  return std::nullopt;
}

void Daemon::start_thread(Worker& worker) {
  if (worker.thread.joinable()) return;
  worker.thread = daemon::start_edge_thread(fmt::format("hf-path-{}", worker.number).c_str(),
                                            [loop = worker.loop.get()] { loop->run(); });
}

// On the thread with the fewest.
Daemon::Placed Daemon::place(const Config& config, const DeviceConfig& device) {
  const auto best =
      std::ranges::min_element(workers_, {}, [](const auto& worker) { return worker->devices; });
  ++(*best)->devices;
  return {.options = {.config = device,
                      .exports = exports_of(config.exports, device.name),
                      .config_file = path_,
                      .initiator_name = config.initiator_name},
          .worker = best->get()};
}

// Durable before the first login. Blocks, as hand_over() does: docs of SessionBook.
Daemon::Problem Daemon::assign(std::vector<Placed>& placed) {
  for (Placed& each : placed) {
    if (auto assigned = sessions_->assign(each.options); !assigned) return assigned.error();
  }
  if (auto begun = sessions_->begin(); !begun) return begun.error();
  return std::nullopt;
}

void Daemon::hand_over(std::vector<Placed>& placed) {
  for (Placed& each : placed) sessions_->hand_over(each.options, *each.worker->loop);
}

void Daemon::add(Placed placed, DeviceSet::Done known) {
  Worker& worker = *placed.worker;
  start_thread(worker);
  devices_->add({.loop = *worker.loop, .network = *worker.loop, .random = random_}, *worker.buffers,
                std::move(placed.options), std::move(known));
}

int Daemon::run() {
  if (!open()) return kExitFailure;
  daemon::raise_descriptor_limit();
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
  for (const auto& worker : workers_) {
    if (worker->thread.joinable()) worker->thread.join();
  }
  signals_->set_step(
      fmt::format("the session identifiers in {} to be put away", config_.state_dir));
  std::ranges::copy(devices_->take_remains(), std::back_inserter(remains_));
  sessions_->close(remains_);
  control_.reset();
  links_.reset();
  devices_.reset();
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
  loop_->start(ready_timer_, kReadyLimit);
  if (first_.empty()) become_ready();
  for (Placed& each : std::exchange(first_, {})) {
    add(std::move(each), [this]() noexcept { on_known(); });
  }
}

bool Daemon::start_servers() {
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
  if (++known_ == first_count_) become_ready();
}

void Daemon::become_ready() {
  if (stopping_ || std::exchange(ready_, true)) return;
  loop_->stop(ready_timer_);
  if (known_ < first_count_) {
    LOG_WARNING(kLog, "ready, though {} of {} devices have no path yet", first_count_ - known_,
                first_count_);
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
  // Of several that come meanwhile one is enough: it reads the newest file.
  if (reloading_) {
    reload_again_ = true;
    return;
  }
  begin_reload();
}

// --- reload ---

void Daemon::begin_reload() {
  reloading_ = true;
  if (files_->submit([this]() noexcept { read_file(); })) return;
  LOG_ERROR(kLog, "reload: {} is not read, as earlier work on files has not ended", path_);
  end_reload();
}

// On the thread of files.
void Daemon::read_file() {
  auto config = load_config(path_);
  if (!config) {
    for (const daemon::ConfigError& error : config.error()) {
      LOG_ERROR(kLog, "{}", error.to_string());
    }
    LOG_ERROR(kLog, "reload: nothing has changed");
    return loop_->post([this]() noexcept { end_reload(); });
  }
  loop_->post(
      [this, config = std::move(*config)]() mutable noexcept { reload_to(std::move(config)); });
}

void Daemon::reload_to(Config config) {
  if (stopping_) return;
  std::vector<std::string> obstacles = reload_obstacles(config_, config);
  if (obstacles.empty()) {
    if (Problem problem = make_workers(config.devices.size())) obstacles.push_back(*problem);
  }
  for (const std::string& obstacle : obstacles) LOG_ERROR(kLog, "reload: {}", obstacle);
  if (!obstacles.empty()) {
    LOG_ERROR(kLog, "reload: nothing has changed");
    return end_reload();
  }
  reload_ = std::make_unique<Reload>(std::move(config));
  for (const DeviceConfig& device : reload_->config.devices) {
    if (devices_->find(device.name) == nullptr) {
      reload_->added.push_back(place(reload_->config, device));
    }
  }
  for (const auto& device : devices_->devices()) {
    const std::vector<DeviceConfig>& wanted = reload_->config.devices;
    if (std::ranges::find(wanted, device->name, &DeviceConfig::name) == wanted.end()) {
      reload_->removed.push_back(device->name);
    }
  }
  if (reload_->added.empty()) return on_assigned(std::nullopt);
  const bool taken = files_->submit([this]() noexcept {
    Problem problem = assign(reload_->added);
    loop_->post([this, problem = std::move(problem)]() noexcept { on_assigned(problem); });
  });
  if (!taken) on_assigned("earlier work on files has not ended");
}

void Daemon::on_assigned(const Problem& problem) {
  if (stopping_) return;
  if (problem) {
    LOG_ERROR(kLog, "reload: {}", *problem);
    LOG_ERROR(kLog, "reload: nothing has changed");
    for (const Placed& each : reload_->added) --each.worker->devices;
    return end_reload();
  }
  for (const auto& worker : workers_) {
    for (const std::string& name : reload_->removed) {
      if (&devices_->find(name)->loop == worker->loop.get()) --worker->devices;
    }
  }
  // First, and to the end: a new device may be of the same disk, under another name.
  devices_->remove(reload_->removed, [this]() noexcept { on_removed(); });
}

void Daemon::on_removed() {
  if (stopping_) return;
  std::vector<DeviceRemains> remains = devices_->take_remains();
  const bool taken = files_->submit([this, remains]() noexcept {
    for (const DeviceRemains& each : remains) sessions_->leave(each);
    hand_over(reload_->added);
    loop_->post([this]() noexcept { carry_out(true); });
  });
  if (taken) return;
  std::ranges::copy(remains, std::back_inserter(remains_));
  carry_out(false);
}

void Daemon::carry_out(bool handed_over) {
  if (stopping_) return;
  config_ = std::move(reload_->config);
  for (const std::string& name : reload_->removed) LOG_INFO(kLog, "reload: {} removed", name);
  devices_->apply(config_.devices, config_.exports);
  for (Placed& each : reload_->added) {
    const std::string name = each.options.config.name;
    if (!handed_over) {
      --each.worker->devices;
      LOG_ERROR(kLog, "reload: {} is not added, as earlier work on files has not ended", name);
      continue;
    }
    LOG_INFO(kLog, "reload: {} added", name);
    add(std::move(each), []() noexcept {});
  }
  LOG_INFO(kLog, "reload: done");
  end_reload();
}

void Daemon::end_reload() {
  if (stopping_) return;
  reload_.reset();
  reloading_ = false;
  if (std::exchange(reload_again_, false)) begin_reload();
}

// --- links ---

void Daemon::on_link(const io::LinkEvent& event) noexcept {
  for_each_source(config_.devices, *links_, event,
                  [this](const io::Endpoint& source, bool up) { tell_link(source, up); });
}

void Daemon::tell_link(const io::Endpoint& source, bool up) {
  LOG_INFO(kLog, "the link of {} is {}", source.address_to_string(), up ? "up" : "down");
  devices_->link_changed(source, up);
}

// --- the end ---

void Daemon::stop(int status) {
  if (std::exchange(stopping_, true)) return;
  status_ = status;
  daemon::notify_systemd("STOPPING=1");
  signals_->begin_end(status);
  loop_->stop(ready_timer_);
  loop_->start(stop_timer_, kStopLimit);
  devices_->stop([this]() noexcept { close_link_watch(); });
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
