/* The drain: it empties the workers' rings into the spool.
 *
 * It sorts the blocks into batches by hour and bucket, has the spool seal and write them, and only then gives the
 * rings' room back: what a SIGKILL can take is what was in the rings. At rest it looks every 5 ms and writes
 * what has waited for 50 ms, so lone lookups share frames; under load it writes without pause.
 *
 * It has two threads, of which one at a time has a turn, under a mutex (ring.h: one consumer). The one that does the work steps back behind
 * those that answer (priority.h), so it takes what time they leave; the other, the helper, has the priority of all others and does the turns
 * while a ring is half full or more, until it is nearly empty. So a lookup waits for the log only where there is no other time for it.
 * (One worker and its load on two processors, 1,000 numbers a request: 99 million a second and p99 0.5 ms, with one thread that does not step
 * back 80 million and 2 ms. With one that steps back and no helper, and workers that take all there is, nine of ten events are lost.)
 *
 * When the spool refuses (its cap, the disk), the drain keeps what it has, closes the gate, and tries the same
 * batch again every 100 ms until it succeeds or is stopped.
 * What is missing it records as gaps (ring/event.h), in each hour that the gap has part in, at most DRAIN_GAP_HOURS: what the run
 * before left, what the workers dropped (looked for each second, so its times are that precise), what the sink gives up. */
#ifndef NUMBERD_PERSIST_QUERYLOG_DRAIN_H
#define NUMBERD_PERSIST_QUERYLOG_DRAIN_H

#include <stdatomic.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/querylog/spool.h"
#include "persist/querylog/tally.h"
#include "ring/event.h"
#include "ring/ring.h"

#define DRAIN_GAP_HOURS 48

struct drain;

struct drain_options {
    struct ring *const *rings; /* the caller's; the drain is their consumer until it is stopped */
    unsigned ring_count;
    struct spool *spool;
    struct tally *tally;
    bool is_final;         /* what is appended is stored; else the sink says when */
    struct query_gap past; /* what the run before left, not yet counted as missed; reason 0: nothing */
    notice_fn *notice;     /* for the operator; called from the drain's threads, one at a time */
};

/* NULL and the fault when memory or threads are short. */
struct drain *drain_start(const struct drain_options *options, struct fault *fault);

/* Empties the rings (their producers have stopped) and ends the thread. What the disk then refuses stays logged and not
 * appended in the tally, and is the next start's past. */
void drain_stop(struct drain *drain);
void drain_destroy(struct drain *drain);

/* Counts the gap's events as lost and has the drain record it; from any thread until drain_destroy. False when the drain is being
 * stopped: nothing is counted then. */
bool drain_note(struct drain *drain, const struct query_gap *gap);

/* True while the spool refuses: producers should not push. Valid until drain_stop. */
const atomic_bool *drain_gate(const struct drain *drain);

#endif
