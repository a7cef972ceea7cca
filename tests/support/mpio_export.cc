// A multipath device of the library, exported over NBD: what holdfast-mpiod does, with the one
// switch that it must not have. `nofence` shows in a test what the fence is for.
//
//   mpio_export [--key KEY] SOCKET TARGET LUN MODE POLICY PORTAL...
//
// MODE: strict, ghost-tracked, nofence, session-keys, or unreserved: with keys of sessions that are
// preempted without the reservation under which that keeps anything out.
//
// With a key it registers it, as the owner of a node's key does, before it exports the device.

#include <fmt/core.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "common/base/random.h"
#include "common/io/uring_loop.h"
#include "common/scsi/report_luns.h"
#include "mpio/device.h"
#include "mpio/nbd_server.h"

namespace holdfast {
namespace {

constexpr uint64_t kPoolBytes = 64 * 1024 * 1024;
constexpr uint64_t kIsid = 0x80'0000'00e000;  // RFC 7143 11.12.5: random, qualifier by path

class Exporter {
 public:
  Exporter(io::UringLoop& loop, io::BufferPool& pool, mpio::DeviceOptions options,
           std::string socket, uint64_t key)
      : loop_(loop),
        key_(key),
        device_({loop, loop, random_}, pool, std::move(options)),
        server_(loop, loop, pool, device_, {.name = "disk", .socket = std::move(socket)}) {}

  void start() {
    device_.start();
    look();
  }

 private:
  void look() noexcept {
    if (!device_.known()) return loop_.start(timer_, std::chrono::milliseconds(10));
    if (key_ == 0) return export_it();
    device_.use_key(key_, [this](base::Result<> registered) noexcept {
      if (!registered.has_value()) {
        fmt::print(stderr, "cannot register: {}\n", registered.error().what);
        std::exit(1);
      }
      export_it();
    });
  }

  void export_it() {
    if (const auto started = server_.start(); !started.has_value()) {
      fmt::print(stderr, "cannot export: {}\n", started.error().what);
      std::exit(1);
    }
    fmt::print("ready\n");
    std::fflush(stdout);
  }

  io::UringLoop& loop_;
  const uint64_t key_;
  base::SystemRandom random_;
  mpio::Device device_;
  mpio::NbdServer server_;
  io::TimerOf<Exporter, &Exporter::look> timer_{*this};
};

int run(int argc, char** argv) {
  uint64_t key = 0;
  if (argc > 2 && std::string_view(argv[1]) == "--key") {
    key = std::strtoull(argv[2], nullptr, 0);
    argc -= 2;
    argv += 2;
  }
  if (argc < 7) {
    fmt::print(stderr, "usage: mpio_export [--key KEY] SOCKET TARGET LUN MODE POLICY PORTAL...\n");
    return 2;
  }
  const std::string_view mode = argv[4];
  const auto policy = mpio::parse_policy(argv[5]);
  if (!policy.has_value()) return 2;
  mpio::DeviceOptions options{.name = "disk", .policy = *policy};
  options.lun = static_cast<uint16_t>(std::strtoul(argv[3], nullptr, 10));
  options.ghost_tracked = mode == "ghost-tracked";
  options.fence = mode != "nofence";
  options.session_keys = mode == "session-keys" || mode == "unreserved";
  options.reserve_for_sessions = mode != "unreserved";
  for (int i = 6; i < argc; ++i) {
    const auto portal = io::Endpoint::parse(argv[i]);
    if (!portal.has_value()) return 2;
    mpio::PathSettings path{.name = argv[i], .lun = scsi::encode_lun(options.lun)};
    path.session.portal = *portal;
    path.session.login.initiator_name = "iqn.2026-11.org.holdfast:test-mpio";
    path.session.login.target_name = argv[2];
    path.session.login.isid = kIsid + static_cast<uint64_t>(i);
    options.paths.push_back(std::move(path));
  }
  auto loop = io::UringLoop::open({});
  auto pool = io::BufferPool::create(kPoolBytes);
  if (!loop.has_value() || !pool.has_value()) return 1;
  Exporter exporter(**loop, **pool, std::move(options), argv[1], key);
  (*loop)->post([&exporter]() noexcept { exporter.start(); });
  (*loop)->run();
  return 0;
}

}  // namespace
}  // namespace holdfast

int main(int argc, char** argv) { return holdfast::run(argc, argv); }
