#include "common/iscsi/target_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

namespace holdfast::iscsi {
namespace {

using base::Errc;
using base::fail;
using base::Result;

constexpr size_t kMaxHostBytes = 253;  // RFC 1035 2.3.4, without the dot at the end

bool is_host_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
         c == '-' || c == '_';
}

// Plain digits within [minimum, 65535], no leading zero.
Result<uint16_t> parse_short(std::string_view text, unsigned minimum) {
  unsigned value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool good = !text.empty() && text.size() <= 5 && error == std::errc{} && stop == end &&
                    value >= minimum && value <= 65535 && (text.size() == 1 || text[0] != '0');
  if (!good) return fail(Errc::protocol, "a target address has a wrong port or portal group tag");
  return static_cast<uint16_t>(value);
}

// `host` ends with its string, so inet_pton sees all of it: there is no NUL within, because a NUL
// is no character of an address.
bool is_address(int family, const std::string& host) {
  in6_addr binary{};
  return host.find('\0') == std::string::npos && inet_pton(family, host.c_str(), &binary) == 1;
}

}  // namespace

Result<TargetAddress> TargetAddress::parse(std::string_view text) {
  TargetAddress address;
  if (const size_t comma = text.rfind(','); comma != std::string_view::npos) {
    TRY_ASSIGN(address.portal_group_tag, parse_short(text.substr(comma + 1), 0));
    text = text.substr(0, comma);
  }
  // A colon within the brackets belongs to the address.
  const size_t bracket = text.starts_with('[') ? text.find(']') : 0;
  if (bracket == std::string_view::npos) {
    return fail(Errc::protocol, "a target address has no closing bracket");
  }
  const size_t colon = text.find(':', bracket);
  if (colon != std::string_view::npos) {
    TRY_ASSIGN(address.port, parse_short(text.substr(colon + 1), 1));
    text = text.substr(0, colon);
  }
  if (text.starts_with('[')) {
    if (text.size() != bracket + 1) return fail(Errc::protocol, "a target address is malformed");
    address.host = text.substr(1, text.size() - 2);
    address.kind = Kind::ipv6;
    if (!is_address(AF_INET6, address.host)) {
      return fail(Errc::protocol, "a target address in brackets is no IPv6 address");
    }
    return address;
  }
  if (text.empty() || text.size() > kMaxHostBytes ||
      !std::ranges::all_of(text, is_host_character)) {
    return fail(Errc::protocol, "a target address is neither an address nor a host name");
  }
  address.host = text;
  address.kind = is_address(AF_INET, address.host) ? Kind::ipv4 : Kind::name;
  return address;
}

std::string TargetAddress::to_string() const {
  const std::string suffix = ":" + std::to_string(port);
  return kind == Kind::ipv6 ? "[" + host + "]" + suffix : host + suffix;
}

}  // namespace holdfast::iscsi
