#include "mpio/nbd_server.h"

#include "tests/unit/mpio/nbd_fixture.h"

namespace holdfast::mpio {
namespace {

using nbd::Asked;
using nbd::Command;
using Kind = io::BlockRequest::Kind;
namespace command_flags = nbd::command_flags;

TEST_F(NbdServerTest, WritesAndReadsBothKindsOfReplies) {
  start();
  for (const bool structured : {false, true}) {
    auto one = client(structured);
    EXPECT_EQ(one->exported.size.get(), device.content.size());
    const nbd::Wire data = pattern(300 * 1024, structured ? 3 : 9);
    const auto written = one->ask({Command::write, 4096, 300 * 1024, 0, 77}, data);
    EXPECT_EQ(written.error, 0u);
    EXPECT_EQ(written.cookie, 77u);
    EXPECT_EQ(written.structured, structured);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), device.content.begin() + 4096));
    const auto read = one->ask({Command::read, 4096, 300 * 1024, 0, 78});
    EXPECT_EQ(read.data, data);
    EXPECT_EQ(read.structured, structured);
  }
}

TEST_F(NbdServerTest, FlagsReachTheDevice) {
  start();
  auto one = client();
  EXPECT_EQ(one->error_of({Command::write, 0, 512, command_flags::kFua}, nbd::Wire(512)), 0u);
  EXPECT_EQ(one->error_of({Command::write, 0, 512}, nbd::Wire(512)), 0u);
  EXPECT_EQ(one->error_of({Command::trim, 512, 1024, command_flags::kFua}), 0u);
  EXPECT_EQ(one->error_of({Command::write_zeroes, 0, 4096, command_flags::kNoHole}), 0u);
  EXPECT_EQ(one->error_of({Command::write_zeroes, 0, 4096}), 0u);
  EXPECT_EQ(one->error_of({Command::flush}), 0u);
  ASSERT_EQ(device.seen.size(), 6u);
  EXPECT_EQ(device.seen[0].durability, io::Durability::durable);
  EXPECT_EQ(device.seen[1].durability, io::Durability::cached);
  EXPECT_EQ(device.seen[2].kind, Kind::discard);
  EXPECT_EQ(device.seen[2].durability, io::Durability::durable);
  EXPECT_EQ(device.seen[2].offset, 512u);
  EXPECT_EQ(device.seen[2].length, 1024u);
  EXPECT_EQ(device.seen[3].kind, Kind::write_zeroes);
  EXPECT_FALSE(device.seen[3].may_deallocate);
  EXPECT_TRUE(device.seen[4].may_deallocate);
  EXPECT_EQ(device.seen[5].kind, Kind::flush);
}

TEST_F(NbdServerTest, AnswersComeInTheOrderOfTheDevice) {
  start();
  auto one = client();
  device.hold = true;
  nbd::Wire all;
  for (uint64_t cookie = 0; cookie < 10; ++cookie) {
    all += base::Bytes(nbd::request({Command::read, cookie * 4096, 4096, 0, cookie}));
  }
  ASSERT_TRUE(one->write(all));
  ASSERT_TRUE(until([&] { return device.held.size() == 10; }));
  for (size_t left = 10; left > 0; --left) {
    device.content[(left - 1) * 4096] = static_cast<uint8_t>(left);
    device.release(left - 1);
    const auto reply = one->reply();
    EXPECT_EQ(reply.cookie, left - 1);
    EXPECT_EQ(reply.data.at(0), left);
  }
}

TEST_F(NbdServerTest, ErrorsOfTheDeviceAreAnswered) {
  start();
  for (const bool structured : {false, true}) {
    auto one = client(structured);
    device.result = -ENOSPC;
    EXPECT_EQ(one->error_of({Command::write, 0, 512}, nbd::Wire(512)), nbd::kNoSpace);
    device.result = -EBADE;
    const auto read = one->ask({Command::read, 0, 4096});
    EXPECT_EQ(read.error, nbd::kIo);
    EXPECT_TRUE(read.data.empty());
    device.result = 0;
    EXPECT_EQ(one->error_of({Command::read, 0, 4096}), 0u);  // the stream is still in step
  }
}

TEST_F(NbdServerTest, ARefusedWritesDataIsSkipped) {
  start();
  auto one = client();
  // Its data looks like requests.
  nbd::Wire data;
  while (data.size() < 280 * 1024) {
    data += base::Bytes(nbd::request({Command::trim, 0, 512}));
  }
  data.resize(280 * 1024);
  EXPECT_EQ(one->error_of({Command::write, 64 * kMiB, 280 * 1024}, data), nbd::kNoSpace);
  EXPECT_EQ(one->error_of({Command::flush}), 0u);
  ASSERT_EQ(device.seen.size(), 1u);
  EXPECT_EQ(device.seen[0].kind, Kind::flush);
}

TEST_F(NbdServerTest, TheLargestRequest) {
  start();
  auto one = client();
  const auto length = static_cast<uint32_t>(32 * kMiB);
  const nbd::Wire data = pattern(length, 1);
  EXPECT_EQ(one->error_of({Command::write, kMiB, length}, data), 0u);
  EXPECT_EQ(one->ask({Command::read, kMiB, length}).data, data);
  EXPECT_EQ(one->error_of({Command::read, 0, length + 512}), nbd::kInvalid);
  one->begin_write(nbd::request({Command::write, 0, length + 512}));
  EXPECT_TRUE(one->at_end());
}

TEST_F(NbdServerTest, BlockStatus) {
  start();
  auto one = client();
  device.extents = {{io::ExtentState::mapped, 4096},
                    {io::ExtentState::deallocated, 8192},
                    {io::ExtentState::mapped, kMiB}};
  const auto all = one->ask({Command::block_status, 0, kMiB});
  EXPECT_EQ(all.chunk, nbd::Chunk::block_status);
  EXPECT_EQ(all.data.size(), 3 * sizeof(nbd::StatusDescriptor));
  const auto single = one->ask({Command::block_status, 0, kMiB, command_flags::kRequestOne});
  EXPECT_EQ(single.data.size(), sizeof(nbd::StatusDescriptor));
  EXPECT_EQ(device.seen.back().extents, 1u);
  device.extents = {{io::ExtentState::mapped, 0}};  // a device that does not know
  EXPECT_EQ(one->error_of({Command::block_status, 0, kMiB}), nbd::kIo);
  auto without = client(false);
  EXPECT_EQ(without->error_of({Command::block_status, 0, 512}), nbd::kInvalid);
}

TEST_F(NbdServerTest, ReadOnly) {
  start(64 * kMiB, true);
  auto one = client();
  EXPECT_TRUE((one->exported.flags & nbd::export_flags::kReadOnly) != 0);
  EXPECT_EQ(one->error_of({Command::write, 0, 512}, nbd::Wire(512)), nbd::kPermission);
  EXPECT_EQ(one->error_of({Command::trim, 0, 512}), nbd::kPermission);
  EXPECT_EQ(one->error_of({Command::read, 0, 512}), 0u);
  EXPECT_EQ(device.seen.size(), 1u);
}

TEST_F(NbdServerTest, AReadOnlyDeviceIsAReadOnlyExport) {
  device.read_only = true;
  start();
  EXPECT_TRUE((client()->exported.flags & nbd::export_flags::kReadOnly) != 0);
}

TEST_F(NbdServerTest, ANewSizeIsThereForAll) {
  start();
  auto old = client();
  EXPECT_EQ(old->error_of({Command::read, 64 * kMiB, 512}), nbd::kInvalid);
  device.content.grow(80 * kMiB);
  server->refresh_info();
  EXPECT_EQ(old->error_of({Command::read, 64 * kMiB, 512}), 0u);
  EXPECT_EQ(client()->exported.size.get(), 80 * kMiB);
}

TEST_F(NbdServerTest, ARequestWithoutItsMagicEndsTheConnection) {
  start();
  auto one = client();
  nbd::Wire bad = nbd::request({Command::read, 0, 512});
  bad[0] ^= 1;
  one->begin_write(bad);
  EXPECT_TRUE(one->at_end());
  EXPECT_TRUE(device.seen.empty());
}

TEST_F(NbdServerTest, DisconnectLetsWhatIsUnderWayBeAnswered) {
  start();
  auto one = client();
  device.hold = true;
  ASSERT_TRUE(one->write(nbd::request({Command::read, 0, 4096, 0, 5}) +
                         nbd::request({Command::disconnect}) +
                         nbd::request({Command::read, 0, 4096, 0, 6})));
  ASSERT_TRUE(until([&] { return device.held.size() == 1; }));
  world.run_for(1s);
  EXPECT_EQ(server->connections(), 1u);
  device.release_all();
  EXPECT_EQ(one->reply().cookie, 5u);
  EXPECT_TRUE(one->at_end());
  EXPECT_EQ(device.seen.size(), 1u);
}

// As libnbd does.
TEST_F(NbdServerTest, AlsoOfAClientThatEndsItsOutputWhileRequestsWait) {
  start();
  auto one = client();
  device.hold = true;
  nbd::Wire requests;
  for (size_t i = 0; i <= kMaxNbdRequests; ++i) {
    requests += base::Bytes(nbd::request({Command::read, i * 4096, 4096}));
  }
  ASSERT_TRUE(one->write(requests + nbd::request({Command::disconnect})));
  one->end_output();
  ASSERT_TRUE(until([&] { return device.held.size() == kMaxNbdRequests; }));
  world.run_for(1s);
  device.hold = false;
  device.release_all();
  for (size_t i = 0; i <= kMaxNbdRequests; ++i) EXPECT_EQ(one->reply().data.size(), 4096u);
  EXPECT_TRUE(one->at_end());
}

TEST_F(NbdServerTest, DisconnectOfAnIdleClient) {
  start();
  auto one = client();
  ASSERT_TRUE(one->write(nbd::request({Command::disconnect})));
  EXPECT_TRUE(one->at_end());
  EXPECT_TRUE(until([&] { return server->connections() == 0; }));
}

TEST_F(NbdServerTest, AVanishedClientsRequestsEndBeforeItIsForgotten) {
  start();
  auto gone = client();
  auto stays = client();
  device.hold = true;
  ASSERT_TRUE(gone->write(nbd::request({Command::write, 0, 4096}, pattern(4096, 1)) +
                          nbd::request({Command::read, 0, 4 * kMiB}) +
                          nbd::request({Command::write, 0, kMiB}, nbd::Wire(1000))));
  ASSERT_TRUE(until([&] { return device.held.size() == 2; }));
  gone->kill();
  world.run_for(1s);
  EXPECT_EQ(server->connections(), 2u);
  EXPECT_GT(buffers->used_bytes(), 0u);  // the device still uses them
  device.hold = false;
  EXPECT_EQ(stays->error_of({Command::read, kMiB, 4096}), 0u);  // nobody else is harmed
  device.release_all();
  EXPECT_TRUE(until([&] { return server->connections() == 1; }));
  EXPECT_EQ(device.content[1], pattern(2, 1)[1]);  // the write was executed
  EXPECT_EQ(buffers->used_bytes(), 0u);
}

// It could land on top of them: on another path, or after a fence.
TEST_F(NbdServerTest, ChangesWaitForWhatAVanishedClientLeftUnderWay) {
  start();
  auto gone = client();
  auto next = client();
  device.hold = true;
  ASSERT_TRUE(gone->write(nbd::request({Command::write, 4096, 4096}, pattern(4096, 1))));
  ASSERT_TRUE(until([&] { return device.held.size() == 1; }));
  // While its client is there, order is that client's business.
  ASSERT_TRUE(next->write(nbd::request({Command::write, 4096, 4096}, pattern(4096, 2))));
  ASSERT_TRUE(until([&] { return device.held.size() == 2; }));
  device.release(1);
  gone->kill();
  world.run_for(10ms);
  auto other = client();
  ASSERT_TRUE(next->write(nbd::request({Command::write, 0, 8192}, pattern(8192, 3))));
  ASSERT_TRUE(other->write(nbd::request({Command::read, 16384, 4096}) +
                           nbd::request({Command::write, 8192, 4096}, pattern(4096, 4)) +
                           nbd::request({Command::trim, 4096, 512})));
  world.run_for(1s);
  EXPECT_EQ(device.held.size(), 3u) << "the read and the write elsewhere are under way";
  device.hold = false;
  device.release(0);
  ASSERT_TRUE(until([&] { return device.seen.size() == 6; }));
  device.release_all();
  ASSERT_TRUE(until([&] { return device.under_way == 0; }));
  EXPECT_EQ(device.content[1], pattern(2, 3)[1]);
  EXPECT_EQ(server->connections(), 2u);
}

TEST_F(NbdServerTest, AClientThatTakesNoAnswersIsGivenUp) {
  start();
  auto one = client();
  nbd::Wire all;
  for (int i = 0; i < 20; ++i) all += base::Bytes(nbd::request({Command::read, 0, kMiB}));
  ASSERT_TRUE(one->write(all));
  world.run_for(59s);
  EXPECT_EQ(server->connections(), 1u);
  EXPECT_TRUE(until([&] { return server->connections() == 0; }, 10s));
  EXPECT_EQ(buffers->used_bytes(), 0u);
}

TEST_F(NbdServerTest, AClientThatDoesNotSendItsDataIsGivenUp) {
  start();
  auto one = client();
  ASSERT_TRUE(one->write(nbd::request({Command::write, 0, kMiB}, nbd::Wire(10))));
  ASSERT_TRUE(until([&] { return buffers->used_bytes() > 0; }));
  world.run_for(59s);
  EXPECT_EQ(server->connections(), 1u);
  EXPECT_TRUE(until([&] { return server->connections() == 0; }, 2s));
  EXPECT_TRUE(device.seen.empty());
}

TEST_F(NbdServerTest, NegotiationHasItsTime) {
  start();
  auto one = raw();
  EXPECT_EQ(one->read(18).size(), 18u);
  world.run_for(9s);
  EXPECT_EQ(server->connections(), 1u);
  EXPECT_TRUE(one->at_end(2s));
}

TEST_F(NbdServerTest, AnIdleClientStays) {
  start();
  auto one = client();
  world.run_for(600s);
  EXPECT_EQ(one->error_of({Command::read, 0, 512}), 0u);
}

// The replies are appended to while the first are being sent.
TEST_F(NbdServerTest, OptionsAllAtOnce) {
  start();
  for (int i = 0; i < 20; ++i) {  // other cuts of the stream each time
    auto one = raw();
    nbd::Wire all = nbd::client_flags();
    for (int k = 0; k < 50; ++k) all += base::Bytes(nbd::option(nbd::Option::list));
    one->begin_write(all + nbd::go("csv1") + nbd::request({Command::flush, 0, 0, 0, 42}));
    EXPECT_EQ(one->read(18).size(), 18u);
    const size_t list = 20 + 8 + 20;
    const nbd::Wire replies = one->read(50 * list);
    for (int k = 0; k < 50; ++k) {
      const auto header = base::load<nbd::OptionReplyHeader>(
          base::Bytes(replies).subspan(static_cast<size_t>(k) * list));
      ASSERT_EQ(header.magic.get(), nbd::kOptionReplyMagic) << k;
    }
    one->read(20 + 12 + 20 + 14 + 20);
    EXPECT_EQ(one->reply().cookie, 42u);
  }
}

TEST_F(NbdServerTest, AbortIsAnsweredThenClosed) {
  start();
  auto one = raw();
  one->begin_write(nbd::client_flags() + nbd::option(nbd::Option::abort));
  EXPECT_EQ(one->read(18 + 20 + 1).size(), 38u);
}

TEST_F(NbdServerTest, HostileNegotiationEndsAtOnce) {
  start();
  auto one = raw();
  one->begin_write(nbd::Wire(64, 0xff));
  EXPECT_LE(one->read(19).size(), 18u);
  EXPECT_TRUE(until([&] { return server->connections() == 0; }, 1s));
}

TEST_F(NbdServerTest, MoreRequestsThanSlotsWaitInTheSocket) {
  start();
  auto one = client();
  device.hold = true;
  nbd::Wire all;
  for (uint64_t cookie = 0; cookie < 300; ++cookie) {
    all += base::Bytes(nbd::request({Command::flush, 0, 0, 0, cookie}));
  }
  one->begin_write(all);
  ASSERT_TRUE(until([&] { return device.held.size() == kMaxNbdRequests; }));
  world.run_for(1s);
  EXPECT_EQ(device.held.size(), kMaxNbdRequests);
  device.hold = false;
  device.release_all();
  std::vector<bool> answered(300);
  for (int i = 0; i < 300; ++i) answered.at(one->reply().cookie) = true;
  EXPECT_TRUE(std::ranges::all_of(answered, std::identity{}));
}

TEST_F(NbdServerTest, WhenTheBuffersAreUsedUpRequestsWaitTheirTurn) {
  start(32 * kMiB);
  auto a = client(), b = client(), c = client();
  device.hold = true;
  ASSERT_TRUE(a->write(nbd::request({Command::read, 0, 16 * kMiB})));
  ASSERT_TRUE(b->write(nbd::request({Command::read, 0, 10 * kMiB})));
  ASSERT_TRUE(until([&] { return device.held.size() == 2; }));
  // Too large for what is left; and it is not overtaken by what would fit.
  ASSERT_TRUE(c->write(nbd::request({Command::read, 0, 32 * kMiB, 0, 3})));
  world.run_for(100ms);
  ASSERT_TRUE(b->write(nbd::request({Command::read, 0, 4096, 0, 2})));
  world.run_for(1s);
  EXPECT_EQ(device.held.size(), 2u);
  device.release_all();
  EXPECT_EQ(a->reply().data.size(), 16 * kMiB);
  EXPECT_EQ(b->reply().data.size(), 10 * kMiB);
  ASSERT_TRUE(until([&] { return device.held.size() == 1; }));
  EXPECT_EQ(device.seen.back().length, 32 * kMiB);
  device.hold = false;
  device.release_all();
  EXPECT_EQ(c->reply().data.size(), 32 * kMiB);
  EXPECT_EQ(b->reply().cookie, 2u);
}

TEST_F(NbdServerTest, OneClientCannotTakeAllBuffers) {
  start();
  auto greedy = client();
  auto other = client();
  nbd::Wire all;
  for (int i = 0; i < 100; ++i) all += base::Bytes(nbd::request({Command::read, 0, 8 * kMiB}));
  ASSERT_TRUE(greedy->write(all));  // and never reads an answer
  world.run_for(1s);
  EXPECT_LE(buffers->used_bytes(), 32 * kMiB);
  EXPECT_EQ(other->error_of({Command::read, 0, 16 * kMiB}), 0u);
}

TEST_F(NbdServerTest, BuffersOfAnotherServerAreWaitedForToo) {
  start(32 * kMiB);
  auto one = client();
  auto elsewhere = buffers->acquire(io::kMaxSlabBytes);
  ASSERT_TRUE(one->write(nbd::request({Command::read, 0, 32 * kMiB})));
  world.run_for(1s);
  EXPECT_TRUE(device.seen.empty());
  elsewhere = {};
  EXPECT_EQ(one->reply().data.size(), 32 * kMiB);
}

TEST_F(NbdServerTest, APoolThatIsTooSmallIsRefused) {
  buffers = io::BufferPool::create(16 * kMiB).value();
  NbdServer small(loop, network, *buffers, device, {.name = "x", .socket = "/run/x"});
  EXPECT_EQ(small.start().error().code, base::Errc::limit);
}

TEST_F(NbdServerTest, ManyClientsAtOnce) {
  start(32 * kMiB);
  std::vector<std::unique_ptr<NbdClient>> clients;
  for (uint8_t i = 0; i < 20; ++i) {
    clients.push_back(client(i % 2 == 0));
    nbd::Wire all;
    for (uint64_t k = 0; k < 10; ++k) {
      all += base::Bytes(nbd::request({Command::write, (i * 10 + k) * 65536, 65536, 0, k},
                                      pattern(65536, static_cast<uint8_t>(i * 10 + k))));
    }
    clients.back()->begin_write(all);
  }
  for (auto& each : clients) {
    for (int k = 0; k < 10; ++k) EXPECT_EQ(each->reply().error, 0u);
  }
  for (size_t at = 0; at < 200; ++at) {
    const nbd::Wire expected = pattern(65536, static_cast<uint8_t>(at));
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                           device.content.begin() + static_cast<ptrdiff_t>(at * 65536)))
        << at;
  }
}

TEST_F(NbdServerTest, TooManyClientsAreTurnedAway) {
  start();
  std::vector<std::unique_ptr<NbdClient>> clients;
  for (int i = 0; i < 64; ++i) clients.push_back(client());
  auto late = raw();
  EXPECT_TRUE(late->at_end());
  clients.pop_back();
  ASSERT_TRUE(until([&] { return server->connections() == 63; }));
  EXPECT_EQ(client()->error_of({Command::flush}), 0u);
}

TEST_F(NbdServerTest, StopWaitsForTheDevice) {
  start();
  auto one = client();
  device.hold = true;
  ASSERT_TRUE(one->write(nbd::request({Command::write, 0, 4096}, nbd::Wire(4096))));
  ASSERT_TRUE(until([&] { return device.held.size() == 1; }));
  bool stopped = false;
  loop.post([&]() noexcept { server->stop([&]() noexcept { stopped = true; }); });
  world.run_for(1s);
  EXPECT_FALSE(stopped);
  EXPECT_FALSE(network.connect_unix(kSocketPath).has_value());
  device.release_all();
  EXPECT_TRUE(until([&] { return stopped; }));
  server.reset();
}

// Requests of all kinds, cut anywhere, with clients that vanish: nothing leaks, nothing asserts.
TEST_F(NbdServerTest, ClientsThatVanishAnywhere) {
  start(32 * kMiB);
  for (uint64_t round = 0; round < 200; ++round) {
    auto one = raw();
    nbd::Wire all =
        nbd::client_flags() + nbd::option(nbd::Option::structured_reply) + nbd::go("csv1");
    for (uint64_t k = 0; k < 6; ++k) {
      all += base::Bytes(nbd::request({Command::write, k * 65536, 65536}, pattern(65536, 1)));
      all += base::Bytes(nbd::request({Command::read, k * 4096, 3 * kMiB}));
      all += base::Bytes(nbd::request({Command::trim, 0, 512}));
      all += base::Bytes(nbd::request({static_cast<Command>(k), 1, 511}));
    }
    all.resize(1 + world.random().below(all.size()));
    one->begin_write(all);
    world.run_for(world.between(0us, 5ms));
    one->kill();
  }
  EXPECT_TRUE(until([&] { return server->connections() == 0; }));
  EXPECT_EQ(buffers->used_bytes(), 0u);
  EXPECT_EQ(device.under_way, 0u);
}

}  // namespace
}  // namespace holdfast::mpio
