#pragma once
// The unit attention conditions of one nexus on one logical unit (SAM-5): each code once, oldest
// first except that a reset is told before all else.

#include <array>
#include <cstdint>
#include <optional>

#include "common/scsi/sense.h"

namespace holdfast::target {

class AttentionQueue {
 public:
  // More different codes than we ever raise. If it were full, the power on code stands for all: it
  // tells the initiator to look at everything anew.
  static constexpr size_t kMax = 12;

  void raise(const scsi::Sense& sense) {
    for (size_t i = 0; i < count_; ++i) {
      if (codes_[i].same_code(sense)) return;
    }
    if (count_ == kMax) {
      codes_[0] = scsi::kPowerOn;
      count_ = 1;
      return;
    }
    size_t at = count_;
    if (is_reset(sense)) {
      at = 0;
      while (at < count_ && is_reset(codes_[at])) ++at;
    }
    for (size_t i = count_; i > at; --i) codes_[i] = codes_[i - 1];
    codes_[at] = sense;
    ++count_;
  }

  bool empty() const { return count_ == 0; }

  // The condition is cleared by being reported.
  std::optional<scsi::Sense> take() {
    if (count_ == 0) return std::nullopt;
    const scsi::Sense first = codes_[0];
    for (size_t i = 1; i < count_; ++i) codes_[i - 1] = codes_[i];
    --count_;
    return first;
  }

  // REPORT LUNS has told what this code would have told (SPC-4 6.33).
  void clear(const scsi::Sense& sense) {
    size_t kept = 0;
    for (size_t i = 0; i < count_; ++i) {
      if (!codes_[i].same_code(sense)) codes_[kept++] = codes_[i];
    }
    count_ = kept;
  }

 private:
  static bool is_reset(const scsi::Sense& sense) { return sense.asc == 0x29; }

  std::array<scsi::Sense, kMax> codes_{};
  size_t count_ = 0;
};

}  // namespace holdfast::target
