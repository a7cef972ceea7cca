#pragma once
// How another daemon of the host takes part: it hears what has been decided, says what it has
// dropped of former members, and asks for fences. Whether the lease is valid it sees itself, before
// each I/O: lease_page.h. docs/qdisk-protocol.md, "What other daemons know".
//
// Owner: the daemon; one loop's. What waits for the quorum daemon are threads of their own. When
// the quorum daemon is restarted it goes on by itself.

#include <array>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/daemon/control_client.h"
#include "common/daemon/file_worker.h"
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
    daemon::Exchange exchange;  // control_exchange("holdfast-qdiskd", ...); from other threads,
                                // also after this object has gone
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

 private:
  using Line = std::expected<std::string, std::string>;
  struct Job {
    std::string request;
    std::function<bool(const Line&)> take;  // false: it is to be asked again
  };

  bool ask(daemon::FileWorker& worker, const std::string& request,
           std::move_only_function<void(const Line&) noexcept> answered);
  void attend() noexcept;
  void on_attended(const Line& line);
  std::optional<std::string> take_view(const Line& line);
  void run(std::shared_ptr<Job> job);
  void run_simple(const std::string& request, Done done);
  void on_retry() noexcept;

  io::Loop& loop_;
  const Options options_;
  Listener& listener_;

  Epoch quiesced_ = 0;
  Epoch told_ = 0;
  std::optional<View> view_;
  bool attending_ = false;  // a request is under way
  bool unreachable_ = false;
  std::vector<std::shared_ptr<Job>> retries_;

  // One waits for news, the other for what was asked for.
  daemon::FileWorker attendance_;
  daemon::FileWorker requests_;
  io::TimerOf<QuorumClient, &QuorumClient::attend> attend_timer_{*this};
  io::TimerOf<QuorumClient, &QuorumClient::on_retry> retry_timer_{*this};
  // Ends with this: what is answered later finds nobody.
  std::shared_ptr<QuorumClient*> self_ = std::make_shared<QuorumClient*>(this);
};

}  // namespace holdfast::qdisk
