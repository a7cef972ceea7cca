#include "tests/sim/sim_medium.h"

#include <algorithm>
#include <cstring>

namespace holdfast::sim {

SimMedium::SimMedium(uint64_t size_bytes, bool volatile_cache) : volatile_cache_(volatile_cache) {
  grow(size_bytes);
}

void SimMedium::grow(uint64_t size_bytes) {
  ASSERT(size_bytes >= current_.size() && size_bytes % kSector == 0);
  current_.resize(size_bytes);
  durable_.resize(size_bytes);
  allocated_.resize((size_bytes + kAllocation - 1) / kAllocation);
}

void SimMedium::read(uint64_t offset, base::MutableBytes out) const {
  ASSERT(offset + out.size() <= current_.size());
  std::memcpy(out.data(), current_.data() + offset, out.size());
}

void SimMedium::write(uint64_t offset, base::Bytes data, bool cached) {
  const uint64_t end = offset + data.size();
  for (uint64_t unit = offset / kAllocation; unit * kAllocation < end; ++unit) {
    allocated_[unit] = true;
  }
  put(offset, data, cached);
}

void SimMedium::discard(uint64_t offset, uint64_t length, bool cached) {
  const uint64_t end = offset + length;
  // Only whole units are freed; the rest is zeroed.
  for (uint64_t unit = (offset + kAllocation - 1) / kAllocation; (unit + 1) * kAllocation <= end;
       ++unit) {
    allocated_[unit] = false;
  }
  put(offset, std::vector<uint8_t>(length), cached);
}

void SimMedium::put(uint64_t offset, base::Bytes data, bool cached) {
  ASSERT(offset % kSector == 0 && data.size() % kSector == 0);
  ASSERT(offset + data.size() <= current_.size());
  std::memcpy(current_.data() + offset, data.data(), data.size());
  const uint64_t number = next_version_++;
  for (uint64_t done = 0; done < data.size(); done += kSector) {
    const base::Bytes sector = data.subspan(done, kSector);
    const uint64_t index = (offset + done) / kSector;
    if (cached && volatile_cache_) {
      cache_[index].push_back({number, {sector.begin(), sector.end()}});
    } else {
      cache_.erase(index);
      make_durable(index, sector);
    }
  }
}

void SimMedium::make_durable(uint64_t sector, base::Bytes data) {
  std::memcpy(durable_.data() + sector * kSector, data.data(), kSector);
}

io::Extent SimMedium::extent_at(uint64_t offset) const {
  uint64_t unit = offset / kAllocation;
  const bool mapped = allocated_[unit];
  while (unit < allocated_.size() && allocated_[unit] == mapped) ++unit;
  const uint64_t end = std::min<uint64_t>(unit * kAllocation, current_.size());
  return {mapped ? io::ExtentState::mapped : io::ExtentState::deallocated, end - offset};
}

void SimMedium::flush(uint64_t mark) {
  for (auto entry = cache_.begin(); entry != cache_.end();) {
    auto& versions = entry->second;
    const auto later =
        std::ranges::find_if(versions, [&](const Version& v) { return v.number >= mark; });
    if (later != versions.begin()) make_durable(entry->first, std::prev(later)->data);
    versions.erase(versions.begin(), later);
    entry = versions.empty() ? cache_.erase(entry) : std::next(entry);
  }
}

void SimMedium::lose_power(base::Random& random) {
  enum class Fate : uint8_t { kept, lost, torn };
  std::map<uint64_t, Fate> fates;  // of each write; sectors of a torn one decide for themselves
  for (auto& [sector, versions] : cache_) {
    for (const Version& version : versions) {
      const auto [fate, added] = fates.try_emplace(version.number);
      if (added) fate->second = static_cast<Fate>(random.below(3));
      const bool kept =
          fate->second == Fate::kept || (fate->second == Fate::torn && random.below(2) == 0);
      if (kept) make_durable(sector, version.data);
    }
  }
  cache_.clear();
  current_ = durable_;
}

void SimMedium::tear(uint64_t offset, base::Bytes data, base::Random& random) {
  for (uint64_t done = 0; done < data.size(); done += kSector) {
    if (random.below(2) == 0) write(offset + done, data.subspan(done, kSector), false);
  }
}

void SimMedium::clear() {
  std::ranges::fill(current_, uint8_t{0});
  std::ranges::fill(durable_, uint8_t{0});
  allocated_.assign(allocated_.size(), false);
  cache_.clear();
}

uint64_t SimMedium::allocated_bytes() const {
  return static_cast<uint64_t>(std::ranges::count(allocated_, true)) * kAllocation;
}

uint64_t SimMedium::new_allocation(uint64_t offset, uint64_t length) const {
  uint64_t bytes = 0;
  for (uint64_t unit = offset / kAllocation; unit * kAllocation < offset + length; ++unit) {
    if (!allocated_[unit]) bytes += kAllocation;
  }
  return bytes;
}

}  // namespace holdfast::sim
