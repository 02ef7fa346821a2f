/* Journal and snapshots behind the door; see durability.h. */
#include "server/durability.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "persist/registrations/journal_file.h"
#include "server/snapshots.h"

struct durability {
    struct journal *journal;
    struct snapshots *snapshots;
    struct feeding *feeding; /* NULL: the journal is the truth */
    enum journal_policy policy;
};

/* --- the journal as the door knows it --- */

static bool reserve(void *context, size_t count)
{
    return journal_reserve(context, count);
}

static uint64_t append(void *context, const struct change *changes, size_t count)
{
    return journal_append(context, changes, count);
}

static uint64_t acknowledged(const void *context)
{
    return journal_acknowledged(context);
}

static bool has_failed(const void *context)
{
    return journal_has_failed(context);
}

static_assert(2 * REGISTRATIONS_TOGETHER <= JOURNAL_TOGETHER_MAX, "a move is two changes");

/* --- life --- */

static struct journal *start_journal(const struct durability_options *options, struct fault *fault)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof folder, "%s/" JOURNAL_FOLDER, options->data_dir) >= sizeof folder) {
        fault_set(fault, EX_USAGE, "the path of the data directory is too long");
        return NULL;
    }
    return journal_start(&(struct journal_options){.folder = folder,
                                                   .position = options->found.position,
                                                   .policy = options->feed.redis_url == NULL
                                                                 ? options->policy
                                                                 : JOURNAL_INTERVAL,
                                                   .interval_ms = options->interval_ms,
                                                   .changed = options->acknowledged,
                                                   .notice = options->notice,
                                                   .context = options->context},
                         fault);
}

/* True where there is none. */
static bool start_feeding(struct durability *durability, const struct durability_options *options,
                          struct fault *fault)
{
    struct feeding_options feed = options->feed;
    if (feed.redis_url == NULL)
        return true;
    feed.registrations = options->registrations;
    feed.decided = options->acknowledged;
    feed.caught_up = options->caught_up;
    feed.context = options->context;
    feed.notice = options->notice;
    durability->feeding = feeding_start(&feed, fault);
    return durability->feeding != NULL;
}

static struct snapshots *start_snapshots(const struct durability_options *options, struct journal *journal,
                                         struct feeding *feeding, struct fault *fault)
{
    return snapshots_start(
        &(struct snapshots_options){.data_dir = options->data_dir,
                                    .registrations = options->registrations,
                                    .journal = journal,
                                    .serve = options->serve,
                                    .context = options->context,
                                    .note = feeding == NULL ? NULL : feeding_note,
                                    .written = feeding == NULL ? NULL : feeding_snapshot_written,
                                    .feed = feeding,
                                    .found = options->found.snapshot,
                                    .every_seconds = options->snapshot_seconds,
                                    .journal_bytes = options->journal_bytes,
                                    .notice = options->notice},
        fault);
}

struct durability *durability_start(const struct durability_options *options, struct fault *fault)
{
    struct durability *durability = calloc(1, sizeof *durability);
    struct fault ignored; /* the first one counts */
    if (durability == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    durability->policy = options->policy;
    durability->journal = start_journal(options, fault);
    if (durability->journal != NULL) {
        registrations_open(options->registrations, options->directory,
                           &(struct registrations_journal){.reserve = reserve,
                                                           .append = append,
                                                           .acknowledged = acknowledged,
                                                           .has_failed = has_failed,
                                                           .context = durability->journal},
                           options->found.position);
        if (start_feeding(durability, options, fault))
            durability->snapshots = start_snapshots(options, durability->journal, durability->feeding, fault);
    }
    if (durability->snapshots != NULL)
        return durability;
    if (durability->feeding != NULL)
        feeding_stop(durability->feeding, 0);
    feeding_destroy(durability->feeding);
    if (durability->journal != NULL)
        (void)journal_stop(durability->journal, &ignored);
    free(durability);
    return NULL;
}

bool durability_hold(struct durability *durability, bool hold)
{
    return snapshots_hold(durability->snapshots, hold);
}

bool durability_has_failed(const struct durability *durability)
{
    return journal_has_failed(durability->journal);
}

bool durability_stop(struct durability *durability, bool is_last, unsigned patience_seconds,
                     struct fault *fault)
{
    if (durability->feeding != NULL)
        feeding_stop(durability->feeding, patience_seconds * 1000);
    bool had_failed = journal_has_failed(durability->journal);
    bool saved = snapshots_stop(durability->snapshots, is_last, patience_seconds, fault);
    struct fault journal_fault;
    bool written = journal_stop(durability->journal, &journal_fault);
    feeding_destroy(durability->feeding);
    free(durability);
    /* A last snapshot has all, whatever became of the journal before it. */
    if (saved && !written && !had_failed) {
        *fault = journal_fault;
        return false;
    }
    return saved;
}

uint64_t durability_request_snapshot(struct durability *durability)
{
    return snapshots_request(durability->snapshots);
}

uint64_t durability_request_replacement(struct durability *durability)
{
    return snapshots_request_replacement(durability->snapshots);
}

void durability_figures(struct durability *durability, struct stats_journal *journal,
                        struct stats_snapshot *snapshot, struct stats_feed *feed)
{
    static const char *const policies[] = {
        [JOURNAL_ALWAYS] = "always", [JOURNAL_INTERVAL] = "interval", [JOURNAL_OFF] = "off"};
    struct journal_figures figures;
    journal_figures(durability->journal, &figures);
    snapshots_figures(durability->snapshots, snapshot);
    if (durability->feeding != NULL)
        feeding_figures(durability->feeding, feed);
    *journal =
        (struct stats_journal){.policy = durability->feeding != NULL ? "feed" : policies[durability->policy],
                               .position = figures.position,
                               .acknowledged = figures.acknowledged,
                               .durable = figures.durable,
                               .segments = figures.segments,
                               .bytes = figures.bytes,
                               .written_bytes = figures.written,
                               .commits = figures.commits,
                               .commit_ns = figures.commit_ns,
                               .commit_ns_max = figures.commit_ns_max,
                               .failures = figures.failures,
                               .read_only = figures.failed};
}
