#include "common/iscsi/pdu.h"

#include <gtest/gtest.h>

#include "common/base/bytes.h"
#include "common/iscsi/status.h"

namespace holdfast::iscsi {
namespace {

// The bytes of a header whose byte i has the value i: every field shows where it lies.
std::array<uint8_t, kBhsBytes> counting() {
  std::array<uint8_t, kBhsBytes> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i);
  return bytes;
}

TEST(Pdu, BasicHeaderFieldsLieWhereTheRfcSays) {
  const Bhs bhs = base::load<Bhs>(counting());
  EXPECT_EQ(bhs.total_ahs_length, 4);
  EXPECT_EQ(bhs.data_segment_length.get(), 0x050607u);
  EXPECT_EQ(bhs.lun.get(), 0x08090a0b0c0d0e0full);
  EXPECT_EQ(bhs.itt.get(), 0x10111213u);
}

TEST(Pdu, RequestFieldsLieWhereTheRfcSays) {
  const auto bytes = counting();
  const auto command = base::load<ScsiCommandPdu>(bytes);
  EXPECT_EQ(command.expected_data_transfer_length.get(), 0x14151617u);
  EXPECT_EQ(command.cmd_sn.get(), 0x18191a1bu);
  EXPECT_EQ(command.exp_stat_sn.get(), 0x1c1d1e1fu);
  EXPECT_EQ(command.cdb[0], 0x20);
  const auto management = base::load<TaskManagementRequestPdu>(bytes);
  EXPECT_EQ(management.referenced_task_tag.get(), 0x14151617u);
  EXPECT_EQ(management.ref_cmd_sn.get(), 0x20212223u);
  const auto data_out = base::load<DataOutPdu>(bytes);
  EXPECT_EQ(data_out.ttt.get(), 0x14151617u);
  EXPECT_EQ(data_out.data_sn.get(), 0x24252627u);
  EXPECT_EQ(data_out.buffer_offset.get(), 0x28292a2bu);
  const auto login = base::load<LoginRequestPdu>(bytes);
  EXPECT_EQ(login.isid.get(), 0x08090a0b0c0dull);
  EXPECT_EQ(login.tsih.get(), 0x0e0fu);
  EXPECT_EQ(login.cid.get(), 0x1415u);
  const auto logout = base::load<LogoutRequestPdu>(bytes);
  EXPECT_EQ(logout.cid.get(), 0x1415u);
  EXPECT_EQ(base::load<SnackPdu>(bytes).run_length.get(), 0x2c2d2e2fu);
}

TEST(Pdu, ResponseFieldsLieWhereTheRfcSays) {
  const auto bytes = counting();
  const auto response = base::load<ScsiResponsePdu>(bytes);
  EXPECT_EQ(response.response, 2);
  EXPECT_EQ(response.status, 3);
  EXPECT_EQ(response.exp_data_sn.get(), 0x24252627u);
  EXPECT_EQ(response.bidirectional_read_residual_count.get(), 0x28292a2bu);
  EXPECT_EQ(response.residual_count.get(), 0x2c2d2e2fu);
  const auto data_in = base::load<DataInPdu>(bytes);
  EXPECT_EQ(data_in.status, 3);
  EXPECT_EQ(data_in.buffer_offset.get(), 0x28292a2bu);
  EXPECT_EQ(data_in.residual_count.get(), 0x2c2d2e2fu);
  const auto r2t = base::load<R2tPdu>(bytes);
  EXPECT_EQ(r2t.r2t_sn.get(), 0x24252627u);
  EXPECT_EQ(r2t.desired_data_transfer_length.get(), 0x2c2d2e2fu);
  const auto async = base::load<AsyncMessagePdu>(bytes);
  EXPECT_EQ(async.async_event, 36);
  EXPECT_EQ(async.async_vcode, 37);
  EXPECT_EQ(async.parameter1.get(), 0x2627u);
  const auto login = base::load<LoginResponsePdu>(bytes);
  EXPECT_EQ(login.status_class, 36);
  EXPECT_EQ(login.status_detail, 37);
  EXPECT_EQ(base::load<LogoutResponsePdu>(bytes).time2retain.get(), 0x2a2bu);
  EXPECT_EQ(base::load<RejectPdu>(bytes).data_sn.get(), 0x24252627u);
  EXPECT_EQ(base::load<NopInPdu>(bytes).ttt.get(), 0x14151617u);
}

TEST(Pdu, OpcodeIsReadWithoutTheImmediateBit) {
  Bhs bhs;
  bhs.opcode = 0x43;
  EXPECT_EQ(bhs.code(), Opcode::login_request);
  EXPECT_TRUE(bhs.immediate());
  bhs.opcode = 0x3f;
  EXPECT_EQ(bhs.code(), Opcode::reject);
  EXPECT_FALSE(bhs.immediate());
}

TEST(Pdu, StructsStartWithTheirOpcode) {
  EXPECT_EQ(base::as_bytes(ScsiResponsePdu{})[0], 0x21);
  EXPECT_EQ(base::as_bytes(DataInPdu{})[0], 0x25);
  EXPECT_EQ(base::as_bytes(R2tPdu{})[0], 0x31);
  EXPECT_EQ(base::as_bytes(AsyncMessagePdu{})[0], 0x32);
  EXPECT_EQ(base::as_bytes(RejectPdu{})[0], 0x3f);
  EXPECT_EQ(base::as_bytes(LoginRequestPdu{})[0], 0x43);
  EXPECT_EQ(RejectPdu{}.reserved_tag.get(), kReservedTag);
  EXPECT_EQ(AsyncMessagePdu{}.reserved_tag.get(), kReservedTag);
}

TEST(Pdu, LoginStagesAreReadFromTheFlags) {
  EXPECT_EQ(current_stage(0x87), 1);
  EXPECT_EQ(next_stage(0x87), 3);
  EXPECT_EQ(current_stage(0x4c), 3);
}

TEST(Status, SplitsIntoClassAndDetail) {
  EXPECT_EQ(status_class(LoginStatus::session_does_not_exist), 0x02);
  EXPECT_EQ(status_detail(LoginStatus::session_does_not_exist), 0x0a);
  EXPECT_EQ(status_class(LoginStatus::success), 0x00);
  EXPECT_STREQ(to_string(LoginStatus::authentication_failure), "authentication failure");
}

}  // namespace
}  // namespace holdfast::iscsi
