#pragma once
// Operational negotiation (RFC 7143 6.2, clause 13) over the one key table. Each side is an object
// of this class, which answers offers and knows what it has offered itself.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/iscsi/key_table.h"
#include "common/iscsi/parameters.h"
#include "common/iscsi/text_keys.h"

namespace holdfast::iscsi {

enum class Role : uint8_t { initiator, target };
enum class SessionType : uint8_t { normal, discovery };

// What the peer stated about itself.
struct PeerNames {
  std::string initiator_name;   // normalised; empty: not stated
  std::string target_name;      // normalised; empty: not stated
  std::string initiator_alias;  // printable; for logs and status only
  std::string target_alias;
  SessionType session_type = SessionType::normal;
  std::optional<uint16_t> portal_group_tag{};  // stated by a target
};

enum class NegotiationPhase : uint8_t { security, operational, full_feature };

class Negotiation {
 public:
  // An initiator says which session it opens; a target learns it from the peer.
  Negotiation(Role role, const LocalParameters& local, SessionType type = SessionType::normal);

  // Takes one complete message and writes the answers it calls for. Of keys that are the business
  // of others (Rule::elsewhere) only the place is checked.
  // Errc::protocol: a key twice in one login, in the wrong stage, from the wrong side, an illegal
  // value of a declaration, an illegal answer. Errc::limit: the answers do not fit.
  // Errc::not_found: TargetName is no name. Errc::unsupported: an unknown SessionType.
  base::Result<void> receive(const TextMessage& message, NegotiationPhase phase,
                             TextKeyWriter& out);

  // What this side states in the operational stage; written once.
  base::Result<void> declare(TextKeyWriter& out);
  // Initiator: all that it negotiates. Target, when the initiator wants to leave the stage: only
  // those keys whose default it can not live with and that the initiator has not named.
  base::Result<void> offer(TextKeyWriter& out);
  // Offers of ours that the peer has not answered: the stage can not end (RFC 7143 6.2).
  bool waiting_for_answers() const;
  // Initiator: the target ended the stage all the same. What it left unanswered counts as refused.
  // Errc::protocol: this side can not live with the default of one.
  base::Result<void> end_stage();

  // A new text negotiation of the full feature phase: its keys may be named again.
  void begin_sequence();

  const SessionParameters& parameters() const { return active_; }
  const PeerNames& peer() const { return peer_; }

 private:
  struct KeyState {
    bool received = false;  // named by the peer in this login or sequence
    bool offered = false;   // named by us, to be answered
    bool answered = false;
  };

  KeyState& state(Key key) { return states_[static_cast<size_t>(key)]; }
  const KeyState& state(Key key) const { return states_[static_cast<size_t>(key)]; }
  base::Result<void> check_place(const KeyInfo& info, NegotiationPhase phase) const;
  base::Result<void> receive_key(const KeyInfo& info, std::string_view value,
                                 NegotiationPhase phase, TextKeyWriter& out);
  base::Result<void> receive_again(const KeyInfo& info, std::string_view value) const;
  bool is_what_was_stated(const KeyInfo& info, std::string_view value) const;
  base::Result<void> receive_declaration(const KeyInfo& info, std::string_view value);
  base::Result<void> receive_session_type(const TextMessage& message);
  base::Result<void> receive_answer(const KeyInfo& info, std::string_view value);
  base::Result<void> answer(const KeyInfo& info, std::string_view value, TextKeyWriter& out);
  base::Result<void> answer_boolean(const KeyInfo& info, std::string_view value,
                                    TextKeyWriter& out);
  base::Result<void> answer_number(const KeyInfo& info, std::string_view value, TextKeyWriter& out);
  base::Result<void> answer_list(const KeyInfo& info, std::string_view value, TextKeyWriter& out);
  bool default_is_acceptable(Key key) const;
  base::Result<void> write_offer(const KeyInfo& info, TextKeyWriter& out) const;

  Role role_;
  LocalParameters local_;
  SessionParameters active_;
  PeerNames peer_;
  bool leading_ = true;  // no message has been taken
  bool declared_ = false;
  std::array<KeyState, kKeyCount> states_{};
};

}  // namespace holdfast::iscsi
