#pragma once
// The few threads beside the loops: they wait for slow things (the state database, clients of the
// control socket and of the metrics page) so that no loop has to.

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace holdfast::daemon {

// Signals stay with the thread that handles them; name: at most 15 characters, for ps and gdb.
template <class Run>
std::thread start_edge_thread(const char* name, Run run) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(run));
  pthread_setname_np(thread.native_handle(), name);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace holdfast::daemon
