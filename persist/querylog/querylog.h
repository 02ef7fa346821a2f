/* The query log as the server's main sees it: rings in, spool, drain, and the sink to Redis if there is one.
 *
 * start takes over the consumer side of the rings; stop wants their producers gone. Figures from any thread. */
#ifndef NUMBERD_PERSIST_QUERYLOG_QUERYLOG_H
#define NUMBERD_PERSIST_QUERYLOG_QUERYLOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/tally.h"
#include "ring/ring.h"

#define QUERYLOG_RETENTION_HOURS_MAX UINT64_C(720) /* 30 days */
#define QUERYLOG_RETENTION_HOURS_MIN UINT64_C(2)

struct querylog;

struct querylog_options {
    const char *folder;     /* DIR/querylog of the data directory */
    const uint8_t *officer; /* the public key that the log is sealed to (officer.h) */
    uint64_t server_id;
    const char *redis_url; /* NULL: the segments are the log */
    uint64_t retention_hours;
    uint64_t bytes_max; /* of all segments together */
    struct ring *const *rings;
    unsigned ring_count;
    notice_fn *notice;       /* for the operator; from the log's threads */
    frame_cipher_fn *cipher; /* what seals; NULL: libsodium's. From the drain's threads, one at a time */
};

struct querylog_figures {
    /* Events since the data directory was made; looked_up = stored + in_flight + lost. */
    uint64_t looked_up;
    uint64_t
        stored; /* in their final place: in segments, or confirmed by Redis; also those whose time is over */
    uint64_t spooled; /* of those in flight: in segments that Redis has not confirmed; 0 without Redis */
    uint64_t lost;
    uint64_t stored_before; /* of these, before the start */
    uint64_t lost_before;
    uint64_t bytes; /* of all segments */
    uint64_t segments;
    uint64_t redis_failures;
    uint64_t oldest_hour_ms; /* of segments and keys; 0: there are none */
    uint64_t erasure_lag_ms; /* for so long the oldest of them should have been erased; 0: none should */
    bool redis_used;
    bool redis_connected;
    bool redis_may_evict;
    bool redis_persists_nothing;
};

struct querylog *querylog_start(const struct querylog_options *options, struct fault *fault);

/* Empties the rings, ships to Redis for at most `patience_ms`, frees. The figures are the last ones. */
struct querylog_figures querylog_stop(struct querylog *querylog, unsigned patience_ms);

struct querylog_figures querylog_figures(const struct querylog *querylog);

/* The worker's line of the tally; valid until stop. */
struct query_counts *querylog_worker(const struct querylog *querylog, unsigned worker);

/* True while the log takes nothing more; valid until stop. */
const atomic_bool *querylog_gate(const struct querylog *querylog);

#endif
