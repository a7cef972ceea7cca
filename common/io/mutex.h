#pragma once
// The mutex of the threads at the edge, annotated for clang's -Wthread-safety: std::mutex of
// libstdc++ is not, so with it the analysis would have nothing to check. What a mutex protects says
// HOLDFAST_GUARDED_BY(mutex_), and the clang builds refuse an access without the lock.

#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define HOLDFAST_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define HOLDFAST_THREAD_ANNOTATION(x)
#endif
#define HOLDFAST_GUARDED_BY(mutex) HOLDFAST_THREAD_ANNOTATION(guarded_by(mutex))
#define HOLDFAST_REQUIRES(mutex) HOLDFAST_THREAD_ANNOTATION(requires_capability(mutex))
#define HOLDFAST_EXCLUDES(mutex) HOLDFAST_THREAD_ANNOTATION(locks_excluded(mutex))

namespace holdfast::io {

class HOLDFAST_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Holds the mutex while it lives, except between unlock() and lock().
class HOLDFAST_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HOLDFAST_THREAD_ANNOTATION(acquire_capability(mutex))
      : lock_(mutex.mutex_) {}
  ~MutexLock() HOLDFAST_THREAD_ANNOTATION(release_capability()) = default;
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() HOLDFAST_THREAD_ANNOTATION(acquire_capability()) { lock_.lock(); }
  void unlock() HOLDFAST_THREAD_ANNOTATION(release_capability()) { lock_.unlock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// Waits stand in a loop that looks at the condition: the analysis does not see into a predicate.
class Condition {
 public:
  void wait(MutexLock& lock) { changed_.wait(lock.lock_); }
  void notify_one() { changed_.notify_one(); }
  void notify_all() { changed_.notify_all(); }

 private:
  std::condition_variable changed_;
};

}  // namespace holdfast::io
