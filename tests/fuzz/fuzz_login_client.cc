// A whole hostile target up to the full feature phase: byte 0 chooses what the initiator demands,
// the rest is the byte stream as the socket would give it. In the texts "CHAP_R=!" stands for the
// right proof, which a fuzzer can not guess, and StatSN, ISID and task tag of a header whose status
// detail is 0xff are made right.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "common/base/assert.h"
#include "common/base/random.h"
#include "common/iscsi/login_client.h"
#include "common/iscsi/pdu_reader.h"
#include "tests/fuzz/chap_answer.h"

namespace {

using holdfast::base::Bytes;
using namespace holdfast::iscsi;  // NOLINT(google-build-using-namespace): a program of one file
using Next = LoginClient::Next;

constexpr uint64_t kIsid = 0x800000010203;
constexpr uint32_t kTag = 0x55;

LoginClient::Options options_for(uint8_t mode) {
  LoginClient::Options options;
  options.initiator_name = "iqn.2026-11.org.holdfast:hv1";
  if ((mode & 1) == 0) options.target_name = "iqn.2026-11.org.holdfast:store";
  options.isid = kIsid;
  options.itt = kTag;
  if ((mode & 2) != 0) options.parameters.header_digest = DigestChoice::required;
  if ((mode & 4) == 0) return options;
  options.chap.emplace();
  options.chap->initiator = {"hv1", fuzz_secret("forward")};
  options.chap->required = (mode & 8) == 0;
  if ((mode & 16) != 0) options.chap->target = ChapAccount{"store", fuzz_secret("reverse")};
  return options;
}

class Connection {
 public:
  explicit Connection(uint8_t mode)
      : options_(options_for(mode)), random_(mode), login_(options_, random_) {
    check(login_.start());
  }

  // False when the login is over.
  bool on_pdu(const Bhs& received, Bytes data) {
    const std::string text = with_proof(data);
    return check(login_.on_pdu(mended(received), holdfast::base::as_bytes(std::string_view(text))));
  }

 private:
  Bhs mended(const Bhs& received) const {
    auto response = holdfast::base::load<LoginResponsePdu>(holdfast::base::as_bytes(received));
    if (response.status_class != 0 || response.status_detail != 0xff) return received;
    response.isid = kIsid;
    response.itt = kTag;
    response.stat_sn = login_.exp_stat_sn();
    return holdfast::base::load<Bhs>(holdfast::base::as_bytes(response));
  }

  std::string with_proof(Bytes data) {
    static constexpr std::string_view kMark = "CHAP_R=!";
    std::string text(holdfast::base::as_text(data));
    const size_t at = text.find(kMark);
    if (at == std::string::npos || proof_.empty()) return text;
    proof_used_ = true;
    return text.replace(at + kMark.size() - 1, 1, proof_);
  }

  bool check(Next next) {
    switch (next) {
      case Next::send:
        check_request();
        return true;
      case Next::full_feature:
        check_session();
        return false;
      case Next::redirected:
        ASSERT(status_class(login_.status()) == 1 && !login_.redirect_address().host.empty());
        return false;
      case Next::refused:
        ASSERT(status_class(login_.status()) == 2 || status_class(login_.status()) == 3);
        return false;
      case Next::failed:
        ASSERT(login_.status() != LoginStatus::success && *login_.reason() != '\0');
        ASSERT(login_.request_data().empty());
        return false;
    }
    return false;
  }

  // What an honest target would take.
  void check_request() {
    const LoginRequestPdu& request = login_.request();
    const Bytes data = login_.request_data();
    ASSERT(data.size() <= kDefaultDataSegmentBytes);
    ASSERT(request.data_segment_length.get() == data.size());
    ASSERT(request.isid.get() == kIsid && request.tsih.get() == 0 && request.itt.get() == kTag);
    const uint8_t stage = current_stage(request.flags);
    ASSERT(stage >= stage_ && stage <= 1);
    stage_ = stage;
    TextMessage message;
    ASSERT(message.parse(data).has_value());
    if (stage == 1 && options_.chap && options_.chap->demanded()) ASSERT(answered_);
    if (stage == 1 && options_.chap && options_.chap->target) ASSERT(proof_used_);
    answered_ = answered_ || message.find("CHAP_R").has_value();
    if (!message.find("CHAP_C")) return;
    ASSERT(options_.chap && options_.chap->target);
    algorithm_ = message.find("CHAP_R")->size();
    proof_ = proof_of(message);
  }

  // The algorithm shows in the length of our own answer; where two have one length, try the first.
  std::string proof_of(const TextMessage& message) const {
    std::vector<uint8_t> sent;
    TextKeyWriter out(sent, 8192);
    const size_t digest = (algorithm_ - 2) / 2;
    const std::string_view number = digest == 16 ? "5" : digest == 20 ? "6" : "7";
    ASSERT(out.add("CHAP_A", number).has_value());
    ASSERT(out.add("CHAP_I", *message.find("CHAP_I")).has_value());
    ASSERT(out.add("CHAP_C", *message.find("CHAP_C")).has_value());
    return chap_answer(sent, options_.chap->target->secret);
  }

  void check_session() const {
    ASSERT(stage_ == 1 && login_.status() == LoginStatus::success);
    const SessionParameters& active = login_.parameters();
    ASSERT(active.max_burst_length <= options_.parameters.max_burst_length);
    ASSERT(active.first_burst_length <= active.max_burst_length);
    ASSERT(active.max_send_data_segment_length >= kMinDataSegmentBytes);
    ASSERT(active.max_send_data_segment_length <= kMaxDataSegmentBytes);
    ASSERT(active.max_outstanding_r2t >= 1 && active.error_recovery_level == 0);
    ASSERT(active.max_outstanding_r2t <= options_.parameters.max_outstanding_r2t);
    if (options_.parameters.header_digest == DigestChoice::required) ASSERT(active.header_digest);
    for (const char c : login_.target_alias()) ASSERT(c >= 0x20 && c <= 0x7e);
    if (!options_.chap) ASSERT(!login_.chap_done());
    if (options_.chap && options_.chap->demanded()) ASSERT(login_.chap_done());
    const bool mutual = options_.chap && options_.chap->target;
    ASSERT(login_.target_proved() == mutual);
  }

  LoginClient::Options options_;
  holdfast::base::SeededRandom random_;
  LoginClient login_;
  uint8_t stage_ = 0;
  size_t algorithm_ = 0;
  bool answered_ = false;
  bool proof_used_ = false;
  std::string proof_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  Bytes stream(data + 1, size - 1);
  Connection connection(data[0]);
  PduReader reader;
  std::vector<uint8_t> segment;
  for (;;) {
    const auto event = reader.next(stream);
    if (!event.has_value() || *event == PduReader::Event::need_more) return 0;
    if (*event == PduReader::Event::header) {
      segment.assign(reader.data_length(), 0);
      if (!segment.empty()) reader.set_data_target(segment);
    } else if (!connection.on_pdu(reader.bhs(), segment)) {
      return 0;
    }
  }
}
