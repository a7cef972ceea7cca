#pragma once
// The option phase of one NBD connection, a pure step machine: bytes in, bytes to send and a
// decision out. Never trusts a length; the driver bounds its time.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "mpio/nbd_protocol.h"

namespace holdfast::mpio::nbd {

// What a client may know of one export.
struct ExportInfo {
  std::string name;
  uint64_t size_bytes = 0;
  uint16_t flags = 0;  // export_flags, without kDontFragment: that is the negotiation's
  uint32_t minimum_block = 512;
  uint32_t preferred_block = 4096;
  uint32_t maximum_payload = 0;
};

class Negotiation {
 public:
  // The export of the listener; an empty name asks for it too.
  explicit Negotiation(const ExportInfo& offered) : export_(offered) {}

  enum class Next : uint8_t {
    more,          // send output(), then feed what comes
    transmission,  // send output(); what follows are requests
    close,         // send output() if there is any, then close
  };
  // What the server says first.
  base::Bytes hello();
  // Consumes from the front of `input`.
  Next feed(base::Bytes& input);
  std::vector<uint8_t>& output() { return out_; }

  bool structured() const { return structured_; }
  bool block_status() const { return allocation_context_; }
  static constexpr uint32_t kAllocationContext = 1;

  // The longest option taken whole: a GO with a name of 4096 bytes, as the protocol allows names.
  static constexpr uint32_t kMaxOptionBytes = 8192;
  static constexpr uint32_t kMaxOptions = 64;

 private:
  bool fill(size_t bytes, base::Bytes& input);
  Next on_option(Option option, base::Bytes data);
  Next on_go(Option option, base::Bytes data);
  Next on_export_name(base::Bytes data);
  void on_meta_context(Option option, base::Bytes data);
  void reply(Option option, OptionReply type, base::Bytes data = {});
  void refuse(Option option, OptionReply type, std::string_view why);
  bool matches(std::string_view name) const { return name.empty() || name == export_.name; }
  uint16_t flags() const;

  const ExportInfo& export_;
  enum class Phase : uint8_t { client_flags, option, option_data, skip } phase_{};
  std::vector<uint8_t> partial_;
  std::vector<uint8_t> out_;
  Option option_{};
  uint32_t option_length_ = 0;
  uint64_t skip_ = 0;
  uint32_t options_ = 0;
  bool no_zeroes_ = false;
  bool structured_ = false;
  bool allocation_context_ = false;
};

}  // namespace holdfast::mpio::nbd
