// LD_PRELOAD shim: a write that hangs in its target until a test lets it go. For a target's threads
// that write with pwrite(): under FUSE the kernel would make the next one to the same file wait.
//
//   LD_PRELOAD=build/release/bin/hold_write.so HOLD_WRITE=/tmp/test/hold tgtd ...
//
// The first write that touches the first 4 KiB of a file while $HOLD_WRITE.next exists renames that
// to $HOLD_WRITE.held, and waits until the test removes it.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { kHeldBytes = 4096, kPollNanoseconds = 2000000 };

typedef ssize_t (*PwriteFunction)(int, const void*, size_t, off64_t);

static void wait_until_let_go(off64_t offset) {
  const char* name = getenv("HOLD_WRITE");
  if (name == NULL || offset >= kHeldBytes) return;
  char next[4096];
  char held[4096];
  snprintf(next, sizeof next, "%s.next", name);
  snprintf(held, sizeof held, "%s.held", name);
  if (rename(next, held) != 0) return;  // one write only
  const struct timespec poll = {.tv_nsec = kPollNanoseconds};
  while (access(held, F_OK) == 0) nanosleep(&poll, NULL);
}

ssize_t pwrite64(int fd, const void* data, size_t length, off64_t offset) {
  static PwriteFunction original;
  if (original == NULL) {
    void* symbol = dlsym(RTLD_NEXT, "pwrite64");
    if (symbol == NULL) abort();
    memcpy(&original, &symbol, sizeof original);  // ISO C has no cast to a function pointer
  }
  wait_until_let_go(offset);
  return original(fd, data, length, offset);
}
