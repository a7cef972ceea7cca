#pragma once
// READ CAPACITY (SBC-3 5.15, 5.16).

#include "common/scsi/cdb.h"

namespace holdfast::scsi {

// Either length, by command.row->operation. READ CAPACITY(10) says FFFFFFFFh for a unit with more
// blocks than it can tell. LBA without PMI is 05/24/00.
Outcome<size_t> read_capacity(const Command& command, const LunDescription& lun, MutableBytes out);

}  // namespace holdfast::scsi
