/* Snapshots while serving: a thread that writes one when asked, and the figures about them. For the main alone.
 *
 * request and figures from any thread; start, stop and write_now from the main thread. Requests that come while a
 * snapshot is being written share the next one. */
#ifndef NUMBERD_SERVER_SNAPSHOTS_H
#define NUMBERD_SERVER_SNAPSHOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/registrations/snapshot.h"
#include "server/registrations.h"
#include "server/stats.h"

struct snapshots;

struct snapshots_options {
    const char *folder;
    struct registrations *registrations;
    struct snapshot_info found;       /* what was loaded at the start; all zero: nothing */
    void (*notice)(const char *line); /* for the operator; from the thread */
};

struct snapshots *snapshots_start(const struct snapshots_options *options, struct fault *fault);

/* The number of the snapshot that will cover all changes acknowledged so far; figures.number reaches it when
 * it is over, figures.good_number when it, or one after it, was written. */
uint64_t snapshots_request(struct snapshots *snapshots);

void snapshots_figures(struct snapshots *snapshots, struct stats_snapshot *figures);

/* Finishes a snapshot under way, ends the thread, writes a last one if anything has changed since (trying
 * again for `patience_seconds` if the disk refuses), and frees. */
bool snapshots_stop(struct snapshots *snapshots, unsigned patience_seconds, struct fault *fault);

#endif
