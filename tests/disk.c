/* A disk that fails, and one that loses power; see disk.h. */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

#define SECTOR 512u
#define FILES_MAX 512
#define FOLDERS_MAX 8
#define BYTES_MAX ((size_t)64 << 10)

int __real_open(const char *path, int flags, ...);
ssize_t __real_pwrite(int fd, const void *bytes, size_t length, off_t offset);
int __real_fsync(int fd);
int __real_fdatasync(int fd);
int __real_rename(const char *from, const char *to);
int __real_unlink(const char *path);
int __real_ftruncate(int fd, off_t length);
int __real_posix_fallocate(int fd, off_t offset, off_t length);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);

int __wrap_open(const char *path, int flags, ...);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t length, off_t offset);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_ftruncate(int fd, off_t length);
int __wrap_posix_fallocate(int fd, off_t offset, off_t length);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* Bytes as they are in the kernel, or on the disk. */
struct content {
    uint8_t *bytes; /* BYTES_MAX, zeroed behind `length` */
    size_t length;
};

struct file {
    ino_t inode;
    struct content kernel;
    struct content disk;
    bool changed[BYTES_MAX / SECTOR]; /* sectors written since the last sync */
};

/* A name and what it leads to, in the kernel and on the disk; NULL: nothing. */
struct entry {
    char path[PATH_MAX];
    struct file *kernel;
    struct file *disk;
};

static struct {
    pthread_mutex_t mutex;
    bool active;
    bool with_memory;
    bool lasting;
    unsigned calls;
    unsigned fail_at;
    int error;
    bool is_cut; /* nobody will run to see what a failed sync has dropped */
    bool data_syncs_fail;
    void (*hook)(void *context);
    void *hook_context;
    bool hook_is_own;
    pthread_t hook_thread;
    /* Power cuts. */
    const char *folder; /* NULL: nothing is kept */
    struct file *files[FILES_MAX];
    unsigned file_count;
    struct entry entries[FILES_MAX];
    unsigned entry_count;
} disk = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void fail_test(const char *what)
{
    fprintf(stderr, "tests/disk.c: %s\n", what);
    abort();
}

/* --- what is kept; the mutex is held --- */

static struct content make_content(void)
{
    struct content content = {.bytes = __real_calloc(1, BYTES_MAX)};
    if (content.bytes == NULL)
        fail_test("out of memory");
    return content;
}

static struct file *file_of(int fd)
{
    struct stat status;
    if (disk.folder == NULL || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return NULL;
    for (unsigned i = disk.file_count; i > 0; i--) /* the newest: a removed file's inode may be used again */
        if (disk.files[i - 1]->inode == status.st_ino)
            return disk.files[i - 1];
    return NULL;
}

static struct file *add_file(int fd)
{
    struct stat status;
    struct file *file = __real_calloc(1, sizeof *file);
    if (file == NULL || fstat(fd, &status) != 0 || disk.file_count == FILES_MAX)
        fail_test("too many files");
    file->inode = status.st_ino;
    file->kernel = make_content();
    file->disk = make_content();
    return disk.files[disk.file_count++] = file;
}

static struct entry *entry_of(const char *path)
{
    for (unsigned i = 0; i < disk.entry_count; i++)
        if (strcmp(disk.entries[i].path, path) == 0)
            return &disk.entries[i];
    if (disk.entry_count == FILES_MAX)
        fail_test("too many names");
    struct entry *entry = &disk.entries[disk.entry_count++];
    *entry = (struct entry){.kernel = NULL};
    snprintf(entry->path, sizeof entry->path, "%s", path);
    return entry;
}

static bool is_inside(const char *path)
{
    return disk.folder != NULL && strncmp(path, disk.folder, strlen(disk.folder)) == 0;
}

static void note_open(const char *path, int flags, int fd)
{
    if (!is_inside(path) || (flags & O_CREAT) == 0)
        return;
    struct entry *entry = entry_of(path);
    if (entry->kernel == NULL || (flags & O_TRUNC) != 0)
        entry->kernel = add_file(fd); /* a truncated one counts as a new one: its old content may come back */
}

static void resize(struct file *file, size_t length)
{
    if (length > BYTES_MAX)
        fail_test("a file is too long");
    if (length < file->kernel.length)
        memset(file->kernel.bytes + length, 0, file->kernel.length - length);
    file->kernel.length = length;
}

static void note_write(struct file *file, const void *bytes, size_t length, size_t offset)
{
    if (offset + length > file->kernel.length)
        resize(file, offset + length);
    memcpy(file->kernel.bytes + offset, bytes, length);
    for (size_t sector = offset / SECTOR; length > 0 && sector <= (offset + length - 1) / SECTOR; sector++)
        file->changed[sector] = true;
}

/* A sync that failed: the kernel calls the pages clean, and they come back from the disk as they were. */
static void note_failed_sync(int fd)
{
    struct file *file = file_of(fd);
    if (file == NULL)
        return;
    for (size_t sector = 0; sector < BYTES_MAX / SECTOR; sector++) {
        size_t at = sector * SECTOR;
        if (!file->changed[sector] || at >= file->kernel.length)
            continue;
        size_t size = file->kernel.length - at < SECTOR ? file->kernel.length - at : SECTOR;
        memcpy(file->kernel.bytes + at, file->disk.bytes + at, size);
        if (__real_pwrite(fd, file->kernel.bytes + at, size, (off_t)at) != (ssize_t)size)
            fail_test("cannot drop what was not synced");
        file->changed[sector] = false;
    }
}

static void note_sync(int fd)
{
    struct file *file = file_of(fd);
    char link[64];
    char path[PATH_MAX];
    if (file != NULL) {
        memcpy(file->disk.bytes, file->kernel.bytes, BYTES_MAX);
        file->disk.length = file->kernel.length;
        memset(file->changed, 0, sizeof file->changed);
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return;
    path[length] = '\0';
    for (unsigned i = 0; i < disk.entry_count; i++) {
        const char *name = strrchr(disk.entries[i].path, '/');
        if ((size_t)(name - disk.entries[i].path) == (size_t)length &&
            strncmp(disk.entries[i].path, path, (size_t)length) == 0)
            disk.entries[i].disk = disk.entries[i].kernel;
    }
}

/* --- what a power cut leaves --- */

static void leave_file(const char *path, const struct file *file, uint64_t *random)
{
    uint8_t *bytes = __real_malloc(BYTES_MAX);
    size_t length = unit_random(random) % 2 == 0 ? file->disk.length : file->kernel.length;
    memcpy(bytes, file->disk.bytes, BYTES_MAX);
    for (size_t sector = 0; sector < BYTES_MAX / SECTOR; sector++)
        if (file->changed[sector] && unit_random(random) % 2 == 0)
            memcpy(bytes + sector * SECTOR, file->kernel.bytes + sector * SECTOR, SECTOR);
    int fd = __real_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || __real_pwrite(fd, bytes, length, 0) != (ssize_t)length)
        fail_test("cannot write what is left");
    close(fd);
    free(bytes);
}

void disk_leave(const char *target, uint64_t seed)
{
    pthread_mutex_lock(&disk.mutex);
    uint64_t random = seed;
    disk.active = false;
    mkdir(target, 0700);
    for (unsigned i = 0; i < disk.entry_count; i++) {
        const struct entry *entry = &disk.entries[i];
        const struct file *file = unit_random(&random) % 2 == 0 ? entry->disk : entry->kernel;
        char path[2 * PATH_MAX];
        snprintf(path, sizeof path, "%s%s", target, entry->path + strlen(disk.folder));
        for (char *slash = path + strlen(target) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
            *slash = '\0';
            mkdir(path, 0700);
            *slash = '/';
        }
        if (file != NULL)
            leave_file(path, file, &random);
    }
    pthread_mutex_unlock(&disk.mutex);
}

/* --- control --- */

static void forget(void)
{
    for (unsigned i = 0; i < disk.file_count; i++) {
        free(disk.files[i]->kernel.bytes);
        free(disk.files[i]->disk.bytes);
        free(disk.files[i]);
    }
    disk.file_count = disk.entry_count = 0;
    disk.folder = NULL;
    disk.active = false;
    disk.calls = 0;
}

void disk_reset(void)
{
    pthread_mutex_lock(&disk.mutex);
    forget();
    pthread_mutex_unlock(&disk.mutex);
}

void disk_fail_at(unsigned nth, bool lasting, int error, bool with_memory)
{
    pthread_mutex_lock(&disk.mutex);
    disk.active = true;
    disk.calls = 0;
    disk.fail_at = nth;
    disk.lasting = lasting;
    disk.error = error;
    disk.with_memory = with_memory;
    disk.is_cut = false;
    pthread_mutex_unlock(&disk.mutex);
}

void disk_keep(const char *kept)
{
    pthread_mutex_lock(&disk.mutex);
    forget();
    disk.folder = kept;
    pthread_mutex_unlock(&disk.mutex);
}

void disk_cut_power_at(unsigned nth)
{
    disk_fail_at(nth, true, EIO, false);
    pthread_mutex_lock(&disk.mutex);
    disk.is_cut = true;
    pthread_mutex_unlock(&disk.mutex);
}

void disk_fail_data_syncs(bool failing)
{
    pthread_mutex_lock(&disk.mutex);
    disk.data_syncs_fail = failing;
    pthread_mutex_unlock(&disk.mutex);
}

void disk_before_next_write(void (*hook)(void *context), void *context, bool own)
{
    pthread_mutex_lock(&disk.mutex);
    disk.hook = hook;
    disk.hook_context = context;
    disk.hook_is_own = own;
    disk.hook_thread = pthread_self();
    pthread_mutex_unlock(&disk.mutex);
}

void disk_go_on(void)
{
    pthread_mutex_lock(&disk.mutex);
    disk.active = false;
    pthread_mutex_unlock(&disk.mutex);
}

unsigned disk_calls(void)
{
    pthread_mutex_lock(&disk.mutex);
    unsigned calls = disk.calls;
    pthread_mutex_unlock(&disk.mutex);
    return calls;
}

/* Counts a call; true when it fails. The mutex is held. */
static bool fails(void)
{
    if (!disk.active)
        return false;
    disk.calls++;
    return disk.fail_at > 0 && (disk.lasting ? disk.calls >= disk.fail_at : disk.calls == disk.fail_at);
}

/* --- the calls --- */

int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : 0;
    int fd = error != 0 ? -1 : __real_open(path, flags, mode);
    error = fd < 0 && error == 0 ? errno : error;
    if (fd >= 0)
        note_open(path, flags, fd);
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return fd;
}

/* A write that fails has written its first half: that is what a full disk does. */
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    pthread_mutex_lock(&disk.mutex);
    void (*hook)(void *context) = NULL;
    void *context = disk.hook_context;
    if (!disk.hook_is_own || pthread_equal(disk.hook_thread, pthread_self())) {
        hook = disk.hook;
        disk.hook = NULL;
    }
    pthread_mutex_unlock(&disk.mutex);
    if (hook != NULL)
        hook(context);
    pthread_mutex_lock(&disk.mutex);
    bool failing = fails();
    size_t size = failing ? length / 2 : length;
    ssize_t wrote = __real_pwrite(fd, bytes, size, offset);
    struct file *file = file_of(fd);
    if (file != NULL && wrote > 0)
        note_write(file, bytes, (size_t)wrote, (size_t)offset);
    int error = failing ? disk.error : errno;
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return failing ? -1 : wrote;
}

static int synced(int fd, int (*call)(int fd), bool data)
{
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : data && disk.data_syncs_fail ? EIO : 0;
    int result = error != 0 ? -1 : call(fd);
    error = result != 0 && error == 0 ? errno : error;
    if (result == 0)
        note_sync(fd);
    else if (!disk.is_cut)
        note_failed_sync(fd);
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return result;
}

int __wrap_fsync(int fd)
{
    return synced(fd, __real_fsync, false);
}

int __wrap_fdatasync(int fd)
{
    return synced(fd, __real_fdatasync, true);
}

int __wrap_rename(const char *from, const char *to)
{
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : 0;
    int result = error != 0 ? -1 : __real_rename(from, to);
    error = result != 0 && error == 0 ? errno : error;
    if (result == 0 && is_inside(from)) {
        entry_of(to)->kernel = entry_of(from)->kernel;
        entry_of(from)->kernel = NULL;
    }
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return result;
}

int __wrap_unlink(const char *path)
{
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : 0;
    int result = error != 0 ? -1 : __real_unlink(path);
    error = result != 0 && error == 0 ? errno : error;
    if (result == 0 && is_inside(path))
        entry_of(path)->kernel = NULL;
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return result;
}

int __wrap_ftruncate(int fd, off_t length)
{
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : 0;
    int result = error != 0 ? -1 : __real_ftruncate(fd, length);
    struct file *file = result == 0 ? file_of(fd) : NULL;
    if (file != NULL)
        resize(file, (size_t)length);
    pthread_mutex_unlock(&disk.mutex);
    errno = error;
    return result;
}

/* Returns the error, as the real one does. */
int __wrap_posix_fallocate(int fd, off_t offset, off_t length)
{
    pthread_mutex_lock(&disk.mutex);
    int error = fails() ? disk.error : __real_posix_fallocate(fd, offset, length);
    struct file *file = error == 0 ? file_of(fd) : NULL;
    if (file != NULL && (size_t)(offset + length) > file->kernel.length)
        resize(file, (size_t)(offset + length));
    pthread_mutex_unlock(&disk.mutex);
    return error;
}

static bool memory_fails(void)
{
    if (!disk.with_memory) /* set while there is one thread */
        return false;
    pthread_mutex_lock(&disk.mutex);
    bool failing = fails();
    pthread_mutex_unlock(&disk.mutex);
    return failing;
}

void *__wrap_malloc(size_t size)
{
    return memory_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return memory_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return memory_fails() ? NULL : __real_realloc(memory, size);
}
