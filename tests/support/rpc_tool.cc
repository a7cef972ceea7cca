// One node of a cluster with two, for tests/system/rpc_tls_test.py:
//   rpc_tool listen CA CERTIFICATE KEY CLUSTER NODE ADDRESS
//   rpc_tool connect CA CERTIFICATE KEY CLUSTER NODE ADDRESS WANTED_NODE
// Logs to standard error; prints a line for each event. Requests are answered with what they say.
// Ends with its standard input.

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>

#include "common/io/uring_loop.h"
#include "common/rpc/listener.h"
#include "common/rpc/peer.h"

using namespace holdfast;

namespace {

void print(const char* what, const std::string& text) {
  std::printf("%s %s\n", what, text.c_str());
  std::fflush(stdout);
}

class Node final : public rpc::Handler, public rpc::ListenerEvents, public rpc::PeerEvents {
 public:
  Node(io::UringLoop& loop, std::shared_ptr<const rpc::TlsContext> context)
      : loop_(loop), identity_(std::move(context)) {}

  bool listen(const io::Endpoint& address) {
    listener_ =
        std::make_unique<rpc::Listener>(rpc::Listener::Parts{loop_, loop_, identity_, *this, *this},
                                        rpc::Listener::Options{.addresses = {address}});
    if (!listener_->start().has_value()) return false;
    print("listening", address.to_string());
    return true;
  }
  void connect(const io::Endpoint& address, const std::string& node) {
    peer_ = std::make_unique<rpc::Peer>(
        rpc::Peer::Parts{loop_, loop_, random_, identity_, *this, *this},
        rpc::Peer::Options{.node = node, .address = address});
    peer_->start();
    loop_.start(poll_, std::chrono::milliseconds(10));
  }
  void close() {
    loop_.stop(poll_);
    if (listener_) {
      listener_->close([this]() noexcept { loop_.stop(); });
    } else {
      peer_->begin_close();
    }
  }

 private:
  void on_request(const rpc::Message& request, rpc::Responder responder) noexcept override {
    (void)responder.reply(request.payload);
  }
  void on_notice(const rpc::Message&) noexcept override {}
  bool admits(const std::string&, bool) noexcept override { return true; }
  void on_node_up(rpc::Link& link) noexcept override { print("up", link.node()); }
  void on_node_down(rpc::Link& link, const rpc::ConnectionEnd& end) noexcept override {
    print("down", link.node() + ": " + rpc::describe(end));
  }
  void on_peer_up(rpc::Peer& peer) noexcept override {
    print("up", peer.options().node);
    constexpr std::string_view kText = "ping";
    (void)peer.call(1, base::as_bytes(kText), {.deadline = std::chrono::seconds(5)},
                    [](const rpc::CallResult& result) noexcept {
                      print(rpc::to_string(result.outcome),
                            std::string(base::as_text(result.payload)) + result.why);
                    });
  }
  void on_peer_down(rpc::Peer& peer, const rpc::ConnectionEnd& end) noexcept override {
    print("down", peer.options().node + ": " + rpc::describe(end));
  }
  void on_peer_closed(rpc::Peer&) noexcept override { loop_.stop(); }
  // Attempts that came to nothing.
  void on_poll() noexcept {
    const std::string end = rpc::describe(peer_->last_end());
    if (!peer_->up() && peer_->attempts() > 1 && end != told_) {
      print("vain", end);
      told_ = end;
    }
    loop_.start(poll_, std::chrono::milliseconds(10));
  }

  io::UringLoop& loop_;
  base::SystemRandom random_;
  rpc::TlsIdentity identity_;
  std::unique_ptr<rpc::Listener> listener_;
  std::unique_ptr<rpc::Peer> peer_;
  std::string told_;
  io::TimerOf<Node, &Node::on_poll> poll_{*this};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8) return 2;
  const bool listens = std::strcmp(argv[1], "listen") == 0;
  const auto context = rpc::TlsContext::load(
      {.ca = argv[2], .certificate = argv[3], .key = argv[4]}, {argv[5], argv[6]});
  if (!context.has_value()) {
    print("error", context.error());
    return 1;
  }
  const auto address = io::Endpoint::parse(argv[7]);
  const auto loop = io::UringLoop::open({});
  if (!address.has_value() || !loop.has_value() || (!listens && argc < 9)) return 2;
  Node node(**loop, *context);
  bool good = true;
  (*loop)->post([&]() noexcept {
    if (listens) {
      good = node.listen(*address);
    } else {
      node.connect(*address, argv[8]);
    }
  });
  std::thread input([&] {
    char byte = 0;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    (*loop)->post([&]() noexcept { node.close(); });
  });
  (*loop)->run();
  input.join();
  return good ? 0 : 1;
}
