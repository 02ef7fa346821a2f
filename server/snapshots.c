/* Snapshots while serving; see snapshots.h. */
#include "server/snapshots.h"

#include <pthread.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

struct snapshots {
    struct snapshots_options options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* Under the mutex. */
    uint64_t requested;
    uint64_t started;
    struct stats_snapshot figures;
    bool stopping;
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool write_snapshot(struct snapshots *snapshots, struct snapshot_info *info, struct fault *fault)
{
    struct registrations *registrations = snapshots->options.registrations;
    uint64_t position = registrations_begin_copy(registrations);
    bool written =
        snapshot_write(snapshots->options.folder, registrations->directory, position, now_ms(), info, fault);
    registrations_end_copy(registrations);
    return written;
}

static void set_info(struct stats_snapshot *figures, const struct snapshot_info *info)
{
    figures->records = info->records;
    figures->position = info->position;
    figures->written_at_ms = info->written_at_ms;
}

static void *run(void *context)
{
    struct snapshots *snapshots = context;
    pthread_mutex_lock(&snapshots->mutex);
    for (;;) {
        while (snapshots->requested == snapshots->started && !snapshots->stopping)
            pthread_cond_wait(&snapshots->changed, &snapshots->mutex);
        if (snapshots->requested == snapshots->started)
            break;
        snapshots->started = snapshots->requested;
        pthread_mutex_unlock(&snapshots->mutex);
        struct snapshot_info info;
        struct fault fault;
        bool written = write_snapshot(snapshots, &info, &fault);
        if (!written)
            snapshots->options.notice(fault.text);
        pthread_mutex_lock(&snapshots->mutex);
        snapshots->figures.number = snapshots->started;
        if (written) {
            snapshots->figures.good_number = snapshots->started;
            set_info(&snapshots->figures, &info);
        }
    }
    pthread_mutex_unlock(&snapshots->mutex);
    return NULL;
}

struct snapshots *snapshots_start(const struct snapshots_options *options, struct fault *fault)
{
    struct snapshots *snapshots = calloc(1, sizeof *snapshots);
    if (snapshots != NULL) {
        snapshots->options = *options;
        set_info(&snapshots->figures, &options->found);
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

void snapshots_figures(struct snapshots *snapshots, struct stats_snapshot *figures)
{
    pthread_mutex_lock(&snapshots->mutex);
    *figures = snapshots->figures;
    pthread_mutex_unlock(&snapshots->mutex);
}

/* The last word: without it acknowledged registrations would be gone, so a full disk gets some time to be
 * mended. */
static bool write_last(struct snapshots *snapshots, unsigned patience_seconds, struct fault *fault)
{
    struct snapshot_info info;
    for (unsigned tries = 0; !write_snapshot(snapshots, &info, fault); tries++) {
        if (tries >= patience_seconds)
            return false;
        if (tries == 0)
            snapshots->options.notice(fault->text);
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
    return true;
}

bool snapshots_stop(struct snapshots *snapshots, unsigned patience_seconds, struct fault *fault)
{
    pthread_mutex_lock(&snapshots->mutex);
    snapshots->stopping = true;
    pthread_cond_signal(&snapshots->changed);
    pthread_mutex_unlock(&snapshots->mutex);
    pthread_join(snapshots->thread, NULL);
    bool unchanged = snapshots->figures.written_at_ms != 0 &&
                     snapshots->figures.position == atomic_load(&snapshots->options.registrations->position);
    bool good = unchanged || write_last(snapshots, patience_seconds, fault);
    pthread_cond_destroy(&snapshots->changed);
    pthread_mutex_destroy(&snapshots->mutex);
    free(snapshots);
    return good;
}
