/* For fuzz targets of what reads files: a folder in memory, made once and removed at the end, and files in it that get the bytes
 * of each run. */
#ifndef NUMBERD_TESTS_FUZZ_FILE_H
#define NUMBERD_TESTS_FUZZ_FILE_H

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_file_folder[256];

static inline void fuzz_file_remove_folder(void)
{
    char command[sizeof fuzz_file_folder + 16];
    snprintf(command, sizeof command, "rm -r '%s'", fuzz_file_folder);
    (void)!system(command);
}

/* The one folder of this process. */
static inline void fuzz_file_make_folder(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(fuzz_file_folder, sizeof fuzz_file_folder, "%s/numberd-fuzz-XXXXXX",
             parent == NULL ? "/dev/shm" : parent);
    if (mkdtemp(fuzz_file_folder) == NULL)
        abort();
    atexit(fuzz_file_remove_folder);
}

static inline int fuzz_file_create(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", fuzz_file_folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    return fd;
}

static inline void fuzz_file_fill(int fd, const void *bytes, size_t size)
{
    if (pwrite(fd, bytes, size, 0) != (ssize_t)size || ftruncate(fd, (off_t)size) != 0)
        abort();
}

static inline void fuzz_file_expect(bool holds)
{
    if (!holds)
        abort();
}

#endif
