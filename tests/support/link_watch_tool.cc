// Prints what a NetlinkLinkWatch tells, for tests/system/link_watch_test.py.
//   link_watch_tool RECEIVE_BUFFER_BYTES ADDRESS...
// A line for each event, after each where the addresses are now. Ends with its standard input.

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "common/io/netlink_link_watch.h"

using namespace holdfast;

namespace {

class Printer final : public io::LinkListener {
 public:
  Printer(io::UringLoop& loop, io::NetlinkLinkWatch& watch, std::vector<io::Endpoint> addresses)
      : loop_(loop), watch_(watch), addresses_(std::move(addresses)) {
    watch_.add(*this);
    loop_.start(poll_, std::chrono::milliseconds(1));
  }

  void close() {
    loop_.stop(poll_);
    watch_.remove(*this);
    watch_.close([this]() noexcept { loop_.stop(); });
  }

 private:
  void on_link(const io::LinkEvent& event) noexcept override {
    constexpr const char* kNames[] = {"link", "added", "removed"};
    const bool link = event.change == io::LinkEvent::Change::link;
    std::printf("%s %s %s%s%s\n", kNames[static_cast<size_t>(event.change)],
                event.interface.c_str(), event.up ? "up" : "down", link ? "" : " ",
                link ? "" : event.address.address_to_string().c_str());
    print_addresses();
  }

  void print_addresses() {
    for (const io::Endpoint& address : addresses_) {
      const auto where = watch_.find(address);
      std::printf("where %s %s %s\n", address.address_to_string().c_str(),
                  where ? where->interface.c_str() : "-", where && where->up ? "up" : "down");
    }
    std::fflush(stdout);
  }

  // Says when it is ready, and then of every loss.
  void on_poll() noexcept {
    if (watch_.ready() && !told_ready_) {
      told_ready_ = true;
      print_addresses();
      std::printf("ready\n");
      std::fflush(stdout);
    }
    if (told_overruns_ != watch_.overruns()) {
      told_overruns_ = watch_.overruns();
      std::printf("overrun\n");
      std::fflush(stdout);
    }
    loop_.start(poll_, std::chrono::milliseconds(10));
  }

  io::UringLoop& loop_;
  io::NetlinkLinkWatch& watch_;
  std::vector<io::Endpoint> addresses_;
  bool told_ready_ = false;
  uint64_t told_overruns_ = 0;
  io::TimerOf<Printer, &Printer::on_poll> poll_{*this};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::vector<io::Endpoint> addresses;
  for (int i = 2; i < argc; ++i) {
    const std::string text(argv[i]);
    const bool v6 = text.find(':') != std::string::npos;
    const auto parsed = io::Endpoint::parse(v6 ? "[" + text + "]:0" : text + ":0");
    if (!parsed.has_value()) return 2;
    addresses.push_back(*parsed);
  }
  const auto loop = io::UringLoop::open({});
  if (!loop.has_value()) return 1;
  std::unique_ptr<io::NetlinkLinkWatch> watch;
  std::unique_ptr<Printer> printer;
  (*loop)->post([&]() noexcept {
    auto opened = io::NetlinkLinkWatch::open(
        **loop, {.receive_buffer_bytes = static_cast<uint32_t>(std::atoi(argv[1])),
                 .dump_interval = std::chrono::hours(1)});  // events must do
    if (!opened.has_value()) std::abort();
    watch = std::move(*opened);
    printer = std::make_unique<Printer>(**loop, *watch, addresses);
  });
  std::thread input([&] {
    char byte = 0;
    while (::read(STDIN_FILENO, &byte, 1) > 0) {
    }
    (*loop)->post([&]() noexcept { printer->close(); });
  });
  (*loop)->run();
  input.join();
  return 0;
}
