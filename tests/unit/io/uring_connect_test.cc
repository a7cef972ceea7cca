// A client's side of a real connection: tests/unit/io/uring_network_test.cc has the rest.

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>

#include "common/io/network.h"
#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

Endpoint endpoint(const char* text) { return Endpoint::parse(text).value(); }

class UringConnectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto listening = loop().listen(endpoint("127.0.0.1:0"));
    ASSERT_TRUE(listening.has_value()) << listening.error().what;
    listener_ = *listening;
    portal_ = loop().local_endpoint(listener_);
  }
  void TearDown() override {
    for (const Socket socket : {client_, server_, listener_}) {
      if (socket != kNoSocket) loop().close(socket, false);
    }
  }

  UringLoop& loop() { return thread_.loop(); }
  Socket open(const ConnectOptions& options = {}) {
    const auto opened = loop().open_stream(portal_, options);
    EXPECT_TRUE(opened.has_value()) << opened.error().what;
    return opened.value_or(kNoSocket);
  }
  int32_t connect(Socket socket, const Endpoint& peer) {
    return thread_.complete([&](Op& op) { loop().connect(op, socket, peer); });
  }
  void establish(const ConnectOptions& options = {}) {
    client_ = open(options);
    ASSERT_EQ(connect(client_, portal_), 0);
    server_ = thread_.complete([&](Op& op) { loop().accept(op, listener_); });
    ASSERT_GE(server_, 0);
  }
  template <class T>
  T option(int level, int name) {
    T value{};
    socklen_t length = sizeof(value);
    EXPECT_EQ(getsockopt(client_, level, name, &value, &length), 0);
    return value;
  }

  LoopThread thread_;
  Socket listener_ = kNoSocket, client_ = kNoSocket, server_ = kNoSocket;
  Endpoint portal_;
};

TEST_F(UringConnectTest, ConnectsAsTheOptionsSay) {
  establish(
      {.source = endpoint("127.0.0.9:7"), .user_timeout = 800ms, .not_sent_low_water = 128 * 1024});
  EXPECT_EQ(loop().peer_endpoint(client_), portal_);
  EXPECT_EQ(loop().local_endpoint(client_).address_to_string(), "127.0.0.9");
  EXPECT_NE(loop().local_endpoint(client_).port(), 7);  // the source's is ignored
  EXPECT_EQ(loop().peer_endpoint(server_), loop().local_endpoint(client_));
  EXPECT_EQ(option<unsigned>(IPPROTO_TCP, TCP_USER_TIMEOUT), 800u);
  EXPECT_EQ(option<unsigned>(IPPROTO_TCP, TCP_NOTSENT_LOWAT), 128u * 1024);
  EXPECT_NE(option<int>(IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_NE(fcntl(client_, F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(UringConnectTest, IsResetWhenTheProcessEndsIfAskedFor) {
  establish({.reset_at_exit = true});
  const auto at_exit = option<linger>(SOL_SOCKET, SO_LINGER);
  EXPECT_EQ(at_exit.l_onoff, 1);
  EXPECT_EQ(at_exit.l_linger, 0);
  // An orderly close() still is one: the peer reads to the end.
  loop().close(std::exchange(client_, kNoSocket), false);
  uint8_t byte = 0;
  EXPECT_EQ(::recv(server_, &byte, 1, 0), 0);
}

TEST_F(UringConnectTest, TheSourceIsTheKernelsChoiceUnlessItIsGiven) {
  establish();
  EXPECT_EQ(loop().local_endpoint(client_).address_to_string(), "127.0.0.1");
}

TEST_F(UringConnectTest, TheInterfaceCanBeGiven) {
  establish({.interface = "lo"});
  std::array<char, 16> name{};
  socklen_t length = name.size();
  ASSERT_EQ(getsockopt(client_, SOL_SOCKET, SO_BINDTODEVICE, name.data(), &length), 0);
  EXPECT_STREQ(name.data(), "lo");
}

TEST_F(UringConnectTest, V6Too) {
  const Socket listener = loop().listen(endpoint("[::1]:0")).value();
  portal_ = loop().local_endpoint(listener);
  client_ = open({.source = endpoint("[::1]:0")});
  EXPECT_EQ(connect(client_, portal_), 0);
  EXPECT_EQ(loop().peer_endpoint(client_), portal_);
  loop().close(listener, false);
}

TEST_F(UringConnectTest, SaysWhatThisHostLacks) {
  const auto error = [&](const ConnectOptions& options) {
    const auto opened = loop().open_stream(portal_, options);
    EXPECT_FALSE(opened.has_value());
    return opened.has_value() ? base::Errc::io : opened.error().code;
  };
  EXPECT_EQ(error({.source = endpoint("192.0.2.1:0")}), base::Errc::not_found);
  EXPECT_EQ(error({.interface = "no-such-link"}), base::Errc::not_found);
  EXPECT_EQ(error({.source = endpoint("[::1]:0")}), base::Errc::invalid_argument);
}

TEST_F(UringConnectTest, RefusedAndTheSocketStaysTheCallers) {
  loop().close(std::exchange(listener_, kNoSocket), false);
  client_ = open();
  EXPECT_EQ(connect(client_, portal_), -ECONNREFUSED);
  EXPECT_GE(fcntl(client_, F_GETFD), 0);
}

// A listener with a full backlog drops every SYN, as a network does that swallows them.
class SilentPeerTest : public UringConnectTest {
 protected:
  void SetUp() override {
    UringConnectTest::SetUp();
    ASSERT_EQ(::listen(listener_, 0), 0);
    do {
      fillers_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      socklen_t length = 0;
      const sockaddr_storage address = portal_.to_sockaddr(&length);
      ::connect(fillers_.back(), reinterpret_cast<const sockaddr*>(&address), length);
    } while (established(fillers_.back()));
  }
  void TearDown() override {
    for (const int fd : fillers_) ::close(fd);
    UringConnectTest::TearDown();
  }

 private:
  static bool established(int fd) {
    tcp_info info{};
    socklen_t length = sizeof(info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
           info.tcpi_state == TCP_ESTABLISHED;
  }
  std::vector<int> fillers_;
};

TEST_F(SilentPeerTest, AnAttemptCanBeCancelled) {
  client_ = open();
  std::promise<int32_t> done;
  Call pending([&](int32_t result) { done.set_value(result); });
  auto result = done.get_future();
  thread_.call([&] { loop().connect(pending, client_, portal_); });
  EXPECT_EQ(result.wait_for(20ms), std::future_status::timeout);
  EXPECT_FALSE(loop().transport_info(client_).valid);
  thread_.call([&] { loop().cancel(pending); });
  EXPECT_EQ(result.get(), -ECANCELED);
  thread_.call([] {});
}

TEST_F(SilentPeerTest, TheUserTimeoutEndsAnAttemptToo) {
  client_ = open({.user_timeout = 100ms});
  EXPECT_EQ(connect(client_, portal_), -ETIMEDOUT);
}

class TransportTest : public UringConnectTest {
 protected:
  // Writes what the peer does not read, until `done` says so of what is known or it ends with an
  // error, which it returns.
  int fill(const std::function<bool(const TransportInfo&)>& done) {
    const int small = 16 * 1024;
    setsockopt(client_, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    const std::vector<char> bytes(64 * 1024);
    while (!done(loop().transport_info(client_))) {
      const ssize_t taken =
          ::send(client_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (taken > 0) continue;
      if (errno != EAGAIN) return errno;
      std::this_thread::sleep_for(1ms);
    }
    return 0;
  }
};

TEST_F(TransportTest, TellsOfAHealthyConnection) {
  establish();
  char byte = 'x';
  const iovec buffer{&byte, 1};
  ASSERT_EQ(thread_.complete([&](Op& op) { loop().send(op, client_, {&buffer, 1}); }), 1);
  ASSERT_EQ(thread_.complete([&](Op& op) { loop().receive(op, server_, {&buffer, 1}); }), 1);
  const TransportInfo info = loop().transport_info(client_);
  EXPECT_TRUE(info.valid);
  EXPECT_GT(info.rtt_us, 0u);
  EXPECT_GT(info.mss, 0u);
  EXPECT_GT(info.path_mtu, info.mss);
  EXPECT_EQ(info.unsent_bytes, 0u);
  EXPECT_EQ(info.backoff, 0u);
  EXPECT_EQ(info.unacked, 0u);
}

TEST_F(TransportTest, OfAPeerThatReadsNothingAllIsAcknowledgedAndTheRestUnsent) {
  establish();
  ASSERT_EQ(fill([](const TransportInfo& info) { return info.backoff > 0; }), 0);
  const TransportInfo info = loop().transport_info(client_);
  EXPECT_TRUE(info.valid);
  EXPECT_EQ(info.unacked, 0u);  // its kernel answers: the network is not dead
  EXPECT_GT(info.unsent_bytes, 0u);
  EXPECT_GT(info.backoff, 0u);
}

// Not what RFC 5482 asks for, but what Linux does: whoever sets it cannot wait for a slow target.
TEST_F(TransportTest, TheUserTimeoutEndsAConnectionWhosePeerReadsNothing) {
  establish({.user_timeout = 300ms});
  EXPECT_EQ(fill([](const TransportInfo&) { return false; }), ETIMEDOUT);
  EXPECT_FALSE(loop().transport_info(client_).valid);
}

TEST_F(TransportTest, OfNoConnectionNothingIsKnown) {
  EXPECT_FALSE(loop().transport_info(listener_).valid);
  client_ = open();
  EXPECT_FALSE(loop().transport_info(client_).valid);
}

}  // namespace
}  // namespace holdfast::io
