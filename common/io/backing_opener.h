#pragma once

#include "common/io/backing.h"

namespace holdfast::io {

// Opens files, block devices and memory; each open on a thread of its own.
class SystemBackingOpener final : public BackingOpener {
 public:
  void open(const BackingSpec& spec, Loop& reply_to, Opened done) override;
};

}  // namespace holdfast::io
