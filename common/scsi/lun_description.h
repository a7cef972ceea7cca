#pragma once
// What the response builders must know of a logical unit and of the port a command came through.
// Plain values: the owner keeps them, builders only read them and never allocate.

#include <array>
#include <cstdint>
#include <string>

#include "common/scsi/limits.h"

namespace holdfast::scsi {

// The same for every port and every nexus: a multipath initiator merges paths by it.
struct LunDescription {
  std::string name{};                    // of the disk, for people
  std::array<uint8_t, 16> uuid{};        // random at creation, persisted; the identity in VPD 83h
  std::string serial{};                  // VPD 80h; the uuid as 32 hex digits unless set
  std::string vendor = "HOLDFAST";       // 8 characters go out
  std::string product = "VIRTUAL-DISK";  // 16
  std::string revision = "0001";         // 4
  uint32_t block_size = 512;
  uint8_t physical_block_exponent = 0;  // physical block = block_size << exponent
  uint64_t capacity_blocks = 0;
  bool read_only = false;
  bool removable = false;
  bool write_cache = false;  // WCE: true when data may be lost without a flush
  bool thin = false;         // LBPME, LBPU, LBPWS, LBPWS10, LBPRZ
  // Zero in any of these means "the constant of limits.h, in blocks".
  uint32_t max_transfer_blocks = 0;
  uint32_t optimal_transfer_blocks = 0;
  uint32_t max_unmap_blocks = 0;
  uint32_t max_unmap_descriptors = 0;
  uint32_t unmap_granularity_blocks = 0;  // zero: one physical block
  uint32_t unmap_alignment_blocks = 0;
  uint64_t max_write_same_blocks = 0;
};

// The limits above with their zeroes resolved.
uint32_t max_transfer_blocks(const LunDescription& lun);
uint32_t max_unmap_blocks(const LunDescription& lun);
uint32_t max_unmap_descriptors(const LunDescription& lun);
uint32_t unmap_granularity_blocks(const LunDescription& lun);
uint64_t max_write_same_blocks(const LunDescription& lun);

// One iSCSI target portal group as SCSI sees it: RFC 7143 4.4.2: the SCSI port is target name plus
// portal group tag.
struct PortDescription {
  std::string target_name{};             // iqn....
  uint16_t portal_group_tag = 1;         // in the port's SCSI name: "iqn...,t,0x0001"
  uint16_t target_port_group = 1;        // ALUA group
  uint16_t relative_target_port_id = 1;  // unique within the target device
};

}  // namespace holdfast::scsi
