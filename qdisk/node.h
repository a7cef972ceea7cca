#pragma once
// The quorum daemon's heart: drives a Membership with the witness, the devices to be fenced, the
// network and the local disk. Everything it needs is given to it, so that the simulator runs the
// very same.

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/io/loop.h"
#include "common/io/shared_block_device.h"
#include "qdisk/device_guard.h"
#include "qdisk/membership.h"
#include "qdisk/state_store.h"
#include "qdisk/transport.h"
#include "qdisk/witness.h"

namespace holdfast::qdisk {

// Told what the daemon's clients must know. Calls come on the loop, never from inside a call.
class NodeListener {
 public:
  virtual ~NodeListener() = default;
  // Everything that is no member any more as of this decision: end its connections, drop what it
  // has queued here, let end what is being executed; then call Node::quiesced(). Its state is
  // durable.
  virtual void on_decision(const Decision& decision) = 0;
  // Nothing more comes: this life is over. Whatever runs by its right must end.
  virtual void on_evicted() = 0;
  // Of another node, about the configuration document.
  virtual void on_config(NodeId /*from*/, const ConfigMessage& /*message*/) {}
};

struct NodeOptions {
  MembershipSettings membership{};
  Uuid cluster{};
  NodeRecord record{};  // as it was last saved; whoever gives it has decided on the incarnation
  io::Duration fence_hold = std::chrono::seconds(15);
  bool after_eviction = false;  // the life before this one was evicted just now
  bool earlier_life = false;    // there may have been one, whose writes may still be under way
};

// What a device is to the cluster: the witness, or volume `volume`.
struct GuardedDevice {
  std::string name;
  io::SharedBlockDevice* device = nullptr;
  std::optional<size_t> volume;  // none: the witness
};

struct NodeServices {
  io::Loop& loop;
  base::Random& random;
  Transport& transport;
  StateStore& store;
  NodeListener& listener;
};

// For administrators.
struct GuardStatus {
  const GuardedDevice& device;
  bool usable = false;  // this life is registered there, and the last look found it so
  bool without_reservations = false;
  std::string problem;  // why not, or what did not work last
};

class Node final : private Transport::Receiver {
 public:
  static base::Result<std::unique_ptr<Node>> create(const NodeServices& services,
                                                    const NodeOptions& options,
                                                    const std::vector<GuardedDevice>& devices);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node() override;

  void start();
  void quiesced(Epoch epoch);
  base::Result<> ask(const Change& change) { return membership_.ask(change); }
  void forget(const Change& change) {
    if (membership_.asked() == change) membership_.forget_change();
  }
  // The configured witness is the one that the decision names, and this life may write there.
  bool uses_witness() const {
    return witness_open_ && witness_device_->claimed && superblock_ &&
           superblock_->witness == membership_.decision().witness;
  }
  void set_watchdog(WatchdogKind watchdog) { membership_.set_watchdog(watchdog); }
  // The host of this life, which is no member, has been switched off.
  void switched_off(const Life& life) { membership_.on_switched_off(life, services_.loop.now()); }
  // Of its own will, after everything has ended. The others need not wait.
  void leave();
  void force();
  // What is under way ends, then `closed`. Nothing is given back: a key that vanished would let the
  // reservation go.
  void close(io::Task closed);

  const Membership& membership() const { return membership_; }
  bool lease_valid() const { return membership_.lease_valid(services_.loop.now()); }
  std::optional<Token> token(size_t volume) const;
  std::vector<GuardStatus> devices() const;
  // Why the local state could not be saved last; empty: it was.
  const std::string& save_problem() const { return save_problem_; }
  // Of the witness that is in use.
  const std::optional<Superblock>& superblock() const { return superblock_; }

 private:
  struct Guarded {
    GuardedDevice what;
    std::unique_ptr<DeviceGuard> guard;
    bool claimed = false;
    io::Instant next_look{};
    io::Instant lost_at{};            // when our key or the reservation was found to be gone
    std::optional<FenceOrder> order;  // to be carried out
    std::optional<FenceProof> proof;  // of the order's epoch
    Epoch proved = 0;
    std::string problem;
  };

  Node(const NodeServices& services, const NodeOptions& options);

  void on_heartbeat(size_t network, const Heartbeat& heartbeat) override;
  void on_request(const Request& request) override;
  void on_reply(NodeId from, const Reply& reply) override;
  void on_config(NodeId from, const ConfigMessage& message) override {
    services_.listener.on_config(from, message);
  }

  void on_tick() noexcept;
  void take(Effects effects);
  void save_next();
  void carry_out(Effects& effects);
  void run_witness(const WitnessTask& task);
  void open_witness();
  void tend(Guarded& guarded);
  void claim(Guarded& guarded);
  void fence(Guarded& guarded);
  void look_at_proofs();
  void look_whether_closed();
  void note_failure(Guarded& guarded, const base::Error& error);
  void refuse_witness(std::string problem);
  void set_reached(Guarded& guarded, bool reached);
  bool may_claim(const Guarded& guarded) const;
  bool leaves_it_to_the_members() const;
  bool earlier_life_ended() const;
  void merge(Effects& from, Effects& into);
  void save();
  void on_saved(base::Result<> result);
  size_t witness_slots() const;

  NodeServices services_;
  const NodeOptions options_;
  Membership membership_;
  const io::Instant created_at_;
  std::vector<std::unique_ptr<Guarded>> devices_;
  Guarded* witness_device_ = nullptr;
  std::unique_ptr<Witness> witness_;
  bool witness_open_ = false;
  std::optional<Superblock> superblock_;
  uint16_t volumes_ok_ = 0;
  io::Instant next_open_{};

  // To be carried out in order, each after its state is durable.
  std::deque<Effects> waiting_;
  bool saving_ = false;
  std::string save_problem_;
  size_t saved_ = 0;  // of the first so many of them, while saving_
  bool left_ = false;
  bool closing_ = false;
  io::Task closed_;
  io::TimerOf<Node, &Node::on_tick> timer_{*this};
};

}  // namespace holdfast::qdisk
