#include "common/iscsi/text_server.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace holdfast::iscsi {
namespace {

constexpr std::string_view kStore = "iqn.2026-11.org.holdfast:store";

class Directory final : public TargetDirectory {
 public:
  base::Result<void> list(std::string_view target, TargetListWriter& out) override {
    asked.emplace_back(target);
    for (const auto& [name, address] : targets) {
      if (!target.empty() && target != name) continue;
      TRY(out.add_target(name));
      TRY(out.add_portal(address, 1));
    }
    return {};
  }
  std::map<std::string, std::string> targets{{"iqn.2026-11.org.holdfast:other", "[fd00::1]:3260"},
                                             {std::string(kStore), "10.1.0.10:3260"}};
  std::vector<std::string> asked;
};

class TextServerTest : public testing::Test {
 protected:
  TextServerTest() { open(""); }

  void open(std::string_view target) {
    text_.emplace(Negotiation(Role::target, {}), target, directory_);
  }
  TextServer::Answer send(uint8_t flags, std::string data, uint32_t ttt = kReservedTag) {
    for (char& c : data) c = c == ' ' ? '\0' : c;
    if (!data.empty()) data += '\0';
    return send_raw(flags, data, ttt);
  }
  TextServer::Answer send_raw(uint8_t flags, std::string_view data, uint32_t ttt = kReservedTag) {
    TextRequestPdu request;
    request.flags = flags;
    request.itt = itt_;
    request.ttt = ttt;
    const auto answer = text_->on_request(request, base::as_bytes(data));
    if (answer.accepted) {
      const TextResponsePdu& response = text_->response();
      EXPECT_EQ(response.itt.get(), itt_);
      EXPECT_EQ(response.data_segment_length.get(), text_->response_data().size());
      EXPECT_EQ((response.flags & kFinal) != 0, response.ttt == kReservedTag);
    }
    return answer;
  }
  std::string words() const {
    std::string text(base::as_text(text_->response_data()));
    for (char& c : text) c = c == '\0' ? ' ' : c;
    return text;
  }
  // One request and its whole answer.
  std::string ask(std::string data) {
    EXPECT_TRUE(send(kFinal, std::move(data)).accepted);
    EXPECT_EQ(text_->response().flags, kFinal);
    return words();
  }

  Directory directory_;
  std::optional<TextServer> text_;
  uint32_t itt_ = 17;
};

constexpr std::string_view kBothTargets =
    "TargetName=iqn.2026-11.org.holdfast:other TargetAddress=[fd00::1]:3260,1 "
    "TargetName=iqn.2026-11.org.holdfast:store TargetAddress=10.1.0.10:3260,1 ";

TEST_F(TextServerTest, DiscoveryAnswersAllAndNames) {
  EXPECT_EQ(ask("SendTargets=All"), kBothTargets);
  EXPECT_EQ(ask("SendTargets=IQN.2026-11.org.holdfast:store"),
            "TargetName=iqn.2026-11.org.holdfast:store TargetAddress=10.1.0.10:3260,1 ");
  EXPECT_EQ(ask("SendTargets=iqn.2026-11.org.holdfast:hidden"), "");
  EXPECT_EQ(ask("SendTargets=nonsense"), "");
  EXPECT_EQ(ask("SendTargets="), "SendTargets=Reject ");
  EXPECT_EQ(directory_.asked,
            (std::vector<std::string>{"", std::string(kStore), "iqn.2026-11.org.holdfast:hidden"}));
}

// RFC 7143 Appendix C: All must not be answered in a normal session.
TEST_F(TextServerTest, ANormalSessionSeesItsOwnTarget) {
  open(kStore);
  EXPECT_EQ(ask("SendTargets=All"), "SendTargets=Reject ");
  EXPECT_TRUE(directory_.asked.empty());
  EXPECT_EQ(ask("SendTargets="),
            "TargetName=iqn.2026-11.org.holdfast:store TargetAddress=10.1.0.10:3260,1 ");
  EXPECT_EQ(directory_.asked, std::vector<std::string>{std::string(kStore)});
}

TEST_F(TextServerTest, LongAnswersComeInParts) {
  for (int i = 0; i < 300; ++i) {
    directory_.targets["iqn.2026-11.org.holdfast:t" + std::to_string(i)] = "10.0.0.1:3260";
  }
  ASSERT_TRUE(send(kFinal, "MaxRecvDataSegmentLength=512 SendTargets=All").accepted);
  std::string all = words();
  int parts = 1;
  while ((text_->response().flags & kFinal) == 0) {
    EXPECT_EQ(text_->response().flags, text_flags::kContinue);
    EXPECT_EQ(text_->response_data().size(), 512u);
    ASSERT_TRUE(send(parts % 2 == 0 ? kFinal : uint8_t{0}, "", text_->response().ttt).accepted);
    EXPECT_LE(text_->response_data().size(), 512u);
    all += words();
    ++parts;
  }
  EXPECT_GT(parts, 20);
  EXPECT_EQ(static_cast<size_t>(std::count(all.begin(), all.end(), ' ')),
            2 * directory_.targets.size());
  EXPECT_EQ(directory_.asked.size(), 1u) << "one consistent list";
}

TEST_F(TextServerTest, AnAnswerWithoutEndIsRefused) {
  for (int i = 0; i < 5000; ++i) {
    directory_.targets["iqn.2026-11.org.holdfast:t" + std::to_string(i)] = "10.0.0.1:3260";
  }
  EXPECT_FALSE(send(kFinal, "SendTargets=All").accepted);
  EXPECT_TRUE(text_->response_data().empty());
}

TEST_F(TextServerTest, ContinuedRequestsAreJoined) {
  ASSERT_TRUE(send_raw(text_flags::kContinue, "SendTar").accepted);
  EXPECT_EQ(text_->response().flags, 0);
  EXPECT_TRUE(text_->response_data().empty());
  const uint32_t ttt = text_->response().ttt;
  ASSERT_TRUE(send_raw(text_flags::kContinue, "", ttt).accepted);
  ASSERT_TRUE(send_raw(kFinal, std::string_view("gets=All\0", 9), ttt).accepted);
  EXPECT_EQ(words(), kBothTargets);
}

TEST_F(TextServerTest, EndlessContinuationIsRefused) {
  ASSERT_TRUE(send_raw(text_flags::kContinue, std::string(8192, 'x')).accepted);
  size_t taken = 1;
  while (send_raw(text_flags::kContinue, std::string(8192, 'x'), text_->response().ttt).accepted) {
    ++taken;
  }
  EXPECT_EQ(taken, kMaxNegotiationBytes / 8192);
  ASSERT_TRUE(send_raw(text_flags::kContinue, "").accepted);
  taken = 1;
  while (send_raw(text_flags::kContinue, "", text_->response().ttt).accepted) ++taken;
  EXPECT_EQ(taken, kMaxTextPdus);
}

TEST_F(TextServerTest, TagsAreChecked) {
  EXPECT_FALSE(send(kFinal, "SendTargets=All", 5).accepted) << "nothing in progress";
  ASSERT_TRUE(send_raw(text_flags::kContinue, "Send").accepted);
  const uint32_t ttt = text_->response().ttt;
  EXPECT_FALSE(send(kFinal, "", ttt + 1).accepted);
  EXPECT_FALSE(send(kFinal, "", ttt).accepted) << "a reject ends the negotiation";
  ASSERT_TRUE(send_raw(text_flags::kContinue, "Send").accepted);
  itt_ = 18;
  EXPECT_FALSE(send(kFinal, "", text_->response().ttt).accepted) << "another task's tag";
}

TEST_F(TextServerTest, ANewNegotiationForgetsTheOldOne) {
  ASSERT_TRUE(send_raw(text_flags::kContinue, "garbage").accepted);
  EXPECT_EQ(ask("SendTargets=All"), kBothTargets);
}

TEST_F(TextServerTest, ProtocolErrors) {
  EXPECT_FALSE(send(kFinal | text_flags::kContinue, "SendTargets=All").accepted);
  EXPECT_FALSE(send_raw(kFinal, "SendTargets=All").accepted) << "not terminated";
  EXPECT_FALSE(send(kFinal, "SendTargets=All SendTargets=All").accepted);
  EXPECT_FALSE(send(kFinal, "MaxRecvDataSegmentLength=1").accepted);
  EXPECT_FALSE(send(kFinal, "TargetAddress=10.0.0.1,1").accepted);
}

TEST_F(TextServerTest, NegotiatesTheDataSegmentLengthAgain) {
  EXPECT_EQ(ask("MaxRecvDataSegmentLength=65536"), "");
  EXPECT_EQ(text_->parameters().max_send_data_segment_length, 65536u);
  EXPECT_EQ(ask("MaxRecvDataSegmentLength=4096 MaxBurstLength=512 X-a=1"),
            "MaxBurstLength=Reject X-a=NotUnderstood ");
  EXPECT_EQ(text_->parameters().max_send_data_segment_length, 4096u);
  EXPECT_EQ(text_->parameters().max_burst_length, 262144u);
}

TEST_F(TextServerTest, ANegotiationCanHaveSeveralRounds) {
  ASSERT_TRUE(send(0, "MaxRecvDataSegmentLength=65536").accepted);
  EXPECT_EQ(text_->response().flags, 0);
  ASSERT_TRUE(send(0, "X-a=1", text_->response().ttt).accepted);
  EXPECT_EQ(words(), "X-a=NotUnderstood ");
  EXPECT_FALSE(send(kFinal, "MaxRecvDataSegmentLength=512", text_->response().ttt).accepted)
      << "twice in one negotiation";
}

}  // namespace
}  // namespace holdfast::iscsi
