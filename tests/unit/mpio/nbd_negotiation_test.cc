#include "mpio/nbd_negotiation.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/mpio/nbd_wire.h"

namespace holdfast::mpio::nbd {
namespace {

using Next = Negotiation::Next;

struct Answer {
  Option option{};
  OptionReply type{};
  Wire data;
  std::string text() const { return std::string(base::as_text(data)); }
};

// What the server said, and how it ended.
struct Talk {
  Next next = Next::more;
  Wire output;
  size_t unread = 0;
  bool structured = false;
  bool block_status = false;

  // The output as replies to options.
  std::vector<Answer> answers() const {
    std::vector<Answer> out;
    base::Bytes rest = output;
    while (!rest.empty()) {
      const auto header = base::load<OptionReplyHeader>(rest);
      EXPECT_EQ(header.magic.get(), kOptionReplyMagic);
      rest = rest.subspan(sizeof(header));
      const base::Bytes data = rest.first(header.length);
      out.push_back({static_cast<Option>(header.option.get()),
                     static_cast<OptionReply>(header.type.get()), Wire(data.begin(), data.end())});
      rest = rest.subspan(header.length);
    }
    return out;
  }
};

class NbdNegotiation : public ::testing::Test {
 protected:
  // `step` bytes at a time; 0: all at once.
  Talk talk(const Wire& input, size_t step = 0) {
    Negotiation negotiation(info);
    Talk out;
    const base::Bytes hello = negotiation.hello();
    EXPECT_EQ(Wire(hello.begin(), hello.end()), hello_);
    base::Bytes left = input;
    while (!left.empty() && out.next == Next::more) {
      base::Bytes part = left.first(step == 0 ? left.size() : std::min(step, left.size()));
      const size_t given = part.size();
      out.next = negotiation.feed(part);
      if (out.next == Next::more) {
        EXPECT_TRUE(part.empty());
      }
      left = left.subspan(given - part.size());
      out.output += base::Bytes(negotiation.output());
    }
    out.unread = left.size();
    out.structured = negotiation.structured();
    out.block_status = negotiation.block_status();
    return out;
  }
  std::vector<Answer> answers(const Wire& options) {
    const Talk told = talk(client_flags() + options);
    EXPECT_EQ(told.next, Next::more);
    return told.answers();
  }
  // The one reply to one option.
  OptionReply reply(const Wire& option) {
    const auto all = answers(option);
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? OptionReply{} : all[0].type;
  }

  ExportInfo info{.name = "csv1",
                  .size_bytes = 10 << 20,
                  .flags = export_flags::kFlush | export_flags::kFua,
                  .maximum_payload = 1 << 25};
  Wire hello_ = [] {
    Wire out;
    out += ServerHello{};
    return out;
  }();
};

TEST_F(NbdNegotiation, GoTellsSizeFlagsAndBlockSizesThenTransmissionBegins) {
  const Talk told = talk(client_flags() + go("csv1", {3}) + request({.command = Command::flush}));
  EXPECT_EQ(told.next, Next::transmission);
  EXPECT_EQ(told.unread, sizeof(Request));  // what follows is not the negotiation's
  const auto all = told.answers();
  ASSERT_EQ(all.size(), 3u);
  const auto exported = base::load<InfoExport>(all[0].data);
  EXPECT_EQ(all[0].type, OptionReply::info);
  EXPECT_EQ(exported.type.get(), 0u);
  EXPECT_EQ(exported.size.get(), info.size_bytes);
  EXPECT_EQ(exported.flags.get(), info.flags | export_flags::kHasFlags);
  const auto sizes = base::load<InfoBlockSize>(all[1].data);
  EXPECT_EQ(sizes.minimum.get(), 512u);
  EXPECT_EQ(sizes.preferred.get(), 4096u);
  EXPECT_EQ(sizes.maximum_payload.get(), 1u << 25);
  EXPECT_EQ(all[2].type, OptionReply::ack);
  EXPECT_TRUE(all[2].data.empty());
}

TEST_F(NbdNegotiation, InfoTellsTheSameAndGoesOn) {
  const auto all = answers(go("", {1}, Option::info) + option(Option::list));
  ASSERT_EQ(all.size(), 6u);
  EXPECT_EQ(all[0].option, Option::info);
  EXPECT_EQ(all[2].type, OptionReply::info);
  EXPECT_EQ(all[2].text(), std::string("\0\1csv1", 6));  // asked for by number 1: the name
  EXPECT_EQ(all[3].type, OptionReply::ack);
  EXPECT_EQ(all[4].type, OptionReply::server);
}

TEST_F(NbdNegotiation, AnyNameButTheExportsIsUnknown) {
  EXPECT_EQ(reply(go("csv")), OptionReply::unknown);
  EXPECT_EQ(reply(go("csv11", {}, Option::info)), OptionReply::unknown);
  EXPECT_EQ(reply(option(Option::structured_reply)), OptionReply::ack);
  EXPECT_EQ(answers(option(Option::structured_reply) +
                    meta(Option::set_meta_context, "other", {"base:allocation"}))[1]
                .type,
            OptionReply::unknown);
}

TEST_F(NbdNegotiation, ListNamesTheExport) {
  const auto all = answers(option(Option::list));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].type, OptionReply::server);
  EXPECT_EQ(all[0].data, text("csv1"));
  EXPECT_EQ(all[1].type, OptionReply::ack);
  EXPECT_EQ(reply(option(Option::list, text("x"))), OptionReply::invalid);
}

TEST_F(NbdNegotiation, AbortIsAcknowledgedAndEndsIt) {
  const Talk told = talk(client_flags() + option(Option::abort) + go("csv1"));
  EXPECT_EQ(told.next, Next::close);
  ASSERT_EQ(told.answers().size(), 1u);
  EXPECT_EQ(told.answers()[0].type, OptionReply::ack);
}

TEST_F(NbdNegotiation, ExportNameAnswersWithOrWithoutZeroes) {
  const Wire name = option(Option::export_name, base::as_bytes(std::string_view("csv1")));
  const Talk without = talk(client_flags() + name);
  EXPECT_EQ(without.next, Next::transmission);
  ASSERT_EQ(without.output.size(), sizeof(ExportAnswer));
  const auto answer = base::load<ExportAnswer>(without.output);
  EXPECT_EQ(answer.size.get(), info.size_bytes);
  EXPECT_EQ(answer.flags.get(), info.flags | export_flags::kHasFlags);
  const Talk with = talk(client_flags(kFixedNewstyle) + name);
  EXPECT_EQ(with.next, Next::transmission);
  ASSERT_EQ(with.output.size(), sizeof(ExportAnswer) + 124);
  EXPECT_EQ(Wire(with.output.end() - 124, with.output.end()), Wire(124, 0));
}

TEST_F(NbdNegotiation, ExportNameHasNoRefusalButTheEnd) {
  const Talk other =
      talk(client_flags() + option(Option::export_name, base::as_bytes(std::string_view("nope"))));
  EXPECT_EQ(other.next, Next::close);
  EXPECT_TRUE(other.output.empty());
  const Talk longer = talk(client_flags() + option(Option::export_name, Wire(9000, 'x')));
  EXPECT_EQ(longer.next, Next::close);
  EXPECT_TRUE(longer.output.empty());
}

TEST_F(NbdNegotiation, StructuredRepliesBringDontFragment) {
  const Talk told = talk(client_flags() + option(Option::structured_reply) + go("csv1"));
  EXPECT_TRUE(told.structured);
  EXPECT_FALSE(told.block_status);
  const auto exported = base::load<InfoExport>(told.answers()[1].data);
  EXPECT_TRUE((exported.flags & export_flags::kDontFragment) != 0);
  EXPECT_EQ(reply(option(Option::structured_reply, text(""))), OptionReply::invalid);
}

TEST_F(NbdNegotiation, MetaContextsNeedStructuredReplies) {
  EXPECT_EQ(reply(meta(Option::set_meta_context, "csv1", {"base:allocation"})),
            OptionReply::invalid);
  const Talk told =
      talk(client_flags() + option(Option::structured_reply) +
           meta(Option::set_meta_context, "", {"qemu:x", "base:allocation"}) + go("csv1"));
  EXPECT_TRUE(told.block_status);
  const auto all = told.answers();
  EXPECT_EQ(all[1].type, OptionReply::meta_context);
  EXPECT_EQ(all[1].text(), std::string("\0\0\0\1base:allocation", 19));
  EXPECT_EQ(all[2].type, OptionReply::ack);
}

TEST_F(NbdNegotiation, ALaterSetReplacesAnEarlierOne) {
  const Wire first = option(Option::structured_reply) +
                     meta(Option::set_meta_context, "csv1", {"base:allocation"});
  EXPECT_TRUE(talk(client_flags() + first).block_status);
  for (const auto& queries : {std::vector<std::string>{}, {"base:"}, {"base:allocatio"}}) {
    const Talk told =
        talk(client_flags() + first + meta(Option::set_meta_context, "csv1", queries));
    EXPECT_FALSE(told.block_status);
    EXPECT_EQ(told.answers().back().type, OptionReply::ack);
  }
}

TEST_F(NbdNegotiation, ListOfMetaContexts) {
  const auto listed = [&](const std::vector<std::string>& queries) {
    const auto all = answers(option(Option::structured_reply) +
                             meta(Option::list_meta_context, "csv1", queries));
    return all.size() == 3 && all[1].text().ends_with("base:allocation");
  };
  EXPECT_TRUE(listed({}));
  EXPECT_TRUE(listed({"base:"}));
  EXPECT_TRUE(listed({"base:allocation"}));
  EXPECT_FALSE(listed({"qemu:"}));
}

TEST_F(NbdNegotiation, OtherOptionsAreUnsupported) {
  for (const uint32_t number : {0u, 4u, 5u, 11u, 0xffffffffu}) {
    EXPECT_EQ(reply(option(number, text("x"))), OptionReply::unsupported) << number;
  }
}

TEST_F(NbdNegotiation, FlagsNobodyKnowsEndIt) {
  for (const uint32_t flags : {0u, uint32_t{kNoZeroes}, 7u, 0x80000001u}) {
    const Talk told = talk(client_flags(flags) + option(Option::list));
    EXPECT_EQ(told.next, Next::close) << flags;
    EXPECT_TRUE(told.output.empty());
  }
}

TEST_F(NbdNegotiation, AnotherMagicEndsIt) {
  Wire bad = option(Option::list);
  bad[3] ^= 1;
  EXPECT_EQ(talk(client_flags() + bad).next, Next::close);
}

// Every length that an option can lie about.
TEST_F(NbdNegotiation, LengthsThatDoNotAddUpAreInvalid) {
  const Wire good = go("csv1", {1, 3});
  const base::Bytes data = base::Bytes(good).subspan(sizeof(OptionHeader));
  for (const Option which : {Option::go, Option::info}) {
    for (size_t length = 0; length < data.size(); ++length) {
      EXPECT_EQ(reply(option(which, data.first(length))), OptionReply::invalid) << length;
    }
    Wire longer(data.begin(), data.end());
    longer.push_back(0);
    EXPECT_EQ(reply(option(which, longer)), OptionReply::invalid);
  }
  for (const uint32_t lie : {5u, 0x7fffffffu, 0xffffffffu}) {
    Wire name(data.begin(), data.end());
    base::store(name, be32(lie));
    EXPECT_EQ(reply(option(Option::go, name)), OptionReply::invalid) << lie;
  }
  const Wire context = meta(Option::set_meta_context, "csv1", {"base:allocation", "b"});
  const base::Bytes queries = base::Bytes(context).subspan(sizeof(OptionHeader));
  const Wire structured = option(Option::structured_reply);
  for (size_t length = 0; length < queries.size(); ++length) {
    EXPECT_EQ(answers(structured + option(Option::set_meta_context, queries.first(length)))[1].type,
              OptionReply::invalid)
        << length;
  }
  Wire many(queries.begin(), queries.end());
  base::store(base::MutableBytes(many).subspan(8), be32(0xffffffff));
  EXPECT_EQ(answers(structured + option(Option::set_meta_context, many))[1].type,
            OptionReply::invalid);
}

TEST_F(NbdNegotiation, AnOptionTooLongIsSkippedNotStored) {
  const Wire longest = option(99, Wire(Negotiation::kMaxOptionBytes));
  EXPECT_EQ(reply(longest), OptionReply::unsupported);
  const auto all = answers(option(99, Wire(1 << 20)) + option(Option::list));
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].type, OptionReply::too_big);
  EXPECT_EQ(all[1].type, OptionReply::server);
  // A name as long as the protocol allows is an answer of its own, though.
  EXPECT_EQ(reply(go(std::string(4096, 'n'))), OptionReply::unknown);
}

TEST_F(NbdNegotiation, TooManyOptionsEndIt) {
  Wire options = client_flags();
  for (uint32_t i = 0; i < Negotiation::kMaxOptions; ++i) {
    options += base::Bytes(option(Option::structured_reply));
  }
  EXPECT_EQ(talk(options).next, Next::more);
  EXPECT_EQ(talk(options + go("csv1")).next, Next::close);
}

TEST_F(NbdNegotiation, AnySplitOfTheBytesIsTheSame) {
  const Wire input = client_flags() + option(Option::list) + option(Option::structured_reply) +
                     option(77, Wire(20000, 7)) +
                     meta(Option::set_meta_context, "csv1", {"base:allocation"}) +
                     go("csv1", {1}, Option::info) + go("wrong") + go("", {3});
  const Talk whole = talk(input);
  EXPECT_EQ(whole.next, Next::transmission);
  for (const size_t step : {1u, 2u, 3u, 5u, 7u, 16u, 17u, 19u, 1000u, 8193u}) {
    const Talk split = talk(input, step);
    EXPECT_EQ(split.output, whole.output) << step;
    EXPECT_EQ(split.next, whole.next) << step;
    EXPECT_TRUE(split.block_status) << step;
  }
}

TEST_F(NbdNegotiation, ThePresentSizeIsTold) {
  Negotiation negotiation(info);
  info.size_bytes = 77 << 20;  // it has grown since the client came
  const Wire input = client_flags() + go("csv1");
  base::Bytes left = input;
  EXPECT_EQ(negotiation.feed(left), Next::transmission);
  const Talk told{.output = negotiation.output()};
  EXPECT_EQ(base::load<InfoExport>(told.answers()[0].data).size.get(), uint64_t{77} << 20);
}

}  // namespace
}  // namespace holdfast::mpio::nbd
