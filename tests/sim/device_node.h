#pragma once
// A host with a multipath device of the product, driven by hand: single requests and calls, and
// what the device tells its listener, each with its time.

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mpio/device.h"
#include "tests/sim/sim_link_watch.h"
#include "tests/sim/sim_network.h"

namespace holdfast::sim {

// Owner: the test. Runs in a process of its own; all calls are the test's, from outside the loop,
// and return when they have been answered. Stop it before it is destroyed.
class DeviceNode final : private io::LinkListener, private io::SharedBlockDevice::Listener {
 public:
  using Kind = io::BlockRequest::Kind;
  using EventKind = io::BlockEvent::Kind;
  static constexpr uint32_t kBytes = 4096;                               // of each read and write
  static constexpr const char* kPortals[] = {"10.1.0.10", "10.2.0.10"};  // of the target

  struct Options {
    std::string host = "hv1";
    std::vector<std::string> addresses = {"10.1.0.1", "10.2.0.1"};  // one a path
    Duration no_path_timeout = std::chrono::seconds(60);
    bool session_keys = false;
    bool in_cluster = false;
    std::vector<mpio::LeftSession> left;  // by the process before
  };
  struct Told {
    EventKind kind;
    std::string path;
    Duration at{0};
  };
  // The node's, and lasts as long as it. The n-th of kBytes on the medium.
  struct Request {
    explicit Request(DeviceNode& its_node) : node(its_node), memory(kBytes), request(*this) {}
    void on_done(int32_t its_result) noexcept { node.on_done(*this, its_result); }
    bool done() const { return result.has_value(); }

    DeviceNode& node;
    std::vector<uint8_t> memory;
    iovec part{};
    Duration began{0}, ended{0};
    std::optional<int32_t> result;
    size_t place = 0;    // in the order in which requests ended
    bool again = false;  // submitted anew when it ends, until that is an error
    uint64_t times = 0;  // it ended
    Duration longest{0};
    io::BlockRequestOf<Request, &Request::on_done> request;
  };
  using Requests = std::vector<Request*>;

  DeviceNode(SimWorld& world, SimFabric& fabric, Options options);
  ~DeviceNode() override;

  void start();
  bool stop();  // true: in time; then it may be destroyed
  void kill() { process_.kill(); }
  bool up() const;
  bool all_in(mpio::PathState state) const;

  // Made, not submitted: a write fills its place with `value`.
  Request& make(Kind kind, uint64_t place = 0, uint8_t value = 0);
  void submit(const Requests& requests);  // in one turn of the loop, in this order
  Request& submit(Kind kind, uint64_t place = 0, uint8_t value = 0);
  void cancel(Request& request);
  void fail_queue();
  // Sets it when no write of the request's place may land any more.
  std::shared_ptr<bool> wait_ghosts(const Request& request);
  // -EINPROGRESS: it did not end within that time.
  int32_t finish(Request& request, Duration within);

  // `call(device, done)` makes one of its control calls.
  template <class T = void, class Call>
  base::Result<T> control(Call call) {
    // The answer may come after the test has given up.
    const auto got = std::make_shared<std::optional<base::Result<T>>>();
    in_loop([&] {
      call(device_, [got](base::Result<T> result) noexcept { got->emplace(std::move(result)); });
    });
    if (!world_.run_until([&] { return got->has_value(); }, kControlLimit)) {
      return base::fail(base::Errc::timed_out, "the call was not answered");
    }
    return **got;
  }
  template <class Action>
  void in_loop(Action action) {
    bool ran = false;
    loop_.post([&]() noexcept {
      action();
      ran = true;
    });
    while (!ran) world_.step();
  }

  io::Loop& loop() { return loop_; }
  const mpio::Device& device() const { return device_; }
  mpio::Path& path(size_t index) const { return *device_.paths().at(index); }
  const std::vector<Told>& told() const { return told_; }
  void forget_told() { told_.clear(); }
  size_t count(EventKind kind) const;
  std::optional<Duration> first(EventKind kind, const std::string& path = "") const;

 private:
  static constexpr Duration kControlLimit = std::chrono::seconds(10);

  void on_link(const io::LinkEvent& event) noexcept override;
  void on_block_event(const io::BlockEvent& event) override;
  void on_done(Request& request, int32_t result);

  const Options options_;
  SimWorld& world_;
  SimProcess& process_;
  SimLoop& loop_;
  SimNetwork network_;
  SimLinkWatch links_;
  base::SeededRandom random_;
  std::unique_ptr<io::BufferPool> buffers_;
  mpio::Device device_;
  std::vector<Told> told_;
  std::vector<std::unique_ptr<Request>> requests_;
  size_t ended_ = 0;
};

}  // namespace holdfast::sim
