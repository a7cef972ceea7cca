#pragma once
// How another daemon of the host takes part: it hears what has been decided, says what it has
// dropped of former members, and asks for fences. Whether the lease is valid it sees itself, before
// each I/O: lease_page.h. docs/qdisk-protocol.md, "What other daemons know".
//
// Owner: the daemon; one loop's. What waits for the quorum daemon are two threads of its own. When
// the quorum daemon is restarted it goes on by itself.

#include <array>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/daemon/control_client.h"
#include "common/io/loop.h"
#include "qdisk/decision.h"

namespace holdfast::qdisk {

class QuorumClient {
 public:
  struct View {
    Epoch epoch = 0;                                    // 0: none is known
    std::array<Incarnation, kMaxNodes> incarnations{};  // of the members
    // The newest epoch of which nothing of former members can land any more.
    Epoch fenced = 0;
    bool operator==(const View&) const = default;
  };
  // Calls come on the loop.
  class Listener {
   public:
    virtual ~Listener() = default;
    // Everything that is no member any more as of this view: end its connections, drop what it has
    // queued here, let end what is being executed; then call quiesced(view.epoch). Until then the
    // fence of whoever has left is not over, and if that takes a lease this host is evicted.
    virtual void on_view(const View& view) noexcept = 0;
    // The quorum daemon does not answer, and why. Its lease ends by itself.
    virtual void on_unreachable(const std::string& why) noexcept = 0;
  };
  struct Options {
    std::string name;  // of this daemon: "csvfsd"
    std::string socket = "/run/holdfast/qdiskd.sock";
    daemon::Exchange exchange;  // control_exchange("holdfast-qdiskd", ...), whose deadline bounds
                                // how long the end of this object may take
  };
  struct FenceResult {
    enum class State : uint8_t { drained, timed, failed };
    State state = State::failed;
    std::string why;  // failed
    bool lab = false;
  };
  using Fenced = std::move_only_function<void(FenceResult) noexcept>;
  using Done = std::move_only_function<void(std::expected<void, std::string>) noexcept>;

  QuorumClient(io::Loop& loop, Options options, Listener& listener);
  QuorumClient(const QuorumClient&) = delete;
  QuorumClient& operator=(const QuorumClient&) = delete;
  // Nothing more is called. It counts as one that acts by the lease until it has left.
  ~QuorumClient();

  // From now on it acts by the lease of this host.
  void start();
  void quiesced(Epoch epoch);
  // It has something that must end with the lease, or has no longer. Before that is started `done`
  // must have come without an error.
  void set_runs(bool runs, Done done);
  // It has ended all that it did. Instead of start(), or as the last call.
  void leave(Done done);
  // Evicts this life of the node (0: the present one), and answers when nothing of it can land any
  // more; strict: when also what it ran has stopped. At the latest after `limit`.
  void fence(const std::string& node, Incarnation incarnation, bool strict, io::Duration limit,
             Fenced done);

  // As many requests may wait; more are answered with an error.
  static constexpr size_t kMaxJobs = 64;

 private:
  // From an answer to what it means; nothing: it is to be asked again, later in turn.
  struct Job {
    std::string request;
    std::function<std::optional<io::Task>(std::expected<std::string, std::string>)> take;
  };
  struct Attendance;

  void post(io::Task task);
  void submit(Job job, io::Task refused);
  void submit_simple(std::string request, Done done);
  void attend();
  void work();
  void take_view(const std::string& line, Attendance& known);

  io::Loop& loop_;
  const Options options_;
  Listener& listener_;
  std::shared_ptr<QuorumClient*> self_ = std::make_shared<QuorumClient*>(this);

  std::mutex mutex_;  // of all below
  std::condition_variable changed_;
  bool stopping_ = false;
  Epoch quiesced_ = 0;
  std::list<Job> jobs_;

  std::thread attendance_;
  std::thread worker_;
};

}  // namespace holdfast::qdisk
