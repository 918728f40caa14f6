/*
 * The first process of an enclave that boots a distribution's kernel: what nitro-cli's init does, and before
 * that the modules that such a kernel needs. Built by `enclavectl kernel prepare` as a static program; it has
 * no options and reads nothing but the boot ramdisk.
 *
 *   1. /dev, and standard streams on the console
 *   2. every module in / in the order of its name, such as 01-virtio_mmio.ko
 *   3. tell the parent that we live: one byte to CID 3, port 9000, which must come back
 *   4. the command and its environment from /cmd and /env, one word per line
 *   5. /rootfs becomes the root, with the file systems that programs expect
 *   6. start the command, bury children, and end the enclave when the command has ended
 *
 * What nitro-cli's does: https://github.com/aws/aws-nitro-enclaves-sdk-bootstrap/blob/main/init/init.c
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define PARENT_CID 3
#define HEARTBEAT_PORT 9000
#define HEARTBEAT 0xB7
#define HEARTBEAT_TRIES 50
#define MAX_WORDS 4096
#define COMMAND_PATH "/sbin:/usr/sbin:/bin:/usr/bin"
#define SAFE (MS_NODEV | MS_NOSUID | MS_NOEXEC)

static void die(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
	fflush(NULL);
	reboot(RB_AUTOBOOT); /* an enclave that reboots has ended */
	_exit(1);
}

static void try_mount(const char *type, const char *target, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	if (mount(type, target, type, flags, data) < 0 && errno != EBUSY)
		die(target);
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	if (fd < 0)
		return;
	for (int stream = 0; stream < 3; stream++)
		dup2(fd, stream);
	if (fd > 2)
		close(fd);
}

static int is_module(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 3 && strcmp(entry->d_name + length - 3, ".ko") == 0;
}

static void load_modules(void)
{
	struct dirent **names;
	int count = scandir("/", &names, is_module, alphasort);

	if (count < 0)
		die("/");
	for (int i = 0; i < count; i++) {
		int fd = open(names[i]->d_name, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			die(names[i]->d_name);
		close(fd);
		unlink(names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

/* The device appears some time after its driver, so the first tries may find no way to the parent. */
static int connect_parent(void)
{
	struct sockaddr_vm parent = {
		.svm_family = AF_VSOCK, .svm_cid = PARENT_CID, .svm_port = HEARTBEAT_PORT,
	};

	for (int i = 0; i < HEARTBEAT_TRIES; i++) {
		int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd >= 0 && connect(fd, (struct sockaddr *)&parent, sizeof parent) == 0)
			return fd;
		if (fd >= 0)
			close(fd);
		usleep(100 * 1000);
	}
	die("heartbeat: connect to the parent");
	return -1;
}

static void heartbeat(void)
{
	unsigned char byte = HEARTBEAT;
	int fd = connect_parent();

	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1 || byte != HEARTBEAT)
		die("heartbeat");
	close(fd);
}

static char **read_words(const char *path)
{
	char **words = calloc(MAX_WORDS + 1, sizeof *words);
	FILE *file = fopen(path, "r");
	size_t count = 0, size = 0;
	ssize_t length;

	if (words == NULL || file == NULL)
		die(path);
	while ((length = getline(&words[count], &size, file)) >= 0) {
		if (length > 0 && words[count][length - 1] == '\n')
			words[count][length - 1] = '\0';
		if (++count == MAX_WORDS) {
			errno = E2BIG;
			die(path);
		}
		size = 0;
	}
	free(words[count]);
	words[count] = NULL;
	fclose(file);
	unlink(path);
	return words;
}

static void enter_rootfs(void)
{
	if (mount("/rootfs", "/rootfs", NULL, MS_BIND, NULL) < 0 || chdir("/rootfs") < 0)
		die("/rootfs");
	if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		die("the new root");
}

/* Each controller by itself, as nitro-cli's init has them; what the kernel has not, a program must do without. */
static void mount_cgroups(void)
{
	char line[256], name[64], target[128];
	FILE *file = fopen("/proc/cgroups", "r");
	int is_enabled;

	if (file == NULL || mount("tmpfs", "/sys/fs/cgroup", "tmpfs", SAFE, "mode=0755") < 0)
		return;
	while (fgets(line, sizeof line, file) != NULL) {
		if (sscanf(line, "%63s %*d %*d %d", name, &is_enabled) != 2 || !is_enabled)
			continue;
		snprintf(target, sizeof target, "/sys/fs/cgroup/%s", name);
		if (mkdir(target, 0755) == 0 && mount("cgroup", target, "cgroup", SAFE, name) < 0)
			rmdir(target);
	}
	fclose(file);
}

static void mount_file_systems(void)
{
	try_mount("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	try_mount("proc", "/proc", SAFE | MS_RELATIME, NULL);
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	try_mount("tmpfs", "/run", MS_NODEV | MS_NOSUID, "mode=0755");
	try_mount("tmpfs", "/tmp", SAFE, NULL);
	try_mount("tmpfs", "/dev/shm", SAFE, NULL);
	try_mount("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, NULL);
	try_mount("sysfs", "/sys", SAFE, NULL);
	mount_cgroups();
}

static pid_t start(char **command, char **environment)
{
	static char *only_path[] = {"PATH=" COMMAND_PATH, NULL};
	sigset_t none;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* Where the command is looked for does not depend on the image's PATH, as with nitro-cli's init. */
	setenv("PATH", COMMAND_PATH, 1);
	execvpe(command[0], command, *environment ? environment : only_path);
	fprintf(stderr, "init: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

int main(void)
{
	static char *shell[] = {"sh", NULL};
	sigset_t all;

	if (getpid() != 1) {
		fputs("init: this is for the first process of an enclave; it would reboot this machine\n", stderr);
		return 1;
	}
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	try_mount("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, NULL);
	open_console();
	if (chdir("/") < 0)
		die("/");
	load_modules();
	heartbeat();
	char **environment = read_words("/env"), **command = read_words("/cmd");
	enter_rootfs();
	mount_file_systems();

	pid_t child = start(command[0] ? command : shell, environment), ended;
	int status = 0;

	if (child < 0)
		die("fork");
	do {
		ended = wait(&status);
	} while (ended != child && !(ended < 0 && errno != EINTR));
	fprintf(stderr, "init: the command ended with %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
		WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	fflush(NULL);
	sync();
	reboot(RB_AUTOBOOT);
	return 1;
}
