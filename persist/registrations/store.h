/* The registrations of a data directory as a whole: the newest good snapshot, then the journal's changes behind it.
 *
 * What is read is never guessed at: a damaged snapshot gives way to the one before it (or to none), which needs a
 * longer journal, at least up to where the damaged one was; a journal that is not there, that lacks a change which
 * once was durable (journal_file.h), or that does not begin where the snapshot ends, is a fault. A commit that was under way when the server died is cut off; nobody had an acknowledgement of it.
 *
 * Kept are the two newest snapshots and the journal from the older one on (store_trim).
 *
 * store_load blocks for as long as the disk takes; its progress may be watched and cancelled from other threads. All
 * other functions are for one thread at a time, the holder of the directory's lock, but store_load_ahead and store_check,
 * which change nothing. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_STORE_H
#define NUMBERD_PERSIST_REGISTRATIONS_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "hashing/directory.h"
#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/registrations/snapshot.h"

struct store_options {
    const char *data_dir;
    bool accounts;
    unsigned threads;
    notice_fn *notice; /* for the operator: what was passed over; may be NULL */
    /* Shown each mark of the journal that is read, in their order; may be NULL. After a load that did not come to its end, what was shown
     * is to be forgotten. */
    void (*mark)(void *context, const struct change *mark);
    void *mark_context;
};

/* What was found and loaded. */
struct store_found {
    struct snapshot_info snapshot; /* written_at_ms 0: there was none */
    uint64_t position;             /* of the last change, the journal's included */
    uint64_t replayed;             /* changes that came from the journal */
    uint64_t torn_bytes;           /* of a commit that was cut off */
    bool is_fallback;              /* newer snapshots were damaged */
    uint64_t damaged_position;     /* of the newest of these */
};

/* A new directory with all registrations, NULL with a fault. */
struct directory *store_load(const struct store_options *options, struct snapshot_progress *progress,
                             struct store_found *found, struct fault *fault);

/* The same for who does not hold the lock, while its holder writes: as much as can be read now, at least the snapshot. Changes nothing. */
struct directory *store_load_ahead(const struct store_options *options, struct snapshot_progress *progress,
                                   struct store_found *found, struct fault *fault);

/* Then, with the lock: carries out what has come since, and judges the whole as store_load does. False with a fault when the journal does
 * not continue what was loaded (there were two newer snapshots meanwhile, or a replacement): then all is to be loaded anew. */
bool store_catch_up(const struct store_options *options, struct directory *directory,
                    struct store_found *found, struct fault *fault);

/* The snapshot of `position` in any folder as a directory with account ids or without; NULL with a fault. */
struct directory *store_load_snapshot(const char *folder, uint64_t position, bool accounts, unsigned threads,
                                      struct snapshot_progress *progress, struct fault *fault);

/* Carries out the journal's changes behind `after` on the directory, up to `position`, which all are durable. False with a fault
 * when one of them is not there. */
bool store_replay(const char *data_dir, uint64_t after, uint64_t position, struct directory *directory,
                  struct fault *fault);

/* Makes sure of what store_load has found, before anything is written behind it: cuts the last segment off behind its
 * last commit and syncs it, since the kernel may hold it in memory alone; renames damaged snapshots that were passed
 * over to NAME.damaged; removes what was being written aside when the server died. */
bool store_settle(const char *data_dir, const struct store_found *found, struct fault *fault);

/* Makes a first journal segment behind `position` if the folder has none. A directory with snapshots always has one:
 * where it is missing, so may be changes. */
bool store_begin_journal(const char *data_dir, uint64_t position, struct fault *fault);

/* Removes all snapshots but the two newest, and returns the position of the older one (0 if there is one only): the
 * journal is needed from there on. */
uint64_t store_trim(const char *data_dir);

/* Reads everything, changes nothing, and writes one line a file to `out`. False when anything is wrong; `fault` is the
 * first. */
bool store_check(const char *data_dir, FILE *out, struct fault *fault);

/* DIR/journal, DIR/snapshots and DIR/incoming, made if they are not there. In the last lies what is to replace all
 * registrations of a server that runs (server/replacement.h). */
#define STORE_INCOMING_FOLDER "incoming"
bool store_make_folders(const char *data_dir, struct fault *fault);

#endif
