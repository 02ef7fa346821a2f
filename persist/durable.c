/* Files that are there whole or not at all; see durable.h. */
#include "persist/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define STREAM_BUFFER_BYTES (1 << 20)

static bool set_path(char path[PATH_MAX], const char *folder, const char *name, const char *suffix,
                     struct fault *fault)
{
    if ((size_t)snprintf(path, PATH_MAX, "%s/%s%s", folder, name, suffix) >= PATH_MAX)
        return fault_set(fault, EX_USAGE, "the path of %s is too long: choose a shorter data directory",
                         name);
    return true;
}

bool durable_begin(struct durable_file *file, const char *folder, const char *name, struct fault *fault)
{
    if (!set_path(file->final_path, folder, name, "", fault) ||
        !set_path(file->aside_path, folder, name, ".new", fault))
        return false;
    /* For the owner alone: all that is written here is about people. */
    int fd = open(file->aside_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    file->stream = fd < 0 ? NULL : fdopen(fd, "w");
    if (file->stream == NULL)
        return fault_set(fault, EX_CANTCREAT,
                         "cannot create %s: %s; check the folder's permissions and space", file->aside_path,
                         strerror(errno));
    setvbuf(file->stream, NULL, _IOFBF, STREAM_BUFFER_BYTES);
    return true;
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
    bool written = fflush(file->stream) == 0 && !ferror(file->stream) && fsync(fileno(file->stream)) == 0;
    int error = errno;
    bool closed = fclose(file->stream) == 0;
    file->stream = NULL;
    if (!written || !closed || rename(file->aside_path, file->final_path) != 0) {
        error = written ? errno : error;
        unlink(file->aside_path);
        return fault_set(fault, EX_IOERR,
                         "cannot write %s: %s; free space or repair the disk, then try again",
                         file->final_path, strerror(error));
    }
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", file->final_path);
    *strrchr(folder, '/') = '\0';
    return durable_sync_folder(folder, fault);
}

void durable_abort(struct durable_file *file)
{
    fclose(file->stream);
    file->stream = NULL;
    unlink(file->aside_path);
}

bool durable_write(const char *folder, const char *name, const void *bytes, size_t length,
                   struct fault *fault)
{
    struct durable_file file;
    if (!durable_begin(&file, folder, name, fault))
        return false;
    fwrite(bytes, 1, length, file.stream); /* a short write sets the stream's error, which commit looks at */
    return durable_commit(&file, fault);
}
