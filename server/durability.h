/* What makes the registrations last: joins the door (registrations.h) with the journal and the snapshots. For the main
 * alone.
 *
 * start, stop from the main thread; request and figures from any thread in between. */
#ifndef NUMBERD_SERVER_DURABILITY_H
#define NUMBERD_SERVER_DURABILITY_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/registrations/journal.h"
#include "persist/registrations/store.h"
#include "server/feeding.h"
#include "server/registrations.h"
#include "server/stats.h"

struct durability;

struct durability_options {
    const char *data_dir;
    struct registrations *registrations; /* opened by start */
    struct directory *directory;
    struct store_found found;
    enum journal_policy policy;
    unsigned interval_ms;
    unsigned snapshot_seconds;
    uint64_t journal_bytes;
    /* With a URL, the registrations are followed from there, and the journal is what a start goes on from. Its callbacks and what it
     * shares with the rest are filled in. */
    struct feeding_options feed;
    /* See replacement.h; from the snapshots' thread. */
    void (*serve)(void *context, struct directory *directory);
    /* From the journal's thread or the feed's: something may be acknowledged, or nothing more. */
    void (*acknowledged)(void *context);
    /* From the feed's thread, once: what it holds is up to date. */
    void (*caught_up)(void *context);
    notice_fn *notice;
    void *context;
};

struct durability *durability_start(const struct durability_options *options, struct fault *fault);

/* See snapshots_hold. */
bool durability_hold(struct durability *durability, bool hold);
/* The journal has, and nothing is acknowledged. */
bool durability_has_failed(const struct durability *durability);

/* While nobody changes registrations any more: a last snapshot if `is_last` (see snapshots_stop), and the journal's end. False with a
 * fault when changes that were acknowledged may be lost, or some that were not are. */
bool durability_stop(struct durability *durability, bool is_last, unsigned patience_seconds,
                     struct fault *fault);

/* See snapshots_request. */
uint64_t durability_request_snapshot(struct durability *durability);

/* See snapshots_request_replacement. */
uint64_t durability_request_replacement(struct durability *durability);

void durability_figures(struct durability *durability, struct stats_journal *journal,
                        struct stats_snapshot *snapshot, struct stats_feed *feed);

#endif
