#pragma once

#include <memory>
#include <string>

#include "common/io/backing.h"
#include "common/io/file_claims.h"

namespace holdfast::io {

// Opens files, block devices and memory; each open on a thread of its own.
class SystemBackingOpener final : public BackingOpener {
 public:
  void open(const BackingSpec& spec, Loop& reply_to, Opened done) override;
  // A file of the process itself, which must not become a backing.
  void claim(const std::string& path);

 private:
  std::shared_ptr<FileClaims> claims_ = std::make_shared<FileClaims>();
};

}  // namespace holdfast::io
