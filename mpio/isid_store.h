#pragma once
// The ISIDs of this daemon's sessions, kept on disk: a session that comes back with its ISID
// reinstates the one that a crash of this daemon left behind, and no two sessions ever share one.
//
// An ISID of type 10b (RFC 7143 11.12.5): 24 random bits, drawn once for this node and daemon, and
// a qualifier of 16 bits that is given to one Owner for ever.
//
// It also knows where sessions of an earlier process may have left writes of unknown fate: their
// traces, each durable before the session carries I/O there, unless its orderly end says of a
// session that it left none. That it says so by a file whose absence means the rest keeps a full
// disk from being a reason not to start.
//
//   STATE_DIR/isids    a line for each: qualifier, owner, traces
//   STATE_DIR/closed   qualifiers of sessions without such writes; gone while a daemon runs
//
// Owner: main. Blocking; used by one thread at a time.

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/random.h"
#include "common/daemon/durable_file.h"
#include "mpio/session_trace.h"

namespace holdfast::mpio {

class IsidStore {
 public:
  // Makes the directory if it is absent, and locks it until the object dies. The error is for the
  // administrator: a damaged file is never guessed at, nor overwritten.
  static std::expected<std::unique_ptr<IsidStore>, std::string> open(const std::string& state_dir,
                                                                     base::Random& random);
  IsidStore(const IsidStore&) = delete;
  IsidStore& operator=(const IsidStore&) = delete;

  struct Owner {
    std::string initiator;  // its name
    std::string device;
    std::string target;  // its name
    std::string portal;  // "10.1.0.10:3260"
    std::string source;  // empty: the kernel chooses
    uint32_t index = 0;  // of several sessions with one portal
    auto operator<=>(const Owner&) const = default;
  };
  using Traces = std::set<SessionTrace>;
  // By earlier processes, as it was at open(), what leave() added, and without what fenced() took.
  const std::vector<LeftSession>& left() const { return left_; }
  // Who had these sessions is gone, while this process goes on.
  void leave(std::span<const uint64_t> isids);
  // It is proved that nothing of it lands any more.
  void fenced(const LeftSession& session);

  // 48 bits. Must not be used before begin() has succeeded.
  std::expected<uint64_t, std::string> assign(const Owner& owner);
  // What was assigned is durable, and from now on all that has traces counts as left behind.
  std::expected<void, std::string> begin();
  // What is durable of it.
  Traces traces(uint64_t isid) const;
  // Durable, before a session carries I/O at a place that is not among its traces: these are all
  // where it may have left something. After an error it has to be asked again.
  std::expected<void, std::string> note(uint64_t isid, Traces traces);
  // The end: but for what is left(), nothing is left behind.
  std::expected<void, std::string> close();

  size_t count() const { return sessions_.size(); }

 private:
  struct Session {
    uint16_t qualifier = 0;
    Traces traces{};
    bool assigned = false;  // by this process
  };

  IsidStore(std::string directory, daemon::Fd lock)
      : directory_(std::move(directory)), lock_(std::move(lock)) {}
  std::expected<void, std::string> load(base::Random& random);
  bool parse(std::string_view text);
  void find_left();
  void add_left(const Owner& owner, const Session& session);
  bool forget_old();
  std::string text() const;
  std::expected<void, std::string> save();
  std::expected<void, std::string> replace(const std::string& file, std::string_view text) const;
  uint64_t isid_of(uint16_t qualifier) const;
  std::string file() const { return directory_ + "/isids"; }
  std::string closed_file() const { return directory_ + "/closed"; }

  std::string directory_;
  daemon::Fd lock_;
  uint32_t random_ = 0;  // 24 bits
  std::map<Owner, Session> sessions_;
  std::vector<LeftSession> left_;
  uint32_t next_ = 1;
  bool changed_ = false;
};

}  // namespace holdfast::mpio
