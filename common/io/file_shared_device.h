#pragma once
// A SharedBlockDevice on one Backing: a file, memory, or (kernel_shared_device.h) a block device of
// the kernel. One way to the medium and no fence: no paths, no ghosts, no reservations.
//
// compare_and_write is atomic among the requests of this object only: not against other processes,
// and not across hosts.
//
// timeout: what waits here ends at once; what the kernel has is cancelled and answered when the
// kernel lets go of it, as the memory is its until then. So nothing lands after its answer.

#include <boost/intrusive/list.hpp>
#include <cerrno>
#include <memory>
#include <vector>

#include "common/io/backing.h"
#include "common/io/buffer_pool.h"
#include "common/io/shared_block_device.h"

namespace holdfast::io {

// Owner: a daemon or a test; one loop's. Ends with close(), then destruction.
class FileSharedDevice : public SharedBlockDevice {
 public:
  // Of one compare_and_write: what the medium holds is read into one buffer. More is -EINVAL.
  static constexpr uint64_t kMaxCompareBytes = kMaxSlabBytes;
  // Of one read or write: its result must fit.
  static constexpr uint64_t kMaxMoveBytes = uint64_t{1} << 30;

  // On the loop's own thread.
  static base::Result<std::unique_ptr<FileSharedDevice>> open(Loop& loop,
                                                              std::shared_ptr<Backing> backing);
  ~FileSharedDevice() override;

  BlockInfo info() const override;
  void submit(BlockRequest& request) override;
  void cancel(BlockRequest& request) override;
  void set_listener(Listener* listener) override { listener_ = listener; }
  void wait_ghosts(uint64_t offset, uint64_t length, Done done) override;

  void use_key(uint64_t key, Done done) override;
  void readmit(Done done) override;
  void verify_key(Done done) override;
  void reserve(ReservationType type, Done done) override;
  void preempt_and_abort(uint64_t victim, ReservationType type, Done done) override;
  void clear_reservations(Done done) override;
  void read_reservations(GotState done) override;

  // The listener hears of a capacity that changed. For a block device of the kernel: looks whether
  // it has become larger, and `size_bytes` is what it must have at least.
  void grow(uint64_t size_bytes, Done done);

  // New requests and those that wait end with -ENOLINK, the others as they would. Then `closed`.
  virtual void close(Task closed);

 protected:
  FileSharedDevice(Loop& loop, std::shared_ptr<Backing> backing);
  base::Result<> attach();

  // A request ended with a reservation conflict.
  virtual void on_conflict() {}
  // Anything but 0: what submit() answers at once.
  virtual int32_t refusal() const { return 0; }
  void tell(BlockEvent::Kind kind, const char* why);
  // Calls that answer later, and that close() waits for.
  void begin_call() { ++calls_; }
  void end_call();

  Loop& loop_;
  std::shared_ptr<Backing> backing_;

 private:
  // One request that is executed. Kept and used again.
  struct Job : boost::intrusive::list_base_hook<> {
    explicit Job(FileSharedDevice& owner) : device(owner) {}
    void on_done(int32_t result) noexcept { device.on_done(*this, result); }
    void on_deadline() noexcept { device.stop(*this, -ETIMEDOUT); }

    FileSharedDevice& device;
    BlockRequest* request = nullptr;
    enum class Step : uint8_t { move, compare, swap, punch, zero, fill, flush, status } step{};
    enum class Waiting : uint8_t { no, range, bounce } waiting{};  // else the op is under way
    bool direct = false;    // the request's own memory is fit for the kernel
    bool executed = false;  // something of it is on the medium
    int32_t stop = 0;       // what it should end with, if it can still be stopped
    uint64_t done = 0;      // bytes of the medium
    uint64_t part = 0;      // bytes under way
    uint32_t looks = 0;
    Buffer bounce;
    Extent extent;
    OpOf<Job, &Job::on_done> op{*this};
    TimerOf<Job, &Job::on_deadline> deadline{*this};
  };
  using JobList = boost::intrusive::list<Job>;

  int32_t problem_of(const BlockRequest& request) const;
  Job& new_job(BlockRequest& request);
  void start(Job& job);
  void wake();
  bool must_wait(const Job& job) const;
  bool acquire_bounce(Job& job);
  void run(Job& job);
  void move(Job& job);
  void fill(Job& job);
  void swap(Job& job);
  void on_done(Job& job, int32_t result);
  void on_compared(Job& job);
  void on_unsupported(Job& job);
  void on_extent(Job& job);
  void stop(Job& job, int32_t why);
  void finish(Job& job, int32_t result);
  void check_capacity();
  void check_closed();

  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<BufferPool> bounce_;
  Listener* listener_ = nullptr;
  uint64_t told_size_ = 0;
  std::vector<std::unique_ptr<Job>> jobs_;  // as many as the callers had requests at a time
  std::vector<Job*> free_;
  JobList active_;        // in the order of submission
  size_t exclusive_ = 0;  // compare_and_write among them
  size_t waiting_ = 0;    // for a range or a buffer
  size_t calls_ = 0;
  bool closing_ = false;
  Task closed_;
};

}  // namespace holdfast::io
