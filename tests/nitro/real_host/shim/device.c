/* /dev/nitro_enclaves: its ioctls, and the huge pages of an enclave's memory. */
#define _GNU_SOURCE
#include "shim.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* linux/nitro_enclaves.h */
#define NE_CREATE_VM 0x8008ae20UL
#define NE_ADD_VCPU 0xc004ae21UL
#define NE_GET_IMAGE_LOAD_INFO 0xc010ae22UL
#define NE_SET_USER_MEMORY_REGION 0x4018ae23UL
#define NE_START_ENCLAVE 0xc010ae24UL

/* No enclave of the tests has more. */
#define MAX_PAGES 4096

struct page { char *address; size_t size; off_t offset; bool is_free; };

/* nitro-cli has one enclave a process. The enclave's descriptor is a pipe's end, whose other end the host has:
   closing that is EPOLLHUP alone, as of the driver. `link` carries its requests; its end tells the host of
   ours, however that came. */
static struct {
  pthread_mutex_t lock;
  int device, enclave, link, memory;
  bool is_memory_told;
  off_t memory_size;
  struct page pages[MAX_PAGES];
  size_t page_count;
} vm = {PTHREAD_MUTEX_INITIALIZER, -1, -1, -1, -1, false, 0, {{0}}, 0};

int open_device(int flags) {
  (void)flags;
  struct reply reply;
  int link = connect_host();
  if (link < 0) return -1;
  if (ask(link, (struct request){OP_OPEN, 0, 0, 0}, &reply, -1, NULL) != 0) {
    int error = errno;
    NEXT(close)(link);
    errno = error;
    return -1;
  }
  return vm.device = link;
}

bool is_of_device(int fd) { return fd >= 0 && (fd == vm.device || fd == vm.enclave); }

bool measures_image(void) { return vm.link >= 0; }

void close_device(int fd) {
  if (fd == vm.device) {
    vm.device = -1;
    NEXT(close)(fd);
    return;
  }
  /* First the descriptor, then the release: the other way round its hang-up would come while it is still
     polled, and nitro-cli would leave its loop before it answers the terminate. */
  struct reply reply;
  vm.enclave = -1;
  NEXT(close)(fd);
  ask(vm.link, (struct request){OP_RELEASE, 0, 0, 0}, &reply, -1, NULL);
  NEXT(close)(vm.link);
  vm.link = -1;
}

static int create_vm(uint64_t *slot) {
  struct reply reply;
  int enclave = -1, link = connect_host();
  if (link < 0) return -1;
  if (ask(link, (struct request){OP_CREATE, 0, 0, 0}, &reply, -1, &enclave) != 0) {
    int error = errno;
    NEXT(close)(link);
    errno = error;
    return -1;
  }
  vm.link = link;
  *slot = reply.a;
  return vm.enclave = enclave;
}

static int set_region(const uint64_t *region) { /* flags, size, address */
  struct reply reply;
  struct request request = {OP_REGION, region[0], region[1], UINT64_MAX};
  for (size_t i = 0; i < vm.page_count; i++)
    if (vm.pages[i].address == (char *)region[2] && !vm.pages[i].is_free) request.c = vm.pages[i].offset;
  int failed = ask(vm.link, request, &reply, vm.is_memory_told ? -1 : vm.memory, NULL);
  vm.is_memory_told = true;
  return failed;
}

static int enclave_ioctl(unsigned long code, void *argument) {
  struct reply reply;
  uint64_t *pair = argument;
  uint32_t *cpu = argument;
  switch (code) {
  case NE_GET_IMAGE_LOAD_INFO:
    if (ask(vm.link, (struct request){OP_LOAD_INFO, pair[0], 0, 0}, &reply, -1, NULL) != 0) return -1;
    pair[1] = reply.a;
    return 0;
  case NE_SET_USER_MEMORY_REGION:
    return set_region(argument);
  case NE_ADD_VCPU:
    if (ask(vm.link, (struct request){OP_VCPU, *cpu, 0, 0}, &reply, -1, NULL) != 0) return -1;
    *cpu = (uint32_t)reply.a;
    return 0;
  case NE_START_ENCLAVE:
    if (ask(vm.link, (struct request){OP_START, pair[0], pair[1], 0}, &reply, -1, NULL) != 0) return -1;
    pair[0] = reply.a;
    pair[1] = reply.b;
    return 0;
  default:
    errno = ENOTTY;
    return -1;
  }
}

int ioctl(int fd, unsigned long code, ...) {
  va_list rest;
  va_start(rest, code);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  if (!is_of_device(fd)) return NEXT(ioctl)(fd, code, argument);
  if (fd == vm.enclave) return enclave_ioctl(code, argument);
  if (code == NE_CREATE_VM) return create_vm(argument);
  errno = ENOTTY;
  return -1;
}

int boot_bound_ms(int given) {
  struct reply reply;
  if (vm.link < 0 || ask(vm.link, (struct request){OP_BOUND, given, 0, 0}, &reply, -1, NULL) != 0) return given;
  return (int)reply.a;
}

/* A huge page is a piece of one sparse file, at an address that is a multiple of its size. */
static void *map_page(size_t size, int protection) {
  struct reply reply;
  if (vm.link < 0 || vm.page_count == MAX_PAGES ||
      ask(vm.link, (struct request){OP_PAGE, size, 0, 0}, &reply, -1, NULL) != 0) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (vm.memory < 0) vm.memory = memfd_create("enclave", MFD_CLOEXEC);
  if (vm.memory < 0 || ftruncate(vm.memory, vm.memory_size + (off_t)size) != 0) return MAP_FAILED;
  char *room = NEXT(mmap)(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  char *aligned = (char *)(((uintptr_t)room + size - 1) & ~(uintptr_t)(size - 1));
  if (NEXT(mmap)(aligned, size, protection, MAP_SHARED | MAP_FIXED, vm.memory, vm.memory_size) == MAP_FAILED)
    return MAP_FAILED;
  if (aligned > room) NEXT(munmap)(room, aligned - room);
  NEXT(munmap)(aligned + size, room + size - aligned);
  vm.pages[vm.page_count++] = (struct page){aligned, size, vm.memory_size, false};
  vm.memory_size += (off_t)size;
  return aligned;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset) {
  if (!(flags & MAP_HUGETLB)) return NEXT(mmap)(address, size, protection, flags, fd, offset);
  pthread_mutex_lock(&vm.lock);
  void *page = map_page((size_t)1 << (flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK), protection);
  pthread_mutex_unlock(&vm.lock);
  return page;
}

/* nitro-cli unmaps each page a second time, when its allocator is dropped. */
int munmap(void *address, size_t size) {
  struct page *page = NULL;
  for (size_t i = 0; i < vm.page_count; i++)
    if (vm.pages[i].address == address && vm.pages[i].size == size) page = &vm.pages[i];
  if (page == NULL) return NEXT(munmap)(address, size);
  if (page->is_free) {
    page->address = NULL;
    return 0;
  }
  struct reply reply;
  page->is_free = true;
  fallocate(vm.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page->offset, (off_t)size);
  if (vm.link >= 0) ask(vm.link, (struct request){OP_UNPAGE, size, 0, 0}, &reply, -1, NULL);
  return NEXT(munmap)(address, size);
}

/* Only the bound on the boot is another one. */
int poll(struct pollfd *polled, nfds_t count, int timeout_ms) {
  if (count == 1 && timeout_ms >= 180000 && is_vsock(polled->fd)) timeout_ms = boot_bound_ms(timeout_ms);
  return NEXT(poll)(polled, count, timeout_ms);
}
