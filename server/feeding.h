/* Registrations that come from a feed: joins the door (registrations.h) with persist/registrations/feed.h. For the main alone.
 *
 * start, stop and destroy from the main thread; the door's and figures from any. */
#ifndef NUMBERD_SERVER_FEEDING_H
#define NUMBERD_SERVER_FEEDING_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/registrations/feed.h"
#include "server/registrations.h"
#include "server/stats.h"

struct feeding;

struct feeding_options {
    const char *redis_url; /* NULL: there is no feed */
    unsigned partitions;
    unsigned min_replicas;
    unsigned catch_up_percent;
    uint64_t node;
    const struct partition_set *holds; /* NULL: all */
    const char *lookups;               /* addresses at which the node is reached */
    const char *stats;
    struct feed_state *state;            /* as the journal had it */
    struct registrations *registrations; /* open */
    /* From the feed's thread: replies may go out; once, what it holds is up to date. */
    void (*decided)(void *context);
    void (*caught_up)(void *context);
    void *context;
    notice_fn *notice;
};

/* The door sends clients' changes there from then on. */
struct feeding *feeding_start(const struct feeding_options *options, struct fault *fault);
/* While nobody submits any more. */
void feeding_stop(struct feeding *feeding, unsigned patience_ms);
void feeding_destroy(struct feeding *feeding);

/* For the snapshots: see feed_note and feed_snapshot_written. */
bool feeding_note(void *feeding);
void feeding_snapshot_written(void *feeding);

void feeding_figures(struct feeding *feeding, struct stats_feed *figures);

#endif
