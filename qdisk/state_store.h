#pragma once
// What a node keeps on its own disk: what it has promised and knows as an acceptor. Without it a
// node neither votes nor proposes until it is admitted anew.

#include <functional>

#include "common/base/result.h"
#include "qdisk/acceptor.h"

namespace holdfast::qdisk {

struct NodeRecord {
  AcceptorState acceptor;
  Epoch fenced = 0;
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
