// holdfast-targetd: wires the real loops, disks and sockets to the target.

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/log.h"
#include "common/daemon/command_line.h"
#include "common/daemon/descriptor_limit.h"
#include "common/daemon/edge_thread.h"
#include "common/daemon/file_worker.h"
#include "common/daemon/metrics_server.h"
#include "common/daemon/notify.h"
#include "common/daemon/signal_watch.h"
#include "common/io/backing_opener.h"
#include "common/io/uring_loop.h"
#include "target/config.h"
#include "target/control_requests.h"
#include "target/metrics_text.h"
#include "target/shard.h"
#include "target/state_store.h"
#include "target/target_node.h"

namespace holdfast::target {
namespace {

constexpr const char* kLog = "targetd";
constexpr int kExitFailure = 1;
void say(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fputc('\n', stderr);
}

// One for each connection, and a few for each disk and thread.
void raise_descriptor_limit(const Config& config) {
  const uint64_t allowed = daemon::raise_descriptor_limit();
  const uint64_t wanted = config.max_connections + config.disks.size() + 256;
  if (allowed < wanted) {
    LOG_WARNING(kLog,
                "only {} open files are allowed, max_connections={} needs {}: raise LimitNOFILE",
                allowed, config.max_connections, wanted);
  }
}

class Daemon {
 public:
  Daemon(std::string path, Config config) : path_(std::move(path)), config_(std::move(config)) {}

  // The exit status.
  int run();

 private:
  bool open();
  void make_shards();
  void on_started(NodeControl::Outcome outcome);
  bool start_servers();
  void on_signal(int signal);
  void reload();
  void stop(int status);

  const std::string path_;
  const Config config_;
  int status_ = 0;
  bool stopping_ = false;
  bool drained_ = false;

  base::SystemRandom random_;
  io::SystemBackingOpener opener_;
  std::unique_ptr<daemon::SignalWatch> signals_;
  std::vector<std::unique_ptr<io::UringLoop>> loops_;  // 0: the control loop, on the main thread
  std::vector<std::thread> threads_;                   // of the others
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<TargetNode> node_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::unique_ptr<daemon::ControlServer> control_server_;
  std::unique_ptr<daemon::MetricsServer> metrics_server_;
  std::unique_ptr<daemon::FileWorker> files_;
};

bool Daemon::open() {
  auto signals = daemon::SignalWatch::open();
  if (!signals) {
    say(signals.error().what);
    return false;
  }
  signals_ = std::move(*signals);
  files_ = std::make_unique<daemon::FileWorker>();
  signals_->set_step(fmt::format("the state store in {} to open", config_.state_dir));
  auto store = open_state_store({.state_dir = config_.state_dir}, random_);
  if (!store) {
    say(store.error());
    if (geteuid() != 0) say("holdfast-targetd is not running as root: does it own that directory?");
    return false;
  }
  store_ = std::move(*store);
  for (const std::string& own : {config_.state_dir + "/state.db", path_}) opener_.claim(own);
  signals_->set_step("its threads and buffers to be made");
  const uint32_t threads =
      config_.threads != 0 ? config_.threads : std::max(1u, std::thread::hardware_concurrency());
  for (uint32_t i = 0; i < threads; ++i) {
    auto loop = io::UringLoop::open({.spin_us = config_.spin_us});
    if (!loop) {
      say(fmt::format("{} ({})", loop.error().what, std::strerror(loop.error().sys)));
      return false;
    }
    loops_.push_back(std::move(*loop));
  }
  return true;
}

void Daemon::make_shards() {
  node_ = std::make_unique<TargetNode>(NodeServices{.loop = *loops_[0],
                                                    .network = *loops_[0],
                                                    .random = random_,
                                                    .opener = opener_,
                                                    .store = *store_,
                                                    .version = HOLDFAST_VERSION});
  for (uint32_t i = 0; i < loops_.size(); ++i) {
    io::UringLoop& loop = *loops_[i];
    ShardOptions options{.index = i,
                         .buffer_memory_bytes = config_.buffer_memory_bytes != 0
                                                    ? config_.buffer_memory_bytes
                                                    : kDefaultBufferMemoryBytes,
                         .drain_deadline = std::chrono::milliseconds(config_.drain_deadline_ms),
                         .busy_permille = [&loop] { return loop.busy_permille(); }};
    shards_.push_back(std::make_unique<Shard>(std::move(options), loop, loop, random_, *node_));
  }
}

int Daemon::run() {
  if (!open()) return kExitFailure;
  raise_descriptor_limit(config_);
  make_shards();
  for (size_t i = 1; i < loops_.size(); ++i) {
    const std::string name = fmt::format("hf-shard-{}", i);
    threads_.push_back(
        daemon::start_edge_thread(name.c_str(), [loop = loops_[i].get()] { loop->run(); }));
  }
  loops_[0]->post([this]() noexcept {
    signals_->start(*loops_[0], [this](int signal) noexcept { on_signal(signal); });
    std::vector<ShardHandle> handles;
    for (size_t i = 0; i < shards_.size(); ++i) {
      handles.push_back({.shard = shards_[i].get(), .loop = loops_[i].get()});
    }
    node_->start(config_, std::move(handles),
                 [this](NodeControl::Outcome outcome) noexcept { on_started(std::move(outcome)); });
  });
  loops_[0]->run();

  signals_->set_step("the threads of the control socket and the metrics page");
  control_server_.reset();
  metrics_server_.reset();
  if (!drained_ || files_->busy()) {
    // Requests are still in the kernel, and it would write into memory that we give back. It ends
    // them itself when the process is gone, and holds the disks' locks until then.
    LOG_WARNING(kLog, "not every request has ended: exiting all the same");
    std::fflush(nullptr);
    _exit(status_);
  }
  signals_->set_step("the threads of the shards");
  for (size_t i = 1; i < loops_.size(); ++i) loops_[i]->stop();
  for (std::thread& thread : threads_) thread.join();
  signals_->set_step(fmt::format("the state store in {} to close", config_.state_dir));
  store_.reset();
  shards_.clear();
  node_.reset();
  loops_.clear();
  return status_;
}

void Daemon::on_started(NodeControl::Outcome outcome) {
  if (stopping_) return;
  if (!outcome) {
    for (const std::string& problem : outcome.error()) say(problem);
    say("nothing was started");
    return stop(kExitFailure);
  }
  if (!start_servers()) return stop(kExitFailure);
  for (const std::string& sentence : *outcome) LOG_INFO(kLog, "{}", sentence);
  if (!daemon::notify_systemd("READY=1")) LOG_WARNING(kLog, "systemd could not be told");
}

bool Daemon::start_servers() {
  daemon::ControlServerOptions options{.path = config_.control_socket};
  options.timed_out =
      "timed out: the daemon is still at it; look at `holdfast target status` in a while";
  options.reply_deadline =
      std::max(options.reply_deadline, std::chrono::milliseconds(config_.drain_deadline_ms) + 4s);
  auto control = daemon::ControlServer::start(
      options, control_handler({.node = *node_, .read_files = [this](io::Task task) {
                                  return files_->submit(std::move(task));
                                }}));
  if (!control) {
    say(control.error());
    return false;
  }
  control_server_ = std::move(*control);
  if (config_.metrics.empty()) return true;
  const auto endpoint = io::Endpoint::parse(config_.metrics);
  ASSERT(endpoint.has_value());  // load_config() refused anything else
  auto metrics = daemon::MetricsServer::start(*endpoint, metrics_page(*node_));
  if (!metrics) {
    say(metrics.error());
    return false;
  }
  metrics_server_ = std::move(*metrics);
  return true;
}

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
    for (const daemon::ConfigError& error : config.error())
      LOG_ERROR(kLog, "{}", error.to_string());
    LOG_ERROR(kLog, "{} is not applied: nothing has changed", path_);
    return;
  }
  node_->apply(std::move(*config), false, [](NodeControl::Outcome outcome) noexcept {
    if (outcome) {
      LOG_INFO(kLog, "reload: {}", outcome->size() == 1 ? outcome->front() : "done");
      return;
    }
    for (const std::string& reason : outcome.error()) LOG_ERROR(kLog, "reload: {}", reason);
    LOG_ERROR(kLog, "reload: nothing has changed");
  });
}

void Daemon::stop(int status) {
  if (std::exchange(stopping_, true)) return;
  status_ = status;
  daemon::notify_systemd("STOPPING=1");
  signals_->begin_end(status);
  node_->shutdown([this](bool drained) noexcept {
    drained_ = drained;
    loops_[0]->stop();
  });
}

int check(const std::string& path,
          std::expected<Config, std::vector<daemon::ConfigError>>& config) {
  if (config) {
    say(fmt::format("{}: nothing is wrong with it", path));
    return 0;
  }
  for (const daemon::ConfigError& error : config.error()) say(error.to_string());
  return kExitFailure;
}

int main_of(int argc, char** argv) {
  const auto line = daemon::read_command_line("holdfast-targetd", HOLDFAST_VERSION, argc, argv);
  if (!line) return line.error();
  auto config = load_config(line->config);
  if (line->check || !config) return check(line->config, config);
  return Daemon(line->config, std::move(*config)).run();
}

}  // namespace
}  // namespace holdfast::target

int main(int argc, char** argv) { return holdfast::target::main_of(argc, argv); }
