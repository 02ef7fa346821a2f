/* Replacing all registrations of a running server; see replacement.h. */
#include "server/replacement.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

#include "persist/registrations/store.h"

#define LOAD_THREADS 2

struct replacement {
    const struct replacement_options *options;
    char incoming[PATH_MAX];
    char snapshots[PATH_MAX];
    uint64_t base; /* position of the state that it was made against */
    struct directory *fresh;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The newest that lies there. */
static bool find(struct replacement *replacement, struct fault *fault)
{
    uint64_t *positions;
    size_t count;
    const char *data_dir = replacement->options->data_dir;
    if ((size_t)snprintf(replacement->incoming, PATH_MAX, "%s/" STORE_INCOMING_FOLDER, data_dir) >=
            PATH_MAX ||
        (size_t)snprintf(replacement->snapshots, PATH_MAX, "%s/" SNAPSHOT_FOLDER, data_dir) >= PATH_MAX)
        return fault_set(fault, EX_USAGE, "the path of the data directory is too long");
    if (!snapshot_list(replacement->incoming, &positions, &count, fault))
        return false;
    if (count > 0)
        replacement->base = positions[0];
    free(positions);
    return count > 0 || fault_set(fault, EX_NOINPUT, "%s has nothing that could replace the registrations",
                                  replacement->incoming);
}

static bool load(struct replacement *replacement, struct fault *fault)
{
    struct snapshot_progress progress = {0};
    bool accounts = directory_shape(replacement->options->registrations->directory).accounts;
    replacement->fresh = store_load_snapshot(replacement->incoming, replacement->base, accounts, LOAD_THREADS,
                                             &progress, fault);
    return replacement->fresh != NULL;
}

/* While changes are paused: the last ones, and the snapshot from whose rename on the replacement counts. */
static bool finish(const struct replacement *replacement, uint64_t position, struct snapshot_info *info,
                   struct fault *fault)
{
    const struct replacement_options *options = replacement->options;
    if (!journal_sync(options->journal))
        return fault_set(fault, EX_IOERR, "the journal has failed: run numberctl snapshot first");
    return store_replay(options->data_dir, replacement->base, position, replacement->fresh, fault) &&
           snapshot_write(replacement->snapshots, replacement->fresh, position + 1, now_ms(), false, NULL,
                          NULL, info, fault);
}

/* It is durable: now it has to be served, whatever becomes of the journal, which says itself when it fails. */
static void put_in_place(const struct replacement *replacement, uint64_t position)
{
    const struct replacement_options *options = replacement->options;
    struct directory *before = options->registrations->directory;
    struct fault ignored;
    (void)journal_skip(options->journal, position, &ignored);
    options->serve(options->context, replacement->fresh);
    registrations_go_on(options->registrations, replacement->fresh, position);
    directory_destroy(before);
    snapshot_remove(replacement->incoming, replacement->base);
}

bool replacement_carry_out(const struct replacement_options *options, struct snapshot_info *info,
                           struct fault *fault)
{
    struct replacement replacement = {.options = options};
    if (!find(&replacement, fault) || !load(&replacement, fault))
        return false;
    uint64_t position = registrations_pause(options->registrations);
    if (!finish(&replacement, position, info, fault)) {
        registrations_go_on(options->registrations, NULL, 0);
        directory_destroy(replacement.fresh);
        return false;
    }
    put_in_place(&replacement, position + 1);
    return true;
}
