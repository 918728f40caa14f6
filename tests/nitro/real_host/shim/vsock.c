/* AF_VSOCK on abstract Unix sockets: "\0ne|HOST|CID:PORT" is an address, "\0ne|HOST|guests" the way into every
 * enclave. They give EADDRINUSE by themselves and go with their owners. ECONNREFUSED becomes ECONNRESET, for
 * vsock knows no refusal. */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define PARENT_CID 3U
#define HYPERVISOR_CID 0U
#define MAX_FDS 4096
/* net/vmw_vsock/af_vsock.c: VSOCK_DEFAULT_CONNECT_TIMEOUT */
#define CONNECT_TIMEOUT_MS 2000
#define FIRST_FREE_PORT 1024U

static struct { bool is_vsock, is_any; int timeout_ms; unsigned peer_cid, peer_port; } known[MAX_FDS];

static socklen_t name_of(struct sockaddr_un *address, unsigned cid, unsigned port) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "ne|%s|%u:%u", host_name(), cid, port);
  return offsetof(struct sockaddr_un, sun_path) + 1 + length;
}

/* Whether a name is an address of ours, and which. */
static bool parse(const struct sockaddr_un *address, socklen_t size, unsigned *cid, unsigned *port) {
  char name[sizeof address->sun_path + 1] = {0}, prefix[64];
  size_t start = offsetof(struct sockaddr_un, sun_path) + 1;
  if (address->sun_family != AF_UNIX || size <= start || address->sun_path[0] != '\0') return false;
  memcpy(name, address->sun_path + 1, size - start);
  size_t length = snprintf(prefix, sizeof prefix, "ne|%s|", host_name());
  return strncmp(name, prefix, length) == 0 && sscanf(name + length, "%u:%u", cid, port) == 2;
}

static bool local_address(int fd, unsigned *cid, unsigned *port) {
  struct sockaddr_un address = {0};
  socklen_t size = sizeof address;
  return NEXT(getsockname)(fd, (struct sockaddr *)&address, &size) == 0 && parse(&address, size, cid, port);
}

/* One that was inherited or duplicated is known by its name. */
bool is_vsock(int fd) {
  unsigned cid, port;
  if (fd >= 0 && fd < MAX_FDS && known[fd].is_vsock) return true;
  int error = errno;
  bool found = local_address(fd, &cid, &port);
  errno = error;
  return found;
}

void forget_vsock(int fd) {
  if (fd >= 0 && fd < MAX_FDS) memset(&known[fd], 0, sizeof known[fd]);
}

static void remember(int fd) {
  if (fd < 0 || fd >= MAX_FDS) return;
  forget_vsock(fd);
  known[fd].is_vsock = true;
  known[fd].timeout_ms = CONNECT_TIMEOUT_MS;
}

static void fill(struct sockaddr *to, socklen_t *size, unsigned cid, unsigned port) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
  if (to == NULL || size == NULL) return;
  memcpy(to, &address, *size < sizeof address ? *size : sizeof address);
  *size = sizeof address;
}

int socket(int domain, int type, int protocol) {
  if (domain != AF_VSOCK) return NEXT(socket)(domain, type, protocol);
  int fd = NEXT(socket)(AF_UNIX, type, 0);
  remember(fd);
  return fd;
}

static int bind_port(int fd, unsigned port) {
  struct sockaddr_un name;
  if (port != VMADDR_PORT_ANY) {
    socklen_t size = name_of(&name, PARENT_CID, port);
    return NEXT(bind)(fd, (struct sockaddr *)&name, size);
  }
  for (int tries = 0; tries < 1000; tries++) {
    socklen_t size = name_of(&name, PARENT_CID, FIRST_FREE_PORT + (unsigned)(random() ^ getpid()));
    if (NEXT(bind)(fd, (struct sockaddr *)&name, size) == 0) return 0;
  }
  return -1;
}

int bind(int fd, const struct sockaddr *address, socklen_t size) {
  if (address->sa_family != AF_VSOCK || !is_vsock(fd)) return NEXT(bind)(fd, address, size);
  const struct sockaddr_vm *wanted = (const void *)address;
  if (wanted->svm_cid != PARENT_CID && wanted->svm_cid != VMADDR_CID_ANY) {
    errno = EADDRNOTAVAIL;
    return -1;
  }
  if (fd < MAX_FDS) known[fd].is_any = wanted->svm_cid == VMADDR_CID_ANY;
  return bind_port(fd, wanted->svm_port);
}

/* Ask the host for a guest's port; it answers with an errno. */
static int ask_for_port(int fd, unsigned cid, unsigned port, int timeout_ms) {
  uint32_t wanted[2] = {cid, port};
  int32_t error = 0;
  struct pollfd answer = {.fd = fd, .events = POLLIN};
  if (send(fd, wanted, sizeof wanted, MSG_NOSIGNAL) != sizeof wanted) return ECONNRESET;
  if (NEXT(poll)(&answer, 1, timeout_ms) == 0) return ETIMEDOUT;
  if (recv(fd, &error, sizeof error, MSG_WAITALL) != sizeof error) return ECONNRESET;
  return error;
}

static int connect_to(int fd, unsigned cid, unsigned port, int timeout_ms) {
  struct sockaddr_un name;
  unsigned own_cid, own_port;
  if (!local_address(fd, &own_cid, &own_port) && bind_port(fd, VMADDR_PORT_ANY) != 0) return errno;
  socklen_t size = name_of(&name, cid, port);
  bool is_guest = cid != HYPERVISOR_CID && cid != PARENT_CID;
  if (is_guest)
    size = offsetof(struct sockaddr_un, sun_path) + 1 +
           snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "ne|%s|guests", host_name());
  if (NEXT(connect)(fd, (struct sockaddr *)&name, size) != 0) return errno == ECONNREFUSED ? ECONNRESET : errno;
  /* The console's end is a reset where this byte stays unread. */
  if (cid == HYPERVISOR_CID) return send(fd, "?", 1, MSG_NOSIGNAL) == 1 ? 0 : ECONNRESET;
  return is_guest ? ask_for_port(fd, cid, port, timeout_ms) : 0;
}

/* It waits for the answer on a non-blocking socket as well: a Unix socket would seem connected at once. */
int connect(int fd, const struct sockaddr *address, socklen_t size) {
  if (address->sa_family != AF_VSOCK || !is_vsock(fd)) return NEXT(connect)(fd, address, size);
  const struct sockaddr_vm *wanted = (const void *)address;
  int flags = fcntl(fd, F_GETFL), timeout_ms = fd < MAX_FDS ? known[fd].timeout_ms : CONNECT_TIMEOUT_MS;
  fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  int error = connect_to(fd, wanted->svm_cid, wanted->svm_port, timeout_ms);
  if (error != 0) {
    /* A socket that could not connect may try again: a fresh one takes its place. */
    int fresh = NEXT(socket)(AF_UNIX, SOCK_STREAM, 0), closes = fcntl(fd, F_GETFD) & FD_CLOEXEC;
    dup3(fresh, fd, closes ? O_CLOEXEC : 0);
    NEXT(close)(fresh);
  } else if (fd < MAX_FDS) {
    known[fd].peer_cid = wanted->svm_cid;
    known[fd].peer_port = wanted->svm_port;
  }
  fcntl(fd, F_SETFL, flags);
  errno = error;
  return error == 0 ? 0 : -1;
}

int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
  if (!is_vsock(fd)) return NEXT(accept4)(fd, address, size, flags);
  struct sockaddr_un peer = {0};
  socklen_t peer_size = sizeof peer;
  unsigned cid = VMADDR_CID_ANY, port = VMADDR_PORT_ANY;
  int accepted = NEXT(accept4)(fd, (struct sockaddr *)&peer, &peer_size, flags);
  if (accepted < 0) return -1;
  remember(accepted);
  parse(&peer, peer_size, &cid, &port);
  fill(address, size, cid, port);
  return accepted;
}

int accept(int fd, struct sockaddr *restrict address, socklen_t *restrict size) {
  return is_vsock(fd) ? accept4(fd, address, size, 0) : NEXT(accept)(fd, address, size);
}

int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict size) {
  unsigned cid = VMADDR_CID_ANY, port = VMADDR_PORT_ANY;
  if (!is_vsock(fd)) return NEXT(getsockname)(fd, address, size);
  local_address(fd, &cid, &port);
  fill(address, size, fd < MAX_FDS && known[fd].is_any ? VMADDR_CID_ANY : cid, port);
  return 0;
}

int getpeername(int fd, struct sockaddr *restrict address, socklen_t *restrict size) {
  if (!is_vsock(fd)) return NEXT(getpeername)(fd, address, size);
  struct sockaddr_un peer = {0};
  socklen_t peer_size = sizeof peer;
  unsigned cid, port;
  if (NEXT(getpeername)(fd, (struct sockaddr *)&peer, &peer_size) != 0) return -1;
  if (!parse(&peer, peer_size, &cid, &port)) {
    cid = fd < MAX_FDS ? known[fd].peer_cid : VMADDR_CID_ANY;
    port = fd < MAX_FDS ? known[fd].peer_port : VMADDR_PORT_ANY;
  }
  fill(address, size, cid, port);
  return 0;
}

int setsockopt(int fd, int level, int option, const void *value, socklen_t size) {
  if (level != AF_VSOCK || !is_vsock(fd)) return NEXT(setsockopt)(fd, level, option, value, size);
  if (option == SO_VM_SOCKETS_CONNECT_TIMEOUT && size == sizeof(struct timeval) && fd < MAX_FDS) {
    const struct timeval *wanted = value;
    known[fd].timeout_ms = (int)(wanted->tv_sec * 1000 + wanted->tv_usec / 1000);
  }
  return 0;
}

/* Who a process says that it is: NE_SHIM_UID of its environment. */
static void pretend_user(struct ucred *peer) {
  static const char VARIABLE[] = "NE_SHIM_UID=";
  char path[64], environment[64 * 1024];
  snprintf(path, sizeof path, "/proc/%d/environ", peer->pid);
  int file = NEXT(open)(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? 0 : read(file, environment, sizeof environment - 1);
  if (file >= 0) NEXT(close)(file);
  if (length <= 0) return;
  environment[length] = '\0';
  for (char *text = environment; text < environment + length; text += strlen(text) + 1)
    if (strncmp(text, VARIABLE, sizeof VARIABLE - 1) == 0)
      peer->uid = (uid_t)strtoul(text + sizeof VARIABLE - 1, NULL, 10);
}

int getsockopt(int fd, int level, int option, void *restrict value, socklen_t *restrict size) {
  int status = NEXT(getsockopt)(fd, level, option, value, size);
  if (status != 0 || level != SOL_SOCKET) return status;
  if (option == SO_DOMAIN && is_vsock(fd)) *(int *)value = AF_VSOCK;
  if (option == SO_PEERCRED && *size >= sizeof(struct ucred)) pretend_user(value);
  return status;
}
