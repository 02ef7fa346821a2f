/* Registrations from a feed, behind the door; see feeding.h. */
#include "server/feeding.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

static_assert(FEED_STEPS_MAX + FEED_ENTRY_MARKS <= REGISTRATIONS_TOGETHER,
              "an entry goes through the door at once");
static_assert(sizeof(struct feed_pair) == sizeof(struct registrations_pair), "the same in two folders");

struct feeding {
    struct feeding_options options;
    struct feed *feed;
    pthread_mutex_t lock;
    struct feed_map *map; /* under it; NULL: nothing has been heard */
};

/* --- what the feed does --- */

static bool carry_out(void *context, const struct step *steps, size_t count, uint8_t *results,
                      const struct change *marks, size_t mark_count)
{
    struct feeding *feeding = context;
    return registrations_carry_out(feeding->options.registrations, steps, count, results, marks, mark_count);
}

static bool read_record(void *context, uint64_t number, struct record *record)
{
    struct feeding *feeding = context;
    return registrations_read(feeding->options.registrations, number, record);
}

static bool note(void *context, const struct change *marks, size_t count)
{
    struct feeding *feeding = context;
    return registrations_note(feeding->options.registrations, marks, count);
}

static void on_decided(void *context)
{
    const struct feeding *feeding = context;
    feeding->options.decided(feeding->options.context);
}

/* What is held is known by then, and nobody has been answered before. */
static void on_caught_up(void *context, const struct feed_figures *figures)
{
    const struct feeding *feeding = context;
    registrations_hold(feeding->options.registrations, &figures->holds, figures->partitions);
    feeding->options.caught_up(feeding->options.context);
}

/* Nothing in it needs to be escaped: addresses are numbers and host names. */
static void describe(void *context, const struct feed_figures *figures, char *text, size_t size)
{
    const struct feeding *feeding = context;
    const struct feeding_options *options = &feeding->options;
    struct directory_stats stats;
    struct timespec now;
    char holds[PARTITION_SET_TEXT_BYTES];
    partition_set_format(holds, &figures->holds, figures->partitions);
    directory_stats(options->registrations->directory, &stats);
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(text, size,
             "{\"said_at_ms\":%lld,\"lookups\":\"%s\",\"stats\":\"%s\",\"state\":\"%s\",\"holds\":\"%s\","
             "\"registered\":%" PRIu64 ",\"age_seconds\":%.3f,\"lag_seconds\":%.3f,\"waiting\":%" PRIu64
             ",\"min_replicas\":%u}",
             (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000, options->lookups, options->stats,
             figures->is_caught_up ? FEED_STATE_FOLLOWED : "catching up", holds, stats.records,
             (double)figures->age_ms / 1e3, (double)figures->lag_ms / 1e3, figures->waiting,
             figures->min_replicas);
}

static void learn(void *context, struct feed_map *map)
{
    struct feeding *feeding = context;
    pthread_mutex_lock(&feeding->lock);
    struct feed_map *old = feeding->map;
    feeding->map = map;
    pthread_mutex_unlock(&feeding->lock);
    free(old);
}

static bool purge(void *context, const struct partition_set *set, unsigned partitions)
{
    const struct feeding *feeding = context;
    return registrations_purge(feeding->options.registrations, set, partitions);
}

/* --- what the door sends --- */

static struct step *steps_of(enum step_kind kind, const void *entries, size_t count)
{
    struct step *steps = calloc(count, sizeof *steps);
    const struct record *records = entries;
    const uint64_t *numbers = entries;
    for (size_t i = 0; steps != NULL && i < count; i++) {
        steps[i].kind = kind;
        if (kind == STEP_SET)
            steps[i].record = records[i];
        else
            steps[i].record.number = numbers[i];
    }
    return steps;
}

static void *submit(void *context, enum step_kind kind, const void *entries, size_t count, uint64_t *ticket)
{
    const struct feeding *feeding = context;
    if (kind == STEP_RELEASE)
        return feed_submit_moves(feeding->feed, entries, count, ticket);
    struct step *steps = steps_of(kind, entries, count);
    struct feed_job *job = steps == NULL ? NULL : feed_submit(feeding->feed, steps, count, ticket);
    free(steps);
    return job;
}

static uint64_t decided(const void *context)
{
    const struct feeding *feeding = context;
    return feed_decided(feeding->feed);
}

static bool take(void *context, void *job, uint8_t *results)
{
    const struct feeding *feeding = context;
    return feed_take(feeding->feed, job, results);
}

static uint64_t age_ms(const void *context)
{
    const struct feeding *feeding = context;
    return feed_age_ms(feeding->feed);
}

/* Before something has been heard: a map without nodes. */
static char *map_text(void *context)
{
    struct feeding *feeding = context;
    const struct feed_map nothing = {.version = 0};
    pthread_mutex_lock(&feeding->lock);
    char *text = feed_map_text(feeding->map == NULL ? &nothing : feeding->map);
    pthread_mutex_unlock(&feeding->lock);
    return text;
}

static uint64_t map_version(void *context)
{
    struct feeding *feeding = context;
    pthread_mutex_lock(&feeding->lock);
    uint64_t version = feeding->map == NULL ? 0 : feeding->map->version;
    pthread_mutex_unlock(&feeding->lock);
    return version;
}

/* --- life --- */

/* A successor answers at once: what it holds must be known by then. */
static void hold(const struct feeding *feeding)
{
    const struct feeding_options *options = &feeding->options;
    if (options->holds != NULL && options->state->partitions > 0)
        registrations_hold(options->registrations, options->holds, options->state->partitions);
}

struct feeding *feeding_start(const struct feeding_options *options, struct fault *fault)
{
    struct directory_stats stats;
    struct registrations *registrations = options->registrations;
    struct feeding *feeding = calloc(1, sizeof *feeding);
    if (feeding == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    feeding->options = *options;
    pthread_mutex_init(&feeding->lock, NULL);
    hold(feeding);
    directory_stats(registrations->directory, &stats);
    struct feed_options feed = {.redis_url = options->redis_url,
                                .partitions = options->partitions,
                                .holds_some = options->holds != NULL,
                                .min_replicas = options->min_replicas,
                                .catch_up_percent = options->catch_up_percent,
                                .accounts = registrations->accounts,
                                .is_empty = stats.records == 0,
                                .node = options->node,
                                .state = options->state,
                                .hands = {.carry_out = carry_out,
                                          .read = read_record,
                                          .note = note,
                                          .decided = on_decided,
                                          .caught_up = on_caught_up,
                                          .describe = describe,
                                          .learn = learn,
                                          .purge = purge,
                                          .context = feeding},
                                .notice = options->notice};
    if (options->holds != NULL)
        feed.holds = *options->holds;
    feeding->feed = feed_start(&feed, fault);
    if (feeding->feed == NULL) {
        pthread_mutex_destroy(&feeding->lock);
        free(feeding);
        return NULL;
    }
    registrations_follow(registrations, &(struct registrations_feed){submit, decided, take, age_ms, map_text,
                                                                     map_version, feeding});
    return feeding;
}

void feeding_stop(struct feeding *feeding, unsigned patience_ms)
{
    feed_stop(feeding->feed, patience_ms);
}

void feeding_destroy(struct feeding *feeding)
{
    if (feeding == NULL)
        return;
    feed_destroy(feeding->feed);
    pthread_mutex_destroy(&feeding->lock);
    free(feeding->map);
    free(feeding);
}

bool feeding_note(void *feeding)
{
    return feed_note(((struct feeding *)feeding)->feed);
}

void feeding_snapshot_written(void *feeding)
{
    feed_snapshot_written(((struct feeding *)feeding)->feed);
}

void feeding_figures(struct feeding *feeding, struct stats_feed *figures)
{
    struct feed_figures found;
    feed_figures(feeding->feed, &found);
    *figures = (struct stats_feed){.is_followed = true,
                                   .connected = found.is_connected,
                                   .caught_up = found.is_caught_up,
                                   .broken = found.is_broken,
                                   .partitions = found.partitions,
                                   .held = partition_set_count(&found.holds, found.partitions),
                                   .map_version = map_version(feeding),
                                   .min_replicas = found.min_replicas,
                                   .age_ms = found.age_ms,
                                   .lag_ms = found.lag_ms,
                                   .lag_ms_max = found.lag_ms_max,
                                   .entries = found.entries,
                                   .steps = found.steps,
                                   .repeated = found.repeated,
                                   .waiting = found.waiting,
                                   .rounds = found.rounds,
                                   .failures = found.failures};
    snprintf(figures->reason, sizeof figures->reason, "%s", found.reason);
}
