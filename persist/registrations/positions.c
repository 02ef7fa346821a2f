/* Files that are named by a position; see positions.h. */
#include "persist/registrations/positions.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

void positions_name(uint64_t position, const char *suffix, char name[static POSITIONS_NAME_BYTES])
{
    snprintf(name, POSITIONS_NAME_BYTES, "%016" PRIx64 "%s", position, suffix);
}

static bool parse_name(const char *name, const char *suffix, uint64_t *position)
{
    char again[POSITIONS_NAME_BYTES];
    if (sscanf(name, "%16" SCNx64, position) != 1)
        return false;
    positions_name(*position, suffix, again);
    return strcmp(name, again) == 0;
}

static int by_position(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static bool append(uint64_t **positions, size_t *count, uint64_t position)
{
    uint64_t *grown = realloc(*positions, (*count + 1) * sizeof *grown);
    if (grown == NULL)
        return false;
    *positions = grown;
    grown[(*count)++] = position;
    return true;
}

bool positions_list(const char *folder, const char *suffix, uint64_t **positions, size_t *count,
                    struct fault *fault)
{
    *positions = NULL;
    *count = 0;
    DIR *entries = opendir(folder);
    if (entries == NULL)
        return errno == ENOENT ||
               fault_set(fault, EX_NOINPUT, "cannot read the folder %s: %s", folder, strerror(errno));
    bool good = true;
    for (const struct dirent *entry; good && (entry = readdir(entries)) != NULL;) {
        uint64_t position;
        if (parse_name(entry->d_name, suffix, &position))
            good = append(positions, count, position) ||
                   fault_set(fault, EX_OSERR, "out of memory for the list of %s", folder);
    }
    closedir(entries);
    if (!good) {
        free(*positions);
        *positions = NULL;
        *count = 0;
    } else if (*count > 0) {
        qsort(*positions, *count, sizeof **positions, by_position);
    }
    return good;
}
