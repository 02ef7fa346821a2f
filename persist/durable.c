/* Files that are there whole or not at all; see durable.h. */
#include "persist/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static bool set_path(char path[PATH_MAX], const char *folder, const char *name, const char *suffix,
                     struct fault *fault)
{
    if ((size_t)snprintf(path, PATH_MAX, "%s/%s%s", folder, name, suffix) >= PATH_MAX)
        return fault_set(fault, EX_USAGE, "the path of %s is too long: choose a shorter data directory",
                         name);
    return true;
}

static bool cannot_write(const struct durable_file *file, int error, struct fault *fault)
{
    return fault_set(fault, EX_IOERR, "cannot write %s: %s; free space or repair the disk, then try again",
                     file->final_path, strerror(error));
}

/* Who could read the old file can read the new one, when root writes what is another's. */
static void take_after(const struct durable_file *file)
{
    struct stat status;
    if (geteuid() == 0 && stat(file->final_path, &status) == 0 && S_ISREG(status.st_mode) &&
        fchown(file->fd, status.st_uid, status.st_gid) == 0)
        (void)fchmod(file->fd, status.st_mode & 0777);
}

bool durable_begin(struct durable_file *file, const char *folder, const char *name, struct fault *fault)
{
    if (!set_path(file->final_path, folder, name, "", fault) ||
        !set_path(file->aside_path, folder, name, ".new", fault))
        return false;
    /* For the owner alone: all that is written here is about people. */
    file->fd = open(file->aside_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file->fd >= 0)
        take_after(file);
    return file->fd >= 0 ||
           fault_set(fault, EX_CANTCREAT, "cannot create %s: %s; check the folder's permissions and space",
                     file->aside_path, strerror(errno));
}

bool durable_pwrite(int fd, const void *bytes, size_t length, uint64_t offset)
{
    for (size_t done = 0; done < length;) {
        ssize_t wrote = pwrite(fd, (const char *)bytes + done, length - done, (off_t)(offset + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            errno = wrote == 0 ? EIO : errno;
            return false;
        }
        done += (size_t)wrote;
    }
    return true;
}

bool durable_put(struct durable_file *file, const void *bytes, size_t length, uint64_t offset,
                 struct fault *fault)
{
    return durable_pwrite(file->fd, bytes, length, offset) || cannot_write(file, errno, fault);
}

bool durable_sync_folder(const char *folder, struct fault *fault)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    return synced || fault_set(fault, EX_IOERR, "cannot sync the folder %s: %s", folder, strerror(error));
}

bool durable_commit(struct durable_file *file, struct fault *fault)
{
    bool written = fsync(file->fd) == 0;
    int error = errno;
    if (close(file->fd) != 0 && written) {
        written = false;
        error = errno;
    }
    file->fd = -1;
    if (written && rename(file->aside_path, file->final_path) != 0) {
        written = false;
        error = errno;
    }
    if (!written) {
        unlink(file->aside_path);
        return cannot_write(file, error, fault);
    }
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", file->final_path);
    *strrchr(folder, '/') = '\0';
    return durable_sync_folder(folder, fault);
}

void durable_abort(struct durable_file *file)
{
    close(file->fd);
    file->fd = -1;
    unlink(file->aside_path);
}

bool durable_write(const char *folder, const char *name, const void *bytes, size_t length,
                   struct fault *fault)
{
    struct durable_file file;
    if (!durable_begin(&file, folder, name, fault))
        return false;
    if (durable_put(&file, bytes, length, 0, fault))
        return durable_commit(&file, fault);
    durable_abort(&file);
    return false;
}
