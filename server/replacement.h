/* Replacing all registrations of a running server by a snapshot that somebody has put into DIR/incoming.
 *
 * It was made against an earlier state, whose position is its name: changes since then are carried out on it, too. The
 * whole is loaded beside what is served (memory for both), written as the newest snapshot, whose rename is the moment from
 * which on it counts, also after a crash; then lookups go to it, and what was served is freed. Lookups go on throughout;
 * changes are refused, with the word to repeat them, from the loading of the last changes until the end.
 *
 * The replacement takes a position of its own that is in no journal, so no older snapshot can be continued across it. */
#ifndef NUMBERD_SERVER_REPLACEMENT_H
#define NUMBERD_SERVER_REPLACEMENT_H

#include "persist/fault.h"
#include "persist/registrations/journal.h"
#include "persist/registrations/snapshot.h"
#include "server/registrations.h"

struct replacement_options {
    const char *data_dir;
    struct registrations *registrations;
    struct journal *journal;
    /* Has all lookups go to this directory, and returns when none looks into another one any more. */
    void (*serve)(void *context, struct directory *directory);
    void *context;
};

/* In a thread that may block for long, while nobody else writes a snapshot. True: it is done, `*info` says what was
 * written. False with a fault: all is as before. */
bool replacement_carry_out(const struct replacement_options *options, struct snapshot_info *info,
                           struct fault *fault);

#endif
