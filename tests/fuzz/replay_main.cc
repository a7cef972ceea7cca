// Runs a fuzz target over the files of the given directories, where libFuzzer is not at hand.

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

bool read_file(const std::string& path, std::vector<uint8_t>& out) {
  std::FILE* const file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  out.clear();
  uint8_t chunk[4096];
  size_t n = 0;
  while ((n = std::fread(chunk, 1, sizeof(chunk), file)) > 0) {
    out.insert(out.end(), chunk, chunk + n);
  }
  const bool good = std::ferror(file) == 0;
  std::fclose(file);
  return good;
}

// Sorted, so that every run does the same.
std::vector<std::string> files_of(const std::string& directory) {
  std::vector<std::string> files;
  DIR* const opened = opendir(directory.c_str());
  if (opened == nullptr) return files;
  while (const dirent* const entry = readdir(opened)) {
    const std::string path = directory + "/" + entry->d_name;
    struct stat status = {};
    if (stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) files.push_back(path);
  }
  closedir(opened);
  std::ranges::sort(files);
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    for (const std::string& path : files_of(argv[i])) {
      std::vector<uint8_t> bytes;
      if (!read_file(path, bytes)) {
        std::fprintf(stderr, "can not read %s\n", path.c_str());
        return 1;
      }
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
      ++count;
    }
  }
  std::printf("%zu inputs replayed\n", count);
  if (count > 0) return 0;
  std::fprintf(stderr, "no corpus found; give directories of inputs\n");
  return 1;
}
