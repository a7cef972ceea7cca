#include "target/disk_opener.h"

#include "common/base/log.h"

namespace holdfast::target {

DiskOpener::Ticket DiskOpener::open(const DiskConfig& disk, Done done) {
  const Ticket ticket = ++last_ticket_;
  auto opening = std::make_unique<Opening>(*this, ticket, disk.backing, disk.name, std::move(done));
  attempt(*openings_.emplace(ticket, std::move(opening)).first->second);
  return ticket;
}

void DiskOpener::attempt(Opening& opening) {
  if (++unanswered_ > kMaxUnanswered) {
    loop_.post([this, ticket = opening.ticket]() noexcept {
      on_attempted(ticket, base::fail(base::Errc::limit,
                                      "too many earlier disks are still being opened, as their "
                                      "storage hangs: bring that back first"));
    });
    return;
  }
  opener_.open(opening.spec, loop_, [this, ticket = opening.ticket](auto result) noexcept {
    on_attempted(ticket, std::move(result));
  });
}

void DiskOpener::on_attempted(Ticket ticket, base::Result<std::shared_ptr<io::Backing>> result) {
  --unanswered_;
  const auto found = openings_.find(ticket);
  if (found == openings_.end()) return;  // cancelled: the backing closes here
  Opening& opening = *found->second;
  if (!result.has_value() && result.error().code == base::Errc::busy) {
    if (!opening.locked) {
      LOG_WARNING("disk", "waits for the lock: disk={} path={}: {}", opening.name,
                  opening.spec.path, result.error().what);
    }
    opening.locked = true;
    loop_.start(opening.retry, kLockRetry);
    return;
  }
  Done done = std::move(opening.done);
  openings_.erase(found);
  done(std::move(result));
}

void DiskOpener::cancel(Ticket ticket) {
  const auto found = openings_.find(ticket);
  if (found == openings_.end()) return;
  loop_.stop(found->second->retry);
  openings_.erase(found);
}

void DiskOpener::cancel_all() {
  for (const auto& [ticket, opening] : openings_) loop_.stop(opening->retry);
  openings_.clear();
}

bool DiskOpener::waits_for_lock(Ticket ticket) const {
  const auto found = openings_.find(ticket);
  return found != openings_.end() && found->second->locked;
}

}  // namespace holdfast::target
