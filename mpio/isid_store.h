#pragma once
// The ISIDs of this daemon's sessions, kept on disk: a session that comes back with its ISID
// reinstates the one that a crash of this daemon left behind, and no two sessions ever share one.
//
// An ISID of type 10b (RFC 7143 11.12.5): 24 random bits, drawn once for this node and daemon, and
// a qualifier of 16 bits that is given to one (device, portal, source, index) for ever.
//
// Owner: main. Blocking; used at the start only, and by nobody at the same time.

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/base/random.h"

namespace holdfast::mpio {

class IsidStore {
 public:
  // Makes the directory if it is absent, and locks it until the object dies. The error is for the
  // administrator: a damaged file is never guessed at, nor overwritten.
  static std::expected<std::unique_ptr<IsidStore>, std::string> open(const std::string& state_dir,
                                                                     base::Random& random);
  ~IsidStore();
  IsidStore(const IsidStore&) = delete;
  IsidStore& operator=(const IsidStore&) = delete;

  struct Owner {
    std::string_view device;
    std::string_view portal;  // "10.1.0.10:3260"
    std::string_view source;  // empty: the kernel chooses
    uint32_t index = 0;       // of several sessions with one portal
  };
  // 48 bits. A new one is durable once save() has succeeded, and must not be used before.
  std::expected<uint64_t, std::string> assign(const Owner& owner);
  std::expected<void, std::string> save();

  size_t count() const { return qualifiers_.size(); }

 private:
  IsidStore(std::string directory, int lock) : directory_(std::move(directory)), lock_(lock) {}
  std::expected<void, std::string> load(base::Random& random);
  bool parse(std::string_view text);
  std::string text() const;
  std::string file() const { return directory_ + "/isids"; }

  std::string directory_;
  int lock_;
  uint32_t random_ = 0;                         // 24 bits
  std::map<std::string, uint16_t> qualifiers_;  // by owner
  uint32_t next_ = 1;
  bool changed_ = false;
};

}  // namespace holdfast::mpio
