/* What should have been erased and is still there, on the disk or in Redis.
 *
 * Overdue is a hold after its end, and what frame_hour_over_at says: a key by the retention that is written in it; a segment, and a stream in Redis, by
 * the longest there is. An entry of Redis without an expiry, or with a later one, is overdue to be. Redis is asked by name only:
 * of each server that is listed there, the hours since twice the retention ago. Pure reading. */
#ifndef NUMBERD_PERSIST_QUERYLOG_OVERDUE_H
#define NUMBERD_PERSIST_QUERYLOG_OVERDUE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "persist/fault.h"

/* One line in `out` for each thing found, and how many in `*found`. False: it could not be read. */
bool overdue_in_folder(const char *folder, uint64_t now_ms, FILE *out, uint64_t *found, struct fault *fault);
bool overdue_in_redis(const char *url, uint64_t now_ms, FILE *out, uint64_t *found, struct fault *fault);

#endif
