#pragma once
// Sense data (SPC-4 4.5): the one way this target explains a CHECK CONDITION or a unit attention.
// A Sense is a value: a command that cannot be served yields one, it is not an error of ours.

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>

#include "common/base/bytes.h"

namespace holdfast::scsi {

using base::Bytes;
using base::MutableBytes;

enum class SenseKey : uint8_t {
  no_sense = 0x0,
  recovered_error = 0x1,
  not_ready = 0x2,
  medium_error = 0x3,
  hardware_error = 0x4,
  illegal_request = 0x5,
  unit_attention = 0x6,
  data_protect = 0x7,
  aborted_command = 0xb,
  miscompare = 0xe,
};

// Which byte (and bit) of the CDB or of the parameter list is wrong (SPC-4 4.5, field pointer).
struct FieldPointer {
  bool in_cdb = true;
  uint16_t byte = 0;
  std::optional<uint8_t> bit{};  // the most significant bit of the field
  bool operator==(const FieldPointer&) const = default;
};

struct Sense {
  SenseKey key = SenseKey::no_sense;
  uint8_t asc = 0;
  uint8_t ascq = 0;
  std::optional<FieldPointer> field{};    // ILLEGAL REQUEST only
  std::optional<uint16_t> progress{};     // of 65536; NOT READY and NO SENSE only
  std::optional<uint64_t> information{};  // command specific: an LBA or a byte offset

  constexpr Sense at_cdb(uint16_t byte, std::optional<uint8_t> bit = std::nullopt) const {
    Sense copy = *this;
    copy.field = FieldPointer{.in_cdb = true, .byte = byte, .bit = bit};
    return copy;
  }
  constexpr Sense at_parameter(uint16_t byte, std::optional<uint8_t> bit = std::nullopt) const {
    Sense copy = *this;
    copy.field = FieldPointer{.in_cdb = false, .byte = byte, .bit = bit};
    return copy;
  }
  constexpr Sense with_information(uint64_t value) const {
    Sense copy = *this;
    copy.information = value;
    return copy;
  }
  // Same key, ASC and ASCQ, whatever the details.
  constexpr bool same_code(const Sense& other) const {
    return key == other.key && asc == other.asc && ascq == other.ascq;
  }
  bool operator==(const Sense&) const = default;
};

// A value, or why the command ends with CHECK CONDITION.
template <class T>
using Outcome = std::expected<T, Sense>;

// Every sense this target emits. The name follows SPC-4 annex E.
inline constexpr Sense kNoSense{};

inline constexpr Sense kNotReadyBecoming{.key = SenseKey::not_ready, .asc = 0x04, .ascq = 0x01};
inline constexpr Sense kAluaTransition{.key = SenseKey::not_ready, .asc = 0x04, .ascq = 0x0a};
inline constexpr Sense kAluaStandby{.key = SenseKey::not_ready, .asc = 0x04, .ascq = 0x0b};
inline constexpr Sense kAluaUnavailable{.key = SenseKey::not_ready, .asc = 0x04, .ascq = 0x0c};
inline constexpr Sense kMediumNotPresent{.key = SenseKey::not_ready, .asc = 0x3a, .ascq = 0x00};
inline constexpr Sense kMediumNotPresentTrayOpen{
    .key = SenseKey::not_ready, .asc = 0x3a, .ascq = 0x02};

inline constexpr Sense kReadError{.key = SenseKey::medium_error, .asc = 0x11, .ascq = 0x00};
inline constexpr Sense kWriteError{.key = SenseKey::medium_error, .asc = 0x0c, .ascq = 0x00};

inline constexpr Sense kInternalTargetFailure{
    .key = SenseKey::hardware_error, .asc = 0x44, .ascq = 0x00};

inline constexpr Sense kParameterListLengthError{
    .key = SenseKey::illegal_request, .asc = 0x1a, .ascq = 0x00};
inline constexpr Sense kInvalidOpcode{.key = SenseKey::illegal_request, .asc = 0x20, .ascq = 0x00};
inline constexpr Sense kLbaOutOfRange{.key = SenseKey::illegal_request, .asc = 0x21, .ascq = 0x00};
inline constexpr Sense kInvalidFieldInCdb{
    .key = SenseKey::illegal_request, .asc = 0x24, .ascq = 0x00};
inline constexpr Sense kLunNotSupported{
    .key = SenseKey::illegal_request, .asc = 0x25, .ascq = 0x00};
inline constexpr Sense kInvalidFieldInParameterList{
    .key = SenseKey::illegal_request, .asc = 0x26, .ascq = 0x00};
inline constexpr Sense kInvalidReleaseOfPersistentReservation{
    .key = SenseKey::illegal_request, .asc = 0x26, .ascq = 0x04};
inline constexpr Sense kSavingNotSupported{
    .key = SenseKey::illegal_request, .asc = 0x39, .ascq = 0x00};
inline constexpr Sense kMediumRemovalPrevented{
    .key = SenseKey::illegal_request, .asc = 0x53, .ascq = 0x02};
inline constexpr Sense kInsufficientResources{
    .key = SenseKey::illegal_request, .asc = 0x55, .ascq = 0x03};
inline constexpr Sense kInsufficientRegistrationResources{
    .key = SenseKey::illegal_request, .asc = 0x55, .ascq = 0x04};

inline constexpr Sense kMediumMayHaveChanged{
    .key = SenseKey::unit_attention, .asc = 0x28, .ascq = 0x00};
inline constexpr Sense kPowerOn{.key = SenseKey::unit_attention, .asc = 0x29, .ascq = 0x00};
inline constexpr Sense kBusDeviceReset{.key = SenseKey::unit_attention, .asc = 0x29, .ascq = 0x03};
inline constexpr Sense kNexusLoss{.key = SenseKey::unit_attention, .asc = 0x29, .ascq = 0x07};
inline constexpr Sense kModeParametersChanged{
    .key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x01};
inline constexpr Sense kReservationsPreempted{
    .key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x03};
inline constexpr Sense kReservationsReleased{
    .key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x04};
inline constexpr Sense kRegistrationsPreempted{
    .key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x05};
inline constexpr Sense kAsymmetricAccessChanged{
    .key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x06};
inline constexpr Sense kCapacityChanged{.key = SenseKey::unit_attention, .asc = 0x2a, .ascq = 0x09};
inline constexpr Sense kReportedLunsChanged{
    .key = SenseKey::unit_attention, .asc = 0x3f, .ascq = 0x0e};

inline constexpr Sense kWriteProtected{.key = SenseKey::data_protect, .asc = 0x27, .ascq = 0x00};
inline constexpr Sense kSpaceAllocationFailed{
    .key = SenseKey::data_protect, .asc = 0x27, .ascq = 0x07};

inline constexpr Sense kUnexpectedUnsolicitedData{
    .key = SenseKey::aborted_command, .asc = 0x0c, .ascq = 0x0c};
inline constexpr Sense kNotEnoughUnsolicitedData{
    .key = SenseKey::aborted_command, .asc = 0x0c, .ascq = 0x0d};
inline constexpr Sense kDataDigest{.key = SenseKey::aborted_command, .asc = 0x47, .ascq = 0x05};
inline constexpr Sense kOverlappedCommands{
    .key = SenseKey::aborted_command, .asc = 0x4e, .ascq = 0x00};

inline constexpr Sense kMiscompare{.key = SenseKey::miscompare, .asc = 0x1d, .ascq = 0x00};

// The most encode() ever produces: descriptor format with information and sense key specific
// descriptors. Also what VPD page 86h reports.
inline constexpr size_t kMaxSenseLength = 28;

// Current-error sense data: fixed (70h) or descriptor (72h) format, as D_SENSE or the DESC bit of
// REQUEST SENSE asks. Writes at most out.size() bytes and returns the full length. INFORMATION
// beyond 32 bits cannot be told in fixed format: VALID is 0 then (SPC-4 4.5, INFORMATION field).
size_t encode(const Sense& sense, bool descriptor_format, MutableBytes out);

}  // namespace holdfast::scsi
