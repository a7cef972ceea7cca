#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "common/io/network.h"

namespace holdfast::io {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr size_t kMaxAddressText = INET6_ADDRSTRLEN;

// Plain digits within [0, max]: no sign, no blank, no leading zero that another reader takes for
// octal.
Result<unsigned> parse_number(std::string_view text, unsigned max, const char* what) {
  unsigned value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc{} || stop != end || value > max ||
      (text.size() > 1 && text.front() == '0')) {
    return fail(Errc::invalid_argument, what);
  }
  return value;
}

Result<Endpoint> parse_address(std::string_view text, uint16_t port) {
  char terminated[kMaxAddressText + 1] = {};
  // inet_pton stops at a NUL, which must not hide the rest of the text.
  if (text.size() > kMaxAddressText || text.find('\0') != std::string_view::npos) {
    return fail(Errc::invalid_argument, "not an IPv4 or IPv6 address");
  }
  std::memcpy(terminated, text.data(), text.size());
  sockaddr_storage storage{};
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, terminated, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&storage, &v4, sizeof(v4));
    return Endpoint::from(storage);
  }
  if (inet_pton(AF_INET6, terminated, &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&storage, &v6, sizeof(v6));
    return Endpoint::from(storage);
  }
  return fail(Errc::invalid_argument, "not an IPv4 or IPv6 address (host names are not looked up)");
}

// Bits of the last byte that belong to the prefix.
uint8_t byte_mask(unsigned bits) { return static_cast<uint8_t>(0xff00u >> bits); }

bool same_prefix(std::span<const uint8_t> a, std::span<const uint8_t> b, unsigned bits) {
  const size_t whole = bits / 8;
  if (!std::equal(a.begin(), a.begin() + static_cast<ptrdiff_t>(whole), b.begin())) return false;
  if (bits % 8 == 0) return true;
  return ((a[whole] ^ b[whole]) & byte_mask(bits % 8)) == 0;
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text) {
  constexpr const char* kShape = "must be ADDRESS:PORT, such as 10.1.0.10:3260 or [fd00::1]:3260";
  std::string_view host;
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return fail(Errc::invalid_argument, kShape);
  host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  // Without brackets "fd00::1:3260" would silently lose its last group.
  if (bracketed != (host.find(':') != std::string_view::npos)) {
    return fail(Errc::invalid_argument, kShape);
  }
  TRY_ASSIGN(const unsigned port, parse_number(text.substr(colon + 1), 65535,
                                               "the port must be a number from 0 to 65535"));
  return parse_address(host, static_cast<uint16_t>(port));
}

Endpoint Endpoint::from(const sockaddr_storage& address) {
  Endpoint endpoint;
  if (address.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof(v6));
    endpoint.port_ = ntohs(v6.sin6_port);
    // An IPv4 peer of a dual-stack listener must match IPv4 rules.
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
      std::memcpy(endpoint.address_, v6.sin6_addr.s6_addr + 12, 4);
      return endpoint;
    }
    endpoint.v6_ = true;
    std::memcpy(endpoint.address_, v6.sin6_addr.s6_addr, 16);
    return endpoint;
  }
  if (address.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof(v4));
    endpoint.port_ = ntohs(v4.sin_port);
    std::memcpy(endpoint.address_, &v4.sin_addr, 4);
  }
  return endpoint;
}

sockaddr_storage Endpoint::to_sockaddr(socklen_t* length) const {
  sockaddr_storage storage{};
  if (v6_) {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port_);
    std::memcpy(v6.sin6_addr.s6_addr, address_, 16);
    std::memcpy(&storage, &v6, sizeof(v6));
    *length = sizeof(v6);
    return storage;
  }
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port_);
  std::memcpy(&v4.sin_addr, address_, 4);
  std::memcpy(&storage, &v4, sizeof(v4));
  *length = sizeof(v4);
  return storage;
}

std::string Endpoint::address_to_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(v6_ ? AF_INET6 : AF_INET, address_, text, sizeof(text));
  return text;
}

std::string Endpoint::to_string() const {
  const std::string address = address_to_string();
  const std::string port = std::to_string(port_);
  return v6_ ? "[" + address + "]:" + port : address + ":" + port;
}

bool Endpoint::is_unspecified() const {
  const auto bytes = address();
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

bool Endpoint::is_loopback() const {
  const auto bytes = address();
  if (!v6_) return bytes.front() == 127;
  return bytes.back() == 1 &&
         std::all_of(bytes.begin(), bytes.end() - 1, [](uint8_t byte) { return byte == 0; });
}

Result<AddressRange> AddressRange::parse(std::string_view text) {
  const size_t slash = text.find('/');
  AddressRange range;
  TRY_ASSIGN(range.base_, parse_address(text.substr(0, slash), 0));
  const unsigned width = static_cast<unsigned>(range.base_.address().size() * 8);
  range.prefix_bits_ = width;
  if (slash == std::string_view::npos) return range;
  TRY_ASSIGN(range.prefix_bits_,
             parse_number(text.substr(slash + 1), width,
                          "the prefix length must be from 0 to 32 (IPv4) or 0 to 128 (IPv6)"));
  const auto bytes = range.base_.address();
  for (unsigned bit = range.prefix_bits_; bit < width; ++bit) {
    if ((bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
      return fail(Errc::invalid_argument,
                  "the address has bits set beyond the prefix length: write the first address of "
                  "the network, such as 10.2.0.0/24");
    }
  }
  return range;
}

bool AddressRange::contains(const Endpoint& endpoint) const {
  if (endpoint.is_v6() != base_.is_v6()) return false;
  return same_prefix(base_.address(), endpoint.address(), prefix_bits_);
}

std::string AddressRange::to_string() const {
  const std::string address = base_.address_to_string();
  if (prefix_bits_ == base_.address().size() * 8) return address;
  return address + "/" + std::to_string(prefix_bits_);
}

}  // namespace holdfast::io
