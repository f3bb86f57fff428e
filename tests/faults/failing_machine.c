/* Makes the system calls of a store's server fail as a failing machine makes them fail; loaded with LD_PRELOAD.
 *
 * The first word of the file that OUTRIDER_FAULT_FILE names says what fails now, so that a test can turn it on and off
 * while the server runs: nothing when it is empty or absent.
 *   enospc         nothing more can be written
 *   erofs          nothing can be written, and no file be opened for writing
 *   fsync          nothing reaches the disk
 *   clock SECONDS  the date is so many seconds off; the monotonic clock is right
 * Touches regular files alone, never sockets and pipes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void told(char *text, size_t size) {
  const char *path = getenv("OUTRIDER_FAULT_FILE");
  int kept = errno;
  text[0] = 0;
  int fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
  if (fd >= 0) {
    long count = syscall(SYS_read, fd, text, size - 1);
    text[count > 0 ? count : 0] = 0;
    syscall(SYS_close, fd);
  }
  errno = kept;
}

static int fails(const char *fault) {
  char text[64];
  told(text, sizeof text);
  return strncmp(text, fault, strlen(fault)) == 0;
}

static int regular(int fd) {
  struct stat about;
  return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

static int refused(int fd) {
  if (!regular(fd)) return 0;
  if (fails("enospc")) errno = ENOSPC;
  else if (fails("erofs")) errno = EROFS;
  else return 0;
  return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  return refused(fd) ? -1 : syscall(SYS_write, fd, bytes, count);
}

static int unsynced(int fd) {
  if (!regular(fd) || !fails("fsync")) return 0;
  errno = EIO;
  return 1;
}

int fsync(int fd) { return unsynced(fd) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return unsynced(fd) ? -1 : syscall(SYS_fdatasync, fd); }

static int opened(const char *path, int flags, mode_t mode) {
  if ((flags & O_ACCMODE) != O_RDONLY && strncmp(path, "/dev/", 5) != 0 && fails("erofs")) {
    errno = EROFS;
    return -1;
  }
  return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

#define OPEN(name)                                  \
  int name(const char *path, int flags, ...) {      \
    va_list more;                                   \
    va_start(more, flags);                          \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
    va_end(more);                                   \
    return opened(path, flags, mode);               \
  }
OPEN(open)
OPEN(open64)

static long off_s(void) {
  char text[64];
  told(text, sizeof text);
  return strncmp(text, "clock ", 6) == 0 ? atol(text + 6) : 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  int done = syscall(SYS_gettimeofday, at, zone);
  at->tv_sec += off_s();
  return done;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  int done = syscall(SYS_clock_gettime, clock, at);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += off_s();
  return done;
}

time_t time(time_t *at) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  now.tv_sec += off_s();
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
