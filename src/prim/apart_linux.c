/* apart_linux.c: clone() without a signal, and what a child of it needs. */
#include "prim/apart.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct call {
  int (*function)(void *);
  void *argument;
  pid_t parent;
};

static int begin(void *context) {
  const struct call *call = context;
  const struct rlimit least = {1, 1}; /* 1, which also stops a core_pattern that is a pipe */
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  (void)setrlimit(RLIMIT_CORE, &least);
  if (getppid() != call->parent)
    _exit(255);
  _exit(call->function(call->argument));
}

pid_t bursar_apart_start(int (*function)(void *), void *argument, void *top) {
  sigset_t all, before;
  int kept = errno;
  struct call call = {function, argument, getpid()};
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* a handler of the program's may write where its own process reads */
  pid_t pid = clone(begin, top, 0, &call);
  int result = pid < 0 ? -errno : pid;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  errno = kept;
  return result;
}

int bursar_apart_wait(pid_t pid) {
  int status, kept = errno;
  int result = waitpid(pid, &status, __WALL) < 0 ? -errno
               : WIFSIGNALED(status)             ? 256 + WTERMSIG(status)
                                                 : WEXITSTATUS(status);
  errno = kept;
  return result;
}

void bursar_apart_kill(pid_t pid) {
  int kept = errno;
  kill(pid, SIGKILL);
  while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) {}
  errno = kept;
}
