// A change of the configuration, from propose() to the decision, and the copies on the witness.

#include <fmt/format.h>

#include <utility>

#include "common/base/log.h"
#include "qdisk/config_store.h"

namespace holdfast::qdisk {

namespace {

constexpr const char* kLog = "qdisk";

std::string nodes_in_words(NodeSet nodes) {
  std::string words;
  for (const NodeId node : nodes) {
    words += fmt::format("{}node {}", words.empty() ? "" : ", ", node);
  }
  return words;
}

}  // namespace

std::string ConfigStore::obstacle_to_propose(size_t bytes, uint64_t expected_version) const {
  const io::Instant now = services_.host.now();
  if (ended_) return "this node is not running as a part of the cluster";
  if (bytes == 0 || bytes > kMaxDocumentBytes) {
    return fmt::format("a configuration has 1 to {} bytes, and not {}", kMaxDocumentBytes, bytes);
  }
  if (!services_.host.has_lease()) {
    return "this node is not in the quorum: change the configuration on one that is";
  }
  if (proposal_) return "another change of the configuration is under way on this node";
  if (expected_version != version()) {
    return fmt::format("the configuration is at version {} by now, and not at {}", version(),
                       expected_version);
  }
  if (lacks_decided()) return missing();
  const bool held = held_firmly();
  if (!held && !transfer_) return {};
  const NodeId who = held ? held_->from : transfer_->from;
  if (who < kMaxNodes && who != options_.self) {
    return fmt::format("node {} changes the configuration at the same time", who);
  }
  const auto left = std::chrono::ceil<std::chrono::seconds>(held_->until - now);
  return fmt::format(
      "an earlier change of the configuration may still be decided: try again in {} "
      "s",
      left.count());
}

ConfigStore::Answer ConfigStore::propose(std::string bytes, uint64_t expected_version, Done done) {
  std::string obstacle = obstacle_to_propose(bytes.size(), expected_version);
  if (!obstacle.empty()) return std::unexpected(std::move(obstacle));
  const io::Instant now = services_.host.now();
  set_held(make_document(version() + 1, std::move(bytes)), options_.self, false);
  ++witness_task_;
  proposal_ = Proposal{.done = std::move(done), .began = now, .next_offer = now};
  LOG_INFO(kLog, "configuration proposed: version={} bytes={}", version() + 1,
           held_->document.bytes.size());
  save_next();
  return {};
}

// --- while it is under way

void ConfigStore::tend_proposal() {
  if (!proposal_) return;
  const io::Instant now = services_.host.now();
  if (now >= proposal_->began + kProposeLimit) {
    return fail_proposal(fmt::format("the change was not decided within {} s{}",
                                     kProposeLimit / std::chrono::seconds(1), who_lacks_it()));
  }
  if (now >= proposal_->next_offer) offer();
  // Whoever has it proposes none of the same version, so that two do not write to the witness.
  if (!held_->saved || !everybody_has_it()) return;
  if (!proposal_->on_witness && !witness_busy_ && now >= proposal_->next_witness &&
      services_.witness != nullptr && services_.host.witness_usable()) {
    put_on_witness(held_->document, [this, task = ++witness_task_](base::Result<> result) noexcept {
      if (proposal_ && task == witness_task_) on_witness_written(result);
    });
  }
  if (proposal_->asked || !is_majority(decision_, answers()) || !services_.host.has_lease()) return;
  const auto asked = services_.host.ask(change());
  if (asked) {
    proposal_->asked = true;
  } else if (asked.error().code != base::Errc::busy) {
    fail_proposal(asked.error().what);
  }
}

// Precondition: a document is held.
Change ConfigStore::change() const {
  return {.kind = Change::Kind::config, .config = held_->document.tag};
}

void ConfigStore::on_witness_written(base::Result<> result) {
  proposal_->on_witness = result.has_value();
  proposal_->next_witness = services_.host.now() + kOfferPeriod;
  tend_proposal();
}

void ConfigStore::offer() {
  const ConfigDocument& document = held_->document;
  for (const NodeId node : others() - proposal_->have) {
    services_.host.send(node, ConfigOffer{.tag = document.tag,
                                          .length = static_cast<uint32_t>(document.bytes.size())});
  }
  proposal_->next_offer = services_.host.now() + kOfferPeriod;
}

bool ConfigStore::everybody_has_it() const {
  if (services_.host.now() >= proposal_->began + kMemberLimit) return true;
  const NodeSet wanted = services_.host.live_members() & others();
  return proposal_->have.contains(wanted);
}

void ConfigStore::take(NodeId from, const ConfigHave& have) {
  if (!proposal_ || have.tag != held_->document.tag) return;
  proposal_->have.add(from);
  tend_proposal();
}

// Precondition: it is saved here. Who does not vote does not count.
Answers ConfigStore::answers() const {
  Answers answers{.nodes = proposal_->have, .witness = proposal_->on_witness};
  answers.nodes.add(options_.self);
  return answers;
}

// --- its end

void ConfigStore::look_at_decision_about_proposal() {
  // take_tag() has made it the decided one, or left it.
  if (!held_) return answer_proposal({});
  if (version() + 1 == held_->document.tag.version) return;
  fail_proposal(
      fmt::format("the configuration is at version {} by now, by another change", version()));
}

void ConfigStore::fail_proposal(const std::string& why) {
  if (!proposal_->asked) {
    held_.reset();
    return answer_proposal(std::unexpected(why));
  }
  services_.host.forget(change());
  const bool superseded = version() >= held_->document.tag.version;
  if (superseded) {
    held_.reset();
    return answer_proposal(std::unexpected(why));
  }
  held_->until = services_.host.now() + kHold;
  answer_proposal(std::unexpected(why + "; it was asked for, and may still be decided"));
}

void ConfigStore::answer_proposal(Answer answer) {
  if (!answer) LOG_WARNING(kLog, "configuration not changed: {}", answer.error());
  auto done = std::move(proposal_->done);
  proposal_.reset();
  done(std::move(answer));
}

std::string ConfigStore::who_lacks_it() const {
  if (!services_.host.has_lease()) return "; this node is not in the quorum any more";
  std::string words = nodes_in_words((others() & decision_.voters) - proposal_->have);
  if (decision_.witness_votes && !proposal_->on_witness) {
    words += words.empty() ? "the witness" : ", the witness";
  }
  return words.empty() ? words : fmt::format("; without it: {}", words);
}

// --- the witness

void ConfigStore::use_witness(ConfigWitness* witness) {
  services_.witness = witness;
  ++witness_task_;
  if (proposal_) proposal_->on_witness = false;
}

// Precondition: nothing is under way there.
void ConfigStore::put_on_witness(const ConfigDocument& document, ConfigWitness::Written done) {
  witness_busy_ = witness_writing_ = true;
  auto finish = [this, done = std::move(done)](base::Result<> result) mutable noexcept {
    witness_busy_ = witness_writing_ = false;
    done(result);
  };
  services_.witness->read(
      [weak = std::weak_ptr(self_), document, witness = services_.witness,
       finish = std::move(finish)](base::Result<ConfigCopies> found) mutable noexcept {
        const auto self = weak.lock();
        if (self == nullptr) return;
        if (!found) return finish(std::unexpected(found.error()));
        for (const auto& copy : *found) {
          if (copy && copy->tag == document.tag) return finish({});
        }
        // It may have been superseded meanwhile, or the witness.
        ConfigStore& store = **self;
        if (store.find(document.tag) == nullptr || store.services_.witness != witness) {
          return finish(base::fail(base::Errc::cancelled, "another one is decided by now"));
        }
        witness->write(document, copy_to_write(*found, store.decision_.config),
                       [weak, finish = std::move(finish)](base::Result<> result) mutable noexcept {
                         if (weak.lock() != nullptr) finish(result);
                       });
      });
}

// Not while another one is on its way there.
void ConfigStore::heal_witness() {
  const io::Instant now = services_.host.now();
  if (now < next_heal_) return;
  next_heal_ = now + options_.heal_period;
  if (!heals_witness()) return witness_problem_.clear();
  if (witness_busy_ || !decided_ || held_firmly() || transfer_) return;
  put_on_witness(*decided_, [this](base::Result<> result) noexcept {
    if (!result && result.error().code == base::Errc::cancelled) return;
    witness_problem_ =
        result ? std::string()
               : fmt::format("the configuration is not on the witness: {}", result.error().what);
  });
}

// One member does.
bool ConfigStore::heals_witness() const {
  NodeSet members = services_.host.live_members() & decision_.members();
  members.add(options_.self);
  return services_.witness != nullptr && services_.host.witness_usable() &&
         services_.host.has_lease() && members.lowest() == options_.self;
}

}  // namespace holdfast::qdisk
