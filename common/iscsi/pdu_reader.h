#pragma once
// Cuts a byte stream into PDUs: resumable at any byte, never allocating, never trusting a length.
// Owned by one connection; not thread-safe. The driver owns the receive buffer and says where the
// data of each PDU goes, so that large data comes from the socket directly into its final place:
//
//   header    -> look at bhs(); if data_length() > 0: set_data_target() or discard_data()
//   need_more -> receive into {direct_target(), own buffer}; direct_received(n) for the first part
//   pdu       -> the PDU is complete; check data_digest_ok()
//
// An error ends the connection (error recovery level 0 has no way to find the next PDU) and is
// returned again by every later call.

#include <array>
#include <cstdint>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/result.h"
#include "common/iscsi/limits.h"
#include "common/iscsi/pdu.h"

namespace holdfast::iscsi {

class PduReader {
 public:
  enum class Event : uint8_t { need_more, header, pdu };

  PduReader() = default;
  PduReader(const PduReader&) = delete;
  PduReader& operator=(const PduReader&) = delete;

  // Consumes from the front of `input` up to the next event. After `need_more` input is empty.
  // Errc::protocol: a length above a limit. Errc::digest: the header digest is wrong.
  base::Result<Event> next(base::Bytes& input);

  // Valid from `header` until next() is called after `pdu`.
  const Bhs& bhs() const { return bhs_; }
  // The same bytes as the PDU of its opcode: `const auto command = reader.as<ScsiCommandPdu>();`
  template <class Pdu>
  Pdu as() const {
    return base::load<Pdu>(base::as_bytes(bhs_));
  }
  base::Bytes ahs() const { return {ahs_.data(), ahs_length_}; }
  uint32_t data_length() const { return data_length_; }  // without padding

  // After `header` with data_length() > 0, exactly one of these before next().
  // `target` must have exactly data_length() bytes and stay valid until `pdu`.
  void set_data_target(base::MutableBytes target);
  void discard_data();  // the data is read, counted in the digest and dropped

  // The part of the data target that is not filled yet; empty outside of the data phase.
  base::MutableBytes direct_target() const;
  // n bytes, at most direct_target().size(), have been received into it.
  void direct_received(size_t n);

  // Meaningful at `pdu`. A wrong data digest does not lose the PDU boundary, so the caller decides
  // (RFC 7143 7.8: reject the PDU, or for Data-Out and SCSI Command fail the task).
  bool data_digest_ok() const { return data_digest_ok_; }

  // Between PDUs (from `pdu` until the first byte of the next one has been taken): the only moment
  // for the setters below, and for a clean close.
  bool at_boundary() const {
    return phase_ == Phase::done || (phase_ == Phase::header && filled_ == 0);
  }

  // From the first PDU after the login's final response (RFC 7143 13.1).
  void set_digests(bool header, bool data);
  // What this side has declared as its MaxRecvDataSegmentLength.
  void set_max_data_segment(uint32_t bytes);

 private:
  enum class Phase : uint8_t { header, ahs, header_digest, decide, data, trailer, done, failed };

  // What a phase ended with; go_on: the next phase can use the same input.
  enum class Step : uint8_t { need_more, header, pdu, go_on, failed };

  Step step(base::Bytes& input);
  bool fill(base::MutableBytes destination, base::Bytes& input);
  Step finish_header();
  Step finish_ahs();
  Step check_header_digest();
  void begin_data();
  void take_data(base::Bytes& input);
  void enter_trailer();
  void finish_trailer();
  void begin_pdu();
  Step broken(base::Errc code, const char* what);

  Bhs bhs_;
  Phase phase_ = Phase::header;
  bool header_digest_ = false;
  bool data_digest_ = false;
  bool data_digest_ok_ = true;
  uint32_t max_data_segment_ = kDefaultDataSegmentBytes;
  uint32_t ahs_length_ = 0;
  uint32_t data_length_ = 0;
  uint32_t filled_ = 0;  // bytes of the current phase
  uint32_t trailer_length_ = 0;
  uint8_t* target_ = nullptr;  // null: discard
  base::Crc32c data_crc_;
  base::Error error_;
  std::array<uint8_t, kMaxAhsBytes> ahs_;
  std::array<uint8_t, 8> trailer_;  // padding and digest
};

}  // namespace holdfast::iscsi
