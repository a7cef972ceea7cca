#pragma once
// The configuration store in one life of the node: wires it to node, transport, files and witness.
//
// Owner: NodeService; one loop's. After start(), close() and its answer before the destruction.

#include <memory>
#include <string>

#include "common/daemon/file_worker.h"
#include "qdisk/config_files.h"
#include "qdisk/config_store.h"
#include "qdisk/node.h"
#include "qdisk/witness_config.h"

namespace holdfast::qdisk {

class NodeConfiguration final : private ConfigHost {
 public:
  struct Services {
    io::Loop& loop;
    daemon::FileWorker& files;
    Transport& transport;
    Node& node;  // outlives it
  };
  struct Options {
    NodeId self = kNoNode;
    Uuid cluster{};
    std::string state_dir;
    io::Duration io_limit{};
  };

  // `witness`: null where there is none.
  static base::Result<std::unique_ptr<NodeConfiguration>> create(const Services& services,
                                                                 const Options& options,
                                                                 io::SharedBlockDevice* witness);
  ~NodeConfiguration() override;

  void start();
  // What is under way on the witness ends, then `closed`, from the loop.
  void close(io::Task closed);
  void on_decision(const Decision& decision) { store_->on_decision(decision); }
  void on_message(NodeId from, const ConfigMessage& message) { store_->on_message(from, message); }

  // An error: it was refused at once. Else look() says what has come of it.
  std::expected<void, std::string> propose(std::string bytes, uint64_t follows);
  struct Outcome {
    bool decided = false;
    std::string failure;  // neither: it is still being decided
  };
  // Of what was proposed here last, which was to be this version.
  Outcome look(uint64_t version) const;
  const ConfigStore& store() const { return *store_; }

 private:
  NodeConfiguration(const Services& services, const Options& options);

  io::Instant now() const override { return services_.loop.now(); }
  bool has_lease() const override { return services_.node.lease_valid(); }
  NodeSet live_members() const override;
  bool witness_usable() const override { return services_.node.uses_witness(); }
  void send(NodeId to, const ConfigMessage& message) override;
  base::Result<> ask(const Change& change) override { return services_.node.ask(change); }
  void forget(const Change& change) override { services_.node.forget(change); }
  void on_document() override;

  void on_tick() noexcept;

  const Services services_;
  ConfigFileWorker files_;
  std::unique_ptr<WitnessConfig> witness_;
  std::unique_ptr<ConfigStore> store_;
  ConfigTag proposed_;   // last
  std::string failure_;  // of that; empty: none yet
  io::Task closed_;
  io::TimerOf<NodeConfiguration, &NodeConfiguration::on_tick> timer_{*this};
};

}  // namespace holdfast::qdisk
