// LoginClient and LoginServer against each other, over the wire format.

#include <algorithm>
#include <array>
#include <vector>

#include "common/iscsi/pdu_reader.h"
#include "common/iscsi/pdu_writer.h"
#include "tests/unit/iscsi/login_client_fixture.h"

namespace holdfast::iscsi {
namespace {

constexpr std::string_view kStore = "iqn.2026-11.org.holdfast:store";

// One direction of a connection: what is written comes out of a PduReader, byte for byte.
class Pipe {
 public:
  template <class Pdu>
  void send(const Pdu& pdu, base::Bytes data) {
    std::array<uint8_t, kMaxWireHeaderBytes> header;
    const size_t n = write_header(header, pdu, data.size(), false);
    std::vector<uint8_t> bytes(header.begin(), header.begin() + static_cast<ptrdiff_t>(n));
    bytes.insert(bytes.end(), data.begin(), data.end());
    const DataTrailer trailer = data_trailer(data, false);
    bytes.insert(bytes.end(), trailer.bytes().begin(), trailer.bytes().end());
    take(bytes);
  }
  const Bhs& bhs() const { return reader_.bhs(); }
  base::Bytes data() const { return data_; }

 private:
  void take(base::Bytes bytes) {
    for (;;) {
      const auto event = reader_.next(bytes);
      ASSERT_TRUE(event.has_value());
      ASSERT_NE(*event, PduReader::Event::need_more);
      if (*event == PduReader::Event::pdu) break;
      data_.assign(reader_.data_length(), 0);
      if (!data_.empty()) reader_.set_data_target(data_);
    }
    EXPECT_TRUE(bytes.empty());
  }

  PduReader reader_;
  std::vector<uint8_t> data_;
};

class Pair {
 public:
  Pair(const LoginClient::Options& options, const LocalParameters& target)
      : client_(options, random_),
        server_({.parameters = target, .portal_group_tag = 7, .command_window = 64}, policy_,
                random_) {}

  Step run() {
    Step step = client_.start();
    for (int round = 0; step == Step::send && round < 16; ++round) {
      to_target_.send(client_.request(), client_.request_data());
      auto outcome = server_.on_pdu(to_target_.bhs(), to_target_.data());
      if (outcome.next == LoginServer::Next::wait_for_grant) outcome = server_.grant(kTsih);
      EXPECT_NE(outcome.next, LoginServer::Next::close);
      to_initiator_.send(server_.response(), server_.response_data());
      step = client_.on_pdu(to_initiator_.bhs(), to_initiator_.data());
      // The other way round it need not be: this side may refuse what the target is content with.
      if (step == Step::full_feature) {
        EXPECT_EQ(outcome.next, LoginServer::Next::full_feature);
      }
    }
    return step;
  }

  static constexpr uint16_t kTsih = 0x1234;
  base::SeededRandom random_{3};
  TestLoginPolicy policy_;
  LoginClient client_;
  LoginServer server_;
  Pipe to_target_;
  Pipe to_initiator_;
};

enum class Chap : uint8_t { none, one_way, mutual };

LoginClient::Options options_for(Chap chap, const ChapAlgorithms& algorithms) {
  LoginClient::Options options;
  options.initiator_name =
      chap == Chap::none ? "iqn.2026-11.org.holdfast:open" : "iqn.2026-11.org.holdfast:chap";
  options.target_name = kStore;
  options.isid = kIsid;
  options.itt = 0xfffffff0;
  options.cmd_sn = 0xffffffff;
  if (chap == Chap::none) return options;
  options.chap = chap == Chap::mutual ? mutual_chap() : one_way_chap();
  options.chap->algorithms = algorithms;
  return options;
}

// What both sides must come to; nothing when they can not.
std::optional<bool> digest_of_both(DigestChoice initiator, DigestChoice target) {
  if (initiator == DigestChoice::required || target == DigestChoice::required) {
    if (initiator == DigestChoice::none || target == DigestChoice::none) return std::nullopt;
    return true;
  }
  return false;  // None is what the initiator likes best
}

void expect_agreement(const Pair& pair, const LocalParameters& initiator,
                      const LocalParameters& target) {
  SessionParameters mirrored = pair.server_.parameters();
  std::swap(mirrored.max_recv_data_segment_length, mirrored.max_send_data_segment_length);
  const SessionParameters& active = pair.client_.parameters();
  EXPECT_EQ(active, mirrored);
  EXPECT_EQ(active.initial_r2t, initiator.initial_r2t || target.initial_r2t);
  EXPECT_EQ(active.immediate_data, initiator.immediate_data && target.immediate_data);
  EXPECT_EQ(active.header_digest, digest_of_both(initiator.header_digest, target.header_digest));
  EXPECT_EQ(active.data_digest, digest_of_both(initiator.data_digest, target.data_digest));
  EXPECT_EQ(pair.client_.tsih(), Pair::kTsih);
  EXPECT_EQ(pair.client_.portal_group_tag(), uint16_t{7});
  EXPECT_EQ(pair.client_.exp_stat_sn(), pair.server_.next_stat_sn());
  EXPECT_EQ(pair.client_.exp_cmd_sn(), pair.server_.first_cmd_sn());
  EXPECT_EQ(pair.client_.max_cmd_sn(), pair.server_.first_cmd_sn() + 63);
  EXPECT_EQ(pair.server_.tsih(), 0);
  EXPECT_EQ(pair.server_.isid(), kIsid);
}

std::vector<LocalParameters> every_choice() {
  std::vector<LocalParameters> all;
  const DigestChoice digests[] = {DigestChoice::none, DigestChoice::accepted,
                                  DigestChoice::required};
  for (const DigestChoice header : digests) {
    for (const DigestChoice data : digests) {
      for (const unsigned bits : {0U, 1U, 2U, 3U}) {
        all.push_back({.header_digest = header,
                       .data_digest = data,
                       .initial_r2t = (bits & 1) != 0,
                       .immediate_data = (bits & 2) != 0});
      }
    }
  }
  return all;
}

TEST(LoginPair, EveryCombinationOfParameters) {
  size_t logins = 0;
  for (const LocalParameters& initiator : every_choice()) {
    for (const LocalParameters& target : every_choice()) {
      LoginClient::Options options = options_for(Chap::none, {});
      options.parameters = initiator;
      Pair pair(options, target);
      const Step step = pair.run();
      const bool possible =
          digest_of_both(initiator.header_digest, target.header_digest).has_value() &&
          digest_of_both(initiator.data_digest, target.data_digest).has_value();
      ASSERT_EQ(step == Step::full_feature, possible) << pair.client_.reason();
      if (!possible) continue;
      expect_agreement(pair, initiator, target);
      ++logins;
    }
  }
  EXPECT_GT(logins, 0u);
}

TEST(LoginPair, EveryCombinationOfChap) {
  for (const Chap chap : {Chap::one_way, Chap::mutual}) {
    for (unsigned bits = 1; bits < 16; ++bits) {
      const ChapAlgorithms algorithms{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0,
                                      (bits & 8) != 0};
      for (const LocalParameters& parameters : every_choice()) {
        LoginClient::Options options = options_for(chap, algorithms);
        options.parameters = parameters;
        Pair pair(options, {});
        ASSERT_EQ(pair.run(), Step::full_feature)
            << pair.client_.reason() << " | " << pair.server_.reason();
        expect_agreement(pair, parameters, {});
        EXPECT_TRUE(pair.client_.chap_done());
        EXPECT_EQ(pair.client_.target_proved(), chap == Chap::mutual);
        EXPECT_TRUE(algorithms.allows(pair.client_.chap_algorithm()));
        EXPECT_EQ(pair.server_.authenticated_user(), "hv1");
      }
    }
  }
}

TEST(LoginPair, DiscoverySessions) {
  for (const Chap chap : {Chap::none, Chap::one_way, Chap::mutual}) {
    LoginClient::Options options = options_for(chap, {});
    options.target_name.clear();
    Pair pair(options, {});
    ASSERT_EQ(pair.run(), Step::full_feature) << pair.client_.reason();
    EXPECT_EQ(pair.server_.session_type(), SessionType::discovery);
    EXPECT_FALSE(pair.client_.portal_group_tag().has_value());
  }
}

TEST(LoginPair, RefusalsArrive) {
  const auto refused = [](const LoginClient::Options& options) {
    Pair pair(options, {});
    EXPECT_EQ(pair.run(), Step::refused) << pair.client_.reason();
    EXPECT_EQ(pair.client_.status(), pair.server_.status());
    return pair.client_.status();
  };
  LoginClient::Options wrong = options_for(Chap::one_way, {});
  wrong.chap->initiator.secret = secret("another secret 1");
  EXPECT_EQ(refused(wrong), LoginStatus::authentication_failure);
  wrong = options_for(Chap::one_way, {});
  wrong.chap.reset();  // the target demands CHAP
  EXPECT_EQ(refused(wrong), LoginStatus::authentication_failure);
  wrong = options_for(Chap::none, {});
  wrong.chap = one_way_chap();  // this side demands CHAP, the target has no secret for it
  EXPECT_EQ(refused(wrong), LoginStatus::authentication_failure);
  wrong = options_for(Chap::none, {});
  wrong.target_name += "2";
  EXPECT_EQ(refused(wrong), LoginStatus::not_found);
  wrong = options_for(Chap::none, {});
  wrong.initiator_name = "iqn.2026-11.org.holdfast:stranger";
  EXPECT_EQ(refused(wrong), LoginStatus::authorization_failure);
}

TEST(LoginPair, ATargetWithAnotherSecretIsFoundOut) {
  LoginClient::Options options = options_for(Chap::mutual, {});
  options.chap->target->secret = secret("what the right one has");
  Pair pair(options, {});
  EXPECT_EQ(pair.run(), Step::failed);
  EXPECT_EQ(pair.server_.authenticated_user(), "hv1");  // the target is content
  EXPECT_EQ(pair.client_.status(), LoginStatus::authentication_failure);
}

}  // namespace
}  // namespace holdfast::iscsi
