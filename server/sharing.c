/* What another server may copy; see sharing.h. */
#include "server/sharing.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "persist/registrations/journal_file.h"
#include "persist/registrations/snapshot.h"

static bool ignore_change(void *context, uint64_t position, const struct change *change)
{
    (void)context;
    (void)position;
    (void)change;
    return true;
}

/* Nothing is written to the others any more. */
static bool is_newest(const char *folder, uint64_t first_position)
{
    struct journal_segment *segments;
    size_t count;
    struct fault fault;
    if (!journal_list(folder, &segments, &count, &fault))
        return true;
    bool newest = count == 0 || segments[count - 1].first_position <= first_position;
    free(segments);
    return newest;
}

/* The part of a segment that does not change any more: its whole blocks. What is written behind them while it is copied would be there in
 * part, and a copy that has a later block but not the one before it is a damaged one. */
static uint64_t whole_blocks(const char *folder, uint64_t first_position, uint64_t bytes)
{
    struct journal_extent extent;
    struct fault fault;
    const struct journal_segment segment = {.first_position = first_position, .bytes = bytes};
    if (!is_newest(folder, first_position))
        return bytes;
    return journal_read(folder, &segment, UINT64_MAX, ignore_change, NULL, &extent, &fault)
               ? extent.valid_bytes
               : 0;
}

/* The file of that position and kind, and how much of it is to be copied; -1: it is not there. */
static int open_file(const char *data_dir, bool is_snapshot, uint64_t position, uint64_t *bytes)
{
    char folder[PATH_MAX];
    char path[PATH_MAX];
    char name[POSITIONS_NAME_BYTES];
    struct stat status;
    is_snapshot ? snapshot_name(position, name) : journal_name(position, name);
    if ((size_t)snprintf(folder, sizeof folder, "%s/%s", data_dir,
                         is_snapshot ? SNAPSHOT_FOLDER : JOURNAL_FOLDER) >= sizeof folder ||
        (size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        *bytes =
            is_snapshot ? (uint64_t)status.st_size : whole_blocks(folder, position, (uint64_t)status.st_size);
    return fd;
}

static void add_file(json_t *files, const char *data_dir, bool is_snapshot, uint64_t position)
{
    char whole[64];
    char name[POSITIONS_NAME_BYTES];
    uint64_t bytes;
    int fd = open_file(data_dir, is_snapshot, position, &bytes);
    if (fd < 0)
        return;
    close(fd);
    is_snapshot ? snapshot_name(position, name) : journal_name(position, name);
    snprintf(whole, sizeof whole, "%s/%s", is_snapshot ? SNAPSHOT_FOLDER : JOURNAL_FOLDER, name);
    json_array_append_new(files, json_pack("{s:s, s:I}", "name", whole, "bytes", (json_int_t)bytes));
}

/* Segments that may have changes above the position. */
static void add_journal(json_t *files, const char *data_dir, const char *folder, uint64_t position)
{
    struct journal_segment *segments;
    size_t count;
    struct fault fault;
    if (!journal_list(folder, &segments, &count, &fault))
        return;
    for (size_t i = 0; i < count; i++) {
        if (i + 1 == count || segments[i + 1].first_position > position + 1)
            add_file(files, data_dir, false, segments[i].first_position);
    }
    free(segments);
}

/* The snapshot first: what comes in order is a whole, whatever is written meanwhile. */
static char *list(const void *context)
{
    const char *data_dir = context;
    char folder[PATH_MAX];
    uint64_t *positions;
    size_t count;
    uint64_t position = 0;
    struct fault fault;
    json_t *files = json_array();
    if ((size_t)snprintf(folder, sizeof folder, "%s/" SNAPSHOT_FOLDER, data_dir) < sizeof folder &&
        snapshot_list(folder, &positions, &count, &fault)) {
        if (count > 0) {
            position = positions[0];
            add_file(files, data_dir, true, position);
        }
        free(positions);
    }
    if ((size_t)snprintf(folder, sizeof folder, "%s/" JOURNAL_FOLDER, data_dir) < sizeof folder)
        add_journal(files, data_dir, folder, position);
    json_t *all = json_pack("{s:o}", "files", files);
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

/* Only names as they are listed: the position's digits and the suffix, in one of the two folders. */
static int open_named(const void *context, const char *name, uint64_t *bytes)
{
    for (unsigned is_snapshot = 0; is_snapshot < 2; is_snapshot++) {
        const char *folder = is_snapshot ? SNAPSHOT_FOLDER : JOURNAL_FOLDER;
        char again[POSITIONS_NAME_BYTES];
        uint64_t position;
        size_t length = strlen(folder);
        if (strncmp(name, folder, length) != 0 || name[length] != '/' ||
            sscanf(name + length + 1, "%16" SCNx64, &position) != 1)
            continue;
        is_snapshot ? snapshot_name(position, again) : journal_name(position, again);
        if (strcmp(name + length + 1, again) == 0)
            return open_file(context, is_snapshot, position, bytes);
    }
    return -1;
}

struct http_files sharing_of(const char *data_dir)
{
    return (struct http_files){list, open_named, data_dir};
}
