/* Snapshots while serving; see snapshots.h. */
#include "server/snapshots.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>

#include "persist/registrations/store.h"
#include "server/replacement.h"

/* How often it is looked whether one is due. */
#define LOOK_SECONDS 1
/* A scheduled one that failed is tried again after this. */
#define RETRY_SECONDS 60
#define THREAD_NICE 10

struct snapshots {
    struct snapshots_options options;
    char folder[PATH_MAX];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t covered_bytes; /* of the journal, written before the last snapshot; the thread's */
    /* From there on something has changed since the last good snapshot; and where a snapshot under way began. The thread's. */
    uint64_t covered_position;
    uint64_t looked_position;
    time_t next;     /* when one is due by the schedule; the thread's */
    time_t retry_at; /* before then none is due, since the last one failed; the thread's */
    /* Under the mutex. */
    uint64_t requested;
    uint64_t replacement; /* the requested one that is a replacement */
    uint64_t started;
    struct stats_snapshot figures;
    bool is_held;
    bool stopping;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static time_t now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* --- one snapshot --- */

struct copy {
    struct snapshots *snapshots;
    uint64_t position; /* before the copying */
};

/* Whatever the images hold has to be on the disk before they count. With a journal that has failed that can only be if nothing
 * has changed meanwhile, which then cannot go on either. */
static bool settle(void *context, struct fault *fault)
{
    const struct copy *copy = context;
    const struct snapshots_options *options = &copy->snapshots->options;
    return journal_sync(options->journal) ||
           registrations_position(options->registrations) == copy->position ||
           fault_set(fault, EX_IOERR, "the journal failed while a snapshot was written; it is given up");
}

static bool write_snapshot(struct snapshots *snapshots, bool gentle, struct snapshot_info *info,
                           struct fault *fault)
{
    const struct snapshots_options *options = &snapshots->options;
    struct copy copy = {.snapshots = snapshots, .position = registrations_position(options->registrations)};
    /* A journal that has failed takes nothing; then it is noted when it is resumed. */
    if (options->note != NULL && !journal_has_failed(options->journal) && !options->note(options->feed))
        return fault_set(fault, EX_OSERR, "out of memory for a snapshot's place in the feed");
    snapshots->looked_position = registrations_position(options->registrations);
    return snapshot_write(snapshots->folder, options->registrations->directory, copy.position, now_ms(),
                          gentle, settle, &copy, info, fault);
}

static bool replace(struct snapshots *snapshots, struct snapshot_info *info, struct fault *fault)
{
    const struct snapshots_options *options = &snapshots->options;
    if (options->note != NULL)
        return fault_set(fault, EX_UNAVAILABLE,
                         "registrations that come from a feed are not replaced: import and deregister");
    struct replacement_options replacement = {.data_dir = options->data_dir,
                                              .registrations = options->registrations,
                                              .journal = options->journal,
                                              .serve = options->serve,
                                              .context = options->context};
    if (!replacement_carry_out(&replacement, info, fault))
        return false;
    snapshots->looked_position = info->position;
    return true;
}

/* What every good one brings: `covered_bytes` of the journal are in it, and what is older than it needs is removed. */
static void note_written(struct snapshots *snapshots, uint64_t covered_bytes)
{
    snapshots->covered_bytes = covered_bytes;
    snapshots->covered_position = snapshots->looked_position;
    if (snapshots->options.written != NULL)
        snapshots->options.written(snapshots->options.feed);
    journal_trim(snapshots->options.journal, store_trim(snapshots->options.data_dir));
}

/* After a good snapshot that somebody asked for. */
static bool resume(const struct snapshots *snapshots, const struct snapshot_info *info, struct fault *fault)
{
    const struct snapshots_options *options = &snapshots->options;
    if (!journal_has_failed(options->journal))
        return true;
    return journal_resume(options->journal, info->position, fault) &&
           (options->note == NULL || options->note(options->feed) ||
            fault_set(fault, EX_OSERR, "out of memory for a snapshot's place in the feed"));
}

/* --- the thread --- */

static void set_info(struct stats_snapshot *figures, const struct snapshot_info *info)
{
    figures->records = info->records;
    figures->position = info->position;
    figures->written_at_ms = info->written_at_ms;
    figures->bytes = info->bytes;
}

static void plan(struct snapshots *snapshots, bool good)
{
    time_t now = now_seconds();
    snapshots->next = now + snapshots->options.every_seconds;
    snapshots->retry_at = good ? now : now + RETRY_SECONDS;
}

/* The mutex is held. */
static bool is_due(struct snapshots *snapshots)
{
    const struct snapshots_options *options = &snapshots->options;
    struct journal_figures journal;
    if (journal_has_failed(options->journal) || now_seconds() < snapshots->retry_at)
        return false; /* mending the journal is the operator's */
    journal_figures(options->journal, &journal);
    if (journal.position == snapshots->covered_position && snapshots->figures.written_at_ms != 0)
        return false;
    bool is_long =
        options->journal_bytes > 0 && journal.written - snapshots->covered_bytes >= options->journal_bytes;
    return is_long || (options->every_seconds > 0 && now_seconds() >= snapshots->next);
}

/* Waits until one was asked for or is due; false: until the end. The mutex is held. */
static bool wait_for_one(struct snapshots *snapshots)
{
    while (snapshots->is_held || snapshots->requested == snapshots->started) {
        struct timespec until;
        if (snapshots->stopping)
            return false;
        if (!snapshots->is_held && is_due(snapshots)) {
            snapshots->requested++;
            break;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += LOOK_SECONDS;
        pthread_cond_timedwait(&snapshots->changed, &snapshots->mutex, &until);
    }
    /* One after the other, since they may be of two kinds; those that came while this one waited share it. */
    snapshots->started++;
    return true;
}

static void *run(void *context)
{
    struct snapshots *snapshots = context;
    (void)pthread_setname_np(pthread_self(), "snapshots");
    /* Of this thread alone, as Linux has it: workers that wake come first, and it gets a tenth of a crowded processor. Not
     * less: it holds locks of shards, and the file system's. */
    (void)setpriority(PRIO_PROCESS, 0, THREAD_NICE);
    pthread_mutex_lock(&snapshots->mutex);
    while (wait_for_one(snapshots)) {
        bool replacing = snapshots->replacement == snapshots->started;
        pthread_mutex_unlock(&snapshots->mutex);
        struct snapshot_info info = {0};
        struct fault fault;
        struct journal_figures before;
        journal_figures(snapshots->options.journal, &before);
        uint64_t begun_ms = now_ms();
        bool written =
            replacing ? replace(snapshots, &info, &fault) : write_snapshot(snapshots, true, &info, &fault);
        if (written)
            note_written(snapshots, before.written);
        bool good = written && resume(snapshots, &info, &fault);
        if (!good)
            snapshots->options.notice(NOTICE_ERROR, fault.text);
        plan(snapshots, good);
        pthread_mutex_lock(&snapshots->mutex);
        snapshots->figures.number = snapshots->started;
        snapshots->figures.took_ms = now_ms() - begun_ms;
        if (written)
            set_info(&snapshots->figures, &info);
        if (good)
            snapshots->figures.good_number = snapshots->started;
    }
    pthread_mutex_unlock(&snapshots->mutex);
    return NULL;
}

struct snapshots *snapshots_start(const struct snapshots_options *options, struct fault *fault)
{
    struct snapshots *snapshots = calloc(1, sizeof *snapshots);
    if (snapshots != NULL) {
        snapshots->options = *options;
        snprintf(snapshots->folder, sizeof snapshots->folder, "%s/" SNAPSHOT_FOLDER, options->data_dir);
        set_info(&snapshots->figures, &options->found);
        snapshots->covered_position = options->found.position;
        plan(snapshots, true);
        pthread_mutex_init(&snapshots->mutex, NULL);
        pthread_cond_init(&snapshots->changed, NULL);
        if (pthread_create(&snapshots->thread, NULL, run, snapshots) == 0)
            return snapshots;
        free(snapshots);
    }
    fault_set(fault, EX_OSERR, "cannot start the snapshots' thread: out of memory or threads");
    return NULL;
}

uint64_t snapshots_request(struct snapshots *snapshots)
{
    pthread_mutex_lock(&snapshots->mutex);
    if (snapshots->requested == snapshots->started)
        snapshots->requested++;
    uint64_t number = snapshots->requested;
    pthread_cond_signal(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
    return number;
}

/* Never shared with a request before it. */
uint64_t snapshots_request_replacement(struct snapshots *snapshots)
{
    pthread_mutex_lock(&snapshots->mutex);
    uint64_t number = snapshots->replacement = ++snapshots->requested;
    pthread_cond_signal(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
    return number;
}

bool snapshots_hold(struct snapshots *snapshots, bool hold)
{
    pthread_mutex_lock(&snapshots->mutex);
    snapshots->is_held = hold;
    bool is_idle = snapshots->figures.number == snapshots->started;
    pthread_cond_signal(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
    return is_idle;
}

void snapshots_figures(struct snapshots *snapshots, struct stats_snapshot *figures)
{
    pthread_mutex_lock(&snapshots->mutex);
    *figures = snapshots->figures;
    pthread_mutex_unlock(&snapshots->mutex);
}

/* --- the end --- */

/* The last word. A journal that has all makes it a convenience; one that failed does not, so a full disk gets some time to
 * be mended. */
static bool write_last(struct snapshots *snapshots, unsigned patience_seconds, struct fault *fault)
{
    struct snapshot_info info = {0};
    for (unsigned tries = 0; !write_snapshot(snapshots, false, &info, fault); tries++) {
        if (tries == 0)
            snapshots->options.notice(NOTICE_ERROR, fault->text);
        if (!journal_has_failed(snapshots->options.journal))
            return true;
        if (tries >= patience_seconds)
            return false;
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    note_written(snapshots, 0);
    return true;
}

bool snapshots_stop(struct snapshots *snapshots, bool is_last, unsigned patience_seconds, struct fault *fault)
{
    pthread_mutex_lock(&snapshots->mutex);
    snapshots->stopping = true;
    pthread_cond_signal(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
    pthread_join(snapshots->thread, NULL);
    bool unchanged = snapshots->figures.written_at_ms != 0 &&
                     snapshots->covered_position == registrations_position(snapshots->options.registrations);
    bool is_needed = is_last || journal_has_failed(snapshots->options.journal);
    bool good = unchanged || !is_needed || write_last(snapshots, patience_seconds, fault);
    pthread_cond_destroy(&snapshots->changed);
    pthread_mutex_destroy(&snapshots->mutex);
    free(snapshots);
    return good;
}
