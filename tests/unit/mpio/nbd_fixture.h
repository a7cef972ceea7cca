#pragma once
// An NbdServer in the simulator, with a device that does what the test says, and raw clients.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "mpio/nbd_server.h"
#include "tests/sim/sim_network.h"
#include "tests/unit/mpio/nbd_wire.h"

namespace holdfast::mpio {

using namespace std::chrono_literals;
using io::Duration;
using nbd::be32;
using nbd::Chunk;
using nbd::ChunkHeader;
using nbd::client_flags;
using nbd::go;
using nbd::InfoExport;
using nbd::kSimpleReplyMagic;
using nbd::kStructuredReplyMagic;
using nbd::meta;
using nbd::Option;
using nbd::option;
using nbd::OptionReply;
using nbd::OptionReplyHeader;
using nbd::ServerHello;
using nbd::SimpleReply;
using nbd::Wire;
using nbd::operator+;
using nbd::operator+=;

inline constexpr uint64_t kMiB = 1024 * 1024;
inline constexpr const char* kSocketPath = "/run/holdfast/csv1.nbd";

// Zeroes until they are written: a vector would touch all of it for each test.
class Content {
 public:
  explicit Content(size_t size) : size_(size) {}
  void grow(size_t size) { size_ = size; }
  size_t size() const { return size_; }
  uint8_t* data() const { return bytes_.get(); }
  uint8_t* begin() const { return bytes_.get(); }
  uint8_t& operator[](size_t at) const { return bytes_.get()[at]; }

 private:
  static constexpr size_t kMost = 128 * kMiB;
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  size_t size_;
  std::unique_ptr<uint8_t, Free> bytes_{static_cast<uint8_t*>(std::calloc(kMost, 1))};
};

// Keeps its content in memory. Requests end after a while in any order; held ones when told to.
class ScriptedDevice final : public io::SharedBlockDevice {
 public:
  struct Seen {
    io::BlockRequest::Kind kind;
    uint64_t offset, length;
    io::Durability durability;
    bool may_deallocate;
    size_t extents;
  };

  ScriptedDevice(sim::SimWorld& world, sim::SimLoop& loop) : world_(world), loop_(loop) {}

  io::BlockInfo info() const override {
    return {.size_bytes = content.size(), .can_discard = true, .read_only = read_only};
  }
  void submit(io::BlockRequest& request) override {
    seen.push_back({request.kind, request.offset, request.length, request.durability,
                    request.may_deallocate, request.extents.size()});
    const uint64_t id = loop_.begin(request);
    most = std::max(most, ++under_way);
    if (hold) {
      held.push_back({&request, id});
    } else {
      world_.after(world_.between(1us, 3ms),
                   [this, each = Held{&request, id}] { finish(each, result); });
    }
  }
  void release(size_t index, int32_t with = 0) {
    const Held each = held.at(index);
    held.erase(held.begin() + static_cast<ptrdiff_t>(index));
    finish(each, with);
  }
  void release_all() {
    while (!held.empty()) release(0);
  }

  void cancel(io::BlockRequest&) override {}
  void set_listener(Listener*) override {}
  void wait_ghosts(uint64_t, uint64_t, Done) override {}
  void use_key(uint64_t, Done) override {}
  void readmit(Done) override {}
  void verify_key(Done) override {}
  void reserve(io::ReservationType, Done) override {}
  void preempt_and_abort(uint64_t, io::ReservationType, Done) override {}
  void clear_reservations(Done) override {}
  void read_reservations(GotState) override {}

  Content content{64 * kMiB};
  bool read_only = false;
  bool hold = false;
  int32_t result = 0;  // what requests end with; 0: well
  std::vector<Seen> seen;
  std::vector<io::Extent> extents;  // what is answered to status; empty: one that is mapped
  size_t under_way = 0;
  size_t most = 0;

 private:
  struct Held {
    io::BlockRequest* request;
    uint64_t id;
  };
  void finish(const Held& each, int32_t with) {
    --under_way;
    if (with == 0) execute(*each.request);
    loop_.finish(each.id, with);
  }
  void execute(io::BlockRequest& request) {
    using Kind = io::BlockRequest::Kind;
    uint8_t* at = content.data() + request.offset;
    if (request.kind == Kind::discard || request.kind == Kind::write_zeroes) {
      std::fill_n(at, request.length, uint8_t{0});
    }
    if (request.kind == Kind::status) {
      const auto all = extents.empty()
                           ? std::vector<io::Extent>{{io::ExtentState::mapped, request.length}}
                           : extents;
      request.extent_count = std::min(all.size(), request.extents.size());
      std::copy_n(all.begin(), request.extent_count, request.extents.begin());
    }
    for (const iovec& part : request.data) {
      auto* memory = static_cast<uint8_t*>(part.iov_base);
      if (request.kind == Kind::read) std::copy_n(at, part.iov_len, memory);
      if (request.kind == Kind::write) std::copy_n(memory, part.iov_len, at);
      at += part.iov_len;
    }
  }

  sim::SimWorld& world_;
  sim::SimLoop& loop_;

 public:
  std::vector<Held> held;
};

struct NbdReply {
  uint64_t cookie = 0;
  uint32_t error = 0;
  nbd::Chunk chunk{};
  bool structured = false;
  nbd::Wire data;  // of a read; of a block status its descriptors
};

// Its calls run the world until they are done.
class NbdClient {
 public:
  NbdClient(sim::SimWorld& world, sim::SimFabric& fabric)
      : world_(world),
        process_(world.make_process("client")),
        network_(fabric, process_.make_loop()) {
    socket_ = network_.connect_unix(kSocketPath).value();
  }
  ~NbdClient() {
    if (socket_ != io::kNoSocket && process_.alive()) process_.kill();
    send_op_.op.abandon();
    receive_op_.op.abandon();
  }

  // Vanishes: kill -9.
  void kill() { process_.kill(); }
  void pause() { process_.pause(); }
  void end_output() { network_.shutdown_send(socket_); }

  // False: not all of it was taken within the time.
  bool write(nbd::Wire bytes, Duration within = 200s) {
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    pump();
    return world_.run_until([this] { return broken_ || output_.empty(); }, within) && !broken_;
  }
  // Goes out while the world runs.
  void begin_write(const nbd::Wire& bytes) {
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    pump();
  }
  // Fewer at the end of the stream.
  nbd::Wire read(size_t count, Duration within = 200s) {
    nbd::Wire out;
    while (out.size() < count) {
      space_.resize(count - out.size());
      receive_op_.result.reset();
      const iovec part{space_.data(), space_.size()};
      network_.receive(receive_op_.op, socket_, {&part, 1});
      if (!world_.run_until([this] { return receive_op_.result.has_value(); }, within)) {
        ADD_FAILURE() << "nothing comes";
        return out;
      }
      if (*receive_op_.result <= 0) break;
      out.insert(out.end(), space_.begin(), space_.begin() + *receive_op_.result);
    }
    return out;
  }
  bool at_end(Duration within = 200s) { return read(1, within).empty(); }

  // Up to the transmission phase.
  void negotiate(bool structured = true, bool block_status = true) {
    EXPECT_EQ(read(sizeof(ServerHello)).size(), sizeof(ServerHello));
    Wire options = client_flags();
    if (structured) options += base::Bytes(option(Option::structured_reply));
    if (block_status && structured) {
      options += base::Bytes(meta(Option::set_meta_context, "csv1", {"base:allocation"}));
    }
    ASSERT_TRUE(write(options + go("csv1")));
    structured_ = structured;
    while (true) {
      const auto header = base::load<OptionReplyHeader>(read(sizeof(OptionReplyHeader)));
      const Wire data = read(header.length);
      const auto type = static_cast<OptionReply>(header.type.get());
      if (type == OptionReply::info && data.size() == sizeof(InfoExport)) {
        exported = base::load<InfoExport>(data);
      }
      const auto which = static_cast<Option>(header.option.get());
      if (which == Option::go && type != OptionReply::info) {
        EXPECT_EQ(type, OptionReply::ack);
        return;
      }
    }
  }

  // `data_bytes`: what a simple reply to a read brings.
  NbdReply reply(size_t data_bytes = 0) {
    NbdReply out;
    const Wire magic = read(sizeof(be32));
    if (magic.size() < sizeof(be32)) {
      ADD_FAILURE() << "the end instead of a reply";
      return out;
    }
    out.structured = base::load<be32>(magic).get() == kStructuredReplyMagic;
    if (!out.structured) {
      EXPECT_EQ(base::load<be32>(magic).get(), kSimpleReplyMagic);
      const auto rest = base::load<SimpleReply>(magic + read(sizeof(SimpleReply) - sizeof(be32)));
      out.cookie = rest.cookie;
      out.error = rest.error;
      if (out.error == 0) out.data = read(data_bytes);
      return out;
    }
    const auto chunk = base::load<ChunkHeader>(magic + read(sizeof(ChunkHeader) - sizeof(be32)));
    out.cookie = chunk.cookie;
    out.chunk = static_cast<Chunk>(chunk.type.get());
    const Wire payload = read(chunk.length);
    if (out.chunk == Chunk::error) out.error = base::load<be32>(payload);
    if (out.chunk == Chunk::offset_data) out.data.assign(payload.begin() + 8, payload.end());
    if (out.chunk == Chunk::block_status) out.data.assign(payload.begin() + 4, payload.end());
    return out;
  }
  NbdReply ask(const nbd::Asked& asked, base::Bytes data = {}) {
    EXPECT_TRUE(write(nbd::request(asked, data)));
    const bool reads = asked.command == nbd::Command::read && !structured_;
    return reply(reads ? asked.length : 0);
  }
  uint32_t error_of(const nbd::Asked& asked, base::Bytes data = {}) {
    return ask(asked, data).error;
  }

  nbd::InfoExport exported;

 private:
  struct Result {
    void on_done(int32_t value) noexcept {
      result = value;
      if (then) then(value);
    }
    std::optional<int32_t> result;
    std::function<void(int32_t)> then;
    io::OpOf<Result, &Result::on_done> op{*this};
  };

  void pump() {
    if (output_.empty() || send_op_.op.busy() || broken_) return;
    sending_.assign(output_.begin(),
                    output_.begin() + static_cast<ptrdiff_t>(std::min(output_.size(), kMiB)));
    send_op_.then = [this](int32_t sent) {
      broken_ |= sent <= 0;
      if (sent > 0) output_.erase(output_.begin(), output_.begin() + sent);
      pump();
    };
    const iovec part{sending_.data(), sending_.size()};
    network_.send(send_op_.op, socket_, {&part, 1});
  }

  sim::SimWorld& world_;
  sim::SimProcess& process_;
  sim::SimNetwork network_;
  io::Socket socket_ = io::kNoSocket;
  bool structured_ = false;
  bool broken_ = false;
  nbd::Wire output_, sending_, space_;
  Result send_op_, receive_op_;
};

class NbdServerTest : public ::testing::Test {
 protected:
  void start(uint64_t buffer_bytes = 64 * kMiB, bool read_only = false) {
    buffers = io::BufferPool::create(buffer_bytes).value();
    server = std::make_unique<NbdServer>(
        loop, network, *buffers, device,
        NbdServer::Options{.name = "csv1", .socket = kSocketPath, .read_only = read_only});
    ASSERT_TRUE(server->start().has_value());
  }
  void TearDown() override {
    if (server == nullptr) return;
    device.hold = false;
    device.release_all();
    bool stopped = false;
    loop.post([&]() noexcept { server->stop([&]() noexcept { stopped = true; }); });
    EXPECT_TRUE(world.run_until([&] { return stopped; }, 100s));
    EXPECT_EQ(buffers->used_bytes(), 0u);
    server.reset();
    EXPECT_EQ(fabric.sockets_of(process), 0u);
  }
  std::unique_ptr<NbdClient> raw() { return std::make_unique<NbdClient>(world, fabric); }
  std::unique_ptr<NbdClient> client(bool structured = true) {
    auto made = raw();
    made->negotiate(structured);
    return made;
  }
  bool until(const std::function<bool()>& condition, Duration within = 10s) {
    return world.run_until(condition, within);
  }
  static nbd::Wire pattern(size_t bytes, uint8_t seed) {
    nbd::Wire out(bytes);
    for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(seed + i * 7 + i / 4096);
    return out;
  }

  sim::SimWorld world{5};
  sim::SimFabric fabric{world, {}};
  sim::SimProcess& process = world.make_process("mpiod");
  sim::SimLoop& loop = process.make_loop();
  sim::SimNetwork network{fabric, loop};
  ScriptedDevice device{world, loop};
  std::unique_ptr<io::BufferPool> buffers;
  std::unique_ptr<NbdServer> server;
};

}  // namespace holdfast::mpio
