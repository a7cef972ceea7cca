#include "common/scsi/sense.h"

#include "tests/unit/scsi/hex.h"

namespace holdfast::scsi {
namespace {

std::string encoded(const Sense& sense, bool descriptor) {
  return to_hex(build_checked([&](MutableBytes out) { return encode(sense, descriptor, out); }));
}

TEST(Sense, FixedFormatWithoutDetails) {
  EXPECT_EQ(encoded(kInvalidOpcode, false),
            "700005000000000a000000002000"
            "00000000");
}

TEST(Sense, FixedFormatTellsInformationOf32Bits) {
  EXPECT_EQ(encoded(kMiscompare.with_information(0x1234), false),
            "f0000e000012340a000000001d0000000000");
  EXPECT_EQ(encoded(kReadError.with_information(0xffffffff), false),
            "f00003ffffffff0a00000000110000000000");
}

TEST(Sense, FixedFormatCannotTellMoreThan32Bits) {
  // Not the low half of it, and VALID=0.
  EXPECT_EQ(encoded(kReadError.with_information(0x1'0000'0007), false),
            "700003000000000a00000000110000000000");
}

TEST(Sense, FixedFormatPointsToTheField) {
  EXPECT_EQ(encoded(kInvalidFieldInCdb.at_cdb(1, 7), false),
            "700005000000000a00000000240000cf0001");
  EXPECT_EQ(encoded(kInvalidFieldInParameterList.at_parameter(0x0123), false),
            "700005000000000a00000000260000800123");
  EXPECT_EQ(encoded(kInvalidFieldInParameterList.at_parameter(4, 0), false),
            "700005000000000a00000000260000880004");
}

TEST(Sense, FixedFormatTellsProgress) {
  Sense sense = kNotReadyBecoming;
  sense.progress = 0x8000;
  EXPECT_EQ(encoded(sense, false), "700002000000000a00000000040100808000");
}

TEST(Sense, DescriptorFormatWithoutDetails) {
  EXPECT_EQ(encoded(kSpaceAllocationFailed, true), "7207270700000000");
}

TEST(Sense, DescriptorFormatTellsInformationOf64Bits) {
  EXPECT_EQ(encoded(kReadError.with_information(0x0102030405060708), true),
            "720311000000000c"
            "000a80000102030405060708");
}

TEST(Sense, DescriptorFormatPointsToTheField) {
  EXPECT_EQ(encoded(kInvalidFieldInCdb.at_cdb(2), true),
            "7205240000000008"
            "02060000c0000200");
}

TEST(Sense, LargestSenseIsWhatPage86hReports) {
  const Sense sense = kInvalidFieldInCdb.at_cdb(2, 3).with_information(1);
  const auto data = build_checked([&](MutableBytes out) { return encode(sense, true, out); });
  EXPECT_EQ(data.size(), kMaxSenseLength);
  EXPECT_EQ(to_hex(data), "7205240000000014000a8000000000000000000102060000cb000200");
}

TEST(Sense, CodesAreThoseOfTheStandard) {
  struct Expected {
    Sense sense;
    unsigned code;  // key, ASC, ASCQ
  };
  const Expected table[] = {
      {kNoSense, 0x000000},
      {kNotReadyBecoming, 0x020401},
      {kAluaTransition, 0x02040a},
      {kAluaStandby, 0x02040b},
      {kAluaUnavailable, 0x02040c},
      {kMediumNotPresent, 0x023a00},
      {kMediumNotPresentTrayOpen, 0x023a02},
      {kReadError, 0x031100},
      {kWriteError, 0x030c00},
      {kInternalTargetFailure, 0x044400},
      {kParameterListLengthError, 0x051a00},
      {kInvalidOpcode, 0x052000},
      {kLbaOutOfRange, 0x052100},
      {kInvalidFieldInCdb, 0x052400},
      {kLunNotSupported, 0x052500},
      {kInvalidFieldInParameterList, 0x052600},
      {kInvalidReleaseOfPersistentReservation, 0x052604},
      {kSavingNotSupported, 0x053900},
      {kMediumRemovalPrevented, 0x055302},
      {kInsufficientResources, 0x055503},
      {kInsufficientRegistrationResources, 0x055504},
      {kMediumMayHaveChanged, 0x062800},
      {kPowerOn, 0x062900},
      {kBusDeviceReset, 0x062903},
      {kNexusLoss, 0x062907},
      {kModeParametersChanged, 0x062a01},
      {kReservationsPreempted, 0x062a03},
      {kReservationsReleased, 0x062a04},
      {kRegistrationsPreempted, 0x062a05},
      {kAsymmetricAccessChanged, 0x062a06},
      {kCapacityChanged, 0x062a09},
      {kReportedLunsChanged, 0x063f0e},
      {kWriteProtected, 0x072700},
      {kSpaceAllocationFailed, 0x072707},
      {kUnexpectedUnsolicitedData, 0x0b0c0c},
      {kNotEnoughUnsolicitedData, 0x0b0c0d},
      {kDataDigest, 0x0b4705},
      {kOverlappedCommands, 0x0b4e00},
      {kMiscompare, 0x0e1d00},
  };
  for (const auto& [sense, code] : table) {
    const unsigned found =
        static_cast<unsigned>(sense.key) << 16 | unsigned{sense.asc} << 8 | unsigned{sense.ascq};
    EXPECT_EQ(found, code);
  }
}

TEST(Sense, SameCodeIgnoresDetails) {
  EXPECT_TRUE(kMiscompare.same_code(kMiscompare.with_information(3)));
  EXPECT_FALSE(kMiscompare == kMiscompare.with_information(3));
  EXPECT_FALSE(kReservationsReleased.same_code(kReservationsPreempted));
}

std::vector<uint8_t> encoded_bytes(const Sense& sense, bool descriptor) {
  return build_checked([&](MutableBytes out) { return encode(sense, descriptor, out); });
}

TEST(Sense, WhatWeEncodeDecodesToTheSame) {
  Sense progress = kNotReadyBecoming;
  progress.progress = 0x8001;
  const Sense table[] = {
      kNoSense,
      kPowerOn,
      kMiscompare.with_information(0xfffffffe),
      kInvalidFieldInCdb.at_cdb(0x123, 0),
      kInvalidFieldInCdb.at_cdb(2, 7).with_information(9),
      kInvalidFieldInParameterList.at_parameter(4),
      progress,
  };
  for (const Sense& sense : table) {
    EXPECT_EQ(decode_sense(encoded_bytes(sense, false)), sense);
    EXPECT_EQ(decode_sense(encoded_bytes(sense, true)), sense);
  }
  const Sense far = kReadError.with_information(0x0102030405060708);
  EXPECT_EQ(decode_sense(encoded_bytes(far, true)), far);
}

TEST(Sense, DecodesDeferredErrorsAsSuch) {
  const Sense fixed = decode_sense(from_hex("710003000000000a000000000c0000000000"));
  EXPECT_TRUE(fixed.deferred);
  EXPECT_TRUE(fixed.same_code(kWriteError));
  const Sense descriptor = decode_sense(from_hex("73030c0000000000"));
  EXPECT_TRUE(descriptor.deferred);
  EXPECT_TRUE(descriptor.same_code(kWriteError));
  EXPECT_FALSE(decode_sense(from_hex("72030c0000000000")).deferred);
}

TEST(Sense, DecodesDescriptorsInAnyOrderAndSkipsOthers) {
  // Command specific information, key specific, a vendor's, information.
  const Sense sense =
      decode_sense(from_hex("7205240000000026"
                            "010a00000000000000000007"
                            "02060000c9000500"
                            "80040a0b0c0d"
                            "000a80000000000100000002"));
  EXPECT_EQ(sense, kInvalidFieldInCdb.at_cdb(5, 1).with_information(0x1'0000'0002));
}

TEST(Sense, DecodesOnlyWhatIsValid) {
  // VALID and SKSV are 0.
  EXPECT_EQ(decode_sense(from_hex("700005000012340a00000000240000480002")), kInvalidFieldInCdb);
  EXPECT_EQ(decode_sense(from_hex("7205240000000014"
                                  "000a00000000000000000009"
                                  "0206000048000200")),
            kInvalidFieldInCdb);
  // A medium error's key specific bytes are a retry count: neither a field nor progress.
  EXPECT_EQ(decode_sense(from_hex("700003000000000a00000000110000800007")), kReadError);
}

TEST(Sense, DecodesSenseOfOtherMakers) {
  // 252 bytes with vendor data behind, as arrays send it.
  std::vector<uint8_t> longer = from_hex("70000600000000f4000000002a0600000000");
  longer.resize(252, 0xee);
  EXPECT_EQ(decode_sense(longer), kAsymmetricAccessChanged);
  // A key without a name here: COPY ABORTED.
  EXPECT_EQ(static_cast<int>(decode_sense(from_hex("720a0d0100000000")).key), 0x0a);
}

// Cut off anywhere: what is there counts, what is not there whole does not.
TEST(Sense, DecodesTruncatedData) {
  const Sense whole = kInvalidFieldInCdb.at_cdb(2, 3).with_information(5);
  for (const bool descriptor : {false, true}) {
    const auto bytes = encoded_bytes(whole, descriptor);
    for (size_t n = 0; n < bytes.size(); ++n) {
      const Sense cut = decode_sense(Bytes(bytes).first(n));
      EXPECT_TRUE(!cut.field || cut.field == whole.field) << n;
      EXPECT_TRUE(!cut.information || cut.information == whole.information) << n;
      EXPECT_TRUE(n <= 3 || cut.key == whole.key) << n;
      EXPECT_TRUE(n <= 12 || cut.asc == whole.asc) << n;
      EXPECT_FALSE(cut == whole) << n;
    }
    EXPECT_EQ(decode_sense(bytes), whole);
  }
}

TEST(Sense, LengthsInTheDataBoundIt) {
  // ADDITIONAL SENSE LENGTH 2: no ASC, although the buffer goes on.
  EXPECT_EQ(decode_sense(from_hex("7000050000000002000000002400")).asc, 0);
  // The descriptor says more than there is; one has length 0.
  EXPECT_EQ(decode_sense(from_hex("720311000000000c000a8000010203040506")), kReadError);
  EXPECT_EQ(decode_sense(from_hex("72031100000000040000000a")), kReadError);
  // Descriptors behind ADDITIONAL SENSE LENGTH.
  EXPECT_EQ(decode_sense(from_hex("7203110000000000000a80000000000000000009")), kReadError);
}

TEST(Sense, UnknownFormatsSayNothing) {
  EXPECT_EQ(decode_sense({}), kNoSense);
  EXPECT_EQ(decode_sense(from_hex("7f0005000000000a000000002400")), kNoSense);
  EXPECT_EQ(decode_sense(from_hex("000005000000000a000000002400")), kNoSense);
}

}  // namespace
}  // namespace holdfast::scsi
