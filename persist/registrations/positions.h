/* Files that are named by a position: 16 hexadecimal digits and a suffix, as snapshots and journal segments are. Any
 * thread. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_POSITIONS_H
#define NUMBERD_PERSIST_REGISTRATIONS_POSITIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"

#define POSITIONS_NAME_BYTES 32

/* `suffix` has at most 15 bytes. */
void positions_name(uint64_t position, const char *suffix, char name[static POSITIONS_NAME_BYTES]);

/* The positions of the folder's files of that suffix in ascending order, to be freed by the caller. None if the folder is
 * not there. */
bool positions_list(const char *folder, const char *suffix, uint64_t **positions, size_t *count,
                    struct fault *fault);

#endif
