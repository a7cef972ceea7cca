#include "qdisk/device_contents.h"

#include <blkid.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace holdfast::qdisk {
namespace {

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, FreeProbe>;

// Empty: there is none.
std::string value_of(blkid_probe probe, const char* name) {
  const char* text = nullptr;
  if (blkid_probe_lookup_value(probe, name, &text, nullptr) != 0 || text == nullptr) return {};
  return text;
}

std::string describe(blkid_probe probe) {
  const std::string table = value_of(probe, "PTTYPE");
  if (!table.empty()) return "partition table " + table;
  const std::string type = value_of(probe, "TYPE");
  if (type.empty()) return {};
  const bool file_system = value_of(probe, "USAGE") == "filesystem";
  std::string out = (file_system ? "file system " : "") + type;
  if (const std::string label = value_of(probe, "LABEL"); !label.empty()) {
    out += fmt::format(", label `{}`", label);
  }
  return out;
}

}  // namespace

std::vector<std::string> signatures_of(const std::string& path) {
  std::vector<std::string> out;
  const Probe probe(blkid_new_probe_from_filename(path.c_str()));
  if (probe == nullptr) return out;
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(),
                                    BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_USAGE);
  blkid_probe_enable_partitions(probe.get(), 1);
  // One signature a call, so that several do not contradict each other.
  while (blkid_do_probe(probe.get()) == 0) {
    std::string found = describe(probe.get());
    if (!found.empty() && std::ranges::find(out, found) == out.end()) {
      out.push_back(std::move(found));
    }
  }
  return out;
}

}  // namespace holdfast::qdisk
