/* What libvirt's lock driver asks of sanlock in the life of a guest, call by call, through the real libsanlock; and what VDSM asks
 * besides. Prints each call with its result. Lockspace and leases are files in the directory that is its argument; the daemon
 * is found by SANLOCK_RUN_DIR. */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* sanlock.h, sanlock_resource.h and sanlock_admin.h, as far as they are needed. */
struct sanlk_disk { char path[1024]; uint64_t offset; uint32_t pad1, pad2; };
struct sanlk_lockspace { char name[48]; uint64_t host_id; uint32_t flags; struct sanlk_disk host_id_disk; };
struct sanlk_resource {
	char lockspace_name[48], name[48];
	uint64_t lver, data64;
	uint32_t data32, unused, flags, num_disks;
	struct sanlk_disk disks[1];
};
struct sanlk_options { char owner_name[48]; uint32_t flags, len; };
struct sanlk_host;
enum { INQ_WAIT = 1, RESTRICT_ALL = 1, REL_ALL = 1 };
int sanlock_align(struct sanlk_disk *);
int sanlock_init(struct sanlk_lockspace *, struct sanlk_resource *, int, int);
int sanlock_write_lockspace(struct sanlk_lockspace *, int, uint32_t, uint32_t);
int sanlock_add_lockspace_timeout(struct sanlk_lockspace *, uint32_t, uint32_t);
int sanlock_inq_lockspace(struct sanlk_lockspace *, uint32_t);
int sanlock_rem_lockspace(struct sanlk_lockspace *, uint32_t);
int sanlock_register(void);
int sanlock_killpath(int, uint32_t, const char *, char *);
int sanlock_restrict(int, uint32_t);
int sanlock_acquire(int, int, uint32_t, int, struct sanlk_resource **, struct sanlk_options *);
int sanlock_release(int, int, uint32_t, int, struct sanlk_resource **);
int sanlock_inquire(int, int, uint32_t, int *, char **);
int sanlock_state_to_args(char *, int *, struct sanlk_resource ***);
int sanlock_read_resource_owners(struct sanlk_resource *, uint32_t, struct sanlk_host **, int *);
int sanlock_get_hosts(const char *, uint64_t, struct sanlk_host **, int *, uint32_t);
int sanlock_reg_event(const char *, void *, uint32_t);
int sanlock_end_event(int, const char *, uint32_t);

#define SPACE "__LIBVIRT__DISKS__"
#define IO_TIMEOUT 5
#define EAGAIN_RESULT (-11)
/* MD5 of the names of two disks. */
static const char *DISKS[] = { "d41d8cd98f00b204e9800998ecf8427e", "0cc175b9c0f1b6a831c399e269772661" };
static struct sanlk_resource resources[2], *args[2] = { &resources[0], &resources[1] };

static int said(const char *call, int result)
{
	printf("%s %d\n", call, result);
	fflush(stdout);
	return result;
}

/* A file as long as the daemon wants an area to be. */
static void make(struct sanlk_disk *disk)
{
	int fd = open(disk->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	int length = said("align", sanlock_align(disk));
	if (fd < 0 || length <= 0 || posix_fallocate(fd, 0, length) || close(fd))
		exit(1);
}

/* A process that becomes a guest: it leaves when `stay` is closed. Its number. */
static pid_t guest(int stay[2], int *result)
{
	int tell[2];
	if (pipe(stay) || pipe(tell))
		exit(1);
	pid_t pid = fork();
	if (pid == 0) {
		struct sanlk_options options = { .owner_name = "guest" };
		char end;
		close(stay[1]);
		int sock = sanlock_register();
		said("register", sock < 0 ? sock : 0);
		said("killpath", sanlock_killpath(sock, 0, "/usr/libexec/libvirt_sanlock_helper",
			(char[]){ "qemu:///system 1b4e28ba-2fa1-11d2-883f-0016d3cca427 pause" }));
		*result = said("acquire", sanlock_acquire(sock, getpid(), 0, 2, args, &options));
		if (*result == 0)
			said("restrict", sanlock_restrict(sock, RESTRICT_ALL));
		if (write(tell[1], result, sizeof *result) < 0 || read(stay[0], &end, 1) < 0)
			_exit(1);
		_exit(0);
	}
	close(stay[0]);
	close(tell[1]);
	if (read(tell[0], result, sizeof *result) != sizeof *result)
		exit(1);
	close(tell[0]);
	return pid;
}

static char *state_of(pid_t pid)
{
	char *state = NULL;
	int count = 0;
	said("inquire", sanlock_inquire(-1, pid, 0, &count, &state));
	printf("  %d", count);
	for (char *word = state ? strtok(strdup(state), " ") : NULL; word; word = strtok(NULL, " "))
		printf(" %.18s %s", word, strrchr(word, '/') + 1);
	puts("");
	return state;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 1;
	struct sanlk_lockspace space = { .name = SPACE };
	struct sanlk_options options = { .owner_name = "guest" };
	struct sanlk_resource **parsed;
	struct sanlk_host *hosts;
	int count, result, stay[2], stay_too[2];

	/* The driver is loaded. */
	snprintf(space.host_id_disk.path, sizeof space.host_id_disk.path, "%s/" SPACE, argv[1]);
	make(&space.host_id_disk);
	said("write_lockspace", sanlock_write_lockspace(&space, 0, 0, IO_TIMEOUT));
	space.host_id = 1;
	said("add_lockspace", sanlock_add_lockspace_timeout(&space, 0, IO_TIMEOUT));
	said("add_lockspace", sanlock_add_lockspace_timeout(&space, 0, IO_TIMEOUT));
	said("inq_lockspace", sanlock_inq_lockspace(&space, INQ_WAIT));

	/* A guest starts; its disks are new. A second one wants the same disks. */
	for (int i = 0; i < 2; i++) {
		struct sanlk_resource *res = args[i];
		strcpy(res->lockspace_name, SPACE);
		strcpy(res->name, DISKS[i]);
		res->num_disks = 1;
		snprintf(res->disks[0].path, sizeof res->disks[0].path, "%s/%s", argv[1], DISKS[i]);
		make(&res->disks[0]);
		said("init", sanlock_init(NULL, res, 0, 0));
	}
	said("inquire", sanlock_inquire(-1, getpid(), 0, &count, NULL));
	pid_t first = guest(stay, &result);
	pid_t second = guest(stay_too, &result);
	close(stay_too[1]);
	waitpid(second, NULL, 0);

	/* Paused and resumed. */
	free(state_of(first));
	said("release", sanlock_release(-1, first, 0, 2, args));
	free(state_of(first));
	said("acquire", sanlock_acquire(-1, first, 0, 2, args, &options));

	/* Migrated away and, that having failed, back: only if nobody had the leases meanwhile. */
	char *state = state_of(first);
	said("release", sanlock_release(-1, first, REL_ALL, 0, NULL));
	said("state_to_args", sanlock_state_to_args(state, &count, &parsed));
	said("acquire", sanlock_acquire(-1, first, 0, count, parsed, &options));
	said("release", sanlock_release(-1, first, REL_ALL, 0, NULL));
	said("acquire", sanlock_acquire(-1, first, 0, count, parsed, &options));
	said("acquire", sanlock_acquire(-1, first, 0, 2, args, &options));

	/* VDSM looks who has what; until the first renewal nobody knows. */
	said("read_resource_owners", sanlock_read_resource_owners(args[0], 0, &hosts, &count));
	printf("  %d\n", count);
	while ((result = sanlock_get_hosts(SPACE, 0, &hosts, &count, 0)) == EAGAIN_RESULT)
		usleep(100000);
	said("get_hosts", result);
	printf("  %d\n", count);
	int events = sanlock_reg_event(SPACE, NULL, 0);
	said("reg_event", events < 0 ? events : 0);
	said("end_event", sanlock_end_event(events, SPACE, 0));

	/* The guest ends, and the host leaves. */
	close(stay[1]);
	waitpid(first, NULL, 0);
	while (sanlock_read_resource_owners(args[1], 0, &hosts, &count) == 0 && count > 0)
		usleep(100000);
	said("rem_lockspace", sanlock_rem_lockspace(&space, 0));
	return 0;
}
