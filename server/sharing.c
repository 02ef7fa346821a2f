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

/* FOLDER/NAME below the data directory; -1: it is not there. */
static int open_file(const char *data_dir, const char *folder, const char *name, uint64_t *bytes)
{
    char path[PATH_MAX];
    struct stat status;
    if ((size_t)snprintf(path, sizeof path, "%s/%s/%s", data_dir, folder, name) >= sizeof path)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0 && (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        *bytes = (uint64_t)status.st_size;
    return fd;
}

static void add_file(json_t *files, const char *data_dir, const char *folder, const char *name)
{
    char whole[64];
    uint64_t bytes;
    int fd = open_file(data_dir, folder, name, &bytes);
    if (fd < 0)
        return;
    close(fd);
    snprintf(whole, sizeof whole, "%s/%s", folder, name);
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
        char name[JOURNAL_NAME_BYTES];
        if (i + 1 < count && segments[i + 1].first_position <= position + 1)
            continue;
        journal_name(segments[i].first_position, name);
        add_file(files, data_dir, JOURNAL_FOLDER, name);
    }
    free(segments);
}

/* The snapshot first: what comes in order is a whole, whatever is written meanwhile. */
static char *list(const void *context)
{
    const char *data_dir = context;
    char folder[PATH_MAX];
    char name[SNAPSHOT_NAME_BYTES];
    uint64_t *positions;
    size_t count;
    uint64_t position = 0;
    struct fault fault;
    json_t *files = json_array();
    if ((size_t)snprintf(folder, sizeof folder, "%s/" SNAPSHOT_FOLDER, data_dir) < sizeof folder &&
        snapshot_list(folder, &positions, &count, &fault)) {
        if (count > 0) {
            position = positions[0];
            snapshot_name(position, name);
            add_file(files, data_dir, SNAPSHOT_FOLDER, name);
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
    static const struct {
        const char *folder;
        void (*name)(uint64_t position, char name[static POSITIONS_NAME_BYTES]);
    } kinds[] = {{SNAPSHOT_FOLDER, snapshot_name}, {JOURNAL_FOLDER, journal_name}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char again[POSITIONS_NAME_BYTES];
        uint64_t position;
        size_t length = strlen(kinds[i].folder);
        if (strncmp(name, kinds[i].folder, length) != 0 || name[length] != '/' ||
            sscanf(name + length + 1, "%16" SCNx64, &position) != 1)
            continue;
        kinds[i].name(position, again);
        if (strcmp(name + length + 1, again) == 0)
            return open_file(context, kinds[i].folder, again, bytes);
    }
    return -1;
}

struct http_files sharing_of(const char *data_dir)
{
    return (struct http_files){list, open_named, data_dir};
}
