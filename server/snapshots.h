/* Snapshots while serving: a thread that writes one (or replaces everything by one) when asked, on a schedule, and when the journal has grown long; and the
 * figures about them. For the main alone.
 *
 * Each good snapshot removes the ones before the last two, and the journal that none of them needs. When the journal has
 * failed, the next good snapshot that was asked for has it written again.
 *
 * request and figures from any thread; start and stop from the main thread. Requests that come while a snapshot is being
 * written share the next one. */
#ifndef NUMBERD_SERVER_SNAPSHOTS_H
#define NUMBERD_SERVER_SNAPSHOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/registrations/journal.h"
#include "persist/registrations/snapshot.h"
#include "server/registrations.h"
#include "server/stats.h"

struct snapshots;

struct snapshots_options {
    const char *data_dir;
    struct registrations *registrations;
    struct journal *journal;
    /* See replacement.h. */
    void (*serve)(void *context, struct directory *directory);
    void *context;
    /* With a feed: has all that is to be known of it in the journal, behind what is there; a snapshot is written; of it. NULL without. */
    bool (*note)(void *feed);
    void (*written)(void *feed);
    void *feed;
    struct snapshot_info found; /* what was loaded at the start; all zero: nothing */
    unsigned every_seconds;     /* 0: on no schedule */
    uint64_t journal_bytes;     /* written since the last one, from where on one is due; 0: never for that */
    notice_fn *notice;          /* for the operator; from the thread */
};

struct snapshots *snapshots_start(const struct snapshots_options *options, struct fault *fault);

/* The number of the snapshot that will cover all changes acknowledged so far; figures.number reaches it when
 * it is over, figures.good_number when it, or one after it, was written. */
uint64_t snapshots_request(struct snapshots *snapshots);

/* Asks for a replacement of all registrations (replacement.h), which is a snapshot, too, and has its number. */
uint64_t snapshots_request_replacement(struct snapshots *snapshots);

/* Whether to begin none from now on. True when none is under way. */
bool snapshots_hold(struct snapshots *snapshots, bool hold);

void snapshots_figures(struct snapshots *snapshots, struct stats_snapshot *figures);

/* Finishes a snapshot under way, ends the thread, and writes a last one if anything has changed since; unless there is somebody who goes
 * on at once with what the journal has (`is_last` false). Trying again for `patience_seconds` if the disk refuses and the journal has not
 * got it all. Frees. */
bool snapshots_stop(struct snapshots *snapshots, bool is_last, unsigned patience_seconds,
                    struct fault *fault);

#endif
