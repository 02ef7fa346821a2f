/* Segment files; see segment.h. */
#include "persist/querylog/segment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#define MAGIC "NBRDSEGM"
#define VERSION 2u
#define BYTE_ORDER_MARK 0x01020304u
#define SET_ASIDE ".damaged"

struct header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t sequence;
    uint64_t hour_ms;
    uint64_t server_id;
    uint64_t zero[3];
};

static_assert(sizeof(struct header) == SEGMENT_HEADER_BYTES, "the header has no padding");

void segment_name(uint64_t sequence, uint64_t hour_ms, char name[static SEGMENT_NAME_BYTES])
{
    snprintf(name, SEGMENT_NAME_BYTES, "%016" PRIx64 "-%" PRIu64 ".segment", sequence, hour_ms / 1000);
}

static int open_in(const char *folder, const struct segment *segment, int flags)
{
    char name[SEGMENT_NAME_BYTES];
    char path[PATH_MAX];
    segment_name(segment->sequence, segment->hour_ms, name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_CLOEXEC, 0600);
}

int segment_create(const char *folder, const struct segment *segment, uint64_t server_id, struct fault *fault)
{
    struct header header = {.version = VERSION,
                            .byte_order = BYTE_ORDER_MARK,
                            .sequence = segment->sequence,
                            .hour_ms = segment->hour_ms,
                            .server_id = server_id};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    int fd = open_in(folder, segment, O_RDWR | O_CREAT | O_EXCL);
    if (fd >= 0 && write(fd, &header, sizeof header) == (ssize_t)sizeof header)
        return fd;
    fault_set(fault, EX_IOERR, "cannot create a query log segment in %s: %s; free space or repair the disk",
              folder, strerror(errno));
    if (fd >= 0) {
        close(fd);
        segment_remove(folder, segment);
    }
    return -1;
}

int segment_open(const char *folder, const struct segment *segment, uint64_t *server_id, struct fault *fault)
{
    struct header header;
    char name[SEGMENT_NAME_BYTES];
    segment_name(segment->sequence, segment->hour_ms, name);
    int fd = open_in(folder, segment, O_RDONLY);
    if (fd < 0) {
        fault_set(fault, EX_NOINPUT, "cannot open %s/%s: %s", folder, name, strerror(errno));
        return -1;
    }
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header.magic, MAGIC, sizeof header.magic) != 0 || header.version != VERSION ||
        header.byte_order != BYTE_ORDER_MARK) {
        fault_set(fault, EX_DATAERR, "%s/%s is no query log segment of version %u", folder, name, VERSION);
        close(fd);
        return -1;
    }
    if (server_id != NULL)
        *server_id = header.server_id;
    return fd;
}

/* The name of a segment, with a suffix or without one. */
static bool parse_name(const char *name, const char *suffix, struct segment *segment)
{
    char again[SEGMENT_NAME_BYTES];
    uint64_t hour_seconds;
    if (sscanf(name, "%16" SCNx64 "-%" SCNu64, &segment->sequence, &hour_seconds) != 2)
        return false;
    segment->hour_ms = hour_seconds * 1000;
    segment_name(segment->sequence, segment->hour_ms, again);
    size_t length = strlen(again);
    return strncmp(name, again, length) == 0 && strcmp(name + length, suffix) == 0;
}

/* Not by opendir(3) alone: ThreadSanitizer knows a descriptor's beginning from open(2), and would take one that opendir(3) brings
 * and closedir(3) ends for its number's last use, by whichever thread. */
DIR *segment_open_folder(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    if (entries == NULL && fd >= 0)
        close(fd);
    return entries;
}

static int by_sequence(const void *a, const void *b)
{
    const struct segment *left = a;
    const struct segment *right = b;
    return left->sequence < right->sequence ? -1 : left->sequence > right->sequence;
}

bool segment_list(const char *folder, struct segment **segments, size_t *count, struct fault *fault)
{
    *segments = NULL;
    *count = 0;
    DIR *entries = segment_open_folder(folder);
    if (entries == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the folder %s: %s", folder, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct segment segment = {0};
        struct stat status;
        if (!parse_name(entry->d_name, "", &segment) ||
            fstatat(dirfd(entries), entry->d_name, &status, 0) != 0)
            continue;
        segment.bytes = (uint64_t)status.st_size;
        struct segment *grown = realloc(*segments, (*count + 1) * sizeof **segments);
        if (grown == NULL) {
            closedir(entries);
            free(*segments);
            *segments = NULL;
            return fault_set(fault, EX_OSERR, "out of memory for the list of query log segments");
        }
        *segments = grown;
        (*segments)[(*count)++] = segment;
    }
    closedir(entries);
    if (*count > 0)
        qsort(*segments, *count, sizeof **segments, by_sequence);
    return true;
}

size_t segment_read(int fd, uint64_t *offset, void *buffer, size_t room)
{
    ssize_t got = pread(fd, buffer, room, (off_t)*offset);
    size_t whole = 0;
    size_t bytes;
    /* Frames follow each other unpadded; all sizes are multiples of 8, so each stays aligned. */
    while (got > 0 && whole < (size_t)got &&
           frame_examine((const char *)buffer + whole, (size_t)got - whole, &bytes) == FRAME_WHOLE)
        whole += bytes;
    *offset += whole;
    return whole;
}

bool segment_remove(const char *folder, const struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];
    char path[PATH_MAX];
    segment_name(segment->sequence, segment->hour_ms, name);
    return (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) < sizeof path && unlink(path) == 0;
}

bool segment_set_aside(const char *folder, const struct segment *segment)
{
    char name[SEGMENT_NAME_BYTES];
    char from[PATH_MAX];
    char to[PATH_MAX];
    segment_name(segment->sequence, segment->hour_ms, name);
    return (size_t)snprintf(from, sizeof from, "%s/%s", folder, name) < sizeof from &&
           (size_t)snprintf(to, sizeof to, "%s/%s" SET_ASIDE, folder, name) < sizeof to &&
           rename(from, to) == 0;
}

void segment_expire_set_aside(const char *folder, uint64_t retention_ms, uint64_t now_ms)
{
    DIR *entries = segment_open_folder(folder);
    if (entries == NULL)
        return; /* the next try is seconds away */
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct segment segment = {0};
        if (parse_name(entry->d_name, SET_ASIDE, &segment) &&
            frame_hour_over_at(segment.hour_ms, retention_ms) <= now_ms)
            (void)unlinkat(dirfd(entries), entry->d_name, 0);
    }
    closedir(entries);
}
