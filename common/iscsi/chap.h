#pragma once
// CHAP (RFC 7143 12.1.3, algorithms of RFC 3720 and of the IANA registry). Pure: randomness comes
// from a base::Random, digests from OpenSSL.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/bytes.h"
#include "common/base/random.h"
#include "common/base/result.h"
#include "common/iscsi/limits.h"
#include "common/iscsi/text_keys.h"

namespace holdfast::iscsi {

// The number of CHAP_A. Note that 7 is SHA-256; a peer that means SHA1 by 7 is wrong.
enum class ChapAlgorithm : uint8_t { md5 = 5, sha1 = 6, sha256 = 7, sha3_256 = 8 };

// Which algorithms a side may use. An algorithm that OpenSSL does not offer (MD5 under FIPS) is
// never used, whatever is allowed.
struct ChapAlgorithms {
  bool md5 = true;
  bool sha1 = true;
  bool sha256 = true;
  bool sha3_256 = true;

  bool allows(ChapAlgorithm algorithm) const;
};

std::optional<ChapAlgorithm> to_chap_algorithm(uint64_t number);
size_t digest_length(ChapAlgorithm algorithm);
bool available(ChapAlgorithm algorithm);  // in this OpenSSL, as it is configured

// A shared secret. Zeroised when it goes; never printed, never compared in variable time.
class ChapSecret {
 public:
  ChapSecret() = default;
  ChapSecret(const ChapSecret&) = default;
  ChapSecret& operator=(const ChapSecret&) = default;
  ~ChapSecret();

  // Errc::invalid_argument: empty or longer than kMaxChapSecretBytes.
  static base::Result<ChapSecret> create(base::Bytes bytes);

  base::Bytes bytes() const { return {bytes_.data(), size_}; }
  bool short_for_use() const { return size_ < kMinGoodChapSecretBytes; }
  bool same_as(const ChapSecret& other) const;

 private:
  std::array<uint8_t, kMaxChapSecretBytes> bytes_{};
  uint8_t size_ = 0;
};

struct ChapAccount {
  std::string user;
  ChapSecret secret;
};

// What a login must prove. No `initiator`: no CHAP is required and none is done.
struct ChapRequirement {
  std::optional<ChapAccount> initiator{};  // who the initiator has to be
  std::optional<ChapAccount> target{};     // with which we answer if the initiator challenges us
  ChapAlgorithms algorithms{};

  bool required() const { return initiator.has_value(); }
};

// H(identifier, secret, challenge). `out` has digest_length() bytes. Errc::unsupported: OpenSSL
// does not offer the algorithm.
base::Result<void> chap_digest(ChapAlgorithm algorithm, uint8_t identifier,
                               const ChapSecret& secret, base::Bytes challenge,
                               base::MutableBytes out);

// Whether CHAP_N and CHAP_R prove `account`, in constant time.
bool chap_response_is_right(ChapAlgorithm algorithm, uint8_t identifier, base::Bytes challenge,
                            const ChapAccount& account, std::string_view user,
                            std::string_view response);
// CHAP_N and CHAP_R that prove `account`.
base::Result<void> write_chap_response(ChapAlgorithm algorithm, uint8_t identifier,
                                       base::Bytes challenge, const ChapAccount& account,
                                       TextKeyWriter& out);
bool equal_in_constant_time(base::Bytes a, base::Bytes b);

// The CHAP_* keys of one message.
struct ChapKeys {
  std::optional<std::string_view> a{};
  std::optional<std::string_view> i{};
  std::optional<std::string_view> c{};
  std::optional<std::string_view> n{};
  std::optional<std::string_view> r{};

  static ChapKeys of(const TextMessage& message);
  bool empty() const { return !a && !i && !c && !n && !r; }
};

// The target's side of one CHAP exchange. One object per login, used once.
class ChapServer {
 public:
  enum class Step : uint8_t {
    waiting,        // nothing happened; the initiator has to send the next keys
    challenged,     // CHAP_A, CHAP_I and CHAP_C were written
    authenticated,  // also CHAP_N and CHAP_R, when the initiator challenged us
    failed,         // login status 0201, with no hint at the reason
  };

  ChapServer(const ChapRequirement& requirement, base::Random& random);

  Step step(const ChapKeys& keys, TextKeyWriter& out);

  ChapAlgorithm algorithm() const { return algorithm_; }
  // Why it failed, for our log only: the peer gets no hint.
  const char* failure() const { return failure_; }

 private:
  enum class State : uint8_t { algorithm, response, done };

  Step choose_algorithm(const ChapKeys& keys, TextKeyWriter& out);
  Step check_response(const ChapKeys& keys, TextKeyWriter& out);
  bool response_is_right(std::string_view user, std::string_view response);
  bool answer_challenge(const ChapKeys& keys, TextKeyWriter& out) const;
  base::Bytes challenge() const { return {challenge_.data(), challenge_length_}; }

  const ChapRequirement& requirement_;
  base::Random& random_;
  const char* failure_ = "CHAP: its keys or algorithms are none that we can use";
  State state_ = State::algorithm;
  ChapAlgorithm algorithm_ = ChapAlgorithm::md5;
  uint8_t identifier_ = 0;
  std::array<uint8_t, kMaxChapDigestBytes> challenge_{};
  size_t challenge_length_ = 0;
};

}  // namespace holdfast::iscsi
