#include "common/io/netlink_link_watch.h"

#include <linux/rtnetlink.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/base/log.h"

namespace holdfast::io {

using namespace std::chrono_literals;

namespace {

constexpr const char* kLog = "links";

// A flood of changes costs ten dumps a second at most.
constexpr Duration kDumpSpacing = 100ms;
constexpr Duration kDumpDeadline = 5s;

struct Request {
  nlmsghdr header;
  ifinfomsg info;
  rtattr mask_header;
  uint32_t mask;
};

}  // namespace

base::Result<std::unique_ptr<NetlinkLinkWatch>> NetlinkLinkWatch::open(
    UringLoop& loop, const NetlinkOptions& options) {
  const Socket socket = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (socket < 0) return base::fail(base::Errc::limit, "no netlink socket to be had", errno);
  std::unique_ptr<NetlinkLinkWatch> watch(
      new NetlinkLinkWatch(loop, socket, options.dump_interval));
  const auto size = static_cast<int>(options.receive_buffer_bytes);
  // Beyond the administrator's limit only with CAP_NET_ADMIN; without, what the limit allows.
  if (setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0) {
    setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
  }
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    watch->closing_ = true;
    return base::fail(base::Errc::io, "cannot listen to rtnetlink", error);
  }
  watch->begin_dump();
  return watch;
}

NetlinkLinkWatch::~NetlinkLinkWatch() {
  ASSERT(closing_ && !receive_op_.busy());
  ::close(socket_);
}

void NetlinkLinkWatch::close(std::move_only_function<void() noexcept> done) {
  ASSERT(!closing_);
  closing_ = true;
  on_closed_ = std::move(done);
  loop_.stop(dump_timer_);
  if (receive_op_.busy()) {
    loop_.cancel(receive_op_);
  } else {
    loop_.complete_soon(receive_op_, -ECANCELED);
  }
}

void NetlinkLinkWatch::receive() { loop_.receive(receive_op_, socket_, {&iovec_, 1}); }

void NetlinkLinkWatch::on_received(int32_t result) noexcept {
  if (!closing_ && result > 0) {
    read_messages(base::Bytes(buffer_).first(static_cast<size_t>(result)));
    tell_all();
  } else if (!closing_) {
    // ENOBUFS: the kernel had no room for a message and threw it away. Of other errors nothing is
    // known, so they are not run into again before the next dump.
    ++overruns_;
    LOG_LIMITED(warning, kLog, "changes of the network were lost, looking anew: errno={}", -result);
    dump_again();
    if (result != -ENOBUFS) return;
  }
  if (!closing_) {
    receive();
  } else if (!receive_op_.busy()) {
    auto done = std::move(on_closed_);
    done();  // may destroy this object
  }
}

// Messages come from the kernel only: it lets nobody else write to a routing socket without
// CAP_NET_ADMIN.
void NetlinkLinkWatch::read_messages(base::Bytes bytes) {
  while (bytes.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header{};
    std::memcpy(&header, bytes.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > bytes.size()) {
      dump_again();  // cut
      return;
    }
    on_message(header, bytes.subspan(sizeof(header), header.nlmsg_len - sizeof(header)));
    bytes = bytes.subspan(std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), bytes.size()));
  }
}

void NetlinkLinkWatch::on_message(const nlmsghdr& header, base::Bytes payload) {
  const bool of_dump = dump_ != Dump::none && header.nlmsg_seq == sequence_;
  if (of_dump && (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0) dump_spoilt_ = true;
  if (header.nlmsg_type == NLMSG_DONE) {
    if (of_dump) on_part_done();
  } else if (header.nlmsg_type == NLMSG_ERROR) {
    if (!of_dump) return;
    dump_ = Dump::none;
    dump_again();
  } else {
    table_.apply(header.nlmsg_type, payload, events_);
  }
}

void NetlinkLinkWatch::tell_all() {
  // What is there from the start is no change.
  LinkTable::Events events = std::exchange(events_, {});
  if (!ready_) return;
  for (const LinkEvent& event : events) {
    if (closing_) return;
    tell(event);
  }
}

void NetlinkLinkWatch::begin_dump() {
  if (!receive_op_.busy()) receive();
  table_.begin_dump();
  dump_ = Dump::links;
  dump_spoilt_ = false;
  last_dump_ = loop_.now();
  ++dumps_;
  ask(RTM_GETLINK);
  loop_.start(dump_timer_, kDumpDeadline);  // then the next, should no answer come
}

void NetlinkLinkWatch::ask(uint16_t type) {
  Request request{};
  const bool links = type == RTM_GETLINK;
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.header.nlmsg_seq = ++sequence_;
  // RTM_GETADDR's struct is shorter and all zero as well; it takes no mask.
  request.header.nlmsg_len = links ? sizeof(Request) : NLMSG_LENGTH(sizeof(rtgenmsg));
  request.mask_header = {.rta_len = RTA_LENGTH(sizeof(request.mask)), .rta_type = IFLA_EXT_MASK};
  request.mask = RTEXT_FILTER_SKIP_STATS;
  // The kernel takes it whole, within the call.
  if (::send(socket_, &request, request.header.nlmsg_len, MSG_DONTWAIT) < 0) {
    LOG_LIMITED(warning, kLog, "cannot ask for the interfaces: errno={}", errno);
    dump_spoilt_ = true;
  }
}

void NetlinkLinkWatch::on_part_done() {
  if (dump_ == Dump::links) {
    dump_ = Dump::addresses;
    ask(RTM_GETADDR);
    return;
  }
  dump_ = Dump::none;
  if (dump_spoilt_) {
    dump_again();
    return;
  }
  table_.end_dump(events_);
  if (!ready_) events_.clear();
  ready_ = true;
  loop_.start(dump_timer_, dump_interval_);
}

void NetlinkLinkWatch::dump_again() {
  if (dump_ != Dump::none) {
    dump_spoilt_ = true;  // again when this one is done
    return;
  }
  const Duration since = loop_.now() - last_dump_;
  loop_.start(dump_timer_, std::max<Duration>(kDumpSpacing - since, Duration::zero()));
}

}  // namespace holdfast::io
