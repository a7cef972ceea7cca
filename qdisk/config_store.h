#pragma once
// The configuration document of the cluster in one life of a node: has the one that is decided, and
// brings about the decision on the next. docs/qdisk-protocol.md, "Configuration". No descriptor,
// clock or thread of its own.
//
// Owner: the daemon; one loop's. Ends with end(), then destruction. In memory there are at most the
// decided document, one that is proposed, and one that is being fetched.

#include <functional>
#include <memory>

#include "qdisk/config_services.h"
#include "qdisk/quorum.h"

namespace holdfast::qdisk {

class ConfigStore {
 public:
  struct Options {
    NodeId self = kNoNode;
    io::Duration heal_period = std::chrono::seconds(10);
  };
  // `witness`: null while there is none.
  struct Services {
    ConfigHost& host;
    ConfigFiles& files;
    ConfigWitness* witness = nullptr;
  };
  // The error is for the administrator.
  using Answer = std::expected<void, std::string>;
  using Done = std::move_only_function<void(Answer) noexcept>;

  static constexpr io::Duration kTick = std::chrono::milliseconds(100);
  static constexpr io::Duration kOfferPeriod = std::chrono::seconds(1);
  // So long it is waited for a member that is heard and does not take the document.
  static constexpr io::Duration kMemberLimit = std::chrono::seconds(3);
  static constexpr io::Duration kProposeLimit = std::chrono::seconds(10);
  // Whoever has said to have a document that may become the next keeps it so long after it was last
  // offered, against others of the same version: the ballot that decides it ends in that time, or
  // leases do.
  static constexpr io::Duration kHold = std::chrono::seconds(20);
  static constexpr io::Duration kChunkLimit = std::chrono::seconds(1);
  static constexpr int kChunkTries = 2;
  // After all have been asked in vain; a save that failed.
  static constexpr io::Duration kSearchPause = std::chrono::seconds(2);
  static constexpr io::Duration kSavePause = std::chrono::seconds(10);

  ConfigStore(const Services& services, const Options& options, const Decision& decision);
  ConfigStore(const ConfigStore&) = delete;
  ConfigStore& operator=(const ConfigStore&) = delete;
  ~ConfigStore();

  void start();
  // A proposal under way is answered. Nothing comes of what is under way, nor of later calls.
  void end();

  void on_decision(const Decision& decision);
  void on_tick();  // every kTick
  void on_message(NodeId from, const ConfigMessage& message);
  // Another LUN, or none. The one before answers what was asked of it.
  void use_witness(ConfigWitness* witness);

  // An error: refused, and `done` is not called. Else `done` once, later, from an event or end().
  Answer propose(std::string bytes, uint64_t expected_version, Done done);

  // Of the decided version; null: this node does not have it, or nothing was decided yet.
  const ConfigDocument* document() const { return decided_ ? &*decided_ : nullptr; }
  uint64_t version() const { return decision_.config.version; }
  // Why document() is null though there is one, in words; else empty.
  std::string missing() const;
  // What could not be saved here, or kept on the witness by this node; empty: nothing.
  std::string problem() const;
  // Of documents in memory.
  size_t bytes_held() const;

 private:
  // May become the next: proposed here, or offered.
  struct Held {
    ConfigDocument document;
    NodeId from = kNoNode;  // kNoNode: it was found on the local disk
    io::Instant until{};
    bool saved = false;
  };
  struct Proposal {
    Done done;
    io::Instant began{};
    io::Instant next_offer{};
    io::Instant next_witness{};
    NodeSet have;  // other nodes
    bool on_witness = false;
    bool asked = false;
  };
  struct Transfer {
    ConfigTag tag;
    NodeId from = kNoNode;
    uint32_t length = 0;  // 0: not known yet
    std::string bytes;
    int tries = 0;  // of the part that is waited for
    io::Instant deadline{};
  };
  // Where the decided document is looked for.
  enum class Search : uint8_t { none, files, witness, nodes, pause };

  bool lacks_decided() const { return names_document(decision_.config) && !decided_; }
  bool is_decided(const ConfigTag& tag) const { return tag == decision_.config; }
  NodeSet others() const;
  void take_tag(const ConfigTag& before);
  void adopt(ConfigDocument document, bool saved);
  void set_held(ConfigDocument document, NodeId from, bool saved);
  bool held_firmly() const;
  const ConfigDocument* find(const ConfigTag& tag) const;

  void begin_search(Search at);
  void search_files();
  void search_witness();
  void search_nodes();
  void take_loaded(ConfigCopies& found);
  void take_copies(ConfigCopies& found);

  void begin_transfer(const ConfigTag& tag, NodeId from, uint32_t length);
  void ask_for_chunk();
  void fail_transfer(const char* why);
  void finish_transfer();
  void tend_transfer();

  void take(NodeId from, const ConfigOffer& offer);
  void take(NodeId from, const ConfigFetch& fetch);
  void take(NodeId from, const ConfigChunk& chunk);
  void take(NodeId from, const ConfigHave& have);
  bool makes_way_for(NodeId from, const ConfigTag& tag);

  void save_next();
  void on_saved(const ConfigTag& tag, Answer result);

  // config_store_propose.cc
  std::string obstacle_to_propose(size_t bytes, uint64_t expected_version) const;
  void tend_proposal();
  Change change() const;
  void on_witness_written(base::Result<> result);
  void offer();
  bool everybody_has_it() const;
  void look_at_decision_about_proposal();
  void fail_proposal(const std::string& why);
  void answer_proposal(Answer answer);
  std::string who_lacks_it() const;
  Answers answers() const;
  void put_on_witness(const ConfigDocument& document, ConfigWitness::Written done);
  void heal_witness();
  bool heals_witness() const;

  Services services_;
  const Options options_;
  Decision decision_;
  std::optional<ConfigDocument> decided_;  // of decision_.config
  bool decided_saved_ = false;
  std::optional<Held> held_;
  std::optional<Proposal> proposal_;  // of held_
  uint64_t witness_task_ = 0;         // of a proposal: which of them an answer is to
  std::optional<Transfer> transfer_;
  Search search_ = Search::none;
  uint64_t searches_ = 0;  // which of them an answer is to
  NodeSet unasked_;        // in this round
  io::Instant search_at_{};
  bool saving_ = false;
  io::Instant next_save_{};
  std::string save_problem_;
  bool witness_busy_ = false;
  bool witness_writing_ = false;  // or about to
  io::Instant next_heal_{};
  std::string witness_problem_;
  bool ended_ = false;
  // What answers later: nobody is there any more once it has gone.
  std::shared_ptr<ConfigStore*> self_ = std::make_shared<ConfigStore*>(this);
};

}  // namespace holdfast::qdisk
