#pragma once
// What the quorum daemon lets the other daemons of its host know, in one page of shared memory: a
// client looks at it before each I/O without asking anybody, and it stays true when the daemon
// hangs or is gone, as a lease ends by itself.
//
//   /run/holdfast/qdiskd.lease    512 words of 64 bits, native order; only its daemon writes it
//   word 0   magic; 0 while the file is being made
//   word 1   sequence: odd while the rest is being written
//   word 2   the end of the lease, CLOCK_BOOTTIME in ns; 0: none. May be read alone
//   word 3.. LeaseView, field by field
//   word 128 of which boot the following are: 16 bytes
//   word 130 16 times 8 words: a flag word (bit 0: there is one, bit 1: it runs something), and the
//            name of a user of the lease. Only the daemon reads them, when it was restarted
//
// The file is never replaced: clients that have mapped it see the next daemon's writing.

#include <array>
#include <expected>
#include <optional>
#include <string>
#include <utility>

#include "common/daemon/durable_file.h"
#include "common/io/loop.h"
#include "qdisk/decision.h"
#include "qdisk/lease_users.h"

namespace holdfast::qdisk {

struct VolumeView {
  NodeId coordinator = kNoNode;
  uint32_t term = 0;
  bool token = false;  // this node may act as its coordinator, with (epoch, term) as its token
  bool operator==(const VolumeView&) const = default;
};

struct LeaseView {
  io::Instant lease_until{};  // the epoch: there is none
  // A path that was registered with `key` before this moment may carry data: "verify after
  // register". The epoch: none may.
  io::Instant confirmed_at{};
  Life life;
  uint64_t key = 0;  // by which all daemons of this host register themselves
  Epoch epoch = 0;
  NodeSet members;
  // Of the newest epoch of which nothing of former members can land any more; `fenced_timed`: only
  // since a time has gone by.
  Epoch fenced = 0;
  bool fenced_timed = false;
  std::array<VolumeView, kMaxVolumes> volumes{};

  bool valid(io::Instant now) const { return now < lease_until; }
  bool operator==(const LeaseView&) const = default;
};

// Owner: the daemon.
class LeasePage {
 public:
  // Makes the file and its directory if they are absent; one that another daemon has open, or that
  // is something else, is refused. What an earlier daemon wrote stays until the first write(). The
  // error is for the administrator.
  static std::expected<LeasePage, std::string> open(const std::string& path);
  LeasePage(LeasePage&& other) noexcept
      : words_(std::exchange(other.words_, nullptr)), file_(std::move(other.file_)) {}
  LeasePage& operator=(LeasePage&&) = delete;
  ~LeasePage();

  void write(const LeaseView& view);
  // What was written last, also by the daemon before this one. Nothing: it died in the midst of it,
  // or there was none.
  std::optional<LeaseView> last() const;
  // Of the daemon before this one, in the same boot of the host; all zeroes: not known. A daemon
  // that was killed while it wrote has lost no user that it had answered.
  LeaseUsers::Table users(const Uuid& boot) const;
  void write_users(const Uuid& boot, const LeaseUsers::Table& users);

 private:
  LeasePage(uint64_t* words, daemon::Fd file) : words_(words), file_(std::move(file)) {}
  uint64_t* words_;
  daemon::Fd file_;  // locked: it has one writer
};

// The client's side. Any thread.
class LeaseReader {
 public:
  // Errors as above: the daemon has never run since the host was booted.
  static std::expected<LeaseReader, std::string> open(const std::string& path);
  LeaseReader(LeaseReader&& other) noexcept : words_(std::exchange(other.words_, nullptr)) {}
  LeaseReader& operator=(LeaseReader&&) = delete;
  ~LeaseReader();

  // One load, for the I/O path: whoever is stopped between this and its I/O is caught by the fence.
  bool valid(io::Instant now) const;
  // Nothing: the daemon has died while it was writing, and no other has come yet. Then there is no
  // lease either.
  std::optional<LeaseView> read() const;

 private:
  explicit LeaseReader(const uint64_t* words) : words_(words) {}
  const uint64_t* words_;
};

}  // namespace holdfast::qdisk
