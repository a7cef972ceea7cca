// What the shared volume will be to the quorum daemon: a program of a cluster's host that writes to
// a volume over its own paths, registered with the node's key.
//
//   cluster_writer [--blindly] LEASE_PAGE CONFIG DEVICE WRITER
//
// CONFIG is a holdfast-mpiod's. It waits for a lease and for "verify after register", then writes
// over and over the blocks of the first MiB, several at a time, each filled with WRITER and the
// number of the write; says "writing", then the number of each acknowledged write; and ends with
// "fenced" (a write met a conflict) or "no lease". --blindly: it does not look at the lease, as a
// program that hangs between its look and its write.

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/random.h"
#include "common/daemon/file_worker.h"
#include "common/io/uring_loop.h"
#include "mpio/config.h"
#include "mpio/embedded_devices.h"
#include "qdisk/lease_page.h"

namespace holdfast {
namespace {

using namespace std::chrono_literals;

constexpr size_t kBlock = 4096, kBlocks = 256, kDepth = 8;
constexpr auto kPause = 2ms;  // after each write

void say(const std::string& text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

class Writer {
 public:
  Writer(io::UringLoop& loop, qdisk::LeaseReader page, io::SharedBlockDevice& device,
         std::string name, bool blindly)
      : loop_(loop),
        page_(std::move(page)),
        device_(device),
        name_(std::move(name)),
        blindly_(blindly) {
    for (auto& slot : slots_) slot = std::make_unique<Slot>(*this);
  }

  void start() { wait_for_lease(); }
  uint64_t next() {
    if (!blindly_ && !page_.valid(loop_.now())) end("no lease");
    // Never a block whose earlier write is under way still, on a path that has failed.
    do {
      ++number_;
    } while (std::ranges::any_of(slots_, [this](const auto& slot) {
      return slot->under_way && slot->number % kBlocks == number_ % kBlocks;
    }));
    return number_;
  }
  [[noreturn]] static void end(const char* why) {
    say(why);
    std::_Exit(0);
  }

 private:
  struct Slot {
    explicit Slot(Writer& owner) : writer(owner) {}
    void write() noexcept {
      number = writer.next();
      under_way = true;
      std::array<char, 16> stamp{};
      std::memcpy(stamp.data(), writer.name_.data(), std::min<size_t>(8, writer.name_.size()));
      std::memcpy(stamp.data() + 8, &number, 8);
      for (size_t at = 0; at < kBlock; at += stamp.size()) {
        std::memcpy(data + at, stamp.data(), stamp.size());
      }
      part = {.iov_base = data, .iov_len = kBlock};
      request.kind = io::BlockRequest::Kind::write;
      request.offset = number % kBlocks * kBlock;
      request.length = kBlock;
      request.data = {&part, 1};
      writer.device_.submit(request);
    }
    void on_done(int32_t result) noexcept {
      under_way = false;
      if (result == -EBADE) end("fenced");
      if (result < 0) {
        say(fmt::format("error {}", -result));
      } else {
        say(std::to_string(number));
      }
      writer.loop_.start(timer, kPause);
    }

    Writer& writer;
    uint64_t number = 0;
    bool under_way = false;
    alignas(4096) char data[kBlock];
    iovec part{};
    io::BlockRequestOf<Slot, &Slot::on_done> request{*this};
    io::TimerOf<Slot, &Slot::write> timer{*this};
  };

  void wait_for_lease() noexcept {
    const auto view = page_.read();
    if (!view || !view->valid(loop_.now())) return loop_.start(timer_, 20ms);
    device_.use_key(view->key, [this](base::Result<> result) noexcept {
      if (!result) return loop_.start(timer_, 20ms);
      registered_at_ = loop_.now();
      verify();
    });
  }
  void verify() noexcept {
    const auto view = page_.read();
    if (!view || view->confirmed_at < registered_at_) return loop_.start(verify_timer_, 20ms);
    say("writing");
    for (const auto& slot : slots_) slot->write();
  }

  io::UringLoop& loop_;
  const qdisk::LeaseReader page_;
  io::SharedBlockDevice& device_;
  const std::string name_;
  const bool blindly_;
  io::Instant registered_at_{};
  uint64_t number_ = 0;
  std::array<std::unique_ptr<Slot>, kDepth> slots_;
  io::TimerOf<Writer, &Writer::wait_for_lease> timer_{*this};
  io::TimerOf<Writer, &Writer::verify> verify_timer_{*this};
};

[[noreturn]] void fail(const std::string& why) {
  fmt::print(stderr, "{}\n", why);
  std::exit(2);
}

int run(int argc, char** argv) {
  const bool blindly = argc > 1 && std::string_view(argv[1]) == "--blindly";
  if (blindly) --argc, ++argv;
  if (argc != 5) fail("cluster_writer [--blindly] LEASE_PAGE CONFIG DEVICE WRITER");
  auto page = qdisk::LeaseReader::open(argv[1]);
  if (!page) fail(page.error());
  const auto config = mpio::load_config(argv[2]);
  if (!config) fail(config.error().front().to_string());
  auto loop = io::UringLoop::open({});
  if (!loop) fail(loop.error().what);
  base::SystemRandom random;
  daemon::FileWorker files;
  auto devices = mpio::EmbeddedDevices::open(**loop, random, files,
                                             {.devices = config->devices,
                                              .initiator_name = config->initiator_name,
                                              .state_dir = config->state_dir,
                                              .config_file = argv[2]});
  if (!devices) fail(devices.error());
  Writer writer(**loop, std::move(*page), *(*devices)->find(argv[3]), argv[4], blindly);
  (*loop)->post([&]() noexcept {
    (*devices)->start();
    writer.start();
  });
  (*loop)->run();
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::run(argc, argv); }
