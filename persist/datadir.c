/* The data directory; see datadir.h. */
#include "persist/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/durable.h"

#define FORMAT_NAME "numberd.format"
#define FORMAT_LINE "numberd data directory, format %u, little-endian\nserver %016" PRIx64 "\n"

static char *join(const char *folder, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

static bool make_folder(const char *path, struct fault *fault)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return true;
    return fault_set(
        fault, EX_CANTCREAT,
        "cannot create the data directory %s: %s; name another with --data-dir or fix its permissions", path,
        strerror(errno));
}

static bool write_format(const char *path, struct fault *fault)
{
    uint64_t id;
    char text[128];
    if (getrandom(&id, sizeof id, 0) != sizeof id)
        return fault_set(fault, EX_OSERR, "the system gave no random bytes: %s", strerror(errno));
    int length = snprintf(text, sizeof text, FORMAT_LINE, DATADIR_FORMAT, id);
    return durable_write(path, FORMAT_NAME, text, (size_t)length, fault);
}

bool datadir_identify(const char *path, uint64_t *server_id, struct fault *fault)
{
    char *name = join(path, FORMAT_NAME);
    FILE *file = name == NULL ? NULL : fopen(name, "re");
    free(name);
    if (file == NULL)
        return fault_set(fault, EX_NOINPUT, "%s is no data directory of numberd (%s: %s); check --data-dir",
                         path, FORMAT_NAME, strerror(errno));
    unsigned version = 0;
    char id[17] = "";
    int fields =
        fscanf(file, "numberd data directory, format %u, little-endian server %16[0-9a-f]", &version, id);
    fclose(file);
    if (fields >= 1 && version != DATADIR_FORMAT)
        return fault_set(
            fault, EX_DATAERR,
            "the data directory %s has format %u, this numberd reads format %u; use the numberd that "
            "wrote it, or export there and import here",
            path, version, DATADIR_FORMAT);
    if (fields != 2 || strlen(id) != 16)
        return fault_set(fault, EX_DATAERR, "%s/%s is damaged; restore it from a backup", path, FORMAT_NAME);
    *server_id = strtoull(id, NULL, 16);
    return true;
}

static bool take_lock(struct datadir *datadir, struct fault *fault)
{
    char *name = join(datadir->path, "lock");
    datadir->lock_fd = name == NULL ? -1 : open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(name);
    if (datadir->lock_fd < 0)
        return fault_set(fault, EX_NOPERM, "cannot open the lock of %s: %s; run as the user who owns it",
                         datadir->path, strerror(errno));
    /* Somebody who only looks whether it is taken holds it for a moment. */
    bool locked = false;
    for (int tries = 0; !(locked = flock(datadir->lock_fd, LOCK_EX | LOCK_NB) == 0) && tries < 20; tries++)
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    if (!locked)
        return fault_set(fault, EX_TEMPFAIL,
                         "the data directory %s is in use by another process; stop that one or name another "
                         "with --data-dir",
                         datadir->path);
    return true;
}

bool datadir_open(struct datadir *datadir, const char *path, struct fault *fault)
{
    *datadir = (struct datadir){.path = strdup(path), .querylog_path = join(path, "querylog"), .lock_fd = -1};
    if (datadir->path == NULL || datadir->querylog_path == NULL) {
        datadir_close(datadir);
        return fault_set(fault, EX_OSERR, "out of memory");
    }
    char *format = join(path, FORMAT_NAME);
    bool ready = format != NULL && make_folder(path, fault) && take_lock(datadir, fault) &&
                 (access(format, F_OK) == 0 || write_format(path, fault)) &&
                 datadir_identify(path, &datadir->server_id, fault) &&
                 make_folder(datadir->querylog_path, fault);
    free(format);
    if (!ready)
        datadir_close(datadir);
    return ready;
}

void datadir_close(struct datadir *datadir)
{
    free(datadir->path);
    free(datadir->querylog_path);
    if (datadir->lock_fd >= 0)
        close(datadir->lock_fd);
    *datadir = (struct datadir){.lock_fd = -1};
}

bool datadir_is_in_use(const char *path)
{
    char *name = join(path, "lock");
    int fd = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    free(name);
    if (fd < 0)
        return false;
    bool in_use = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd);
    return in_use;
}
