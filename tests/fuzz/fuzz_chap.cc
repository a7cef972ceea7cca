// CHAP messages: byte 0 chooses the allowed algorithms and mutual CHAP, the rest is messages parted
// by the byte 0xff. "CHAP_R=!" stands for the right answer, which a fuzzer can not guess; nothing
// else may ever authenticate.

#include <algorithm>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/base/random.h"
#include "common/iscsi/chap.h"
#include "tests/fuzz/chap_answer.h"

using holdfast::base::Bytes;
using namespace holdfast::iscsi;  // NOLINT(google-build-using-namespace): a program of one file

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const uint8_t mode = data[0];
  Bytes rest(data + 1, size - 1);
  holdfast::base::SeededRandom random(mode);
  ChapRequirement requirement;
  requirement.algorithms = {(mode & 1) != 0, (mode & 2) != 0, (mode & 4) != 0, (mode & 8) != 0};
  requirement.initiator = ChapAccount{"hv1", fuzz_secret("forward")};
  if ((mode & 16) != 0) requirement.target = ChapAccount{"store", fuzz_secret("reverse")};
  ChapServer server(requirement, random);
  std::string answer;
  while (!rest.empty()) {
    const auto end = std::ranges::find(rest, uint8_t{0xff});
    const Bytes text(rest.begin(), end);
    rest = rest.subspan(std::min(rest.size(), text.size() + 1));
    TextMessage message;
    if (!message.parse(text).has_value()) return 0;
    ChapKeys keys = ChapKeys::of(message);
    const bool right = keys.r == "!" && !answer.empty();
    if (right) keys.r = answer;
    std::vector<uint8_t> sent;
    TextKeyWriter out(sent, kMaxLoginResponseBytes);
    const auto step = server.step(keys, out);
    if (step == ChapServer::Step::challenged)
      answer = chap_answer(sent, requirement.initiator->secret);
    if (step == ChapServer::Step::authenticated) {
      ASSERT((right || keys.r == answer) && keys.n == "hv1");
      ASSERT(requirement.target.has_value() || sent.empty());
    }
    if (step == ChapServer::Step::failed) return 0;
  }
  return 0;
}
