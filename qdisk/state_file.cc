#include "qdisk/state_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

using base::Errc;

namespace {

// A life whose forerunners are unknown begins at a multiple of it, and at most at half of all
// numbers: so many boots later it has not come to another such beginning, and never to the end.
constexpr unsigned kUnknownShift = 15;

std::unexpected<base::Error> write_failure(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return base::fail(Errc::no_space, "the disk of the state directory is full: make room on it",
                        error);
    case EACCES:
    case EPERM:
    case EROFS:
      return base::fail(Errc::permission, "the state directory may not be written to", error);
    default:
      return base::fail(Errc::io, "the state directory cannot be written to", error);
  }
}

std::string refusal(const std::string& file, const base::Error& error) {
  if (error.code == Errc::unsupported) {
    return fmt::format(
        "{} is not used, as {}: start the newer program again. Only if that is gone for good, move "
        "the file away: this node has then lost its state, and waits until the others admit it",
        file, error.what);
  }
  return fmt::format(
      "{} is not used, as {}. Move it away: this node has then lost its state, and waits until the "
      "others admit it. Never put back an older copy: what this node has promised since is not in "
      "it",
      file, error.what);
}

// None: there is no greater one.
std::optional<Incarnation> above(Incarnation life, uint32_t step) {
  if (step > std::numeric_limits<Incarnation>::max() - life) return std::nullopt;
  return life + step;
}

}  // namespace

// --- the directory ---

std::expected<std::shared_ptr<StateDirectory>, std::string> StateDirectory::open(
    const std::string& directory, const StateOwner& owner, base::Random& random) {
  TRY(daemon::make_directory(directory));
  TRY_ASSIGN(std::optional<daemon::Fd> lock, daemon::lock_file(directory + "/node.lock"));
  if (!lock) {
    return std::unexpected(
        fmt::format("another daemon uses the state directory {}: two must never act as one node; "
                    "stop it, or give this one a directory of its own",
                    directory));
  }
  std::shared_ptr<StateDirectory> opened(new StateDirectory(directory, owner, std::move(*lock)));
  if (auto loaded = opened->load(random); !loaded) return std::unexpected(loaded.error());
  return opened;
}

std::expected<void, std::string> StateDirectory::load(base::Random& random) {
  const auto content = daemon::read_file(file(), kMaxStateBytes);
  if (!content && content.error() == ENOENT) return begin(nullptr, random);
  if (!content) {
    return std::unexpected(
        fmt::format("cannot read {}: {}", file(), std::strerror(content.error())));
  }
  const auto stored = decode_state(*content);
  if (!stored) return std::unexpected(refusal(file(), stored.error()));
  if (stored->node != owner_.node || stored->cluster != owner_.cluster) {
    return std::unexpected(fmt::format(
        "{} is of node {} of cluster {}, and this is node {} of cluster {}: correct the "
        "configuration, or move the file away if this host has become another node",
        file(), stored->node, to_text(stored->cluster), owner_.node, to_text(owner_.cluster)));
  }
  return begin(&*stored, random);
}

// The same life goes on where nothing of it can be lost: what it had under way at the devices
// carries its key. Others count on an ended one that it does nothing more.
std::expected<void, std::string> StateDirectory::begin(const StoredState* stored,
                                                       base::Random& random) {
  std::array<uint8_t, 2> drawn{};
  random.fill(drawn);
  const uint32_t number = base::load<base::le16>(drawn);
  std::optional<Incarnation> life;
  if (stored != nullptr) {
    opened_ = stored->record;
    const bool current = opened_.incarnation >= owner_.seen;
    if (current && !opened_.ended && stored->boot == owner_.boot && owner_.boot != Uuid{}) {
      kind_ = Kind::same;
      return {};
    }
    opened_.remembers = opened_.remembers && current;
    opened_.ended = false;
    life = current ? above(opened_.incarnation, 1) : above(owner_.seen, number + 1);
  } else if (owner_.seen != 0) {
    life = above(owner_.seen, number + 1);  // there may have been others that nobody saw
  } else {
    life = (number << kUnknownShift) + 1;
    kind_ = Kind::first;
  }
  if (!life) {
    return std::unexpected(
        fmt::format("{}: all incarnations of node {} are used up: give this host another node "
                    "number",
                    file(), owner_.node));
  }
  opened_.incarnation = *life;
  if (auto saved = replace(encode(opened_)); !saved) {
    const daemon::WriteFailure& failure = saved.error();
    return std::unexpected(fmt::format("cannot write {}: {} ({})", failure.path,
                                       write_failure(failure.sys).error().what,
                                       std::strerror(failure.sys)));
  }
  return {};
}

std::vector<uint8_t> StateDirectory::encode(const NodeRecord& record) const {
  ASSERT(record.incarnation == opened_.incarnation);
  return encode_state(
      {.node = owner_.node, .cluster = owner_.cluster, .boot = owner_.boot, .record = record});
}

std::expected<void, daemon::WriteFailure> StateDirectory::replace(base::Bytes content) const {
  return daemon::replace_file(file(), content);
}

// --- the store ---

StateFile::StateFile(io::Loop& loop, daemon::FileWorker& files,
                     std::shared_ptr<StateDirectory> directory, io::Duration patience)
    : loop_(loop), files_(files), directory_(std::move(directory)), patience_(patience) {}

StateFile::~StateFile() { loop_.stop(timer_); }

void StateFile::save(const NodeRecord& record, Done done) {
  ASSERT(!done_);
  done_ = std::move(done);
  const uint64_t save = ++saves_;
  const std::weak_ptr<StateFile*> weak = self_;
  const auto post = [&loop = loop_, weak, save](auto result, bool written) {
    loop.post([weak, save, result, written]() noexcept {
      const auto self = weak.lock();
      if (!self) return;
      if (written) (*self)->writing_ = false;
      (*self)->on_written(save, result);
    });
  };
  if (writing_) {
    return post(base::Result<>(base::fail(Errc::busy,
                                          "the local disk hangs: an earlier save has "
                                          "not ended")),
                false);
  }
  const bool taken = files_.submit(
      [directory = directory_, content = directory_->encode(record), post]() noexcept {
        const auto replaced = directory->replace(content);
        if (replaced) return post(base::Result<>(), true);
        post(base::Result<>(write_failure(replaced.error().sys)), true);
      });
  if (!taken) {
    return post(base::Result<>(base::fail(Errc::busy, "too much waits for the local disk")), false);
  }
  writing_ = true;
  loop_.start(timer_, patience_);
}

// The answer to an earlier save was given when patience ended.
void StateFile::on_written(uint64_t save, base::Result<> result) {
  if (save != saves_ || !done_) {
    LOG_WARNING("qdisk", "the local disk has answered late: {}",
                result ? "the state is saved" : result.error().what);
    return;
  }
  answer(result);
}

void StateFile::on_patience_ended() noexcept {
  answer(base::fail(Errc::timed_out, "the local disk hangs: a save has not ended in time"));
}

void StateFile::answer(base::Result<> result) {
  loop_.stop(timer_);
  std::exchange(done_, nullptr)(result);
}

}  // namespace holdfast::qdisk
