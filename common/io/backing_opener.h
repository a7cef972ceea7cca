#pragma once

#include <memory>

#include "common/io/backing.h"
#include "common/io/file_claims.h"

namespace holdfast::io {

// Opens files, block devices and memory; each open on a thread of its own.
class SystemBackingOpener final : public BackingOpener {
 public:
  void open(const BackingSpec& spec, Loop& reply_to, Opened done) override;

 private:
  std::shared_ptr<FileClaims> claims_ = std::make_shared<FileClaims>();
};

}  // namespace holdfast::io
