#include "mpio/nbd_server.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace holdfast::mpio {
namespace {

constexpr const char* kLog = "nbd";
constexpr size_t kMaxClients = 64;
// With those that have vanished and left something under way.
constexpr size_t kMaxConnections = 4 * kMaxClients;
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);
constexpr auto kPoolRetry = std::chrono::milliseconds(10);
constexpr uint32_t kSocketMode = 0600;

}  // namespace

NbdServer::NbdServer(io::Loop& loop, io::Network& network, io::BufferPool& buffers,
                     io::SharedBlockDevice& device, Options options)
    : loop_(loop),
      network_(network),
      buffers_(buffers),
      device_(device),
      options_(std::move(options)) {}

NbdServer::~NbdServer() { ASSERT(connections_.empty() && gone_.empty() && !accept_op_.busy()); }

base::Result<> NbdServer::start() {
  if (buffers_.total_bytes() < nbd::kMaxPayload) {
    return base::fail(base::Errc::limit, "NBD needs 32 MiB of data buffers at least");
  }
  refresh_info();
  TRY_ASSIGN(listener_, network_.listen_unix(options_.socket, kSocketMode));
  accept();
  return {};
}

// The size may have changed: new clients are told the present one.
void NbdServer::refresh_info() {
  namespace flags = nbd::export_flags;
  const io::BlockInfo info = device_.info();
  info_.name = options_.name;
  info_.size_bytes = info.size_bytes;
  info_.minimum_block = info.block_size;
  info_.preferred_block = std::max<uint32_t>(info.physical_block_size, 4096);
  info_.maximum_payload = nbd::kMaxPayload;
  info_.flags = flags::kFlush | flags::kFua | flags::kWriteZeroes | flags::kMultiConn;
  if (info.can_discard) info_.flags |= flags::kTrim;
  if (info.read_only || options_.read_only) info_.flags |= flags::kReadOnly;
}

void NbdServer::accept() {
  if (!stopping_) network_.accept(accept_op_, listener_);
}

void NbdServer::on_accepted(int32_t result) noexcept {
  if (result >= 0) {
    if (stopping_) {
      network_.close(result);
    } else if (connections_.size() - closing_ >= kMaxClients ||
               connections_.size() >= kMaxConnections) {
      LOG_LIMITED(warning, kLog, "{}: no more than {} clients", options_.socket, kMaxClients);
      network_.close(result);
    } else {
      refresh_info();
      auto* connection = new NbdConnection(*this, result);  // deleted by on_bury()
      connections_.push_back(*connection);
      connection->start();
    }
  }
  if (stopping_) return on_bury(0);
  // Out of descriptors: those that close make room again.
  if (result < 0) return loop_.start(retry_timer_, kAcceptRetry);
  accept();
}

void NbdServer::on_retry() noexcept { accept(); }

void NbdServer::gone(NbdConnection& connection) {
  connections_.erase(ConnectionList::s_iterator_to(connection));
  --closing_;
  gone_.push_back(connection);
  if (!bury_op_.busy()) loop_.at_turn_end(bury_op_);
}

void NbdServer::on_bury(int32_t) noexcept {
  gone_.clear_and_dispose([](NbdConnection* connection) { delete connection; });
  if (!stopping_ || !connections_.empty()) return;
  if (accept_op_.busy() || bury_op_.busy() || freed_op_.busy()) return;
  if (listener_ != io::kNoSocket) network_.close(std::exchange(listener_, io::kNoSocket));
  if (stopped_) std::exchange(stopped_, nullptr)();
}

void NbdServer::stop(std::move_only_function<void() noexcept> stopped) {
  ASSERT(!stopping_);
  stopping_ = true;
  stopped_ = std::move(stopped);
  loop_.stop(retry_timer_);
  loop_.stop(pool_timer_);
  if (listener_ != io::kNoSocket) {
    network_.unlink_unix(options_.socket);
    network_.cancel(accept_op_);
  }
  for (auto at = connections_.begin(); at != connections_.end();) {
    NbdConnection& connection = *at++;
    connection.close("the export ends");
  }
  if (!bury_op_.busy()) loop_.at_turn_end(bury_op_);
}

bool NbdServer::must_wait_for_orphans(const nbd::Request& request) const {
  if (orphans_ == 0) return false;
  if (static_cast<nbd::Command>(request.command.get()) == nbd::Command::flush) return false;
  return std::ranges::any_of(connections_, [&request](const NbdConnection& each) {
    return each.orphan_changes(request.offset, request.length);
  });
}

void NbdServer::wait(NbdConnection& connection) {
  waiting_.push_back(connection);
  watch_pool(connection);
}

// What other servers of the pool give back, they do not tell us.
void NbdServer::watch_pool(const NbdConnection& connection) {
  if (connection.waits_for_pool() && !stopping_ && !pool_timer_.armed()) {
    loop_.start(pool_timer_, kPoolRetry);
  }
}

void NbdServer::no_longer_waiting(NbdConnection& connection) {
  waiting_.erase(WaitingList::s_iterator_to(connection));
  something_freed();  // the next may be the first now
}

bool NbdServer::is_first_for_pool(const NbdConnection& connection) const {
  for (const NbdConnection& each : waiting_) {
    if (&each == &connection) return true;
    if (each.waits_for_pool()) return false;
  }
  return true;
}

uint64_t NbdServer::reserve() const {
  const uint64_t total = buffers_.total_bytes();
  return total < 2 * nbd::kMaxPayload ? 0 : std::min<uint64_t>(nbd::kMaxPayload, total / 4);
}

bool NbdServer::may_take(const NbdConnection& connection, uint32_t bytes) const {
  if (is_first_for_pool(connection)) {
    const uint64_t free = buffers_.total_bytes() - buffers_.used_bytes();
    return is_small(bytes) || bytes + reserve() <= free;
  }
  return is_small(bytes) && small_bytes_ + bytes <= reserve();
}

void NbdServer::something_freed() {
  if (!waiting_.empty() && !freed_op_.busy()) loop_.at_turn_end(freed_op_);
}

void NbdServer::on_freed(int32_t) noexcept {
  loop_.stop(pool_timer_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    NbdConnection& connection = *at++;  // it may leave the list, or join it again at its end
    connection.go_on();
  }
  for (const NbdConnection& each : waiting_) watch_pool(each);
  if (stopping_) on_bury(0);
}

void NbdServer::on_pool_timer() noexcept { something_freed(); }

}  // namespace holdfast::mpio
