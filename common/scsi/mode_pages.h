#pragma once
// MODE SENSE and MODE SELECT (6 and 10): pages 01h 02h 08h 0Ah 0Ah/01h 1Ch (SPC-4 7.5, SBC-3 6.5).
// The one copy of the changeable values belongs to the logical unit, for all nexuses (MODE SELECT
// by one gives the others the unit attention 2A/01).

#include <optional>

#include "common/base/result.h"
#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// The changeable values. The default of both is false; not saveable, so a restart resets them.
struct ModeState {
  bool descriptor_sense = false;        // D_SENSE
  bool software_write_protect = false;  // SWP
  bool operator==(const ModeState&) const = default;
};

// What a MODE SELECT changes; empty members stay.
struct ModeChanges {
  std::optional<bool> descriptor_sense = std::nullopt;
  std::optional<bool> software_write_protect = std::nullopt;
  bool operator==(const ModeChanges&) const = default;
};

// Full length of the parameter data; at most out.size() bytes written. Unknown page 05/24/00,
// saved values 05/39/00.
Outcome<size_t> mode_sense(const Command& command, const LunDescription& lun,
                           const ModeState& state, MutableBytes out);

// `list` holds the parameter list as received, command.parameter_list_length bytes of it. All or
// nothing: an error anywhere means no change. Lengths 05/1A/00, a value that is not changeable
// 05/26/00 at its byte and bit.
Outcome<ModeChanges> mode_select(const Command& command, const LunDescription& lun,
                                 const ModeState& state, Bytes list);

// The initiator's side: the header of MODE SENSE(10) data, and the caching page if it is there.
struct ModeSenseData {
  bool write_protected = false;
  bool dpo_fua = false;  // FUA is honoured
  // WCE. Empty: not told, so think of a volatile cache and flush.
  std::optional<bool> write_cache = std::nullopt;
  bool operator==(const ModeSenseData&) const = default;
};
base::Result<ModeSenseData> parse_mode_sense10(Bytes data);

}  // namespace holdfast::scsi
