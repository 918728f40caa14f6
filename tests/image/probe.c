/* The command of a test image: prints what init gave it, leaves an orphan behind, and ends with status 7. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void print_mounts(void)
{
	char line[512], target[128], type[64];
	FILE *mounts = fopen("/proc/mounts", "r");

	while (mounts && fgets(line, sizeof line, mounts))
		if (sscanf(line, "%*s %127s %63s", target, type) == 2)
			printf("probe: mount %s %s\n", target, type);
}

int main(int argc, char **argv)
{
	char link[64] = "";

	for (int i = 0; i < argc; i++)
		printf("probe: word [%s]\n", argv[i]);
	for (char **one = environ; *one; one++)
		printf("probe: environment [%s]\n", *one);
	print_mounts();
	readlink("/dev/stdin", link, sizeof link - 1);
	printf("probe: stdin %s, process %d, session %s\n", link, getpid(), getsid(0) == getpid() ? "own" : "other");
	printf("probe: nsm %s, boot files %s\n", access("/dev/nsm", F_OK) ? "absent" : "present",
	       access("/init", F_OK) && access("/cmd", F_OK) && access("/env", F_OK) ? "gone" : "there");
	fflush(stdout);
	if (fork() == 0 && fork() == 0) {
		sleep(1);
		_exit(0);
	}
	sleep(2);
	return 7;
}
