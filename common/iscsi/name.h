#pragma once
// iSCSI names (RFC 7143 4.2.7).

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace holdfast::iscsi {

// The name in its one normal form (lower case), fit to be compared byte by byte. iqn.yyyy-mm.*,
// eui.<16 hex>, naa.<16 or 32 hex>; letters, digits and . : - _ only, so that a name can be put
// into logs, paths and answers as it is (CVE-2026-44943). Errc::invalid_argument otherwise.
base::Result<std::string> normalize_name(std::string_view name);

}  // namespace holdfast::iscsi
