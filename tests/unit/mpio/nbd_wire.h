#pragma once
// What an NBD client writes, as bytes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "mpio/nbd_protocol.h"

namespace holdfast::mpio::nbd {

using Wire = std::vector<uint8_t>;

inline void operator+=(Wire& to, base::Bytes bytes) {
  to.insert(to.end(), bytes.begin(), bytes.end());
}
template <class T>
  requires base::WireStruct<T, sizeof(T)>
void operator+=(Wire& to, const T& value) {
  to += base::as_bytes(value);
}

inline Wire client_flags(uint32_t flags = kFixedNewstyle | kNoZeroes) {
  Wire out;
  out += be32(flags);
  return out;
}

inline Wire text(std::string_view value) {
  Wire out;
  out += be32(static_cast<uint32_t>(value.size()));
  out += base::as_bytes(value);
  return out;
}

inline Wire option(uint32_t number, base::Bytes data = {}) {
  Wire out;
  out += OptionHeader{
      .magic = kOptionMagic, .option = number, .length = static_cast<uint32_t>(data.size())};
  out += data;
  return out;
}
inline Wire option(Option which, base::Bytes data = {}) {
  return option(static_cast<uint32_t>(which), data);
}

inline Wire go(std::string_view name, std::vector<uint16_t> infos = {}, Option which = Option::go) {
  Wire data = text(name);
  data += be16(static_cast<uint16_t>(infos.size()));
  for (const uint16_t info : infos) data += be16(info);
  return option(which, data);
}

inline Wire meta(Option which, std::string_view name, const std::vector<std::string>& queries) {
  Wire data = text(name);
  data += be32(static_cast<uint32_t>(queries.size()));
  for (const std::string& query : queries) data += base::Bytes(text(query));
  return option(which, data);
}

struct Asked {
  Command command = Command::read;
  uint64_t offset = 0;
  uint32_t length = 0;
  uint16_t flags = 0;
  uint64_t cookie = 1;
};

inline Request request_of(const Asked& asked) {
  Request out;
  out.magic = kRequestMagic;
  out.flags = asked.flags;
  out.command = static_cast<uint16_t>(asked.command);
  out.cookie = asked.cookie;
  out.offset = asked.offset;
  out.length = asked.length;
  return out;
}

inline Wire request(const Asked& asked, base::Bytes data = {}) {
  Wire out;
  out += request_of(asked);
  out += data;
  return out;
}

inline Wire operator+(Wire a, const Wire& b) {
  a += base::Bytes(b);
  return a;
}

}  // namespace holdfast::mpio::nbd
