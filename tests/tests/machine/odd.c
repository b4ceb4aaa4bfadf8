/* Loaded before the C library: a file system without locks, and a clock that is elsewhere. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int flock(int fd, int operation) {
  if (getenv("ODD_NO_LOCKS")) {
    errno = ENOLCK;
    return -1;
  }
  return (int)syscall(SYS_flock, fd, operation);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  const char *ahead = getenv("ODD_SECONDS_AHEAD");
  if (!failed && ahead && clock == CLOCK_REALTIME) now->tv_sec += atol(ahead);
  return failed;
}
