#include "common/iscsi/chap_client.h"

#include <algorithm>
#include <string>

#include "common/base/assert.h"

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr ChapAlgorithm kStrongestFirst[] = {ChapAlgorithm::sha3_256, ChapAlgorithm::sha256,
                                             ChapAlgorithm::sha1, ChapAlgorithm::md5};

}  // namespace

ChapClient::ChapClient(const ChapCredentials& credentials, base::Random& random)
    : credentials_(credentials), random_(random) {}

bool ChapClient::may_offer(ChapAlgorithm algorithm) const {
  return credentials_.algorithms.allows(algorithm) && available(algorithm);
}

Result<void> ChapClient::offer(TextKeyWriter& out) {
  ASSERT(state_ == State::idle);
  // RFC 7143 9.2.1: whoever plays the target could let us compute the answer to our own challenge.
  if (credentials_.target && credentials_.target->secret.same_as(credentials_.initiator.secret)) {
    return fail(Errc::invalid_argument, "mutual CHAP needs two different secrets");
  }
  std::string list;
  for (const ChapAlgorithm algorithm : kStrongestFirst) {
    if (!may_offer(algorithm)) continue;
    if (!list.empty()) list += ',';
    list += static_cast<char>('0' + static_cast<int>(algorithm));
  }
  if (list.empty()) return fail(Errc::unsupported, "no CHAP algorithm is allowed and available");
  state_ = State::challenge;
  return out.add("CHAP_A", list);
}

ChapClient::Step ChapClient::step(const ChapKeys& keys, TextKeyWriter& out) {
  ASSERT(state_ != State::idle && state_ != State::failed);
  if (keys.empty()) return Step::waiting;
  switch (state_) {
    case State::challenge:
      return answer_challenge(keys, out);
    case State::proof:
      return check_proof(keys);
    default:
      return failed("the target sent CHAP keys that are not due");
  }
}

ChapClient::Step ChapClient::answer_challenge(const ChapKeys& keys, TextKeyWriter& out) {
  if (!keys.a || !keys.i || !keys.c || keys.n || keys.r) {
    return failed("the target's CHAP challenge is not CHAP_A, CHAP_I and CHAP_C");
  }
  if (!take_algorithm(*keys.a)) return failed("the target chose a CHAP algorithm not offered");
  const auto identifier = parse_number(*keys.i);
  if (!identifier.has_value() || *identifier > 255) return failed("CHAP_I is not a byte");
  std::array<uint8_t, kMaxChapBinaryBytes> bytes;
  const auto length = decode_binary(*keys.c, bytes);
  if (!length.has_value()) return failed("CHAP_C is no binary value of at most 1024 bytes");
  const base::Bytes theirs = base::Bytes(bytes).first(*length);
  const auto written = write_chap_response(algorithm_, static_cast<uint8_t>(*identifier), theirs,
                                           credentials_.initiator, out);
  if (!written.has_value()) return failed(written.error().what);
  if (credentials_.target && !write_challenge(theirs, out)) {
    return failed("the target's CHAP challenge is our own");
  }
  state_ = credentials_.target ? State::proof : State::done;
  return Step::answered;
}

bool ChapClient::take_algorithm(std::string_view chosen) {
  const auto number = parse_number(chosen);
  const auto algorithm = number.has_value() ? to_chap_algorithm(*number) : std::nullopt;
  if (!algorithm || !may_offer(*algorithm)) return false;
  algorithm_ = *algorithm;
  return true;
}

// RFC 7143 12.1.3: our turn to challenge. Never with what the target has just sent us: its answer
// could be our own, reflected.
bool ChapClient::write_challenge(base::Bytes theirs, TextKeyWriter& out) {
  challenge_length_ = std::max(digest_length(algorithm_), kMinChapChallengeBytes);
  random_.fill({&identifier_, 1});
  random_.fill({challenge_.data(), challenge_length_});
  return !equal_in_constant_time(theirs, challenge()) &&
         out.add_number("CHAP_I", identifier_).has_value() &&
         out.add_binary("CHAP_C", challenge()).has_value();
}

ChapClient::Step ChapClient::check_proof(const ChapKeys& keys) {
  if (!keys.n || !keys.r || keys.a || keys.i || keys.c) {
    return failed("the target's CHAP answer is not CHAP_N and CHAP_R");
  }
  if (!chap_response_is_right(algorithm_, identifier_, challenge(), *credentials_.target, *keys.n,
                              *keys.r)) {
    return failed("the target did not prove itself: its CHAP user or secret is another one");
  }
  state_ = State::done;
  return Step::proved;
}

ChapClient::Step ChapClient::failed(const char* reason) {
  state_ = State::failed;
  reason_ = reason;
  return Step::failed;
}

}  // namespace holdfast::iscsi
