#pragma once
// The initiator's side of one CHAP exchange (RFC 7143 12.1.3). Pure; the digests are chap.h's.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/base/result.h"
#include "common/iscsi/chap.h"

namespace holdfast::iscsi {

// What an initiator proves, and what it demands.
struct ChapCredentials {
  ChapAccount initiator{};
  // Mutual CHAP: the target has to prove that it is this account. Never given up.
  std::optional<ChapAccount> target{};
  ChapAlgorithms algorithms{};
  // False, and no `target`: a target that wants no CHAP is taken without it.
  bool required = true;

  bool demanded() const { return required || target.has_value(); }
};

// One object per login, used once.
class ChapClient {
 public:
  enum class Step : uint8_t {
    waiting,   // nothing happened; the target has to send the next keys
    answered,  // CHAP_N and CHAP_R were written, and our challenge where `target` is set
    proved,    // mutual only: the target is who it has to be
    failed,    // see reason(); the login must end
  };

  // `credentials` and `random` must outlive the object.
  ChapClient(const ChapCredentials& credentials, base::Random& random);
  ChapClient(const ChapClient&) = delete;
  ChapClient& operator=(const ChapClient&) = delete;

  // CHAP_A: what is allowed and available, the strongest first. Errc::unsupported: none is.
  // Errc::invalid_argument: one secret for both directions (RFC 7143 9.2.1).
  base::Result<void> offer(TextKeyWriter& out);
  // The CHAP keys of one message of the target, after offer().
  Step step(const ChapKeys& keys, TextKeyWriter& out);

  // Our response was written.
  bool answered() const { return state_ == State::proof || state_ == State::done; }
  // Nothing is missing on our side: the login may leave the security stage.
  bool complete() const { return state_ == State::done; }
  const char* reason() const { return reason_; }  // static text; says nothing of a secret

  ChapAlgorithm algorithm() const { return algorithm_; }

 private:
  enum class State : uint8_t { idle, challenge, proof, done, failed };

  Step answer_challenge(const ChapKeys& keys, TextKeyWriter& out);
  bool take_algorithm(std::string_view chosen);
  bool write_challenge(base::Bytes theirs, TextKeyWriter& out);
  Step check_proof(const ChapKeys& keys);
  bool may_offer(ChapAlgorithm algorithm) const;
  Step failed(const char* reason);
  base::Bytes challenge() const { return {challenge_.data(), challenge_length_}; }

  const ChapCredentials& credentials_;
  base::Random& random_;
  State state_ = State::idle;
  ChapAlgorithm algorithm_ = ChapAlgorithm::md5;
  uint8_t identifier_ = 0;  // of our challenge
  std::array<uint8_t, kMaxChapDigestBytes> challenge_{};
  size_t challenge_length_ = 0;
  const char* reason_ = "";
};

}  // namespace holdfast::iscsi
