/* Filling a directory with several threads; see builder.h. */
#include "persist/registrations/builder.h"

#include <pthread.h>
#include <stdlib.h>
#include <sysexits.h>

#define THREADS_MAX 16

/* Records by shard; either being filled by the caller or being registered by the threads. */
struct set {
    struct record *records; /* BUILDER_BUCKET for each shard */
    unsigned *counts;
};

struct builder {
    struct directory *directory;
    unsigned shards;
    struct set sets[2];
    struct set *filling; /* the caller's */
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* Under the mutex. */
    struct set *registering; /* NULL: nothing to do */
    unsigned next_shard;
    unsigned busy; /* shards being registered */
    bool ending;
    struct directory_bulk bulk;
};

/* --- the threads --- */

static void add_bulk(struct directory_bulk *sum, const struct directory_bulk *bulk)
{
    sum->added += bulk->added;
    sum->replaced += bulk->replaced;
    sum->invalid += bulk->invalid;
    sum->refused += bulk->refused;
}

/* One shard of the set; the mutex is held at the beginning and at the end. */
static void register_next(struct builder *builder)
{
    struct set *set = builder->registering;
    unsigned shard = builder->next_shard++;
    struct directory_bulk bulk = {0};
    builder->busy++;
    pthread_mutex_unlock(&builder->mutex);
    if (set->counts[shard] > 0)
        directory_register_shard(builder->directory, shard, set->records + (size_t)shard * BUILDER_BUCKET,
                                 set->counts[shard], &bulk);
    set->counts[shard] = 0;
    pthread_mutex_lock(&builder->mutex);
    builder->busy--;
    add_bulk(&builder->bulk, &bulk);
    if (builder->busy == 0 && builder->next_shard == builder->shards) {
        builder->registering = NULL;
        pthread_cond_broadcast(&builder->changed);
    }
}

static void *run(void *context)
{
    struct builder *builder = context;
    pthread_mutex_lock(&builder->mutex);
    for (;;) {
        if (builder->registering != NULL && builder->next_shard < builder->shards)
            register_next(builder);
        else if (builder->ending)
            break;
        else
            pthread_cond_wait(&builder->changed, &builder->mutex);
    }
    pthread_mutex_unlock(&builder->mutex);
    return NULL;
}

/* --- the caller's side --- */

/* Waits for the set before, and hands this one over. */
static void hand_over(struct builder *builder)
{
    pthread_mutex_lock(&builder->mutex);
    while (builder->registering != NULL)
        pthread_cond_wait(&builder->changed, &builder->mutex);
    builder->registering = builder->filling;
    builder->next_shard = 0;
    pthread_cond_broadcast(&builder->changed);
    pthread_mutex_unlock(&builder->mutex);
    builder->filling = builder->filling == &builder->sets[0] ? &builder->sets[1] : &builder->sets[0];
}

void builder_add(struct builder *builder, const struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned shard = directory_shard_of(builder->directory, records[i].number);
        struct set *set = builder->filling;
        set->records[(size_t)shard * BUILDER_BUCKET + set->counts[shard]++] = records[i];
        if (set->counts[shard] == BUILDER_BUCKET)
            hand_over(builder);
    }
}

static void free_builder(struct builder *builder)
{
    for (unsigned i = 0; i < 2; i++) {
        free(builder->sets[i].records);
        free(builder->sets[i].counts);
    }
    pthread_mutex_destroy(&builder->mutex);
    pthread_cond_destroy(&builder->changed);
    free(builder);
}

static void end_threads(struct builder *builder)
{
    pthread_mutex_lock(&builder->mutex);
    builder->ending = true;
    pthread_cond_broadcast(&builder->changed);
    pthread_mutex_unlock(&builder->mutex);
    for (unsigned i = 0; i < builder->thread_count; i++)
        pthread_join(builder->threads[i], NULL);
}

struct builder *builder_start(struct directory *directory, unsigned threads, struct fault *fault)
{
    struct builder *builder = calloc(1, sizeof *builder);
    bool complete = builder != NULL;
    if (complete) {
        struct directory_stats stats;
        directory_stats(directory, &stats);
        builder->directory = directory;
        builder->shards = stats.shards;
        builder->filling = &builder->sets[0];
        pthread_mutex_init(&builder->mutex, NULL);
        pthread_cond_init(&builder->changed, NULL);
        for (unsigned i = 0; i < 2; i++) {
            struct set *set = &builder->sets[i];
            set->records = malloc((size_t)stats.shards * BUILDER_BUCKET * sizeof *set->records);
            set->counts = calloc(stats.shards, sizeof *set->counts);
            complete = complete && set->records != NULL && set->counts != NULL;
        }
    }
    while (complete && builder->thread_count < threads && builder->thread_count < THREADS_MAX &&
           pthread_create(&builder->threads[builder->thread_count], NULL, run, builder) == 0)
        builder->thread_count++;
    if (complete && builder->thread_count > 0) /* fewer than asked for are slower, that is all */
        return builder;
    if (builder != NULL)
        free_builder(builder);
    fault_set(fault, EX_OSERR, "out of memory or threads for the import");
    return NULL;
}

bool builder_finish(struct builder *builder, struct directory_bulk *bulk, struct fault *fault)
{
    hand_over(builder);
    end_threads(builder);
    *bulk = builder->bulk;
    free_builder(builder);
    return bulk->refused == 0 ||
           fault_set(fault, EX_OSERR, "out of memory for the registrations: %zu were refused", bulk->refused);
}
