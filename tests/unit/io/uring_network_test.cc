#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "common/io/network.h"
#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {
namespace {

// The loop holds one end of a connection, the test a plain blocking socket at the other.
class UringNetworkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto listening = loop().listen(Endpoint::parse("127.0.0.1:0").value_or(Endpoint{}));
    ASSERT_TRUE(listening.has_value()) << listening.error().what;
    listener_ = *listening;
    peer_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = 0;
    const sockaddr_storage address = loop().local_endpoint(listener_).to_sockaddr(&length);
    ASSERT_EQ(::connect(peer_, reinterpret_cast<const sockaddr*>(&address), length), 0);
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    setsockopt(peer_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    socket_ = thread_.complete([&](Op& op) { loop().accept(op, listener_); });
    ASSERT_GE(socket_, 0);
  }
  void TearDown() override {
    if (peer_ >= 0) ::close(peer_);
    if (socket_ >= 0) loop().close(socket_, false);
    loop().close(listener_, false);
  }

  UringLoop& loop() { return thread_.loop(); }
  int32_t receive(std::span<const iovec> buffers) {
    return thread_.complete([&](Op& op) { loop().receive(op, socket_, buffers); });
  }
  int32_t send(std::span<const iovec> buffers) {
    return thread_.complete([&](Op& op) { loop().send(op, socket_, buffers); });
  }

  LoopThread thread_;
  Socket listener_ = kNoSocket;
  Socket socket_ = kNoSocket;
  int peer_ = -1;
};

TEST_F(UringNetworkTest, AcceptGivesAConnectionWithoutNagle) {
  int nodelay = 0, keepalive = 0;
  socklen_t length = sizeof(int);
  ASSERT_EQ(getsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &nodelay, &length), 0);
  ASSERT_EQ(getsockopt(socket_, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &length), 0);
  EXPECT_NE(nodelay, 0);
  EXPECT_NE(keepalive, 0);

  sockaddr_storage mine{};
  socklen_t mine_length = sizeof(mine);
  ASSERT_EQ(getsockname(peer_, reinterpret_cast<sockaddr*>(&mine), &mine_length), 0);
  EXPECT_EQ(loop().peer_endpoint(socket_), Endpoint::from(mine));
  EXPECT_EQ(loop().local_endpoint(socket_), loop().local_endpoint(listener_));
}

TEST_F(UringNetworkTest, ReceivesIntoAListOfBuffers) {
  std::array<char, 3> first{};
  std::array<char, 5> second{};
  std::array<char, 64> third{};
  const std::array<iovec, 3> list{iovec{first.data(), first.size()},
                                  iovec{second.data(), second.size()},
                                  iovec{third.data(), third.size()}};
  ASSERT_EQ(::send(peer_, "abcdefghijkl", 12, 0), 12);
  ASSERT_EQ(receive(list), 12);
  EXPECT_EQ(std::string(first.data(), 3), "abc");
  EXPECT_EQ(std::string(second.data(), 5), "defgh");
  EXPECT_EQ(std::string(third.data(), 4), "ijkl");
  ASSERT_EQ(::send(peer_, "xy", 2, 0), 2);
  ASSERT_EQ(receive(std::span(list).first(1)), 2);  // one buffer goes another way to the kernel
  EXPECT_EQ(std::string(first.data(), 2), "xy");
}

TEST_F(UringNetworkTest, SendsAListOfBuffersInOrder) {
  std::string head = "head,", body = "body,", tail = "tail";
  const std::array<iovec, 3> list{iovec{head.data(), head.size()}, iovec{body.data(), body.size()},
                                  iovec{tail.data(), tail.size()}};
  ASSERT_EQ(send(list), 14);
  std::array<char, 14> got{};
  ASSERT_EQ(::recv(peer_, got.data(), got.size(), MSG_WAITALL), 14);
  EXPECT_EQ(std::string(got.data(), got.size()), "head,body,tail");
  ASSERT_EQ(send(std::span(list).last(1)), 4);
  ASSERT_EQ(::recv(peer_, got.data(), 4, MSG_WAITALL), 4);
  EXPECT_EQ(std::string(got.data(), 4), "tail");
}

TEST_F(UringNetworkTest, APendingReceiveCanBeCancelled) {
  std::array<char, 16> bytes{};
  const iovec buffer{bytes.data(), bytes.size()};
  std::promise<int32_t> done;
  Call pending([&](int32_t result) { done.set_value(result); });
  thread_.call([&] { loop().receive(pending, socket_, {&buffer, 1}); });
  thread_.call([&] { loop().cancel(pending); });
  EXPECT_EQ(done.get_future().get(), -ECANCELED);
  thread_.call([] {});
  // The connection lives on.
  ASSERT_EQ(::send(peer_, "z", 1, 0), 1);
  EXPECT_EQ(receive({&buffer, 1}), 1);
}

TEST_F(UringNetworkTest, APeerThatReadsNothingStopsASendUntilItIsCancelled) {
  const int small = 4096;
  setsockopt(socket_, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  std::vector<char> bytes(64 * 1024 * 1024);
  const iovec buffer{bytes.data(), bytes.size()};
  std::promise<int32_t> done;
  Call pending([&](int32_t result) { done.set_value(result); });
  auto result = done.get_future();
  // What fits is taken; of a send that found no room at all only the cancel makes an end.
  int32_t sent = 0;
  do {
    thread_.call([&] { loop().send(pending, socket_, {&buffer, 1}); });
    if (result.wait_for(50ms) == std::future_status::timeout) break;
    sent = result.get();
    ASSERT_GT(sent, 0);
    ASSERT_LT(static_cast<size_t>(sent), bytes.size());
    thread_.call([] {});
    done = std::promise<int32_t>();
    result = done.get_future();
  } while (true);
  thread_.call([&] { loop().cancel(pending); });
  const int32_t last = result.get();
  EXPECT_TRUE(last == -ECANCELED || (last > 0 && static_cast<size_t>(last) < bytes.size())) << last;
  thread_.call([] {});
}

TEST_F(UringNetworkTest, ThePeersCloseIsAReceiveOfNothing) {
  std::array<char, 16> bytes{};
  const iovec buffer{bytes.data(), bytes.size()};
  ::close(std::exchange(peer_, -1));
  EXPECT_EQ(receive({&buffer, 1}), 0);
}

TEST_F(UringNetworkTest, ShutdownEndsAPendingReceive) {
  std::array<char, 16> bytes{};
  const iovec buffer{bytes.data(), bytes.size()};
  std::promise<int32_t> done;
  Call pending([&](int32_t result) { done.set_value(result); });
  thread_.call([&] { loop().receive(pending, socket_, {&buffer, 1}); });
  thread_.call([&] { loop().shutdown(socket_); });
  EXPECT_LE(done.get_future().get(), 0);
  thread_.call([] {});
  // And a send after it fails without a signal.
  EXPECT_EQ(send({&buffer, 1}), -EPIPE);
}

TEST_F(UringNetworkTest, AfterTheEndOfOutputThePeerStillReadsWhatWasSent) {
  std::string answer = "bye";
  const iovec buffer{answer.data(), answer.size()};
  ASSERT_EQ(send({&buffer, 1}), 3);
  thread_.call([&] { loop().shutdown_send(socket_); });
  std::array<char, 16> got{};
  EXPECT_EQ(::recv(peer_, got.data(), got.size(), MSG_WAITALL), 3);
  EXPECT_EQ(std::string(got.data(), 3), "bye");
  EXPECT_EQ(::recv(peer_, got.data(), got.size(), 0), 0);
  ASSERT_EQ(::send(peer_, "ok", 2, 0), 2);  // the other direction is open
  EXPECT_EQ(receive({&buffer, 1}), 2);
}

TEST_F(UringNetworkTest, CloseWithResetIsSeenAsOne) {
  loop().close(std::exchange(socket_, kNoSocket), true);
  char byte = 0;
  EXPECT_EQ(::recv(peer_, &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNRESET);
}

TEST_F(UringNetworkTest, ListenSaysWhyNot) {
  const auto taken = loop().listen(loop().local_endpoint(listener_));
  ASSERT_FALSE(taken.has_value());
  EXPECT_EQ(taken.error().code, base::Errc::busy);
  EXPECT_EQ(taken.error().sys, EADDRINUSE);
  const auto foreign = loop().listen(Endpoint::parse("192.0.2.1:3260").value_or(Endpoint{}));
  ASSERT_FALSE(foreign.has_value());
  EXPECT_EQ(foreign.error().code, base::Errc::invalid_argument);
}

}  // namespace
}  // namespace holdfast::io
