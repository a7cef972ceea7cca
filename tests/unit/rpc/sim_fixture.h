#pragma once
// Two hosts on the simulated network, each with an identity of one cluster, and what a test hears.

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/rpc/link.h"
#include "tests/sim/sim_network.h"
#include "tests/unit/rpc/certificates.h"

namespace holdfast::rpc {

inline io::Endpoint endpoint(const std::string& text) { return io::Endpoint::parse(text).value(); }

// Certificates cost more than what is tested with them.
struct TestCluster {
  TestCa ca;
  std::shared_ptr<const TlsContext> one = make_context(ca, "hv1");
  std::shared_ptr<const TlsContext> two = make_context(ca, "hv2");
  static const TestCluster& get() {
    static const TestCluster cluster;
    return cluster;
  }
};

inline const char* const kOne = "10.1.0.1";
inline const char* const kTwo = "10.1.0.2";
inline const char* const kPort = "10.1.0.2:7000";

class SimTest : public ::testing::Test {
 protected:
  explicit SimTest(const sim::FabricOptions& options = {}) : fabric(world, options) {}

  bool until(const std::function<bool()>& condition, io::Duration within = 20s) {
    return world.run_until(condition, within);
  }
  static io::ConnectOptions from_one() {
    return {.source = endpoint("10.1.0.1:0"), .not_sent_low_water = kNotSentLowWater};
  }

  sim::SimWorld world{7};
  sim::SimFabric fabric;
  sim::SimProcess& process_one = world.make_process("one");
  sim::SimProcess& process_two = world.make_process("two");
  sim::SimLoop& loop_one = process_one.make_loop();
  sim::SimLoop& loop_two = process_two.make_loop();
  sim::SimNetwork net_one{fabric, loop_one};
  sim::SimNetwork net_two{fabric, loop_two};
};

// A socket with nothing on top: what another program may do.
class RawSocket {
 public:
  RawSocket(sim::SimWorld& world, sim::SimNetwork& network) : world_(world), network_(network) {}
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;
  ~RawSocket() { close(); }

  void connect(const io::Endpoint& to, const char* source = "10.1.0.1:0") {
    socket_ = network_.open_stream(to, {.source = endpoint(source)}).value();
    Op op;
    network_.connect(op.op, socket_, to);
    ASSERT_TRUE(world_.run_until([&] { return op.result.has_value(); }, 1s));
    ASSERT_EQ(*op.result, 0);
  }
  void send(base::Bytes bytes) {
    while (!bytes.empty()) {
      Op op;
      iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
      network_.send(op.op, socket_, {&part, 1});
      ASSERT_TRUE(world_.run_until([&] { return op.result.has_value(); }, 5s));
      if (*op.result <= 0) return;
      bytes = bytes.subspan(static_cast<size_t>(*op.result));
    }
  }
  // What comes next; empty: the end, or nothing within the time.
  std::vector<uint8_t> receive(io::Duration within = 20s) {
    std::vector<uint8_t> buffer(65536);
    Op op;
    iovec part{buffer.data(), buffer.size()};
    network_.receive(op.op, socket_, {&part, 1});
    if (!world_.run_until([&] { return op.result.has_value(); }, within)) {
      network_.cancel(op.op);
      world_.run_until([&] { return op.result.has_value(); }, 1s);
    }
    buffer.resize(static_cast<size_t>(std::max(op.result.value_or(0), 0)));
    return buffer;
  }
  void close() {
    if (socket_ != io::kNoSocket) network_.close(std::exchange(socket_, io::kNoSocket), true);
  }

 private:
  struct Op {
    void on_done(int32_t value) noexcept { result = value; }
    std::optional<int32_t> result;
    io::OpOf<Op, &Op::on_done> op{*this};
  };
  sim::SimWorld& world_;
  sim::SimNetwork& network_;
  io::Socket socket_ = io::kNoSocket;
};

// Says "pong " + payload to requests of type 1, keeps those of type 2, refuses the others.
class TestHandler final : public Handler {
 public:
  void on_request(const Message& request, Responder responder) noexcept override {
    ++requests;
    if (request.type == 1) {
      const std::string answer = "pong " + std::string(base::as_text(request.payload));
      EXPECT_TRUE(responder.reply(base::as_bytes(answer)).has_value());
    } else if (request.type == 2) {
      kept.push_back(std::move(responder));
    } else {
      responder.refuse(Refusal::unknown_type);
    }
  }
  void on_notice(const Message& notice) noexcept override {
    notices.push_back(notice.from + ": " + std::string(base::as_text(notice.payload)));
  }

  size_t requests = 0;
  std::vector<Responder> kept;
  std::vector<std::string> notices;
};

// How one call ended, and how often.
struct CallRecord {
  int ends = 0;
  CallOutcome outcome{};
  std::string text;
  CallDone done() {
    return [this](const CallResult& result) noexcept {
      ++ends;
      outcome = result.outcome;
      text = result.outcome == CallOutcome::reply ? std::string(base::as_text(result.payload))
                                                  : result.why;
    };
  }
};

}  // namespace holdfast::rpc
