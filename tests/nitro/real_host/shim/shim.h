/* A Nitro host for one unmodified nitro-cli, and AF_VSOCK for whoever dials its enclaves.
 *
 * Loaded with LD_PRELOAD. It has no policy: every call of the driver is one request to the host, which is the
 * server of tests/nitro/real_host, and one reply. Only what must be in this process is here: descriptors,
 * pages, and addresses.
 *
 *   NE_SHIM_HOST   the host's name: its sockets are abstract, "\0ne|HOST|...", and go with their owners
 *   NE_SHIM_DIR    its folder: tree/ is what /sys looks like, hold-hash keeps images from being measured
 *   NE_SHIM_UID    who calls (nitro-cli lets the owner of an enclave and root end it)
 *   NE_SHIM_ARGV   a file that gets this process's arguments as a line of JSON
 */
#ifndef NE_SHIM_H
#define NE_SHIM_H

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* The libc's own function of that name. */
#define NEXT(name) ((typeof(&name))next(#name))

/* Requests, in the order of server.py. */
enum op { OP_OPEN = 1, OP_CREATE, OP_PAGE, OP_UNPAGE, OP_LOAD_INFO, OP_REGION, OP_VCPU, OP_START, OP_RELEASE, OP_BOUND };

struct request { uint64_t op, a, b, c; };
struct reply { int64_t error; uint64_t a, b; };

/* link.c */
void *next(const char *name);
const char *host_name(void);
const char *host_folder(void);
int connect_host(void);
/* One request and its reply; passes the descriptor `give` unless it is -1, and stores one in `*take`.
   Returns 0, or -1 with errno as the host says. */
int ask(int link, struct request request, struct reply *reply, int give, int *take);

/* device.c */
int open_device(int flags);
bool is_of_device(int fd);
void close_device(int fd);
bool measures_image(void);
/* The milliseconds for which the heartbeat is awaited, in place of nitro-cli's own. */
int boot_bound_ms(int given);

/* vsock.c */
bool is_vsock(int fd);
void forget_vsock(int fd);

#endif
