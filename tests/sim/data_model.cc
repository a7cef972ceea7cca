#include "tests/sim/data_model.h"

#include <algorithm>

namespace holdfast::sim {

namespace {

// The value of a sector, or nothing when it is a mixture.
std::optional<WriteId> value_of(base::Bytes sector) {
  const auto value = base::load<base::le64>(sector).get();
  for (size_t at = 0; at < sector.size(); at += sizeof(base::le64)) {
    if (base::load<base::le64>(sector.subspan(at)).get() != value) return std::nullopt;
  }
  return value;
}

std::string show(Duration time) {
  if (time == DataModel::kNever) return "never";
  return fmt::format("{}us", time.count() / 1000);
}

}  // namespace

DataModel::DataModel(std::string name, uint64_t sectors, bool volatile_cache)
    : name_(std::move(name)),
      volatile_cache_(volatile_cache),
      sectors_(sectors),
      swapped_(sectors) {
  const Duration begin{-1};
  for (Sector& sector : sectors_) {
    sector.push_back({.start = begin, .end = begin, .landed = begin, .durable = begin});
  }
}

template <class Visitor>
void DataModel::for_each_entry(WriteId id, Visitor&& visit) {
  const Range range = ranges_.at(id);
  for (uint64_t i = 0; i < range.count; ++i) {
    for (Entry& entry : sectors_[range.first + i]) {
      if (entry.id == id) visit(entry);
    }
  }
}

void DataModel::fill(base::MutableBytes sectors, WriteId value) {
  for (size_t at = 0; at < sectors.size(); at += sizeof(base::le64)) {
    base::store(sectors.subspan(at), base::le64(value));
  }
}

WriteId DataModel::begin_write(Duration now, Range range, bool zeroes) {
  const WriteId id = next_write_++;
  open_.insert(id);
  ranges_[id] = range;
  for (uint64_t i = 0; i < range.count; ++i) {
    Sector& sector = sectors_[range.first + i];
    prune(sector);
    sector.push_back({.id = id, .value = zeroes ? 0 : id, .start = now});
  }
  return id;
}

void DataModel::write_acknowledged(WriteId id, Duration now, bool durable) {
  if (open_.erase(id) == 0) return;
  for_each_entry(id, [&](Entry& entry) {
    entry.end = std::min(entry.end, now);
    entry.landed = std::min(entry.landed, now);
    if (durable || !volatile_cache_) entry.durable = std::min(entry.durable, now);
  });
}

std::string DataModel::write_refused(WriteId id) {
  if (open_.erase(id) == 0) return {};
  bool seen = false;
  for_each_entry(id, [&](const Entry& entry) { seen = seen || entry.landed != kNever; });
  const Range range = ranges_.at(id);
  for (uint64_t i = 0; i < range.count; ++i) {
    std::erase_if(sectors_[range.first + i], [id](const Entry& entry) { return entry.id == id; });
  }
  if (!seen) return {};
  return fmt::format("{} sectors {}+{}: write {} was refused after it had landed", name_,
                     range.first, range.count, id);
}

void DataModel::write_failed(WriteId id, Duration now) {
  barrier(id, now);
  open_.erase(id);
}

void DataModel::barrier(WriteId id, Duration now) {
  if (!open_.contains(id)) return;
  for_each_entry(id, [&](Entry& entry) { entry.end = std::min(entry.end, now); });
}

void DataModel::overwritten(WriteId id, Range range, Duration began) {
  if (!open_.contains(id)) return;
  for (uint64_t i = 0; i < range.count; ++i) {
    for (Entry& entry : sectors_[range.first + i]) {
      if (entry.id == id) entry.end = std::min(entry.end, began);
    }
  }
}

void DataModel::lift_barrier(WriteId id) {
  if (!open_.contains(id)) return;
  for_each_entry(id, [](Entry& entry) { entry.end = kNever; });
}

uint64_t DataModel::begin_read(Duration now) {
  reads_[next_read_] = now;
  return next_read_++;
}

void DataModel::cancel_read(uint64_t read) { reads_.erase(read); }

bool DataModel::possible(const Sector& sector, const Entry& entry, Duration read_began) const {
  return std::ranges::none_of(sector, [&](const Entry& other) {
    return &other != &entry && other.start >= entry.end && other.landed <= read_began;
  });
}

std::string DataModel::check_sector(uint64_t index, Duration began, Duration now, WriteId value) {
  Sector& sector = sectors_[index];
  Entry* found = nullptr;
  size_t matches = 0;
  for (Entry& entry : sector) {
    if (entry.value != value || !possible(sector, entry, began)) continue;
    found = &entry;
    ++matches;
  }
  if (matches == 0) return describe(index, began, now) + fmt::format("; read {}", value);
  // Seen, so it has landed; with several candidates of the same value nobody knows which.
  if (matches == 1) {
    found->landed = std::min(found->landed, now);
    if (!volatile_cache_ || found->survived) found->durable = std::min(found->durable, now);
  }
  return {};
}

std::string DataModel::describe(uint64_t index, Duration began, Duration now) const {
  std::string text =
      fmt::format("{} sector {}, read {}..{}: allowed", name_, index, show(began), show(now));
  for (const Entry& entry : sectors_[index]) {
    text +=
        fmt::format(" [{} write {} start {} end {} landed {} durable {}{}]", entry.value, entry.id,
                    show(entry.start), show(entry.end), show(entry.landed), show(entry.durable),
                    possible(sectors_[index], entry, began) ? "" : " overwritten");
  }
  return text;
}

std::string DataModel::end_read(uint64_t read, Duration now, Range range, base::Bytes data) {
  const auto begun = reads_.extract(read);
  if (begun.empty()) return {};  // begun before a power loss: it may show what is gone
  const Duration began = begun.mapped();
  ASSERT(data.size() == range.count * kSectorBytes);
  for (uint64_t i = 0; i < range.count; ++i) {
    const auto value = value_of(data.subspan(i * kSectorBytes, kSectorBytes));
    if (!value) return fmt::format("{} sector {}: a mixture", name_, range.first + i);
    std::string wrong = check_sector(range.first + i, began, now, *value);
    if (!wrong.empty()) return wrong;
  }
  return {};
}

std::string DataModel::swap_succeeded(WriteId write, uint64_t read, Duration now, Range range,
                                      base::Bytes compared) {
  const auto begun = reads_.extract(read);
  if (begun.empty()) return {};
  const Duration began = begun.mapped();
  for (uint64_t i = 0; i < range.count; ++i) {
    const uint64_t index = range.first + i;
    const WriteId value = value_of(compared.subspan(i * kSectorBytes, kSectorBytes)).value();
    const Sector& sector = sectors_[index];
    const bool was_there = std::ranges::any_of(sector, [&](const Entry& entry) {
      return entry.id != write && entry.value == value && possible(sector, entry, began);
    });
    if (!was_there) {
      return describe(index, began, now) + fmt::format("; COMPARE AND WRITE found {}", value);
    }
    if (value != 0 && !swapped_[index].insert(value).second) {
      return fmt::format("{} sector {}: two COMPARE AND WRITE found {}", name_, index, value);
    }
  }
  return {};
}

std::string DataModel::swap_miscompared(uint64_t read, Duration now, Range range,
                                        base::Bytes compared) {
  const auto begun = reads_.extract(read);
  if (begun.empty()) return {};
  const Duration began = begun.mapped();
  for (uint64_t i = 0; i < range.count; ++i) {
    const WriteId value = value_of(compared.subspan(i * kSectorBytes, kSectorBytes)).value();
    const Sector& sector = sectors_[range.first + i];
    const bool could_differ = std::ranges::any_of(sector, [&](const Entry& entry) {
      return entry.value != value && possible(sector, entry, began);
    });
    if (could_differ) return {};
  }
  return fmt::format("{} sectors {}+{}: miscompare at {} with what must be there", name_,
                     range.first, range.count, show(now));
}

void DataModel::flushed(Duration began, Duration now) {
  for (Sector& sector : sectors_) {
    for (Entry& entry : sector) {
      if (entry.landed <= began) entry.durable = std::min(entry.durable, now);
    }
  }
}

void DataModel::power_lost(Duration now) {
  for (Sector& sector : sectors_) {
    const Sector before = sector;
    std::erase_if(sector, [&](const Entry& entry) {
      return std::ranges::any_of(before, [&](const Entry& other) {
        return other.id != entry.id && other.start >= entry.end && other.durable <= now;
      });
    });
    const bool settled = sector.size() == 1;
    for (Entry& entry : sector) {
      // From here on they are alternatives: one is on the medium, and which shows when it is read.
      entry.start = entry.end = now;
      entry.landed = entry.durable = settled ? now : kNever;
      entry.survived = true;
    }
  }
  open_.clear();
  reads_.clear();
  for (auto& swapped : swapped_) swapped.clear();  // a value that was replaced may be back
}

Duration DataModel::oldest_read() const {
  Duration oldest = kNever;
  for (const auto& [id, began] : reads_) oldest = std::min(oldest, began);
  return oldest;
}

// Forgets what no read, now or later, and no power loss can bring back.
void DataModel::prune(Sector& sector) {
  const Duration oldest = oldest_read();
  const Sector before = sector;
  std::erase_if(sector, [&](const Entry& entry) {
    if (open_.contains(entry.id)) return false;  // its barrier may be lifted
    return std::ranges::any_of(before, [&](const Entry& other) {
      return other.id != entry.id && other.start >= entry.end && other.durable <= oldest &&
             other.landed <= oldest && other.durable != kNever && other.landed != kNever;
    });
  });
}

WriteId DataModel::likely_value(uint64_t sector) const {
  const Sector& entries = sectors_[sector];
  const Entry* best = &entries.front();
  for (const Entry& entry : entries) {
    if (entry.landed != kNever && entry.start >= best->start) best = &entry;
  }
  return best->value;
}

}  // namespace holdfast::sim
