#pragma once
// What a device holds that is no witness, as libblkid names it.

#include <string>
#include <vector>

namespace holdfast::qdisk {

// "file system ext4, label `home`", "partition table gpt"; empty: nothing that it knows, or the
// device cannot be read.
std::vector<std::string> signatures_of(const std::string& path);

}  // namespace holdfast::qdisk
