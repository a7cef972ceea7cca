#include "mpio/nbd_transmission.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/unit/mpio/nbd_wire.h"

namespace holdfast::mpio::nbd {
namespace {

constexpr uint64_t kSize = 1 << 20;
constexpr Agreed kAll{.structured = true, .block_status = true};

class NbdTransmission : public ::testing::Test {
 protected:
  uint32_t problem(const Asked& asked, Agreed agreed = kAll) const {
    return problem_of(request_of(asked), info, agreed);
  }
  size_t head(const Asked& asked, uint32_t error, bool structured) {
    return write_head(out, request_of(asked), error, structured);
  }
  std::vector<std::pair<uint32_t, uint32_t>> status(const Asked& asked,
                                                    std::vector<io::Extent> extents) {
    const size_t bytes = write_status(out, request_of(asked), extents);
    std::vector<std::pair<uint32_t, uint32_t>> found;
    const auto chunk = base::load<ChunkHeader>(out);
    EXPECT_EQ(chunk.type.get(), static_cast<uint16_t>(Chunk::block_status));
    EXPECT_EQ(chunk.length + sizeof(chunk), bytes);
    for (size_t at = sizeof(chunk) + 4; at < bytes; at += sizeof(StatusDescriptor)) {
      const auto each = base::load<StatusDescriptor>(base::Bytes(out).subspan(at));
      found.emplace_back(each.length, each.flags);
    }
    return found;
  }

  ExportInfo info{.name = "d", .size_bytes = kSize, .flags = export_flags::kTrim};
  std::array<uint8_t, kMaxHeadBytes> out{};
};

TEST_F(NbdTransmission, GoodRequestsPass) {
  for (const Command command : {Command::read, Command::write, Command::trim, Command::write_zeroes,
                                Command::block_status}) {
    EXPECT_EQ(problem({command, 0, kSize}), 0u);
    EXPECT_EQ(problem({command, kSize - 512, 512, command_flags::kFua}), 0u);
  }
  EXPECT_EQ(problem({Command::flush}), 0u);
  EXPECT_EQ(problem({Command::read, 0, 512, command_flags::kDontFragment}), 0u);
  EXPECT_EQ(problem({Command::write_zeroes, 0, 512, command_flags::kNoHole}), 0u);
  EXPECT_EQ(problem({Command::block_status, 0, 512, command_flags::kRequestOne}), 0u);
}

TEST_F(NbdTransmission, RangesAreChecked) {
  for (const Command command : {Command::read, Command::write, Command::trim, Command::write_zeroes,
                                Command::block_status}) {
    const uint32_t beyond =
        command == Command::read || command == Command::block_status ? kInvalid : kNoSpace;
    EXPECT_EQ(problem({command, kSize - 512, 1024}), beyond);
    EXPECT_EQ(problem({command, kSize, 512}), beyond);
    EXPECT_EQ(problem({command, ~uint64_t{511}, 512}), beyond);  // the sum would wrap
    EXPECT_EQ(problem({command, 0, 0}), kInvalid);
    EXPECT_EQ(problem({command, 1, 512}), kInvalid);
    EXPECT_EQ(problem({command, 0, 513}), kInvalid);
  }
  EXPECT_EQ(problem({Command::flush, 512, 0}), kInvalid);
  EXPECT_EQ(problem({Command::flush, 0, 512}), kInvalid);
}

TEST_F(NbdTransmission, OnlyDataIsLimitedInLength) {
  info.size_bytes = uint64_t{8} << 30;
  EXPECT_EQ(problem({Command::read, 0, kMaxPayload}), 0u);
  EXPECT_EQ(problem({Command::read, 0, kMaxPayload + 512}), kInvalid);
  EXPECT_EQ(problem({Command::trim, 0, 0xfffffe00}), 0u);
  EXPECT_EQ(problem({Command::write_zeroes, 0, 0xfffffe00}), 0u);
}

TEST_F(NbdTransmission, FlagsThatWereNotOfferedAreInvalid) {
  EXPECT_EQ(problem({Command::write_zeroes, 0, 512, command_flags::kFastZero}), kInvalid);
  EXPECT_EQ(problem({Command::write, 0, 512, command_flags::kNoHole}), kInvalid);
  EXPECT_EQ(problem({Command::read, 0, 512, command_flags::kRequestOne}), kInvalid);
  EXPECT_EQ(problem({Command::read, 0, 512, 0x8000}), kInvalid);
  EXPECT_EQ(problem({Command::read, 0, 512, command_flags::kDontFragment}, {}), kInvalid);
  EXPECT_EQ(problem({Command::flush, 0, 0, command_flags::kNoHole}), kInvalid);
}

TEST_F(NbdTransmission, CommandsThatWereNotOfferedAreInvalid) {
  EXPECT_EQ(problem({Command::block_status, 0, 512}, {.structured = true}), kInvalid);
  EXPECT_EQ(problem({Command::cache, 0, 512}), kInvalid);
  EXPECT_EQ(problem({static_cast<Command>(99), 0, 512}), kInvalid);
  info.flags = 0;
  EXPECT_EQ(problem({Command::trim, 0, 512}), kInvalid);
}

TEST_F(NbdTransmission, AReadOnlyExportRefusesChanges) {
  info.flags |= export_flags::kReadOnly;
  for (const Command command : {Command::write, Command::trim, Command::write_zeroes}) {
    EXPECT_EQ(problem({command, 0, 512}), kPermission);
  }
  for (const Command command : {Command::read, Command::block_status}) {
    EXPECT_EQ(problem({command, 0, 512}), 0u);
  }
  EXPECT_EQ(problem({Command::flush}), 0u);
}

TEST_F(NbdTransmission, ErrorsOfTheDeviceOnTheWire) {
  EXPECT_EQ(to_wire_error(-ENOSPC), kNoSpace);
  EXPECT_EQ(to_wire_error(-EINVAL), kInvalid);
  EXPECT_EQ(to_wire_error(-EROFS), kPermission);
  EXPECT_EQ(to_wire_error(-ENOTSUP), kNotSupported);
  EXPECT_EQ(to_wire_error(-ENOLINK), kShutdown);
  for (const int32_t result : {-EIO, -EBADE, -ETIMEDOUT, -ECANCELED, -EUCLEAN}) {
    EXPECT_EQ(to_wire_error(result), kIo);
  }
}

TEST_F(NbdTransmission, SimpleReplies) {
  ASSERT_EQ(head({.command = Command::read, .length = 512, .cookie = 0x1122334455667788}, kNoSpace,
                 false),
            sizeof(SimpleReply));
  const auto reply = base::load<SimpleReply>(out);
  EXPECT_EQ(reply.magic.get(), kSimpleReplyMagic);
  EXPECT_EQ(reply.error.get(), kNoSpace);
  EXPECT_EQ(reply.cookie.get(), 0x1122334455667788u);
}

TEST_F(NbdTransmission, ChunksOfReadErrorAndNothing) {
  const Asked read{.offset = 4096, .length = 8192, .cookie = 9};
  ASSERT_EQ(head(read, 0, true), sizeof(ChunkHeader) + 8);
  auto chunk = base::load<ChunkHeader>(out);
  EXPECT_EQ(chunk.type.get(), static_cast<uint16_t>(Chunk::offset_data));
  EXPECT_EQ(chunk.flags.get(), kChunkDone);
  EXPECT_EQ(chunk.length.get(), 8192u + 8);
  EXPECT_EQ(chunk.cookie.get(), 9u);
  EXPECT_EQ(base::load<be64>(base::Bytes(out).subspan(sizeof(chunk))).get(), 4096u);

  ASSERT_EQ(head(read, kIo, true), sizeof(ChunkHeader) + sizeof(ErrorPayload));
  chunk = base::load<ChunkHeader>(out);
  EXPECT_EQ(chunk.type.get(), static_cast<uint16_t>(Chunk::error));
  EXPECT_EQ(chunk.length.get(), sizeof(ErrorPayload));
  const auto payload = base::load<ErrorPayload>(base::Bytes(out).subspan(sizeof(chunk)));
  EXPECT_EQ(payload.error.get(), kIo);
  EXPECT_EQ(payload.message_length.get(), 0u);

  ASSERT_EQ(head({.command = Command::write}, 0, true), sizeof(ChunkHeader));
  EXPECT_EQ(base::load<ChunkHeader>(out).type.get(), static_cast<uint16_t>(Chunk::none));
}

TEST_F(NbdTransmission, StatusIsCutToWhatWasAskedAndNeighboursAreMerged) {
  using enum io::ExtentState;
  const Asked asked{.command = Command::block_status, .offset = 0, .length = 10000 * 512};
  using Found = std::vector<std::pair<uint32_t, uint32_t>>;
  EXPECT_EQ(status(asked, {{mapped, 4096}, {mapped, 4096}, {deallocated, uint64_t{1} << 40}}),
            (Found{{8192, 0}, {10000 * 512 - 8192, 3}}));
  EXPECT_EQ(status(asked, {{deallocated, 512}}), (Found{{512, 3}}));
  const Asked one{
      .command = Command::block_status, .length = 8192, .flags = command_flags::kRequestOne};
  EXPECT_EQ(status(one, {{mapped, 4096}, {deallocated, 4096}}), (Found{{4096, 0}}));
  EXPECT_EQ(status(one, {{mapped, 1 << 20}}), (Found{{8192, 0}}));
}

TEST_F(NbdTransmission, MoreExtentsThanFitAreLeftOut) {
  std::vector<io::Extent> extents;
  for (size_t i = 0; i < kStatusExtents + 5; ++i) {
    extents.push_back({i % 2 == 0 ? io::ExtentState::mapped : io::ExtentState::deallocated, 512});
  }
  EXPECT_EQ(status({.command = Command::block_status, .length = 1 << 19}, extents).size(),
            kStatusExtents);
}

TEST_F(NbdTransmission, NothingKnownIsNoAnswer) {
  const Request asked = request_of({.command = Command::block_status, .length = 512});
  EXPECT_EQ(write_status(out, asked, {}), 0u);
  const std::vector<io::Extent> empty(1);
  EXPECT_EQ(write_status(out, asked, empty), 0u);
}

}  // namespace
}  // namespace holdfast::mpio::nbd
