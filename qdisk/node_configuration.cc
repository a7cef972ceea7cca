#include "qdisk/node_configuration.h"

#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

base::Result<std::unique_ptr<NodeConfiguration>> NodeConfiguration::create(
    const Services& services, const Options& options, io::SharedBlockDevice* witness) {
  auto made = std::unique_ptr<NodeConfiguration>(new NodeConfiguration(services, options));
  if (witness != nullptr) {
    TRY_ASSIGN(made->witness_,
               WitnessConfig::create(services.loop, *witness, options.cluster, options.io_limit));
  }
  made->store_ = std::make_unique<ConfigStore>(
      ConfigStore::Services{.host = *made, .files = made->files_, .witness = made->witness_.get()},
      ConfigStore::Options{.self = options.self}, services.node.membership().decision());
  return made;
}

NodeConfiguration::NodeConfiguration(const Services& services, const Options& options)
    : services_(services),
      files_(services.loop, services.files,
             std::make_shared<const ConfigDirectory>(options.state_dir, options.cluster)) {}

NodeConfiguration::~NodeConfiguration() { services_.loop.stop(timer_); }

void NodeConfiguration::start() {
  store_->start();
  services_.loop.start(timer_, ConfigStore::kTick);
}

void NodeConfiguration::close(io::Task closed) {
  store_->end();
  closed_ = std::move(closed);
  services_.loop.start(timer_, io::Duration::zero());
}

void NodeConfiguration::on_tick() noexcept {
  if (closed_ && (witness_ == nullptr || !witness_->busy())) {
    return std::exchange(closed_, nullptr)();
  }
  services_.loop.start(timer_, ConfigStore::kTick);
  if (!closed_) store_->on_tick();
}

NodeSet NodeConfiguration::live_members() const {
  return services_.node.membership().live_members(services_.loop.now());
}

void NodeConfiguration::send(NodeId to, const ConfigMessage& message) {
  services_.transport.send(to, message);
}

void NodeConfiguration::on_document() {
  if (const ConfigDocument* document = store_->document()) {
    LOG_INFO("qdiskd", "configuration: version={} bytes={}", document->tag.version,
             document->bytes.size());
  }
}

std::expected<void, std::string> NodeConfiguration::propose(std::string bytes, uint64_t follows) {
  const ConfigTag tag{.version = follows + 1, .digest = digest_of(base::as_bytes(bytes))};
  const auto proposed =
      store_->propose(std::move(bytes), follows, [this, tag](ConfigStore::Answer done) noexcept {
        if (!done && proposed_ == tag) failure_ = done.error();
      });
  if (!proposed) return std::unexpected(proposed.error());
  proposed_ = tag;
  failure_.clear();
  return {};
}

NodeConfiguration::Outcome NodeConfiguration::look(uint64_t version) const {
  if (proposed_.version != version || version == 0) {
    return {.failure = "nothing was proposed here to be this version"};
  }
  const ConfigTag& decided = services_.node.membership().decision().config;
  if (decided == proposed_) return {.decided = true};
  if (!failure_.empty()) return {.failure = failure_};
  if (decided.version >= version) return {.failure = "another version was decided meanwhile"};
  return {};
}

}  // namespace holdfast::qdisk
