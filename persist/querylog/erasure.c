/* Erasure; see erasure.h. */
#include "persist/querylog/erasure.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "persist/querylog/ledger.h"

/* --- the clock --- */

void erasure_clock_begin(struct erasure_clock *clock, uint64_t wall_ms, uint64_t monotonic_ms,
                         uint64_t before_ms)
{
    bool is_jump = before_ms != 0 && wall_ms > before_ms && wall_ms - before_ms > ERASURE_ABSENCE_MS;
    *clock = (struct erasure_clock){.now_ms = is_jump ? before_ms : wall_ms, .monotonic_ms = monotonic_ms};
}

uint64_t erasure_clock_tick(struct erasure_clock *clock, uint64_t wall_ms, uint64_t monotonic_ms)
{
    uint64_t passed = monotonic_ms - clock->monotonic_ms;
    uint64_t expected = clock->now_ms + passed;
    uint64_t apart = wall_ms > expected ? wall_ms - expected : expected - wall_ms;
    clock->monotonic_ms = monotonic_ms;
    clock->apart_ms = apart <= ERASURE_DRIFT_MS ? 0 : clock->apart_ms + (passed > 0 ? passed : 1);
    if (clock->apart_ms >= ERASURE_PATIENCE_MS)
        clock->apart_ms = 0;
    clock->now_ms = clock->apart_ms == 0 ? wall_ms : expected;
    return clock->now_ms;
}

/* --- the receipts --- */

void erasures_note(struct erasures *erasures, const struct erasure *erasure)
{
    for (size_t i = 0; i < erasures->count; i++) {
        struct erasure *known = &erasures->list[i];
        if (known->hour_ms != erasure->hour_ms)
            continue;
        known->keys += erasure->keys;
        known->segments += erasure->segments;
        known->bytes += erasure->bytes;
        return;
    }
    if (erasures->count == erasures->capacity) {
        size_t capacity = erasures->capacity * 2 + 16;
        struct erasure *grown = realloc(erasures->list, capacity * sizeof *grown);
        if (grown == NULL)
            return;
        erasures->list = grown;
        erasures->capacity = capacity;
    }
    erasures->list[erasures->count++] = *erasure;
}

static void format_second(uint64_t time_ms, char text[static 32])
{
    struct tm utc;
    time_t seconds = (time_t)(time_ms / 1000);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
}

bool erasures_write_first(struct erasures *erasures, const char *folder, uint64_t events, uint64_t wall_ms,
                          struct fault *fault)
{
    const struct erasure *first = &erasures->list[0];
    struct ledger_state state;
    char path[PATH_MAX];
    char members[320];
    char hour[32];
    char now[32];
    format_second(first->hour_ms, hour);
    format_second(wall_ms, now);
    snprintf(members, sizeof members,
             "\"timeStamp\":\"%s\",\"hour\":\"%s\",\"events\":%" PRIu64 ",\"keys\":%" PRIu64
             ",\"segments\":%" PRIu64 ",\"bytes\":%" PRIu64,
             now, hour, events, first->keys, first->segments, first->bytes);
    if ((size_t)snprintf(path, sizeof path, "%s/" ERASURE_LEDGER_NAME, folder) >= sizeof path)
        return fault_set(fault, EX_USAGE, "the path of the query log is too long");
    if (!ledger_append(path, members, &state, fault))
        return false;
    erasures->count--;
    memmove(erasures->list, erasures->list + 1, erasures->count * sizeof *erasures->list);
    return true;
}
