#include "qdisk/config_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {
constexpr const char* kLog = "qdisk";
}  // namespace

ConfigStore::ConfigStore(const Services& services, const Options& options, const Decision& decision)
    : services_(services), options_(options), decision_(decision) {}

ConfigStore::~ConfigStore() { ASSERT(!proposal_); }

void ConfigStore::start() {
  next_heal_ = services_.host.now() + options_.heal_period;
  begin_search(Search::files);
}

void ConfigStore::end() {
  if (proposal_) fail_proposal("this node has left the cluster, or was evicted, meanwhile");
  ended_ = true;
  self_.reset();
  transfer_.reset();
}

void ConfigStore::on_tick() {
  if (ended_) return;
  if (held_ && !held_firmly()) held_.reset();  // its file stays
  if (search_ == Search::pause && services_.host.now() >= search_at_) {
    begin_search(Search::witness);
  }
  tend_transfer();
  save_next();
  tend_proposal();
  heal_witness();
}

void ConfigStore::on_message(NodeId from, const ConfigMessage& message) {
  if (ended_ || from == options_.self) return;
  std::visit([this, from](const auto& body) { take(from, body); }, message);
}

// --- what is decided

void ConfigStore::on_decision(const Decision& decision) {
  if (ended_ || decision.epoch <= decision_.epoch) return;
  const ConfigTag before = std::exchange(decision_, decision).config;
  if (decision_.config != before) take_tag(before);
  if (proposal_) look_at_decision_about_proposal();
}

// An operator who forces a quorum may have gone back to an earlier version: only equality counts.
void ConfigStore::take_tag(const ConfigTag& before) {
  LOG_INFO(kLog, "configuration decided: version={} before={}", version(), before.version);
  decided_.reset();
  decided_saved_ = false;
  search_ = Search::none;
  ++searches_;
  if (held_ && is_decided(held_->document.tag)) {
    Held held = std::move(*held_);
    held_.reset();
    adopt(std::move(held.document), held.saved);
  } else {
    services_.host.on_document();
  }
  if (held_ && !proposal_ && held_->document.tag.version != version() + 1) held_.reset();
  if (transfer_ && !is_decided(transfer_->tag)) transfer_.reset();
  if (lacks_decided()) begin_search(transfer_ ? Search::nodes : Search::files);
}

// Precondition: it is intact.
void ConfigStore::adopt(ConfigDocument document, bool saved) {
  ASSERT(is_decided(document.tag));
  decided_ = std::move(document);
  decided_saved_ = saved;
  if (transfer_ && is_decided(transfer_->tag)) transfer_.reset();
  search_ = Search::none;
  ++searches_;
  next_save_ = {};
  services_.host.on_document();
  save_next();
}

void ConfigStore::set_held(ConfigDocument document, NodeId from, bool saved) {
  held_ = Held{.document = std::move(document),
               .from = from,
               .until = services_.host.now() + kHold,
               .saved = saved};
}

bool ConfigStore::held_firmly() const {
  return held_ && (proposal_ || services_.host.now() < held_->until);
}

const ConfigDocument* ConfigStore::find(const ConfigTag& tag) const {
  if (decided_ && decided_->tag == tag) return &*decided_;
  if (held_ && held_->document.tag == tag) return &held_->document;
  return nullptr;
}

NodeSet ConfigStore::others() const {
  NodeSet nodes = decision_.members() | decision_.voters;
  nodes.remove(options_.self);
  return nodes;
}

std::string ConfigStore::missing() const {
  if (!lacks_decided()) return {};
  const std::string what = fmt::format(
      "the configuration of version {} is decided, and this node does not have it", version());
  switch (search_) {
    case Search::files:
      return what + " yet: it looks into its own files";
    case Search::witness:
      return what + " yet: it looks at the witness";
    case Search::nodes:
      if (transfer_) return fmt::format("{} yet: it asks node {}", what, transfer_->from);
      break;
    default:
      break;
  }
  return what +
         ": neither a file here, nor the witness, nor a node that answers has it. Start another "
         "node that had it";
}

std::string ConfigStore::problem() const {
  if (!save_problem_.empty()) return save_problem_;
  return witness_problem_;
}

size_t ConfigStore::bytes_held() const {
  return (decided_ ? decided_->bytes.capacity() : 0) +
         (held_ ? held_->document.bytes.capacity() : 0) +
         (transfer_ ? transfer_->bytes.capacity() : 0);
}

// --- looking for it

void ConfigStore::begin_search(Search at) {
  ++searches_;
  search_ = at;
  unasked_ = others();
  if (at == Search::files) return search_files();
  if (at == Search::witness) return search_witness();
  search_nodes();
}

void ConfigStore::search_files() {
  services_.files.load(
      [weak = std::weak_ptr(self_), search = searches_](ConfigCopies found) noexcept {
        const auto self = weak.lock();
        if (self == nullptr) return;
        ConfigStore& store = **self;
        store.take_loaded(found);
        if (search == store.searches_ && store.lacks_decided()) store.begin_search(Search::witness);
        if (search == store.searches_) store.search_ = Search::none;
      });
}

void ConfigStore::take_loaded(ConfigCopies& found) {
  for (auto& copy : found) {
    if (!copy || !is_intact(*copy)) continue;
    if (lacks_decided() && is_decided(copy->tag)) {
      adopt(std::move(*copy), true);
    } else if (copy->tag.version == version() + 1 && !held_ && !transfer_) {
      // Of an earlier life, or before a restart: this node may have said that it has it.
      set_held(std::move(*copy), kNoNode, true);
    }
  }
}

void ConfigStore::search_witness() {
  if (!services_.host.witness_usable() || services_.witness == nullptr || witness_busy_) {
    return begin_search(Search::nodes);
  }
  witness_busy_ = true;
  services_.witness->read(
      [weak = std::weak_ptr(self_), search = searches_](base::Result<ConfigCopies> found) noexcept {
        const auto self = weak.lock();
        if (self == nullptr) return;
        ConfigStore& store = **self;
        store.witness_busy_ = false;
        if (found) store.take_copies(*found);
        if (search == store.searches_) store.begin_search(Search::nodes);
      });
}

void ConfigStore::take_copies(ConfigCopies& found) {
  for (auto& copy : found) {
    if (copy && lacks_decided() && is_decided(copy->tag) && is_intact(*copy)) {
      adopt(std::move(*copy), false);
    }
  }
}

// The next of those that have not been asked in this round, first of those that are heard.
void ConfigStore::search_nodes() {
  if (transfer_ && is_decided(transfer_->tag)) return;
  transfer_.reset();
  if (!unasked_.empty()) {
    const NodeSet heard = unasked_ & services_.host.live_members();
    const NodeId next = (heard.empty() ? unasked_ : heard).lowest();
    unasked_.remove(next);
    return begin_transfer(decision_.config, next, 0);
  }
  search_ = Search::pause;
  search_at_ = services_.host.now() + kSearchPause;
  LOG_LIMITED(warning, kLog, "{}", missing());
}

// --- fetching

void ConfigStore::begin_transfer(const ConfigTag& tag, NodeId from, uint32_t length) {
  transfer_ = Transfer{.tag = tag, .from = from, .length = length};
  ask_for_chunk();
}

void ConfigStore::ask_for_chunk() {
  transfer_->deadline = services_.host.now() + kChunkLimit;
  ++transfer_->tries;
  services_.host.send(
      transfer_->from,
      ConfigFetch{.tag = transfer_->tag, .offset = static_cast<uint32_t>(transfer_->bytes.size())});
}

void ConfigStore::tend_transfer() {
  if (!transfer_ || services_.host.now() < transfer_->deadline) return;
  if (transfer_->tries < kChunkTries) return ask_for_chunk();
  fail_transfer("it does not answer");
}

void ConfigStore::fail_transfer(const char* why) {
  LOG_LIMITED(info, kLog, "configuration not fetched: version={} from={}: {}",
              transfer_->tag.version, transfer_->from, why);
  const bool wanted = is_decided(transfer_->tag);
  transfer_.reset();
  if (wanted && lacks_decided()) search_nodes();
}

void ConfigStore::take(NodeId from, const ConfigChunk& chunk) {
  if (!transfer_ || from != transfer_->from || chunk.tag != transfer_->tag) return;
  Transfer& transfer = *transfer_;
  if (chunk.offset != transfer.bytes.size()) return;  // one that was asked for twice, or never
  if (transfer.length == 0) transfer.length = chunk.length;
  if (chunk.length != transfer.length || chunk.length > kMaxDocumentBytes) {
    return fail_transfer("it has another length");
  }
  if (chunk.bytes.size() != std::min<size_t>(chunk.length - chunk.offset, kMaxChunkBytes)) {
    return fail_transfer("a part of it has the wrong length");
  }
  if (transfer.bytes.empty()) transfer.bytes.reserve(transfer.length);
  transfer.bytes += chunk.bytes;
  transfer.tries = 0;
  if (transfer.bytes.size() < transfer.length) return ask_for_chunk();
  finish_transfer();
}

void ConfigStore::finish_transfer() {
  ConfigDocument document{.tag = transfer_->tag, .bytes = std::move(transfer_->bytes)};
  if (!is_intact(document)) return fail_transfer("its bytes are not those of its digest");
  const NodeId from = transfer_->from;
  transfer_.reset();
  if (is_decided(document.tag)) {
    if (lacks_decided()) adopt(std::move(document), false);
    return;
  }
  set_held(std::move(document), from, false);
  save_next();
}

void ConfigStore::take(NodeId from, const ConfigFetch& fetch) {
  const ConfigDocument* const found = find(fetch.tag);
  if (found == nullptr || fetch.offset >= found->bytes.size()) return;
  services_.host.send(from,
                      ConfigChunk{.tag = found->tag,
                                  .length = static_cast<uint32_t>(found->bytes.size()),
                                  .offset = fetch.offset,
                                  .bytes = found->bytes.substr(fetch.offset, kMaxChunkBytes)});
}

// --- what others propose

// It comes again each kOfferPeriod: what cannot be taken now is left.
void ConfigStore::take(NodeId from, const ConfigOffer& offer) {
  if (is_decided(offer.tag)) {
    if (decided_ && decided_saved_) services_.host.send(from, ConfigHave{.tag = offer.tag});
    return;
  }
  if (offer.tag.version != version() + 1 || !decision_.members().has(from)) return;
  if (held_ && held_->document.tag == offer.tag) {
    if (!proposal_) {
      held_->from = from;
      held_->until = services_.host.now() + kHold;
    }
    if (held_->saved) services_.host.send(from, ConfigHave{.tag = offer.tag});
    return;
  }
  // What is written to the witness at this moment would be written to the same place.
  if (transfer_ || lacks_decided() || witness_writing_) return;
  if (!makes_way_for(from, offer.tag)) return;
  begin_transfer(offer.tag, from, offer.length);
}

bool ConfigStore::makes_way_for(NodeId from, const ConfigTag& tag) {
  if (proposal_) {
    // Of two at the same time the lower number goes on, unless the other's is being decided.
    if (proposal_->asked || options_.self < from) return false;
    fail_proposal(fmt::format("node {} changes the configuration at the same time", from));
    return true;
  }
  if (!held_firmly() || held_->from == from) {
    held_.reset();
    return true;
  }
  LOG_LIMITED(info, kLog, "configuration not taken: version={} from={}: that of node {} is kept",
              tag.version, from, held_->from);
  return false;
}

// --- saving

void ConfigStore::save_next() {
  if (saving_) return;
  const ConfigDocument* what = nullptr;
  if (decided_ && !decided_saved_ && services_.host.now() >= next_save_) {
    what = &*decided_;
  } else if (held_ && !held_->saved) {
    what = &held_->document;
  }
  if (what == nullptr) return;
  saving_ = true;
  services_.files.save(*what, decision_.config,
                       [weak = std::weak_ptr(self_), tag = what->tag](Answer result) noexcept {
                         const auto self = weak.lock();
                         if (self) (*self)->on_saved(tag, std::move(result));
                       });
}

void ConfigStore::on_saved(const ConfigTag& tag, Answer result) {
  saving_ = false;
  if (decided_ && decided_->tag == tag) {
    decided_saved_ = result.has_value();
    save_problem_ = result ? std::string() : result.error();
    next_save_ = services_.host.now() + kSavePause;
  } else if (held_ && held_->document.tag == tag) {
    held_->saved = result.has_value();
    if (proposal_ && !result) {
      fail_proposal(result.error());
    } else if (!result) {
      LOG_LIMITED(warning, kLog, "{}", result.error());
      held_.reset();
    } else if (!proposal_ && held_->from != kNoNode) {
      services_.host.send(held_->from, ConfigHave{.tag = tag});
    }
  }
  save_next();
  tend_proposal();
}

}  // namespace holdfast::qdisk
