#pragma once
// A node's own copies of the configuration document, on its own disk:
//
//   STATE_DIR/configuration.a, .b   docs/qdisk-format.md, "Configuration": a header as on the
//                                   witness, and the document right behind it
//   STATE_DIR/configuration.?.new   what is being written; means nothing
//
// One holds the decided document and the other at most one that may become the next, so that a
// crash, a full disk or a proposal that comes to nothing never costs the decided one.

#include <expected>
#include <string>
#include <vector>

#include "qdisk/config_document.h"

namespace holdfast::qdisk {

// Blocking; used by one thread at a time, while a StateDirectory holds the directory's lock.
class ConfigDirectory {
 public:
  struct Contents {
    ConfigCopies copies;
    std::vector<std::string> problems;  // of those that are damaged or unreadable, for the log
  };

  ConfigDirectory(std::string directory, const Uuid& cluster)
      : directory_(std::move(directory)), cluster_(cluster) {}

  Contents load() const;
  // Durable when it returns; a file that is there and intact is left. Never over the document of
  // `decided`. The error is for the administrator; both files are then as they were.
  std::expected<void, std::string> save(const ConfigDocument& document,
                                        const ConfigTag& decided) const;

  std::string file(unsigned copy) const;

 private:
  std::expected<ConfigDocument, std::string> read(unsigned copy) const;

  const std::string directory_;
  const Uuid cluster_;
};

}  // namespace holdfast::qdisk
