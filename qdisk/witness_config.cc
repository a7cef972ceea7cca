#include "qdisk/witness_config.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

using base::Errc;

static_assert(WitnessConfig::kPieceBytes % kSlotBytes == 0);

namespace {

// As of a life before, that has ended.
template <class Done>
void refuse(io::Loop& loop, Done done) {
  loop.post([done = std::move(done)]() mutable noexcept {
    done(base::fail(Errc::busy, "the witness has yet to end what was asked of it before"));
  });
}

}  // namespace

base::Result<std::unique_ptr<WitnessConfig>> WitnessConfig::create(io::Loop& loop,
                                                                   io::SharedBlockDevice& device,
                                                                   const Uuid& cluster,
                                                                   io::Duration io_limit) {
  TRY_ASSIGN(auto pool, io::BufferPool::create(io::kMaxSlabBytes));
  return std::unique_ptr<WitnessConfig>(
      new WitnessConfig(loop, device, cluster, io_limit, std::move(pool)));
}

WitnessConfig::WitnessConfig(io::Loop& loop, io::SharedBlockDevice& device, const Uuid& cluster,
                             io::Duration io_limit, std::unique_ptr<io::BufferPool> pool)
    : loop_(loop),
      device_(device),
      cluster_(cluster),
      io_limit_(io_limit),
      pool_(std::move(pool)),
      buffer_(pool_->acquire(kPieceBytes)) {
  ASSERT(buffer_);
}

WitnessConfig::~WitnessConfig() { ASSERT(!busy()); }

// --- writing ---

void WitnessConfig::write(const ConfigDocument& document, unsigned copy, Written done) {
  ASSERT(copy < kCopies && !document.bytes.empty() && document.bytes.size() <= kMaxDocumentBytes);
  if (busy()) return refuse(loop_, std::move(done));
  written_ = std::move(done);
  document_ = document;
  copy_ = copy;
  moved_ = 0;
  deadline_ = loop_.now() + io_limit_;
  write_next();
}

// What lies behind the end of the document is zero.
void WitnessConfig::write_next() {
  const size_t bytes = piece_bytes();
  const size_t length = std::max(base::round_up(bytes, kSlotBytes), kSlotBytes);
  const auto out = buffer_.first(length);
  std::ranges::fill(out, uint8_t{0});
  uint64_t offset = config_offset(copy_);
  if (bytes > 0) {
    std::ranges::copy(base::as_bytes(std::string_view(document_.bytes)).subspan(moved_, bytes),
                      out.begin());
    offset += kSlotBytes + moved_;
    step_ = Step::write_piece;
  } else {
    encode(header_of(document_), copy_, cluster_, MutableSector(out.first(kRecordBytes)));
    step_ = Step::write_header;
  }
  submit(io::BlockRequest::Kind::write, offset, length);
}

// --- reading ---

void WitnessConfig::read(Read done) {
  if (step_ != Step::idle) return refuse(loop_, std::move(done));
  read_ = std::move(done);
  found_ = {};
  deadline_ = loop_.now() + io_limit_;
  begin_copy(0);
}

void WitnessConfig::begin_copy(unsigned copy) {
  if (copy == kCopies) return finish({});
  copy_ = copy;
  document_ = {};
  length_ = moved_ = 0;
  step_ = Step::read_header;
  submit(io::BlockRequest::Kind::read, config_offset(copy), kSlotBytes);
}

void WitnessConfig::take_header() {
  const Sector sector(buffer_.first(kSlotBytes).first<kRecordBytes>());
  const auto header = decode_config(sector, cluster_, copy_);
  if (!header.valid() || !is_usable(*header.value)) return begin_copy(copy_ + 1);
  document_.tag = header.value->tag;
  length_ = header.value->length;
  document_.bytes.reserve(length_);
  read_next();
}

void WitnessConfig::read_next() {
  const size_t bytes = piece_bytes();
  if (bytes == 0) {
    if (is_intact(document_)) found_[copy_] = std::move(document_);
    return begin_copy(copy_ + 1);
  }
  step_ = Step::read_piece;
  submit(io::BlockRequest::Kind::read, config_offset(copy_) + kSlotBytes + moved_,
         base::round_up(bytes, kSlotBytes));
}

void WitnessConfig::take_piece() {
  const size_t bytes = piece_bytes();
  document_.bytes.append(base::as_text(buffer_.first(bytes)));
  moved_ += bytes;
  read_next();
}

// --- both ---

size_t WitnessConfig::piece_bytes() const {
  const size_t all = written_ ? document_.bytes.size() : length_;
  return std::min(all - moved_, kPieceBytes);
}

void WitnessConfig::submit(io::BlockRequest::Kind kind, uint64_t offset, size_t length) {
  const io::Duration left = deadline_ - loop_.now();
  if (left <= io::Duration::zero()) {  // between two pieces: nothing is under way
    return finish(base::fail(Errc::timed_out, "the witness has not answered in time", ETIMEDOUT));
  }
  part_ = {.iov_base = buffer_.data(), .iov_len = length};
  request_.kind = kind;
  request_.durability = io::Durability::durable;
  request_.offset = offset;
  request_.length = length;
  request_.data = {&part_, 1};
  request_.timeout = left;
  device_.submit(request_);
}

void WitnessConfig::on_done(int32_t result) noexcept {
  if (result < 0) {
    if (written_) wait_for_ghosts();
    if (result == -ETIMEDOUT) {
      return finish(base::fail(Errc::timed_out, "the witness has not answered in time", -result));
    }
    return finish(
        base::fail(Errc::io, "the configuration on the witness cannot be accessed", -result));
  }
  switch (step_) {
    case Step::write_piece:
      moved_ += piece_bytes();
      return write_next();
    case Step::read_header:
      return take_header();
    case Step::read_piece:
      return take_piece();
    default:
      return finish({});
  }
}

void WitnessConfig::finish(base::Result<> result) {
  step_ = Step::idle;
  document_ = {};
  if (written_) return std::exchange(written_, nullptr)(result);
  auto done = std::exchange(read_, nullptr);
  if (!result) return done(std::unexpected(result.error()));
  done(std::exchange(found_, {}));
}

void WitnessConfig::wait_for_ghosts() {
  waiting_for_ghosts_ = true;
  device_.wait_ghosts(kConfigArea, kCopies * kConfigCopyBytes,
                      [this](base::Result<> result) noexcept {
                        waiting_for_ghosts_ = false;
                        // The device is being closed: nothing more will be asked of it.
                        if (!result) {
                          LOG_INFO("qdisk", "ghosts of a configuration on the witness are left: {}",
                                   result.error().what);
                        }
                      });
}

}  // namespace holdfast::qdisk
