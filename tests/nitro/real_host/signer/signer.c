/* QEMU's attestation documents, signed by the host: loaded into QEMU with LD_PRELOAD.
 *
 * hw/virtio/virtio-nsm.c builds a COSE_Sign1 with libcbor, and leaves zeros where a signature and certificates
 * belong. It alone serializes an array of four whose third item is a byte string, its payload. That payload goes
 * to the host at the abstract socket NE_SIGN_HOST, and what the host answers takes the array's place.
 *
 * NE_SIGN_ZERO has the registers, in hex, that a debug-mode enclave has as zeros: QEMU has no debug mode. They
 * are blanked wherever QEMU writes them, so that DescribePCR says what the document says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct cbor_item_t;
bool cbor_isa_array(const struct cbor_item_t *);
bool cbor_isa_bytestring(const struct cbor_item_t *);
size_t cbor_array_size(const struct cbor_item_t *);
size_t cbor_bytestring_length(const struct cbor_item_t *);
unsigned char *cbor_bytestring_handle(const struct cbor_item_t *);
struct cbor_item_t *cbor_array_get(const struct cbor_item_t *, size_t); /* with a reference of its own */
void cbor_decref(struct cbor_item_t **);

#define PCR_BYTES 48

static void blank(unsigned char *written, size_t length) {
  const char *hex = getenv("NE_SIGN_ZERO");
  for (; hex != NULL && strlen(hex) >= 2 * PCR_BYTES; hex += 2 * PCR_BYTES) {
    unsigned char pcr[PCR_BYTES], *found;
    for (int i = 0; i < PCR_BYTES; i++) sscanf(hex + 2 * i, "%2hhx", &pcr[i]);
    while ((found = memmem(written, length, pcr, PCR_BYTES)) != NULL) memset(found, 0, PCR_BYTES);
  }
}

static size_t sign(const unsigned char *payload, size_t length, unsigned char *to, size_t room) {
  struct sockaddr_un host = {.sun_family = AF_UNIX};
  int named = snprintf(host.sun_path + 1, sizeof host.sun_path - 1, "%s", getenv("NE_SIGN_HOST"));
  int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ssize_t signed_length = 0;
  if (connect(sock, (struct sockaddr *)&host, offsetof(struct sockaddr_un, sun_path) + 1 + named) == 0 &&
      send(sock, payload, length, MSG_NOSIGNAL) == (ssize_t)length)
    signed_length = recv(sock, to, room, 0);
  close(sock);
  return signed_length > 0 ? (size_t)signed_length : 0; /* 0: it did not fit, an error in the guest */
}

static size_t serialize(const struct cbor_item_t *item, unsigned char *to, size_t room) {
  size_t (*real)(const struct cbor_item_t *, unsigned char *, size_t) = dlsym(RTLD_NEXT, "cbor_serialize");
  size_t length = real(item, to, room);
  blank(to, length);
  return length;
}

size_t cbor_serialize(const struct cbor_item_t *item, unsigned char *to, size_t room) {
  if (!cbor_isa_array(item) || cbor_array_size(item) != 4) return serialize(item, to, room);
  struct cbor_item_t *payload = cbor_array_get(item, 2);
  size_t length = cbor_isa_bytestring(payload)
                      ? sign(cbor_bytestring_handle(payload), cbor_bytestring_length(payload), to, room)
                      : serialize(item, to, room);
  cbor_decref(&payload);
  return length;
}
