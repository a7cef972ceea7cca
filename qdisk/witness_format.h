#pragma once
// Makes a device a witness.

#include <string>
#include <vector>

#include "qdisk/layout.h"
#include "qdisk/witness_file.h"

namespace holdfast::qdisk {

// What is on the device, in words; empty: what a witness would be written over is zero, and nothing
// else is known to be there.
base::Result<std::vector<std::string>> what_is_on(WitnessFile& file, const std::string& path);

// Over whatever is there, its first and last 64 KiB too, so that nobody takes it for what it was.
// Until the end there is no valid superblock. Everything is read again; Errc::corrupt: the device
// has kept something else. Precondition: at least kMinWitnessBytes, and a superblock that encodes.
base::Result<> format_witness(WitnessFile& file, const Superblock& superblock);

}  // namespace holdfast::qdisk
