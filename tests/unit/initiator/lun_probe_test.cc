#include "initiator/lun_probe.h"

#include "common/scsi/capacity.h"
#include "tests/unit/initiator/session_fixture.h"

namespace holdfast::initiator {
namespace {

using iscsi::ScsiCommandPdu;
using scsi::Status;

class LunProbeTest : public SessionTest {
 protected:
  ~LunProbeTest() override {
    if (!probe_ || !probe_->busy()) return;
    session_->close(true, "the test is over");
    ended();
  }
  void begin() {
    log_in();
    probe_ = std::make_unique<LunProbe>(*session_);
    start_probe();
  }
  void start_probe() {
    probe_->start(scsi::encode_lun(5), [this](base::Result<LunFacts> facts) noexcept {
      ++answers_;
      if (facts.has_value()) {
        facts_ = std::move(*facts);
      } else {
        error_ = facts.error();
      }
      if (destroys_) probe_.reset();
    });
  }
  // The next question must be this one; page -1: any.
  ScsiCommandPdu question(uint8_t opcode, int page = -1) {
    const ScsiCommandPdu pdu = expect_command();
    EXPECT_EQ(pdu.lun, scsi::encode_lun(5));
    EXPECT_EQ(pdu.cdb[0], opcode);
    if (page >= 0) {
      EXPECT_EQ(pdu.cdb[2], page);
    }
    return pdu;
  }
  // GOOD with so much data, or what fits.
  void answer(const ScsiCommandPdu& pdu, std::vector<uint8_t> data) {
    data.resize(std::min<size_t>(data.size(), pdu.expected_data_transfer_length));
    const auto residual = static_cast<uint32_t>(pdu.expected_data_transfer_length - data.size());
    iscsi::DataInPdu in = data_in(pdu, 0, 0, kWithStatus);
    if (residual > 0) in.flags |= kU;
    in.residual_count = residual;
    target_.send(in, true, data);
  }
  static std::vector<uint8_t> inquiry(uint8_t type = 0, uint8_t tpgs = 0) {
    std::vector<uint8_t> data(36, ' ');
    data[0] = type;
    data[1] = 0;
    data[2] = 6;
    data[3] = 2;
    data[4] = 31;
    data[5] = static_cast<uint8_t>(tpgs << 4);
    data[6] = data[7] = 0;
    std::memcpy(&data[8], "VENDOR  ", 8);
    return data;
  }
  static std::vector<uint8_t> page(uint8_t code, const std::vector<uint8_t>& body) {
    std::vector<uint8_t> data = {0, code, 0, static_cast<uint8_t>(body.size())};
    data.insert(data.end(), body.begin(), body.end());
    return data;
  }
  // NAA of 8 bytes, then the target port group 2.
  static std::vector<uint8_t> identification() {
    return page(0x83, {0x01, 0x03, 0, 8, 0x60, 1, 2, 3, 4, 5, 6, 7,  //
                       0x01, 0x15, 0, 4, 0,    0, 0, 2});
  }
  static std::vector<uint8_t> capacity() {
    std::vector<uint8_t> data(32);
    base::store(data, base::be64(2047));
    base::store(base::MutableBytes(data).subspan(8), base::be32(512));
    return data;
  }
  static std::vector<uint8_t> port_groups(uint8_t state, bool extended) {
    std::vector<uint8_t> group = {state, 0x0f, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1};
    std::vector<uint8_t> data(4);
    if (extended) {
      group.insert(group.begin(), {0x10, 0, 0, 0});
    }
    base::store(data, base::be32(static_cast<uint32_t>(group.size())));
    data.insert(data.end(), group.begin(), group.end());
    return data;
  }
  // Up to and with READ CAPACITY, of a unit without optional pages.
  void answer_what_is_mandatory(uint8_t tpgs) {
    respond(question(0x00));
    answer(question(0x12), inquiry(0, tpgs));
    answer(question(0x12, 0x00), page(0x00, {0x00, 0x83}));
    answer(question(0x12, 0x83), identification());
    answer(question(0x9e), capacity());
  }
  bool answered() {
    return run_until([this] { return answers_ > 0; });
  }
  base::Errc error() {
    EXPECT_TRUE(answered());
    return error_ ? error_->code : base::Errc{};
  }

  std::unique_ptr<LunProbe> probe_;
  int answers_ = 0;
  bool destroys_ = false;
  std::optional<LunFacts> facts_;
  std::optional<base::Error> error_;
};

TEST_F(LunProbeTest, AsksOnlyForWhatIsThere) {
  destroys_ = true;
  begin();
  EXPECT_STREQ(probe_->step(), "TEST UNIT READY");
  answer_what_is_mandatory(0);
  respond_check(question(0x5a), scsi::kInvalidOpcode);  // MODE SENSE is optional
  ASSERT_TRUE(answered());
  ASSERT_TRUE(facts_.has_value());
  EXPECT_EQ(facts_->capacity.blocks, 2048u);
  EXPECT_EQ(facts_->capacity.block_size, 512u);
  EXPECT_EQ(facts_->access_state(), scsi::AccessState::active_optimized);
  EXPECT_TRUE(facts_->attentions.empty());
  expect_nothing();
}

TEST_F(LunProbeTest, TheAccessStateOfThePortThatAnswers) {
  begin();
  answer_what_is_mandatory(1);
  respond_check(question(0x5a), scsi::kInvalidOpcode);
  const ScsiCommandPdu pdu = question(0xa3);
  EXPECT_EQ(pdu.cdb[1], 0x2a);  // extended header
  answer(pdu, port_groups(0x02, true));
  ASSERT_TRUE(answered());
  ASSERT_TRUE(facts_.has_value());
  EXPECT_EQ(facts_->access_state(), scsi::AccessState::standby);
  EXPECT_EQ(answers_, 1);
}

TEST_F(LunProbeTest, OlderTargetsAreAskedWithoutTheExtendedHeader) {
  begin();
  answer_what_is_mandatory(1);
  respond_check(question(0x5a), scsi::kInvalidOpcode);
  respond_check(question(0xa3), scsi::kInvalidFieldInCdb);
  const ScsiCommandPdu pdu = question(0xa3);
  EXPECT_EQ(pdu.cdb[1], 0x0a);
  answer(pdu, port_groups(0x01, false));
  ASSERT_TRUE(answered());
  EXPECT_EQ(facts_->access_state(), scsi::AccessState::active_non_optimized);
}

TEST_F(LunProbeTest, UnitAttentionsAreKeptAndTheQuestionRepeated) {
  begin();
  respond_check(question(0x00), scsi::kPowerOn);
  respond_check(question(0x00), scsi::kCapacityChanged);
  answer_what_is_mandatory(0);
  respond_check(question(0x5a), scsi::kInvalidOpcode);
  ASSERT_TRUE(answered());
  ASSERT_EQ(facts_->attentions.size(), 2u);
  EXPECT_TRUE(facts_->attentions[0].same_code(scsi::kPowerOn));
  EXPECT_TRUE(facts_->attentions[1].same_code(scsi::kCapacityChanged));
}

TEST_F(LunProbeTest, AttentionsWithoutEnd) {
  begin();
  for (int i = 0; i < 9; ++i) respond_check(question(0x00), scsi::kPowerOn);
  EXPECT_EQ(error(), base::Errc::busy);
}

TEST_F(LunProbeTest, NoDiskAtThisLun) {
  begin();
  respond(question(0x00));
  answer(question(0x12), inquiry(0x1f | 0x60));
  EXPECT_EQ(error(), base::Errc::unsupported);
  EXPECT_FALSE(probe_->busy());
}

TEST_F(LunProbeTest, AUnitThatRefusesWhatIsMandatory) {
  begin();
  respond(question(0x00));
  respond_check(question(0x12), scsi::kInvalidFieldInCdb);
  EXPECT_EQ(error(), base::Errc::unsupported);
}

TEST_F(LunProbeTest, ALunThatIsNotThere) {
  begin();
  respond(question(0x00));
  respond_check(question(0x12), scsi::kLunNotSupported);
  EXPECT_EQ(error(), base::Errc::not_found);
}

TEST_F(LunProbeTest, AnswersThatMakeNoSense) {
  begin();
  respond(question(0x00));
  answer(question(0x12), {0, 0});
  EXPECT_EQ(error(), base::Errc::protocol);
}

TEST_F(LunProbeTest, BusyNotReadyAndReserved) {
  begin();
  respond(question(0x00), Status::busy);
  EXPECT_EQ(error(), base::Errc::busy);
  // Not ready: the other questions may tell why.
  answers_ = 0;
  start_probe();
  respond_check(question(0x00), scsi::kAluaStandby);
  answer(question(0x12), inquiry());
  respond_check(question(0x12, 0x00), scsi::kNotReadyBecoming);
  EXPECT_EQ(error(), base::Errc::busy);
  answers_ = 0;
  start_probe();
  respond(question(0x00), Status::reservation_conflict);
  EXPECT_EQ(error(), base::Errc::permission);
}

TEST_F(LunProbeTest, TheSessionEnds) {
  begin();
  question(0x00);
  target_.close(true);
  EXPECT_EQ(error(), base::Errc::closed);
  ended();
  EXPECT_EQ(order_.back(), "end");
}

TEST_F(LunProbeTest, TheSessionEndsInTheMiddleOfAnAttention) {
  begin();
  const ScsiCommandPdu pdu = question(0x00);
  when_received_ = [this] { session_->close(true, "at the same time"); };
  respond_check(pdu, scsi::kPowerOn);
  EXPECT_EQ(error(), base::Errc::closed);
  when_received_ = nullptr;
}

TEST_F(LunProbeTest, LongerAnswersThanWereAskedForEndTheSession) {
  begin();
  respond(question(0x00));
  const ScsiCommandPdu pdu = question(0x12);
  send_data_in(pdu, 0, 0, pdu.expected_data_transfer_length + 1, kWithStatus);
  EXPECT_EQ(error(), base::Errc::closed);
  EXPECT_EQ(ended(), EndKind::protocol_error);
}

}  // namespace
}  // namespace holdfast::initiator
