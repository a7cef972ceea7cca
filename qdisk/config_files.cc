#include "qdisk/config_files.h"

#include <utility>

#include "common/base/log.h"

namespace holdfast::qdisk {

namespace {

// `done` is owned by whoever answers, also where the worker takes no more.
template <class Done, class Result>
void answer(io::Loop& loop, const std::shared_ptr<Done>& done, Result result) {
  loop.post([done, result = std::move(result)]() mutable noexcept { (*done)(std::move(result)); });
}

}  // namespace

void ConfigFileWorker::load(Loaded done) {
  const auto shared = std::make_shared<Loaded>(std::move(done));
  const bool taken = files_.submit([&loop = loop_, directory = directory_, shared]() noexcept {
    ConfigDirectory::Contents found = directory->load();
    for (const std::string& each : found.problems) LOG_WARNING("qdisk", "{}", each);
    answer(loop, shared, std::move(found.copies));
  });
  if (!taken) answer(loop_, shared, ConfigCopies{});
}

void ConfigFileWorker::save(const ConfigDocument& document, const ConfigTag& decided, Saved done) {
  const auto shared = std::make_shared<Saved>(std::move(done));
  const bool taken =
      files_.submit([&loop = loop_, directory = directory_, document, decided, shared]() noexcept {
        answer(loop, shared, directory->save(document, decided));
      });
  if (taken) return;
  answer(loop_, shared,
         std::expected<void, std::string>(std::unexpected(
             "the configuration cannot be saved on this node: the local disk does not answer")));
}

}  // namespace holdfast::qdisk
