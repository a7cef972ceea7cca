#pragma once
// The answer to a CHAP challenge, which a fuzzer can not guess: inputs say "CHAP_R=!" for it.

#include <string>
#include <string_view>
#include <vector>

#include "common/base/assert.h"
#include "common/iscsi/chap.h"

namespace holdfast::iscsi {

inline ChapSecret fuzz_secret(std::string_view text) {
  return *ChapSecret::create(base::as_bytes(text));
}

// `sent` is a message of the target; empty: it holds no challenge.
inline std::string chap_answer(base::Bytes sent, const ChapSecret& secret) {
  TextMessage message;
  ASSERT(message.parse(sent).has_value());
  if (!message.find("CHAP_C")) return {};
  const auto algorithm = *to_chap_algorithm(*parse_number(*message.find("CHAP_A")));
  const auto id = static_cast<uint8_t>(*parse_number(*message.find("CHAP_I")));
  std::vector<uint8_t> challenge(kMaxChapBinaryBytes);
  challenge.resize(*decode_binary(*message.find("CHAP_C"), challenge));
  ASSERT(challenge.size() >= kMinChapChallengeBytes);
  std::vector<uint8_t> digest(digest_length(algorithm));
  ASSERT(chap_digest(algorithm, id, secret, challenge, digest).has_value());
  std::vector<uint8_t> text;
  TextKeyWriter out(text, 4096);
  ASSERT(out.add_binary("R", digest).has_value());
  return std::string(base::as_text(text).substr(2, text.size() - 3));
}

}  // namespace holdfast::iscsi
