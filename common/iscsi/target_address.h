#pragma once
// TargetAddress=domainname[:port][,portal-group-tag] (RFC 7143 13.8): where a target says it, or
// another one, can be reached.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace holdfast::iscsi {

inline constexpr uint16_t kDefaultPort = 3260;  // RFC 7143 4.2.7.3

struct TargetAddress {
  enum class Kind : uint8_t { ipv4, ipv6, name };

  // Errc::protocol: anything but an IPv4 address, an IPv6 address in brackets or a host name of
  // letters, digits, '.', '-' and '_', with a port (not 0) and a tag where they are given.
  static base::Result<TargetAddress> parse(std::string_view text);

  // "10.1.0.10:3260", "[fd00::1]:3260": what io::Endpoint::parse() reads when it is numeric.
  std::string to_string() const;
  // A name is nothing to connect to: a name service may hang, so none is asked.
  bool numeric() const { return kind != Kind::name; }

  bool operator==(const TargetAddress&) const = default;

  std::string host;  // without brackets; as it came
  uint16_t port = kDefaultPort;
  std::optional<uint16_t> portal_group_tag{};
  Kind kind = Kind::name;
};

}  // namespace holdfast::iscsi
