#pragma once
// What the configuration store needs of the node, of its local disk and of the witness. The daemon
// implements them; tests give it others.

#include <expected>
#include <functional>
#include <string>

#include "common/base/result.h"
#include "common/io/loop.h"
#include "qdisk/config_message.h"
#include "qdisk/plan.h"

namespace holdfast::qdisk {

// The node in which the store lives. No call of it calls the store.
class ConfigHost {
 public:
  virtual ~ConfigHost() = default;
  virtual io::Instant now() const = 0;
  virtual bool has_lease() const = 0;        // it is a member
  virtual NodeSet live_members() const = 0;  // that are heard; with or without this node
  // The LUN that the decision names may be written to by this life. Never where there is none.
  virtual bool witness_usable() const = 0;
  virtual void send(NodeId to, const ConfigMessage& message) = 0;
  // As Membership::ask(), of a Change::Kind::config.
  virtual base::Result<> ask(const Change& change) = 0;
  // Membership::forget_change(), if that is the change that it still has. What was asked for may be
  // decided for some time after it was forgotten.
  virtual void forget(const Change& change) = 0;
  // ConfigStore::document() is another one, or none.
  virtual void on_document() = 0;
};

// All of these answer once, on the loop, never from inside the call, and in time of their own.

class ConfigFiles {
 public:
  using Loaded = std::move_only_function<void(ConfigCopies) noexcept>;
  using Saved = std::move_only_function<void(std::expected<void, std::string>) noexcept>;
  virtual ~ConfigFiles() = default;
  virtual void load(Loaded done) = 0;
  // Never over the one that is decided.
  virtual void save(const ConfigDocument& document, const ConfigTag& decided, Saved done) = 0;
};

// One call at a time, of one store.
class ConfigWitness {
 public:
  using Written = std::move_only_function<void(base::Result<>) noexcept>;
  using Read = std::move_only_function<void(base::Result<ConfigCopies>) noexcept>;
  virtual ~ConfigWitness() = default;
  virtual void write(const ConfigDocument& document, unsigned copy, Written done) = 0;
  virtual void read(Read done) = 0;
};

}  // namespace holdfast::qdisk
