#pragma once
// The files of a ConfigDirectory, for the loop.

#include <memory>

#include "common/daemon/file_worker.h"
#include "qdisk/config_directory.h"
#include "qdisk/config_services.h"

namespace holdfast::qdisk {

// Reads and saves on the thread of `files`. A disk that hangs answers when it is back, and what is
// asked for then waits; the store asks for one save at a time. Owner: main; lives on the loop's
// thread. The loop outlives what `files` has under way, which goes on when this is destroyed.
class ConfigFileWorker final : public ConfigFiles {
 public:
  ConfigFileWorker(io::Loop& loop, daemon::FileWorker& files,
                   std::shared_ptr<const ConfigDirectory> directory)
      : loop_(loop), files_(files), directory_(std::move(directory)) {}

  void load(Loaded done) override;
  void save(const ConfigDocument& document, const ConfigTag& decided, Saved done) override;

 private:
  io::Loop& loop_;
  daemon::FileWorker& files_;
  const std::shared_ptr<const ConfigDirectory> directory_;
};

}  // namespace holdfast::qdisk
