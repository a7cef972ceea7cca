// Exports a file over NBD, for tests/conformance/nbd_test.py.
//   nbd_export FILE SOCKET [--read-only]
// Says "ready" when clients may connect. Ends with its standard input; a line there is the new size
// of the file in bytes.

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "common/io/file_backing.h"
#include "common/io/file_shared_device.h"
#include "mpio/nbd_server.h"

using namespace holdfast;

namespace {

constexpr uint64_t kBufferBytes = 64 * 1024 * 1024;

class Export final : public io::SharedBlockDevice::Listener {
 public:
  Export(io::UringLoop& loop, std::shared_ptr<io::Backing> backing) : loop_(loop) {
    auto device = io::FileSharedDevice::open(loop, std::move(backing));
    auto buffers = io::BufferPool::create(kBufferBytes);
    if (!device.has_value() || !buffers.has_value()) std::abort();
    device_ = std::move(*device);
    buffers_ = std::move(*buffers);
    device_->set_listener(this);
  }

  bool start(const std::string& socket, bool read_only) {
    server_ = std::make_unique<mpio::NbdServer>(
        loop_, loop_, *buffers_, *device_,
        mpio::NbdServer::Options{.name = "disk", .socket = socket, .read_only = read_only});
    const auto started = server_->start();
    if (!started.has_value()) std::fprintf(stderr, "%s\n", started.error().what);
    return started.has_value();
  }

  void grow(uint64_t size_bytes) {
    device_->grow(size_bytes, [](base::Result<> result) noexcept {
      std::printf("%s\n", result.has_value() ? "grown" : result.error().what);
      std::fflush(stdout);
    });
  }

  void stop() {
    server_->stop([this]() noexcept { device_->close([this]() noexcept { loop_.stop(); }); });
  }

 private:
  void on_block_event(const io::BlockEvent& event) override {
    if (event.kind == io::BlockEvent::Kind::capacity_changed) server_->refresh_info();
  }

  io::UringLoop& loop_;
  std::unique_ptr<io::FileSharedDevice> device_;
  std::unique_ptr<io::BufferPool> buffers_;
  std::unique_ptr<mpio::NbdServer> server_;
};

void read_commands(io::UringLoop& loop, Export& served) {
  char line[64];
  while (std::fgets(line, sizeof(line), stdin) != nullptr) {
    const uint64_t size = std::strtoull(line, nullptr, 10);
    loop.post([&served, size]() noexcept { served.grow(size); });
  }
  loop.post([&served]() noexcept { served.stop(); });
}

}  // namespace

int main(int argc, char** argv) {
  const bool read_only = argc == 4 && std::string(argv[3]) == "--read-only";
  if (argc != 3 && !read_only) return 2;
  struct stat status{};
  if (::stat(argv[1], &status) != 0) return 1;
  const auto loop = io::UringLoop::open({});
  const auto backing =
      io::FileBacking::open({.path = argv[1], .size_bytes = static_cast<uint64_t>(status.st_size)},
                            io::BlockingWorker::start());
  if (!loop.has_value() || !backing.has_value()) return 1;
  std::unique_ptr<Export> served;
  std::thread input;
  (*loop)->post([&]() noexcept {
    served = std::make_unique<Export>(**loop, *backing);
    if (!served->start(argv[2], read_only)) std::abort();
    std::printf("ready\n");
    std::fflush(stdout);
    input = std::thread([&] { read_commands(**loop, *served); });
  });
  (*loop)->run();
  input.join();
  served.reset();
  return 0;
}
