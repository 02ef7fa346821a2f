/* Erasure: the clock that it goes by, and its receipts.
 *
 * The clock. What is erased is gone, so a wall clock that is wrong for a moment must not decide alone; and one that was set back
 * must not keep what is due. The erasure's clock goes on with the monotonic clock, and follows the wall clock where that
 * differs by no more than ERASURE_DRIFT_MS. A jump beyond that, forward or back, is followed when it has lasted for
 * ERASURE_PATIENCE_MS. So a clock that jumps and is put right within that time erases nothing early and keeps nothing; one that
 * was wrong and is put right for good is followed an hour late. At the start it begins with the wall clock, unless that is
 * more than ERASURE_ABSENCE_MS ahead of where the run before ended: that is a jump like another.
 *
 * The receipts. One for each hour of which something was erased, a line of a ledger (ledger.h), DIR/querylog/erasures.ledger:
 *   "timeStamp", "hour", "events" (that were sealed in that hour, wherever they were stored), "keys", "segments", "bytes"
 * Receipts that cannot be written are tried again; the erasure does not wait for them.
 *
 * Of one thread; no I/O but the ledger's. */
#ifndef NUMBERD_PERSIST_QUERYLOG_ERASURE_H
#define NUMBERD_PERSIST_QUERYLOG_ERASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"

#define ERASURE_DRIFT_MS UINT64_C(600000)
#define ERASURE_PATIENCE_MS UINT64_C(3600000)
#define ERASURE_ABSENCE_MS (UINT64_C(7) * 24 * 3600000)
#define ERASURE_LEDGER_NAME "erasures.ledger"

struct erasure_clock {
    uint64_t now_ms;       /* Unix time; 0: not begun */
    uint64_t monotonic_ms; /* when that was */
    uint64_t apart_ms;     /* for so long the wall clock has been elsewhere; 0: it is not */
};

/* Begins; `before_ms` is where the run before ended, 0 if there was none. */
void erasure_clock_begin(struct erasure_clock *clock, uint64_t wall_ms, uint64_t monotonic_ms,
                         uint64_t before_ms);

/* Goes on, and returns the Unix time to erase by. */
uint64_t erasure_clock_tick(struct erasure_clock *clock, uint64_t wall_ms, uint64_t monotonic_ms);

struct erasure {
    uint64_t hour_ms;
    uint64_t keys;
    uint64_t segments;
    uint64_t bytes;
};

/* What was erased and has no receipt yet. Zero it to begin; free the list. */
struct erasures {
    struct erasure *list;
    size_t count;
    size_t capacity;
};

/* Adds to the hour's. Without memory the receipt is lost, not the erasure. */
void erasures_note(struct erasures *erasures, const struct erasure *erasure);

/* Writes the receipt of the first hour in the list and takes it out. `events` were sealed in it. */
bool erasures_write_first(struct erasures *erasures, const char *folder, uint64_t events, uint64_t wall_ms,
                          struct fault *fault);

#endif
