#include "common/iscsi/pdu_reader.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"
#include "common/iscsi/pdu_writer.h"

namespace holdfast::iscsi {

base::Result<PduReader::Event> PduReader::next(base::Bytes& input) {
  for (;;) {
    switch (step(input)) {
      case Step::need_more:
        return Event::need_more;
      case Step::header:
        return Event::header;
      case Step::pdu:
        return Event::pdu;
      case Step::go_on:
        break;
      case Step::failed:
        return std::unexpected(error_);
    }
  }
}

PduReader::Step PduReader::step(base::Bytes& input) {
  switch (phase_) {
    case Phase::done:
      begin_pdu();
      return Step::go_on;
    case Phase::header:
      if (filled_ == 0 && input.size() >= kBhsBytes) {  // nearly always
        bhs_ = base::load<Bhs>(input);
        input = input.subspan(kBhsBytes);
        return finish_header();
      }
      if (!fill({reinterpret_cast<uint8_t*>(&bhs_), kBhsBytes}, input)) return Step::need_more;
      return finish_header();
    case Phase::ahs:
      if (!fill({ahs_.data(), ahs_length_}, input)) return Step::need_more;
      return finish_ahs();
    case Phase::header_digest:
      if (!fill({trailer_.data(), kDigestBytes}, input)) return Step::need_more;
      return check_header_digest();
    case Phase::decide:
      // The caller has to say where the data goes.
      ASSERT(data_length_ == 0);
      data_digest_ok_ = true;
      phase_ = Phase::done;
      return Step::pdu;
    case Phase::data:
      take_data(input);
      if (filled_ < data_length_) return Step::need_more;
      enter_trailer();
      return Step::go_on;
    case Phase::trailer:
      if (!fill({trailer_.data(), trailer_length_}, input)) return Step::need_more;
      finish_trailer();
      return Step::pdu;
    case Phase::failed:
      return Step::failed;
  }
  ASSERT(false);
}

// Copies up to what `destination` lacks; true when it is full.
bool PduReader::fill(base::MutableBytes destination, base::Bytes& input) {
  const size_t length = std::min(destination.size() - filled_, input.size());
  if (length > 0) std::memcpy(destination.data() + filled_, input.data(), length);
  input = input.subspan(length);
  filled_ += static_cast<uint32_t>(length);
  return filled_ == destination.size();
}

PduReader::Step PduReader::finish_header() {
  ahs_length_ = uint32_t{bhs_.total_ahs_length} * 4;
  data_length_ = bhs_.data_segment_length;
  // Before the digest is checked these lengths may be noise; the bounds hold for noise too.
  if (ahs_length_ > kMaxAhsBytes) {
    return broken(base::Errc::protocol, "the additional header segments are longer than we take");
  }
  if (data_length_ > max_data_segment_) {
    return broken(base::Errc::protocol,
                  "the data segment is longer than the MaxRecvDataSegmentLength we declared");
  }
  filled_ = 0;
  if (ahs_length_ > 0) {
    phase_ = Phase::ahs;
    return Step::go_on;
  }
  return finish_ahs();
}

PduReader::Step PduReader::finish_ahs() {
  filled_ = 0;
  if (header_digest_) {
    phase_ = Phase::header_digest;
    return Step::go_on;
  }
  phase_ = Phase::decide;
  return Step::header;
}

PduReader::Step PduReader::check_header_digest() {
  base::Crc32c crc;
  crc.update(base::as_bytes(bhs_));
  crc.update(ahs());
  if (base::load<base::le32>(trailer_) != crc.value()) {
    return broken(base::Errc::digest, "the header digest does not match");
  }
  filled_ = 0;
  phase_ = Phase::decide;
  return Step::header;
}

void PduReader::set_data_target(base::MutableBytes target) {
  ASSERT(phase_ == Phase::decide && data_length_ > 0 && target.size() == data_length_);
  target_ = target.data();
  begin_data();
}

void PduReader::discard_data() {
  ASSERT(phase_ == Phase::decide && data_length_ > 0);
  target_ = nullptr;
  begin_data();
}

void PduReader::begin_data() {
  filled_ = 0;
  data_crc_ = base::Crc32c();
  phase_ = Phase::data;
}

void PduReader::take_data(base::Bytes& input) {
  const size_t length = std::min<size_t>(data_length_ - filled_, input.size());
  if (length == 0) return;
  const base::Bytes part = input.first(length);
  if (target_ != nullptr) std::memcpy(target_ + filled_, part.data(), length);
  if (data_digest_) data_crc_.update(part);
  filled_ += static_cast<uint32_t>(length);
  input = input.subspan(length);
}

base::MutableBytes PduReader::direct_target() const {
  if (phase_ != Phase::data || target_ == nullptr) return {};
  return {target_ + filled_, data_length_ - filled_};
}

void PduReader::direct_received(size_t n) {
  const base::MutableBytes target = direct_target();
  ASSERT(n <= target.size());
  if (data_digest_) data_crc_.update(target.first(n));
  filled_ += static_cast<uint32_t>(n);
}

void PduReader::enter_trailer() {
  trailer_length_ = static_cast<uint32_t>(padding_length(data_length_));
  if (data_digest_) trailer_length_ += kDigestBytes;
  filled_ = 0;
  target_ = nullptr;
  phase_ = Phase::trailer;
}

void PduReader::finish_trailer() {
  data_digest_ok_ = true;
  if (data_digest_) {
    const base::Bytes trailer = base::Bytes(trailer_).first(trailer_length_);
    const size_t padding = trailer_length_ - kDigestBytes;
    data_crc_.update(trailer.first(padding));
    data_digest_ok_ = base::load<base::le32>(trailer.subspan(padding)) == data_crc_.value();
  }
  phase_ = Phase::done;
}

void PduReader::begin_pdu() {
  filled_ = 0;
  phase_ = Phase::header;
}

PduReader::Step PduReader::broken(base::Errc code, const char* what) {
  error_ = base::Error{code, 0, what};
  phase_ = Phase::failed;
  return Step::failed;
}

void PduReader::set_digests(bool header, bool data) {
  ASSERT(at_boundary());
  header_digest_ = header;
  data_digest_ = data;
}

void PduReader::set_max_data_segment(uint32_t bytes) {
  ASSERT(at_boundary() && bytes <= kMaxDataSegmentBytes);
  max_data_segment_ = bytes;
}

}  // namespace holdfast::iscsi
