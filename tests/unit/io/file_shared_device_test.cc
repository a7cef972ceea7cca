#include "common/io/file_shared_device.h"

#include <filesystem>
#include <numeric>

#include "common/io/file_backing.h"
#include "common/io/memory_backing.h"
#include "tests/unit/io/shared_device_fixture.h"

namespace holdfast::io {
namespace {

using Kind = BlockRequest::Kind;
using Names = std::vector<std::string>;

constexpr uint64_t kMiB = 1024 * 1024;

class FileSharedDeviceTest : public ::testing::Test, public SharedBlockDevice::Listener {
 protected:
  void TearDown() override {
    if (device_ != nullptr) {
      std::promise<void> closed;
      thread_.call([&] {
        held_->free = true;
        while (held_->under_way() > 0) held_->end();
        device_->close([&]() noexcept { closed.set_value(); });
      });
      closed.get_future().wait();
      thread_.call([&] { device_.reset(); });
    }
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }
  void on_block_event(const BlockEvent& event) override { events_.push_back(event.kind); }

  void open(std::shared_ptr<Backing> backing) {
    thread_.call([&] {
      device_ = FileSharedDevice::open(thread_.loop(), std::move(backing)).value();
      device_->set_listener(this);
    });
  }
  void open_held() { open(held_); }
  void open_file() {
    std::string pattern = ::testing::TempDir() + "holdfast-shared-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    open(FileBacking::open({.path = folder_ / "disk", .size_bytes = 16 * kMiB},
                           BlockingWorker::start())
             .value());
  }
  void open_memory() {
    open(MemoryBacking::open({.kind = BackingKind::memory, .size_bytes = 16 * kMiB}).value());
  }

  void submit(TestRequest& request) {
    thread_.call([&] {
      request.inside = true;
      device_->submit(request.block);
      request.inside = false;
    });
  }
  int32_t complete(TestRequest& request) {
    std::promise<void> done;
    request.done = &done;
    submit(request);
    done.get_future().wait();
    thread_.call([] {});
    return *request.result;
  }
  int32_t run(Kind kind, uint64_t offset, uint64_t length,
              std::vector<base::MutableBytes> data = {}) {
    return complete(*make_request(kind, offset, length, std::move(data)));
  }
  void end(std::optional<int32_t> result = {}) {
    thread_.call([&] { held_->end(result); });
  }
  template <class Call>
  base::Result<> ask(Call call) {
    std::promise<base::Result<>> done;
    thread_.call([&] { call([&](base::Result<> result) noexcept { done.set_value(result); }); });
    return done.get_future().get();
  }

  LoopThread thread_;
  std::shared_ptr<HeldBacking> held_ = std::make_shared<HeldBacking>(16 * kMiB);
  std::unique_ptr<FileSharedDevice> device_;
  std::filesystem::path folder_;
  std::vector<BlockEvent::Kind> events_;
};

TEST_F(FileSharedDeviceTest, MemoryOfAnyAlignmentOnAFile) {
  for (const bool memory : {false, true}) {
    memory ? open_memory() : open_file();
    std::vector<uint8_t> data(3 * kMiB + 1), back(data.size());
    std::iota(data.begin(), data.end(), uint8_t{3});
    const base::MutableBytes bytes(data);
    // Parts of odd lengths, one of them empty, over several pieces of the bounce buffer.
    const uint64_t length = 2 * kMiB + 512;
    EXPECT_EQ(run(Kind::write, 512, length,
                  {bytes.subspan(1, 777), bytes.subspan(0, 0), bytes.subspan(778, kMiB),
                   bytes.subspan(778 + kMiB, length - kMiB - 777)}),
              static_cast<int32_t>(length));
    const base::MutableBytes to(back);
    EXPECT_EQ(run(Kind::read, 512, length, {to.subspan(1, 1), to.subspan(2, length - 1)}),
              static_cast<int32_t>(length));
    EXPECT_TRUE(std::equal(data.begin() + 1, data.begin() + 1 + static_cast<ptrdiff_t>(length),
                           back.begin() + 1));
    TearDown();
  }
}

TEST_F(FileSharedDeviceTest, AlignedMemoryIsNotCopied) {
  open_held();
  held_->free = true;
  AlignedBytes memory(3 * kMiB, 7);
  const auto parts = {memory.all().first(4096), memory.all().subspan(4096, 2 * kMiB + 4096)};
  EXPECT_EQ(run(Kind::write, 0, 2 * kMiB + 8192, parts), 2 * kMiB + 8192);
  ASSERT_EQ(held_->calls.size(), 3u);  // no piece is larger than 2 MiB
  EXPECT_EQ(held_->calls[0].memory, memory.all().data());
  EXPECT_EQ(held_->calls[1].memory, memory.all().data() + 4096);
  EXPECT_EQ(run(Kind::write, 0, 4096, {memory.all().subspan(512, 4096)}), 4096);
  EXPECT_NE(held_->calls[3].memory, memory.all().data() + 512);
  held_->alignment = 1;
  EXPECT_EQ(run(Kind::write, 0, 512, {memory.all().subspan(3, 512)}), 512);
  EXPECT_EQ(held_->calls[4].memory, memory.all().data() + 3);
}

TEST_F(FileSharedDeviceTest, WhatIsMisalignedOrBeyondTheEndIsInvalid) {
  open_held();
  AlignedBytes memory(4096);
  const auto data = {memory.all()};
  for (const Kind kind : {Kind::read, Kind::write}) {
    EXPECT_EQ(run(kind, 1, 4096, data), -EINVAL);
    EXPECT_EQ(run(kind, 0, 4000, data), -EINVAL);
    EXPECT_EQ(run(kind, 0, 0), -EINVAL);
    EXPECT_EQ(run(kind, 0, 8192, data), -EINVAL);  // more than its memory
    EXPECT_EQ(run(kind, 16 * kMiB, 4096, data), -EINVAL);
    EXPECT_EQ(run(kind, ~uint64_t{4095}, 4096, data), -EINVAL);
  }
  EXPECT_EQ(run(Kind::compare_and_write, 0, 4096, data), -EINVAL);  // one half is missing
  EXPECT_EQ(run(Kind::discard, 0, 17 * kMiB), -EINVAL);
  EXPECT_EQ(run(Kind::write_zeroes, 512, 16 * kMiB), -EINVAL);
  EXPECT_EQ(run(Kind::status, 0, 4096), -EINVAL);  // no room
  EXPECT_TRUE(held_->calls.empty());
}

TEST_F(FileSharedDeviceTest, AReadOnlyDeviceChangesNothing) {
  held_->read_only = true;
  open_held();
  held_->free = true;
  AlignedBytes memory(8192);
  EXPECT_EQ(run(Kind::write, 0, 8192, {memory.all()}), -EROFS);
  EXPECT_EQ(run(Kind::compare_and_write, 0, 4096, {memory.all()}), -EROFS);
  EXPECT_EQ(run(Kind::discard, 0, 512), -EROFS);
  EXPECT_EQ(run(Kind::write_zeroes, 0, 512), -EROFS);
  EXPECT_EQ(run(Kind::read, 0, 8192, {memory.all()}), 8192);
  EXPECT_EQ(run(Kind::flush, 0, 0), 0);
}

TEST_F(FileSharedDeviceTest, ZeroesInTheWayThatWorks) {
  open_held();
  held_->free = true;
  auto request = make_request(Kind::write_zeroes, 0, 4096);
  EXPECT_EQ(complete(*request), 0);
  request = make_request(Kind::write_zeroes, 0, 4096);
  request->block.may_deallocate = true;
  EXPECT_EQ(complete(*request), 0);
  EXPECT_EQ(run(Kind::discard, 0, 4096), 0);
  held_->can_discard = false;
  EXPECT_EQ(run(Kind::discard, 0, 4096), 0);
  EXPECT_EQ(held_->names(), (Names{"zeroes", "discard", "discard", "zeroes"}));
}

TEST_F(FileSharedDeviceTest, WhereNothingWorksZeroesAreWritten) {
  open_held();
  held_->free = true;
  held_->free_result = -EOPNOTSUPP;
  std::ranges::fill(held_->content, uint8_t{9});
  EXPECT_EQ(run(Kind::discard, 4096, 300 * 1024), 0);
  EXPECT_EQ(held_->names(), (Names{"discard", "zeroes", "write", "write"}));
  EXPECT_EQ(held_->content[4095], 9);
  EXPECT_EQ(std::ranges::count(held_->content, uint8_t{0}), 300 * 1024);
  EXPECT_EQ(held_->content[4096 + 300 * 1024], 9);
}

TEST_F(FileSharedDeviceTest, DurableMeansFlushedOrFua) {
  open_held();
  held_->free = true;
  AlignedBytes memory(8192);
  for (const Kind kind : {Kind::write, Kind::discard, Kind::compare_and_write}) {
    auto request = make_request(kind, 0, kind == Kind::write ? 8192 : 4096, {memory.all()});
    request->block.durability = Durability::durable;
    EXPECT_GE(complete(*request), 0);
  }
  EXPECT_EQ(held_->names(), (Names{"write-fua", "discard", "flush", "read", "write-fua"}));
}

TEST_F(FileSharedDeviceTest, CompareAndWrite) {
  for (const bool memory : {false, true}) {
    memory ? open_memory() : open_file();
    AlignedBytes old(8192, 5), data(16384, 5);
    EXPECT_EQ(run(Kind::write, 4096, 8192, {old.all()}), 8192);
    std::ranges::fill(data.all().subspan(8192), uint8_t{6});
    data.all()[5000] = 1;
    auto request = make_request(Kind::compare_and_write, 4096, 8192, {data.all()});
    EXPECT_EQ(complete(*request), -EILSEQ);
    EXPECT_EQ(request->block.mismatch_offset, 5000u);
    data.all()[5000] = 5;
    // The halves need not end where a part does.
    EXPECT_EQ(run(Kind::compare_and_write, 4096, 8192,
                  {data.all().first(100), data.all().subspan(100, 8200), data.all().subspan(8300)}),
              0);
    EXPECT_EQ(run(Kind::read, 4096, 8192, {old.all()}), 8192);
    EXPECT_TRUE(old.all_are(6));
    TearDown();
  }
}

TEST_F(FileSharedDeviceTest, CompareAndWriteHasItsRangeAlone) {
  open_held();
  AlignedBytes memory(8192);
  const auto one = {memory.all().first(4096)};
  auto first = make_request(Kind::write, 0, 4096, one);
  auto swap = make_request(Kind::compare_and_write, 0, 4096, {memory.all()});
  auto later = make_request(Kind::write, 0, 4096, one);
  auto beside = make_request(Kind::write, 4096, 4096, one);
  auto reads = make_request(Kind::read, 0, 4096, one);
  for (auto* each : {&first, &swap, &later, &beside, &reads}) submit(**each);
  EXPECT_EQ(held_->names(), (Names{"write", "write", "read"}));
  end();  // the first write: now the comparison may begin
  EXPECT_EQ(held_->names().back(), "read");
  EXPECT_EQ(held_->calls.size(), 4u);
  end();  // beside
  end();  // reads
  end();  // the comparison's read: equal, so it writes
  EXPECT_EQ(held_->calls.size(), 5u);
  EXPECT_EQ(held_->names().back(), "write");
  EXPECT_FALSE(later->result.has_value());
  end();
  EXPECT_EQ(swap->result, 0);
  EXPECT_EQ(held_->calls.size(), 6u);  // and only now the later write
  end();
  EXPECT_EQ(later->result, 4096);
}

TEST_F(FileSharedDeviceTest, StatusJoinsExtentsUpToTheRoom) {
  open_held();
  held_->free = true;
  using enum ExtentState;
  std::array<Extent, 2> room;
  auto request = make_request(Kind::status, 0, kMiB);
  request->block.extents = room;
  held_->extents = {{mapped, 4096}, {mapped, 4096}, {deallocated, 8192}, {mapped, 512}};
  EXPECT_EQ(complete(*request), 0);
  ASSERT_EQ(request->block.extent_count, 2u);
  EXPECT_EQ(room[0].length_bytes, 8192u);
  EXPECT_EQ(room[1].length_bytes, 8192u);
  EXPECT_EQ(room[1].state, deallocated);
  EXPECT_EQ(held_->calls[2].offset, 8192u);
  held_->extents = {{mapped, 2 * kMiB}};
  request = make_request(Kind::status, 0, kMiB);
  request->block.extents = room;
  EXPECT_EQ(complete(*request), 0);
  EXPECT_EQ(request->block.extent_count, 1u);
}

TEST_F(FileSharedDeviceTest, StatusOfAFile) {
  open_file();
  AlignedBytes memory(kMiB, 1);
  ASSERT_EQ(run(Kind::write, 4 * kMiB, kMiB, {memory.all()}), kMiB);
  std::array<Extent, 8> room;
  auto request = make_request(Kind::status, 0, 16 * kMiB);
  request->block.extents = room;
  EXPECT_EQ(complete(*request), 0);
  ASSERT_EQ(request->block.extent_count, 3u);
  EXPECT_EQ(room[0].length_bytes, 4 * kMiB);
  EXPECT_EQ(room[1].state, ExtentState::mapped);
  EXPECT_EQ(room[2].length_bytes, 11 * kMiB);
  EXPECT_EQ(run(Kind::discard, 4 * kMiB, kMiB), 0);
  request = make_request(Kind::status, 0, 16 * kMiB);
  request->block.extents = room;
  EXPECT_EQ(complete(*request), 0);
  EXPECT_EQ(request->block.extent_count, 1u);
}

TEST_F(FileSharedDeviceTest, ADeadlineEndsWhatWaitsAndCancelsWhatRuns) {
  open_held();
  AlignedBytes memory(8192);
  auto swap = make_request(Kind::compare_and_write, 0, 4096, {memory.all()});
  auto waits = make_request(Kind::write, 0, 4096, {memory.all().first(4096)});
  swap->block.timeout = waits->block.timeout = 20ms;
  submit(*swap);
  EXPECT_EQ(complete(*waits), -ETIMEDOUT);
  std::promise<void> done;
  bool cancelled = false;
  while (!cancelled) thread_.call([&] { cancelled = !held_->cancelled.empty(); });
  EXPECT_FALSE(swap->result.has_value());  // its memory is still the kernel's
  end(-ECANCELED);
  EXPECT_EQ(swap->result, -ETIMEDOUT);
  EXPECT_EQ(held_->calls.size(), 1u);
}

TEST_F(FileSharedDeviceTest, ADeadlineInTheMiddleStopsThere) {
  open_held();
  AlignedBytes memory(4 * kMiB);
  auto write = make_request(Kind::write, 0, 4 * kMiB, {memory.all()});
  write->block.timeout = 20ms;
  submit(*write);
  bool cancelled = false;
  while (!cancelled) thread_.call([&] { cancelled = !held_->cancelled.empty(); });
  end();  // the first part was too far to be stopped
  EXPECT_EQ(write->result, -ETIMEDOUT);
  EXPECT_EQ(held_->calls.size(), 1u);
}

TEST_F(FileSharedDeviceTest, CancelOnlyBeforeAnythingIsExecuted) {
  open_held();
  AlignedBytes memory(4 * kMiB);
  auto early = make_request(Kind::write, 0, 4096, {memory.all().first(4096)});
  auto late = make_request(Kind::write, 8 * kMiB, 4 * kMiB, {memory.all()});
  submit(*early);
  thread_.call([&] { device_->cancel(early->block); });
  EXPECT_EQ(held_->cancelled.size(), 1u);
  end(-ECANCELED);
  EXPECT_EQ(early->result, -ECANCELED);
  submit(*late);
  end();
  thread_.call([&] { device_->cancel(late->block); });
  EXPECT_EQ(held_->cancelled.size(), 1u);
  end();
  EXPECT_EQ(late->result, 4 * kMiB);
}

TEST_F(FileSharedDeviceTest, AnErrorOfTheMediumIsTheResult) {
  open_held();
  AlignedBytes memory(4096);
  auto write = make_request(Kind::write, 0, 4096, {memory.all()});
  submit(*write);
  end(-ENOSPC);
  EXPECT_EQ(write->result, -ENOSPC);
}

TEST_F(FileSharedDeviceTest, ManyUnalignedRequestsShareTheBounceBuffers) {
  open_file();
  constexpr size_t kCount = 100;
  std::vector<uint8_t> data(512 * 1024 + 1, 4);
  std::vector<std::unique_ptr<TestRequest>> requests;
  std::vector<std::promise<void>> done(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    requests.push_back(make_request(Kind::write, (i % 16) * kMiB, 512 * 1024,
                                    {base::MutableBytes(data).subspan(1)}));
    requests.back()->done = &done[i];
    submit(*requests.back());
  }
  for (auto& each : done) each.get_future().wait();
  thread_.call([] {});
  for (const auto& each : requests) EXPECT_EQ(each->result, 512 * 1024);
}

TEST_F(FileSharedDeviceTest, NoReservationsAndNoGhosts) {
  open_held();
  using Done = SharedBlockDevice::Done;
  const auto code = [](const base::Result<>& result) { return result.error().code; };
  EXPECT_TRUE(ask([&](Done done) { device_->wait_ghosts(0, kMiB, std::move(done)); }).has_value());
  EXPECT_TRUE(ask([&](Done done) { device_->use_key(0, std::move(done)); }).has_value());
  const auto unsupported = base::Errc::unsupported;
  EXPECT_EQ(code(ask([&](Done done) { device_->use_key(7, std::move(done)); })), unsupported);
  EXPECT_EQ(code(ask([&](Done done) { device_->readmit(std::move(done)); })), unsupported);
  EXPECT_EQ(code(ask([&](Done done) {
              device_->reserve(ReservationType::write_exclusive, std::move(done));
            })),
            unsupported);
  EXPECT_EQ(code(ask([&](Done done) {
              device_->preempt_and_abort(1, ReservationType::write_exclusive, std::move(done));
            })),
            unsupported);
  EXPECT_EQ(code(ask([&](Done done) { device_->clear_reservations(std::move(done)); })),
            unsupported);
  std::promise<base::Result<ReservationState>> state;
  thread_.call([&] {
    device_->read_reservations(
        [&](base::Result<ReservationState> result) noexcept { state.set_value(result); });
  });
  EXPECT_EQ(state.get_future().get().error().code, unsupported);
}

TEST_F(FileSharedDeviceTest, GrowthIsAnEvent) {
  open_file();
  using Done = SharedBlockDevice::Done;
  EXPECT_TRUE(ask([&](Done done) { device_->grow(16 * kMiB, std::move(done)); }).has_value());
  EXPECT_TRUE(events_.empty());
  EXPECT_TRUE(ask([&](Done done) { device_->grow(20 * kMiB, std::move(done)); }).has_value());
  EXPECT_EQ(events_, std::vector{BlockEvent::Kind::capacity_changed});
  EXPECT_EQ(device_->info().size_bytes, 20 * kMiB);
  EXPECT_FALSE(ask([&](Done done) { device_->grow(kMiB, std::move(done)); }).has_value());
}

TEST_F(FileSharedDeviceTest, CloseEndsWhatWaitsAndWaitsForTheRest) {
  open_held();
  AlignedBytes memory(8192);
  auto swap = make_request(Kind::compare_and_write, 0, 4096, {memory.all()});
  auto waits = make_request(Kind::write, 0, 4096, {memory.all().first(4096)});
  auto late = make_request(Kind::read, 0, 4096, {memory.all().first(4096)});
  submit(*swap);
  submit(*waits);
  bool closed = false;
  thread_.call([&] { device_->close([&]() noexcept { closed = true; }); });
  EXPECT_EQ(complete(*late), -ENOLINK);
  EXPECT_EQ(waits->result, -ENOLINK);
  EXPECT_FALSE(closed);
  end();
  end();
  EXPECT_EQ(swap->result, 0);
  thread_.call([] {});
  EXPECT_TRUE(closed);
  thread_.call([&] { device_.reset(); });
}

}  // namespace
}  // namespace holdfast::io
