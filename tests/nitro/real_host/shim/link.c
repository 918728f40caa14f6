/* The way to the host, and the plain calls that go by another name there. */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* What nitro-cli reads of /sys. */
static const char *const REDIRECTED[] = {
    "/sys/module/nitro_enclaves/parameters/ne_cpus",
    "/sys/devices/virtual/dmi/id/board_asset_tag",
};

void *next(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (found == NULL) abort();
  return found;
}

const char *host_name(void) {
  const char *name = getenv("NE_SHIM_HOST");
  return name == NULL ? "none" : name;
}

const char *host_folder(void) {
  const char *folder = getenv("NE_SHIM_DIR");
  return folder == NULL ? "/nonexistent" : folder;
}

int connect_host(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "ne|%s|host", host_name());
  int link = NEXT(socket)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (link < 0) return -1;
  socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + length;
  if (NEXT(connect)(link, (struct sockaddr *)&address, size) != 0) {
    NEXT(close)(link);
    errno = ENOENT; /* no host: as where there is no driver */
    return -1;
  }
  return link;
}

int ask(int link, struct request request, struct reply *reply, int give, int *take) {
  union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr header; } control = {0};
  struct iovec part = {&request, sizeof request};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (give >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &give, sizeof give);
  }
  if (sendmsg(link, &message, MSG_NOSIGNAL) < 0) return -1;
  part = (struct iovec){reply, sizeof *reply};
  message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                            .msg_controllen = sizeof control.bytes};
  if (recvmsg(link, &message, MSG_CMSG_CLOEXEC) != sizeof *reply) {
    errno = ENODEV; /* the host is gone */
    return -1;
  }
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (take != NULL) *take = -1;
  if (header != NULL && header->cmsg_type == SCM_RIGHTS && take != NULL)
    memcpy(take, CMSG_DATA(header), sizeof *take);
  if (reply->error != 0) {
    errno = (int)reply->error;
    return -1;
  }
  return 0;
}

static const char *redirected(const char *path, char *space, size_t size) {
  for (size_t i = 0; i < sizeof REDIRECTED / sizeof *REDIRECTED; i++)
    if (strcmp(path, REDIRECTED[i]) == 0) {
      snprintf(space, size, "%s/tree%s", host_folder(), path);
      return space;
    }
  return path;
}

/* The real daemon measures the image from the launch on, in a thread of its own, which opens it anew. */
static void await_measuring(const char *path, int flags) {
  if (!measures_image() || gettid() == getpid() || (flags & O_ACCMODE) != O_RDONLY) return;
  if (strncmp(path, "/sys/", 5) == 0 || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0) return;
  char held[4096];
  snprintf(held, sizeof held, "%s/hold-hash", host_folder());
  while (access(held, F_OK) == 0) usleep(20 * 1000);
}

static int open_as(typeof(&open) real, const char *path, int flags, mode_t mode) {
  char space[4096];
  if (strcmp(path, "/dev/nitro_enclaves") == 0) return open_device(flags);
  await_measuring(path, flags);
  return real(redirected(path, space, sizeof space), flags, mode);
}

#define OPEN(name)                                     \
  int name(const char *path, int flags, ...) {         \
    mode_t mode = 0;                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {             \
      va_list rest;                                    \
      va_start(rest, flags);                           \
      mode = va_arg(rest, mode_t);                     \
      va_end(rest);                                    \
    }                                                  \
    return open_as(NEXT(name), path, flags, mode);     \
  }
OPEN(open)
OPEN(open64)

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict found) {
  char space[4096];
  return NEXT(statx)(folder, redirected(path, space, sizeof space), flags, mask, found);
}

int close(int fd) {
  if (is_of_device(fd)) {
    close_device(fd);
    return 0;
  }
  forget_vsock(fd);
  return NEXT(close)(fd);
}

/* Who runs nitro-cli, for its rule about owners. */
uid_t getuid(void) {
  const char *uid = getenv("NE_SHIM_UID");
  return uid == NULL ? NEXT(getuid)() : (uid_t)strtoul(uid, NULL, 10);
}

__attribute__((constructor)) static void remember_arguments(void) {
  const char *file = getenv("NE_SHIM_ARGV");
  if (file == NULL) return;
  static char given[128 * 1024], line[2 * sizeof given];
  int source = NEXT(open)("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  ssize_t length = source < 0 ? -1 : read(source, given, sizeof given);
  NEXT(close)(source);
  size_t at = 0;
  line[at++] = '[';
  for (char *text = given + strlen(given) + 1; length > 0 && text < given + length; text += strlen(text) + 1) {
    if (at > 1) line[at++] = ',';
    line[at++] = '"';
    for (char *c = text; *c != '\0'; c++) {
      if (*c == '"' || *c == '\\') line[at++] = '\\';
      line[at++] = *c;
    }
    line[at++] = '"';
  }
  line[at++] = ']';
  line[at++] = '\n';
  int log = NEXT(open)(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (log < 0 || write(log, line, at) != (ssize_t)at) abort();
  NEXT(close)(log);
  unsetenv("NE_SHIM_ARGV");
}
