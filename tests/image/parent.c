/*
 * The parent of the enclaves that QEMU emulates: a guest of its own with CID 3, as enclaves expect, because the
 * vsock device carries nothing to CID 3 otherwise. Passes each connection to a port of its on to the same port
 * of the host (CID 2), which the device has as Unix sockets. Loads its modules as the enclave's init does.
 */
#define main enclave_main
#include "../../enclavectl/image/init.c"
#undef main
#include <poll.h>

/* Between two guests the device drops what does not fit into one receive buffer of Linux, which has 4 KiB. */
#define CHUNK 2048

static int vsock_to(unsigned int cid, unsigned int port, int (*how)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && how(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Whether there may be more to copy. */
static int copy(int from, int to)
{
	static char data[CHUNK];
	ssize_t size = read(from, data, sizeof data);

	for (ssize_t done = 0, step; done < size; done += step)
		if ((step = write(to, data + done, size - done)) <= 0)
			return 0;
	return size > 0;
}

static void pass_on(int enclave, unsigned int port)
{
	int host = vsock_to(VMADDR_CID_HOST, port, connect);
	struct pollfd polled[] = {{.fd = enclave, .events = POLLIN}, {.fd = host, .events = POLLIN}};

	while (host >= 0 && poll(polled, 2, -1) > 0)
		for (int side = 0; side < 2; side++)
			if (polled[side].revents && !copy(polled[side].fd, polled[!side].fd))
				_exit(0);
	_exit(1);
}

static void serve(unsigned int port)
{
	int listener = vsock_to(VMADDR_CID_ANY, port, bind);
	unsigned long long size = CHUNK; /* as much as an enclave may send before we have read it */

	if (listener < 0 || setsockopt(listener, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof size) < 0 ||
	    listen(listener, 16) < 0)
		die("parent: listen");
	printf("parent: port %u\n", port);
	fflush(stdout);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int enclave = accept(listener, NULL, NULL);

		if (enclave >= 0 && fork() == 0)
			pass_on(enclave, port);
		close(enclave);
	}
}

int main(void)
{
	try_mount("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	open_console();
	if (chdir("/") < 0)
		die("/");
	load_modules();
	if (fork() == 0)
		serve(HEARTBEAT_PORT);
	serve(5006);
}
