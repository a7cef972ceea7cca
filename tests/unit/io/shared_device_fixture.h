#pragma once
// A Backing whose device does what the test says, and requests with their results.

#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <vector>

#include "common/io/backing.h"
#include "common/io/shared_block_device.h"
#include "tests/unit/io/loop_fixture.h"

namespace holdfast::io {

// What one call to the device was. On the loop's thread.
struct DeviceCall {
  std::string name;
  uint64_t offset = 0;
  uint64_t length = 0;
  const void* memory = nullptr;
  Op* op = nullptr;  // under way
};

// Each call waits until the test ends it, unless `free`.
class HeldBacking final : public Backing {
 public:
  explicit HeldBacking(uint64_t size_bytes) : content(size_bytes) {}

  BlockInfo info() const override {
    return {.size_bytes = content.size(), .can_discard = can_discard, .read_only = read_only};
  }
  std::unique_ptr<BlockDevice> attach(Loop& loop) override {
    return std::make_unique<Device>(*this, loop);
  }
  void grow(uint64_t size_bytes, Loop& reply_to, Resized done) override {
    reply_to.post([this, size_bytes, done = std::move(done)]() mutable noexcept {
      grown = size_bytes;
      done({});
    });
  }
  void use_grown() override { content.resize(std::max<size_t>(content.size(), grown)); }
  void undo_grow() override {}
  void undo_open() override {}

  // Ends the oldest call that is under way.
  void end(std::optional<int32_t> result = {}) {
    for (DeviceCall& call : calls) {
      if (call.op == nullptr) continue;
      Op* op = std::exchange(call.op, nullptr);
      op->complete(result.value_or(static_cast<int32_t>(call.length)));
      return;
    }
  }
  size_t under_way() const {
    return static_cast<size_t>(
        std::ranges::count_if(calls, [](const DeviceCall& call) { return call.op != nullptr; }));
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const DeviceCall& call : calls) out.push_back(call.name);
    return out;
  }

  std::vector<uint8_t> content;
  uint64_t grown = 0;
  std::deque<DeviceCall> calls;
  std::vector<Op*> cancelled;
  std::vector<Extent> extents;  // the answers to extent_at, in turn
  bool free = false;
  int32_t free_result = 0;  // of fallocate-like calls
  bool can_discard = true;
  bool read_only = false;
  uint32_t alignment = 4096;

 private:
  class Device final : public BlockDevice {
   public:
    Device(HeldBacking& owner, Loop& loop) : owner_(owner), loop_(loop) {}
    BlockInfo info() const override { return owner_.info(); }
    uint32_t memory_alignment() const override { return owner_.alignment; }
    void read(Op& op, uint64_t offset, base::MutableBytes buffer) override {
      std::memcpy(buffer.data(), owner_.content.data() + offset, buffer.size());
      begin(op, {"read", offset, buffer.size(), buffer.data()}, 1);
    }
    void write(Op& op, uint64_t offset, base::Bytes buffer, Durability durability) override {
      std::memcpy(owner_.content.data() + offset, buffer.data(), buffer.size());
      begin(op,
            {durability == Durability::durable ? "write-fua" : "write", offset, buffer.size(),
             buffer.data()},
            1);
    }
    void flush(Op& op) override { begin(op, {"flush"}, 0); }
    void discard(Op& op, uint64_t offset, uint64_t length) override {
      begin(op, {"discard", offset, length}, 0);
    }
    void write_zeroes(Op& op, uint64_t offset, uint64_t length) override {
      begin(op, {"zeroes", offset, length}, 0);
    }
    void extent_at(Op& op, uint64_t offset, Extent* extent) override {
      *extent = owner_.extents.front();
      owner_.extents.erase(owner_.extents.begin());
      begin(op, {"extent", offset}, 0);
    }
    void cancel(Op& op) override { owner_.cancelled.push_back(&op); }

   private:
    void begin(Op& op, DeviceCall call, int moves) {
      if (owner_.free) {
        loop_.complete_soon(op,
                            moves != 0 ? static_cast<int32_t>(call.length) : owner_.free_result);
      } else {
        op.begin();
        call.op = &op;
      }
      owner_.calls.push_back(std::move(call));
    }
    HeldBacking& owner_;
    Loop& loop_;
  };
};

struct TestRequest {
  void on_done(int32_t value) noexcept {
    EXPECT_FALSE(inside) << "completed from inside the submitting call";
    EXPECT_FALSE(result.has_value());
    result = value;
    if (done != nullptr) done->set_value();
  }
  std::optional<int32_t> result;
  bool inside = false;
  std::promise<void>* done = nullptr;
  std::vector<iovec> parts;
  BlockRequestOf<TestRequest, &TestRequest::on_done> block{*this};
};

inline std::unique_ptr<TestRequest> make_request(BlockRequest::Kind kind, uint64_t offset,
                                                 uint64_t length,
                                                 std::vector<base::MutableBytes> data = {}) {
  auto request = std::make_unique<TestRequest>();
  request->block.kind = kind;
  request->block.offset = offset;
  request->block.length = length;
  for (const base::MutableBytes part : data) {
    request->parts.push_back({part.data(), part.size()});
  }
  request->block.data = request->parts;
  return request;
}

}  // namespace holdfast::io
