/*
 * An init that sends back what it gets on port 7000, in pieces of 16 KiB.
 * Loads its modules as the enclave's init does.
 */
#define main enclave_main
#include "../../enclavectl/image/init.c"
#undef main

#define PORT 7000
#define PIECE 16384

int main(void)
{
	static char data[PIECE];
	struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};

	try_mount("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	open_console();
	if (chdir("/") < 0)
		die("/");
	load_modules();
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0)
		die("echo: listen");
	printf("echo: listening\n");
	fflush(stdout);
	for (;;) {
		int peer = accept(listener, NULL, NULL);
		for (ssize_t size; (size = read(peer, data, sizeof data)) > 0;)
			for (ssize_t done = 0, step; done < size; done += step)
				if ((step = write(peer, data + done, size - done)) <= 0)
					break;
		close(peer);
	}
}
