#pragma once
// What a node keeps, on its own disk. A new file takes the place of the old one whole, so that at
// no moment there is half of one:
//
//   STATE_DIR/node       docs/qdisk-format.md, "What a node keeps"
//   STATE_DIR/node.new   what is being written; means nothing
//   STATE_DIR/node.lock  held while a daemon runs

#include <expected>
#include <memory>
#include <string>

#include "common/base/random.h"
#include "common/daemon/durable_file.h"
#include "common/daemon/file_worker.h"
#include "common/io/loop.h"
#include "qdisk/state_record.h"

namespace holdfast::qdisk {

struct StateOwner {
  NodeId node = kNoNode;
  Uuid cluster{};
  Uuid boot{};  // /proc/sys/kernel/random/boot_id; all zeroes: not known, as after a boot
  // The latest life of this node of which others are known to know, as from its heartbeat on the
  // witness or a decision; 0: none. What is older than that on the local disk was put back there.
  Incarnation seen = 0;
};

// Blocking; used by one thread at a time. Keeps its lock until it dies.
class StateDirectory {
 public:
  // Makes the directory if it is absent. Decides which life this is, and has that durable before it
  // returns. The error is for the administrator: a file that is damaged, of another node, or newer
  // than this program is neither guessed at nor overwritten.
  static std::expected<std::shared_ptr<StateDirectory>, std::string> open(
      const std::string& directory, const StateOwner& owner, base::Random& random);
  StateDirectory(const StateDirectory&) = delete;
  StateDirectory& operator=(const StateDirectory&) = delete;

  // What this life is to the one before: the same, as only the daemon was restarted; the first that
  // this directory knows of; or the next.
  enum class Kind : uint8_t { same, first, next };
  Kind kind() const { return kind_; }
  // As it was at open(), with the incarnation that is to be used from now on.
  const NodeRecord& opened() const { return opened_; }
  // Of opened().incarnation.
  std::vector<uint8_t> encode(const NodeRecord& record) const;
  // Durable when it returns.
  std::expected<void, daemon::WriteFailure> replace(base::Bytes content) const;

 private:
  StateDirectory(std::string directory, const StateOwner& owner, daemon::Fd lock)
      : directory_(std::move(directory)), owner_(owner), lock_(std::move(lock)) {}
  std::expected<void, std::string> load(base::Random& random);
  std::expected<void, std::string> begin(const StoredState* stored, base::Random& random);
  std::string file() const { return directory_ + "/node"; }

  const std::string directory_;
  const StateOwner owner_;
  const daemon::Fd lock_;
  NodeRecord opened_;
  Kind kind_ = Kind::next;
};

// Saves on the thread of `files`. Owner: main; lives on the loop's thread. The loop outlives what
// `files` has under way, which goes on when this is destroyed, and then answers nobody.
class StateFile final : public StateStore {
 public:
  // `patience`: a save that has not ended by then is answered with Errc::timed_out. It may yet
  // become durable, and while it hangs every other is answered with Errc::busy, as it would wait
  // behind it: so nothing older comes after something newer, and nothing piles up.
  StateFile(io::Loop& loop, daemon::FileWorker& files, std::shared_ptr<StateDirectory> directory,
            io::Duration patience);
  StateFile(const StateFile&) = delete;
  StateFile& operator=(const StateFile&) = delete;
  ~StateFile() override;

  void save(const NodeRecord& record, Done done) override;

 private:
  void on_written(uint64_t save, base::Result<> result);
  void on_patience_ended() noexcept;
  void answer(base::Result<> result);

  io::Loop& loop_;
  daemon::FileWorker& files_;
  const std::shared_ptr<StateDirectory> directory_;
  const io::Duration patience_;
  uint64_t saves_ = 0;
  bool writing_ = false;
  Done done_;
  std::shared_ptr<StateFile*> self_ = std::make_shared<StateFile*>(this);  // ends with this
  io::TimerOf<StateFile, &StateFile::on_patience_ended> timer_{*this};
};

}  // namespace holdfast::qdisk
