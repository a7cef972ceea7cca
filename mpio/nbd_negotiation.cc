#include "mpio/nbd_negotiation.h"

#include <algorithm>
#include <optional>

namespace holdfast::mpio::nbd {
namespace {

using base::Bytes;

constexpr std::string_view kAllocation = "base:allocation";

template <class Wire>
void append(std::vector<uint8_t>& out, const Wire& wire) {
  const Bytes bytes = base::as_bytes(wire);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_text(std::vector<uint8_t>& out, std::string_view text) {
  append(out, be32(static_cast<uint32_t>(text.size())));
  const Bytes bytes = base::as_bytes(text);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Reads fields from the front; `ok` goes false for good when something is missing.
struct Reader {
  Bytes data;
  bool ok = true;

  template <class Wire>
  Wire get() {
    if (data.size() < sizeof(Wire)) {
      ok = false;
      return Wire{};
    }
    const Wire value = base::load<Wire>(data.first(sizeof(Wire)));
    data = data.subspan(sizeof(Wire));
    return value;
  }
  std::string_view text() {
    const uint32_t length = get<be32>();
    if (!ok || length > data.size()) {
      ok = false;
      return {};
    }
    const std::string_view text = base::as_text(data.first(length));
    data = data.subspan(length);
    return text;
  }
};

}  // namespace

Bytes Negotiation::hello() {
  out_.clear();
  append(out_, ServerHello{});
  return out_;
}

uint16_t Negotiation::flags() const {
  const auto with = structured_ ? export_flags::kDontFragment : uint16_t{0};
  return static_cast<uint16_t>(export_.flags | export_flags::kHasFlags | with);
}

// True once partial_ holds `bytes`.
bool Negotiation::fill(size_t bytes, Bytes& input) {
  const size_t part = std::min(bytes - partial_.size(), input.size());
  partial_.insert(partial_.end(), input.begin(), input.begin() + static_cast<ptrdiff_t>(part));
  input = input.subspan(part);
  return partial_.size() == bytes;
}

Negotiation::Next Negotiation::feed(Bytes& input) {
  out_.clear();
  while (true) {
    switch (phase_) {
      case Phase::client_flags: {
        if (!fill(sizeof(be32), input)) return Next::more;
        const uint32_t client = base::load<be32>(partial_);
        // Unknown flags must end it; a client without fixed newstyle cannot read our refusals.
        if ((client & ~uint32_t{kFixedNewstyle | kNoZeroes}) != 0 ||
            (client & kFixedNewstyle) == 0) {
          return Next::close;
        }
        no_zeroes_ = (client & kNoZeroes) != 0;
        break;
      }
      case Phase::option: {
        if (!fill(sizeof(OptionHeader), input)) return Next::more;
        const auto header = base::load<OptionHeader>(partial_);
        if (header.magic.get() != kOptionMagic || ++options_ > kMaxOptions) return Next::close;
        option_ = static_cast<Option>(header.option.get());
        option_length_ = header.length;
        partial_.clear();
        skip_ = option_length_;
        phase_ = option_length_ > kMaxOptionBytes ? Phase::skip : Phase::option_data;
        continue;
      }
      case Phase::option_data: {
        if (!fill(option_length_, input)) return Next::more;
        const Next next = on_option(option_, partial_);
        if (next != Next::more) return next;
        break;
      }
      case Phase::skip: {
        const auto part = static_cast<size_t>(std::min<uint64_t>(skip_, input.size()));
        input = input.subspan(part);
        skip_ -= part;
        if (skip_ > 0) return Next::more;
        if (option_ == Option::export_name) return Next::close;  // it has no refusal
        refuse(option_, OptionReply::too_big, "the option is longer than any that makes sense");
        break;
      }
    }
    partial_.clear();
    phase_ = Phase::option;
  }
}

Negotiation::Next Negotiation::on_option(Option option, Bytes data) {
  switch (option) {
    case Option::export_name:
      return on_export_name(data);
    case Option::abort:
      reply(option, OptionReply::ack);
      return Next::close;
    case Option::list: {
      if (!data.empty()) {
        refuse(option, OptionReply::invalid, "LIST has no data");
        return Next::more;
      }
      std::vector<uint8_t> entry;
      append_text(entry, export_.name);
      reply(option, OptionReply::server, entry);
      reply(option, OptionReply::ack);
      return Next::more;
    }
    case Option::info:
    case Option::go:
      return on_go(option, data);
    case Option::structured_reply:
      if (!data.empty()) {
        refuse(option, OptionReply::invalid, "STRUCTURED_REPLY has no data");
      } else {
        structured_ = true;
        reply(option, OptionReply::ack);
      }
      return Next::more;
    case Option::list_meta_context:
    case Option::set_meta_context:
      on_meta_context(option, data);
      return Next::more;
    case Option::starttls:
      break;
  }
  refuse(option, OptionReply::unsupported, "not supported");
  return Next::more;
}

Negotiation::Next Negotiation::on_export_name(Bytes data) {
  if (!matches(base::as_text(data))) return Next::close;
  append(out_, ExportAnswer{.size = export_.size_bytes, .flags = flags()});
  if (!no_zeroes_) out_.insert(out_.end(), 124, 0);
  return Next::transmission;
}

Negotiation::Next Negotiation::on_go(Option option, Bytes data) {
  Reader reader{data};
  const std::string_view name = reader.text();
  const uint16_t count = reader.get<be16>();
  if (!reader.ok || reader.data.size() != size_t{count} * sizeof(be16)) {
    refuse(option, OptionReply::invalid, "the option's lengths do not add up");
    return Next::more;
  }
  if (!matches(name)) {
    refuse(option, OptionReply::unknown, "there is no export of this name here");
    return Next::more;
  }
  bool wants_name = false;
  for (uint16_t i = 0; i < count; ++i) {
    wants_name |= reader.get<be16>() == static_cast<uint16_t>(Info::name);
  }
  // These two always: a client that does not ask for them may still heed them.
  reply(option, OptionReply::info,
        base::as_bytes(InfoExport{.size = export_.size_bytes, .flags = flags()}));
  reply(option, OptionReply::info,
        base::as_bytes(InfoBlockSize{.minimum = export_.minimum_block,
                                     .preferred = export_.preferred_block,
                                     .maximum_payload = export_.maximum_payload}));
  if (wants_name) {
    std::vector<uint8_t> info;
    append(info, be16(static_cast<uint16_t>(Info::name)));
    const Bytes text = base::as_bytes(std::string_view(export_.name));
    info.insert(info.end(), text.begin(), text.end());
    reply(option, OptionReply::info, info);
  }
  reply(option, OptionReply::ack);
  return option == Option::go ? Next::transmission : Next::more;
}

void Negotiation::on_meta_context(Option option, Bytes data) {
  Reader reader{data};
  const std::string_view name = reader.text();
  const uint32_t queries = reader.get<be32>();
  const bool set = option == Option::set_meta_context;
  if (set) allocation_context_ = false;  // a later SET replaces an earlier one
  bool wanted = queries == 0 && !set;    // LIST without a query: all there are
  for (uint32_t i = 0; i < queries && reader.ok; ++i) {
    const std::string_view query = reader.text();
    wanted |= query == kAllocation || (!set && query == "base:");
  }
  if (!reader.ok || !reader.data.empty() || !structured_) {
    return refuse(option, OptionReply::invalid,
                  structured_ ? "the option's lengths do not add up"
                              : "metadata contexts need structured replies");
  }
  if (!matches(name)) {
    return refuse(option, OptionReply::unknown, "there is no export of this name here");
  }
  if (wanted) {
    if (set) allocation_context_ = true;
    std::vector<uint8_t> context;
    append(context, be32(set ? kAllocationContext : 0u));
    const Bytes text = base::as_bytes(kAllocation);
    context.insert(context.end(), text.begin(), text.end());
    reply(option, OptionReply::meta_context, context);
  }
  reply(option, OptionReply::ack);
}

void Negotiation::reply(Option option, OptionReply type, Bytes data) {
  OptionReplyHeader header;
  header.option = static_cast<uint32_t>(option);
  header.type = static_cast<uint32_t>(type);
  header.length = static_cast<uint32_t>(data.size());
  append(out_, header);
  out_.insert(out_.end(), data.begin(), data.end());
}

void Negotiation::refuse(Option option, OptionReply type, std::string_view why) {
  reply(option, type, base::as_bytes(why));
}

}  // namespace holdfast::mpio::nbd
