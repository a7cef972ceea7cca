#include "common/iscsi/chap.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "common/base/assert.h"

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

struct MdDeleter {
  void operator()(EVP_MD* md) const { EVP_MD_free(md); }
};
struct ContextDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Md = std::unique_ptr<EVP_MD, MdDeleter>;
using Context = std::unique_ptr<EVP_MD_CTX, ContextDeleter>;

const char* openssl_name(ChapAlgorithm algorithm) {
  switch (algorithm) {
    case ChapAlgorithm::md5:
      return "MD5";
    case ChapAlgorithm::sha1:
      return "SHA1";
    case ChapAlgorithm::sha256:
      return "SHA256";
    case ChapAlgorithm::sha3_256:
      return "SHA3-256";
  }
  return "";
}

// Null where the provider in force has no such digest.
Md fetch(ChapAlgorithm algorithm) {
  return Md(EVP_MD_fetch(nullptr, openssl_name(algorithm), nullptr));
}

}  // namespace

bool equal_in_constant_time(base::Bytes a, base::Bytes b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool ChapAlgorithms::allows(ChapAlgorithm algorithm) const {
  switch (algorithm) {
    case ChapAlgorithm::md5:
      return md5;
    case ChapAlgorithm::sha1:
      return sha1;
    case ChapAlgorithm::sha256:
      return sha256;
    case ChapAlgorithm::sha3_256:
      return sha3_256;
  }
  return false;
}

std::optional<ChapAlgorithm> to_chap_algorithm(uint64_t number) {
  if (number < 5 || number > 8) return std::nullopt;
  return static_cast<ChapAlgorithm>(number);
}

size_t digest_length(ChapAlgorithm algorithm) {
  switch (algorithm) {
    case ChapAlgorithm::md5:
      return 16;
    case ChapAlgorithm::sha1:
      return 20;
    case ChapAlgorithm::sha256:
    case ChapAlgorithm::sha3_256:
      return 32;
  }
  return 0;
}

bool available(ChapAlgorithm algorithm) { return fetch(algorithm) != nullptr; }

ChapSecret::~ChapSecret() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Result<ChapSecret> ChapSecret::create(base::Bytes bytes) {
  if (bytes.empty() || bytes.size() > kMaxChapSecretBytes) {
    return fail(Errc::invalid_argument, "a CHAP secret must have 1 to 255 bytes");
  }
  ChapSecret secret;
  std::ranges::copy(bytes, secret.bytes_.begin());
  secret.size_ = static_cast<uint8_t>(bytes.size());
  return secret;
}

bool ChapSecret::same_as(const ChapSecret& other) const {
  return equal_in_constant_time(bytes(), other.bytes());
}

Result<void> chap_digest(ChapAlgorithm algorithm, uint8_t identifier, const ChapSecret& secret,
                         base::Bytes challenge, base::MutableBytes out) {
  ASSERT(out.size() == digest_length(algorithm));
  const Md md = fetch(algorithm);
  const Context context(EVP_MD_CTX_new());
  unsigned length = 0;
  const bool done =
      md != nullptr && context != nullptr &&
      EVP_DigestInit_ex2(context.get(), md.get(), nullptr) == 1 &&
      EVP_DigestUpdate(context.get(), &identifier, 1) == 1 &&
      EVP_DigestUpdate(context.get(), secret.bytes().data(), secret.bytes().size()) == 1 &&
      EVP_DigestUpdate(context.get(), challenge.data(), challenge.size()) == 1 &&
      static_cast<size_t>(EVP_MD_get_size(md.get())) == out.size() &&
      EVP_DigestFinal_ex(context.get(), out.data(), &length) == 1;
  if (!done) return fail(Errc::unsupported, "OpenSSL does not offer this CHAP digest");
  return {};
}

// A wrong user costs the same work as a wrong secret. CHAP_N is plain text: "0x41" is a user named
// 0x41.
bool chap_response_is_right(ChapAlgorithm algorithm, uint8_t identifier, base::Bytes challenge,
                            const ChapAccount& account, std::string_view user,
                            std::string_view response) {
  const size_t length = digest_length(algorithm);
  std::array<uint8_t, kMaxChapDigestBytes> received{};
  std::array<uint8_t, kMaxChapDigestBytes> expected{};
  const base::MutableBytes expected_bytes = base::MutableBytes(expected).first(length);
  const auto decoded = decode_binary(response, base::MutableBytes(received).first(length));
  if (!decoded.has_value() || *decoded != length) return false;
  if (!chap_digest(algorithm, identifier, account.secret, challenge, expected_bytes)) return false;
  const bool secret_ok =
      equal_in_constant_time(expected_bytes, base::Bytes(received).first(length));
  const bool user_ok =
      equal_in_constant_time(base::as_bytes(user), base::as_bytes(std::string_view(account.user)));
  OPENSSL_cleanse(expected.data(), expected.size());
  return secret_ok && user_ok;
}

Result<void> write_chap_response(ChapAlgorithm algorithm, uint8_t identifier, base::Bytes challenge,
                                 const ChapAccount& account, TextKeyWriter& out) {
  std::array<uint8_t, kMaxChapDigestBytes> digest{};
  const base::MutableBytes bytes = base::MutableBytes(digest).first(digest_length(algorithm));
  TRY(chap_digest(algorithm, identifier, account.secret, challenge, bytes));
  TRY(out.add("CHAP_N", account.user));
  return out.add_binary("CHAP_R", bytes);
}

ChapKeys ChapKeys::of(const TextMessage& message) {
  return {.a = message.find("CHAP_A"),
          .i = message.find("CHAP_I"),
          .c = message.find("CHAP_C"),
          .n = message.find("CHAP_N"),
          .r = message.find("CHAP_R")};
}

ChapServer::ChapServer(const ChapRequirement& requirement, base::Random& random)
    : requirement_(requirement), random_(random) {
  ASSERT(requirement.required());
}

ChapServer::Step ChapServer::step(const ChapKeys& keys, TextKeyWriter& out) {
  if (keys.empty() && state_ != State::done) return Step::waiting;
  Step step = Step::failed;
  if (state_ == State::algorithm) {
    step = choose_algorithm(keys, out);
  } else if (state_ == State::response) {
    step = check_response(keys, out);
  }
  state_ = step == Step::challenged ? State::response : State::done;
  return step;
}

// The initiator's list is in its order of preference (RFC 7143 12.1.3).
ChapServer::Step ChapServer::choose_algorithm(const ChapKeys& keys, TextKeyWriter& out) {
  if (!keys.a || keys.i || keys.c || keys.n || keys.r) return Step::failed;
  ListReader items(*keys.a);
  while (const auto item = items.next()) {
    const auto number = parse_number(*item);
    if (!number.has_value()) return Step::failed;
    const auto algorithm = to_chap_algorithm(*number);
    if (!algorithm || !requirement_.algorithms.allows(*algorithm) || !available(*algorithm)) {
      continue;
    }
    algorithm_ = *algorithm;
    challenge_length_ = std::max(digest_length(algorithm_), kMinChapChallengeBytes);
    random_.fill({&identifier_, 1});
    random_.fill({challenge_.data(), challenge_length_});
    const bool written = out.add_number("CHAP_A", *number).has_value() &&
                         out.add_number("CHAP_I", identifier_).has_value() &&
                         out.add_binary("CHAP_C", challenge()).has_value();
    return written ? Step::challenged : Step::failed;
  }
  return Step::failed;
}

ChapServer::Step ChapServer::check_response(const ChapKeys& keys, TextKeyWriter& out) {
  if (keys.a || !keys.n || !keys.r || keys.i.has_value() != keys.c.has_value()) {
    return Step::failed;
  }
  // The peer is proved first: a stranger must not get an answer computed with our secret.
  if (!response_is_right(*keys.n, *keys.r)) return Step::failed;
  failure_ = "CHAP: no answer can be given to the initiator's own challenge (mutual CHAP)";
  if (keys.i && !answer_challenge(keys, out)) return Step::failed;
  return Step::authenticated;
}

bool ChapServer::response_is_right(std::string_view user, std::string_view response) {
  failure_ = equal_in_constant_time(base::as_bytes(user),
                                    base::as_bytes(std::string_view(requirement_.initiator->user)))
                 ? "CHAP: the secret is wrong"
                 : "CHAP: the user is not the one of this initiator";
  return chap_response_is_right(algorithm_, identifier_, challenge(), *requirement_.initiator, user,
                                response);
}

// Mutual: the initiator's turn to challenge (RFC 7143 12.1.3).
bool ChapServer::answer_challenge(const ChapKeys& keys, TextKeyWriter& out) const {
  if (!requirement_.target) return false;
  const ChapAccount& account = *requirement_.target;
  // RFC 7143 9.2.1: with one secret for both directions an attacker lets us compute the answers to
  // our own challenges. The configuration refuses it too.
  if (account.secret.same_as(requirement_.initiator->secret)) return false;
  const auto identifier = parse_number(*keys.i);
  if (!identifier.has_value() || *identifier > 255) return false;
  std::array<uint8_t, kMaxChapBinaryBytes> challenge_bytes;
  const auto length = decode_binary(*keys.c, challenge_bytes);
  if (!length.has_value()) return false;
  const base::Bytes theirs = base::Bytes(challenge_bytes).first(*length);
  if (equal_in_constant_time(theirs, challenge())) return false;  // reflected
  return write_chap_response(algorithm_, static_cast<uint8_t>(*identifier), theirs, account, out)
      .has_value();
}

}  // namespace holdfast::iscsi
