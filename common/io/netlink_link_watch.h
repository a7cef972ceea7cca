#pragma once
// The production LinkWatch: an rtnetlink socket read through the loop. docs/event_loop.md.

#include <array>
#include <memory>

#include "common/io/link_table.h"
#include "common/io/uring_loop.h"

namespace holdfast::io {

struct NetlinkOptions {
  // What the kernel keeps for us while we do not read. Too little costs a new dump, no event.
  uint32_t receive_buffer_bytes = 1 << 20;
  // A message of a dump may be older than the event that overtook it (the kernel fills it before it
  // queues it): the next dump mends that.
  Duration dump_interval = std::chrono::seconds(10);
};

// Owner: the daemon. Thread: the loop's, from open() on; before run() its future one.
class NetlinkLinkWatch final : public LinkWatch {
 public:
  static base::Result<std::unique_ptr<NetlinkLinkWatch>> open(UringLoop& loop,
                                                              const NetlinkOptions& options);
  ~NetlinkLinkWatch() override;

  std::optional<Where> find(const Endpoint& address) const override { return table_.find(address); }
  bool ready() const override { return ready_; }

  // Tells nothing any more. It may be destroyed when `done` has been called.
  void close(std::move_only_function<void() noexcept> done);

  uint64_t dumps() const { return dumps_; }
  uint64_t overruns() const { return overruns_; }

 private:
  enum class Dump : uint8_t { none, links, addresses };

  NetlinkLinkWatch(UringLoop& loop, Socket socket, Duration dump_interval)
      : loop_(loop), socket_(socket), dump_interval_(dump_interval) {}
  void receive();
  void on_received(int32_t result) noexcept;
  void read_messages(base::Bytes bytes);
  void on_message(const nlmsghdr& header, base::Bytes payload);
  void tell_all();
  void begin_dump();
  void on_dump_due() noexcept { begin_dump(); }
  void ask(uint16_t type);
  void on_part_done();
  void dump_again();

  UringLoop& loop_;
  const Socket socket_;
  const Duration dump_interval_;
  LinkTable table_;
  LinkTable::Events events_;
  Dump dump_ = Dump::none;
  bool dump_spoilt_ = false;  // something changed under it, or was lost
  bool ready_ = false;
  uint32_t sequence_ = 0;
  Instant last_dump_{};
  uint64_t dumps_ = 0, overruns_ = 0;
  std::move_only_function<void() noexcept> on_closed_;
  bool closing_ = false;
  std::array<uint8_t, 64 * 1024> buffer_;  // the kernel's messages are of 32 KiB at most
  iovec iovec_{buffer_.data(), buffer_.size()};
  OpOf<NetlinkLinkWatch, &NetlinkLinkWatch::on_received> receive_op_{*this};
  TimerOf<NetlinkLinkWatch, &NetlinkLinkWatch::on_dump_due> dump_timer_{*this};
};

}  // namespace holdfast::io
