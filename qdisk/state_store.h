#pragma once
// What a node keeps on its own disk: what it has promised and knows as an acceptor. Without it a
// node neither votes nor proposes until it is admitted anew.

#include <functional>

#include "common/base/result.h"
#include "qdisk/acceptor.h"

namespace holdfast::qdisk {

struct NodeRecord {
  AcceptorState acceptor;
  // Without it the state was learnt by a life that has lost its own: what was promised is not in
  // it.
  bool remembers = false;
  Epoch fenced = 0;
  // The life that wrote this, and whether it is over: evicted, or ended of its own will. The others
  // count on it that it does nothing more, so a start after that is a new life, as after a boot.
  Incarnation incarnation = 0;
  bool ended = false;
  bool operator==(const NodeRecord&) const = default;
};

class StateStore {
 public:
  using Done = std::move_only_function<void(base::Result<>) noexcept>;
  virtual ~StateStore() = default;
  // Durable when it answers, and then nothing older can come back. One at a time.
  virtual void save(const NodeRecord& record, Done done) = 0;
};

}  // namespace holdfast::qdisk
