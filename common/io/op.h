#pragma once
// One asynchronous operation, embedded in its owner: docs/event_loop.md.

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <boost/intrusive/list_hook.hpp>
#include <cstdint>

#include "common/base/assert.h"

namespace holdfast::io {

// Owner: the object it is embedded in; neither copied nor moved; destroyed only while idle.
// Thread: that of the loop it was given to. The completion is delivered by the loop, never from
// inside the call that submitted it, exactly once, also after a cancel.
// result: bytes or handle, or -errno.
class Op {
 public:
  using Callback = void (*)(Op&, int32_t result) noexcept;

  explicit Op(Callback callback) : callback_(callback) {}
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  ~Op() { ASSERT(!busy_); }

  bool busy() const { return busy_; }

  // For loops and devices only.
  void begin() {
    ASSERT(!busy_);
    busy_ = true;
  }
  void complete(int32_t result) {
    ASSERT(busy_);
    busy_ = false;
    callback_(*this, result);  // may start the op again or destroy its owner
  }

  // The loop that ran it is gone: no completion will come.
  void abandon() { busy_ = false; }

  // Scratch for the loop that runs it.
  boost::intrusive::list_member_hook<> hook;
  int32_t pending_result = 0;
  uint64_t scratch = 0;
  union {
    msghdr message{};
    sockaddr_in6 address;  // a connect's; IPv4 takes its beginning
  };

 private:
  Callback callback_;
  bool busy_ = false;
};

// OpOf<Connection, &Connection::on_received> receive_op_{*this};
template <class Owner, auto kMethod>
class OpOf : public Op {
 public:
  explicit OpOf(Owner& owner)
      : Op([](Op& op, int32_t result) noexcept {
          (static_cast<OpOf&>(op).owner_.*kMethod)(result);
        }),
        owner_(owner) {}

 private:
  Owner& owner_;
};

}  // namespace holdfast::io
