/* bench_table's rows about inserts: rate, memory, readers beside them, and what churn leaves behind. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench_table.h"
#include "histogram.h"
#include "load_random.h"
#ifdef HAVE_BOOST
#include "peer_boost.h"
#endif

/* Numbers between two looks at the memory, and the records that are prepared outside of the measured time. */
#define STEP 1024

/* --- rate and memory --- */

static void prepare(const struct world *world, uint64_t first, struct record *records)
{
    for (uint64_t i = 0; i < STEP; i++)
        records[i] = (struct record){.number = population_number(&world->population, first + i),
                                     .account = population_account(&world->population, first + i)};
}

/* Grows from 0 to n, STEP records a call of `insert`. Returns the rate in M/s; `*bytes` are those resident a number at
 * its worst from 1 M on (from n/2 on if n is smaller). */
static double time_growth(const struct world *world,
                          void (*insert)(void *context, const struct record records[STEP]), void *context,
                          double *bytes)
{
    struct record records[STEP];
    uint64_t resident_before = world_resident();
    uint64_t settled = world->n >= 2000000 ? 1000000 : world->n / 2;
    uint64_t spent = 0;
    uint64_t done = 0;
    *bytes = 0;
    for (; done + STEP <= world->n; done += STEP) {
        prepare(world, done, records);
        uint64_t started = bench_now_ns();
        insert(context, records);
        spent += bench_now_ns() - started;
        double now = (double)(world_resident() - resident_before) / (double)(done + STEP);
        if (done >= settled && now > *bytes)
            *bytes = now;
    }
    return (double)done / (double)spent * 1e3;
}

struct directory_growth {
    struct directory *directory;
    size_t batch; /* records a call; STEP is a multiple */
};

static void insert_into_directory(void *context, const struct record records[STEP])
{
    const struct directory_growth *growth = context;
    uint8_t results[STEP];
    if (growth->batch == 1)
        for (size_t i = 0; i < STEP; i++)
            results[i] = (uint8_t)directory_register(growth->directory, &records[i]);
    else
        for (size_t i = 0; i < STEP; i += growth->batch)
            directory_register_batch(growth->directory, records + i, growth->batch, results + i);
    for (size_t i = 0; i < STEP; i++)
        bench_assert(results[i] == DIRECTORY_ADDED, "an insert was not added");
}

static double grow_from_nothing(struct world *world, bool accounts, size_t batch, double *bytes,
                                double *moves)
{
    struct directory_stats stats;
    world_open(world, 0, accounts);
    struct directory_growth growth = {world->directory, batch};
    double rate = time_growth(world, insert_into_directory, &growth, bytes);
    directory_stats(world->directory, &stats);
    bench_assert(stats.records == world->n / STEP * STEP, "the directory counts wrong");
    /* What is not resident between two inserts: a shard that is there twice. */
    double peak = (double)stats.bytes_peak / (double)stats.records;
    *bytes = peak > *bytes ? peak : *bytes;
    *moves = (double)stats.moved / (double)stats.added;
    world_close(world);
    return rate;
}

#ifdef HAVE_BOOST
static void insert_into_boost(void *context, const struct record records[STEP])
{
    for (size_t i = 0; i < STEP; i++)
        peer_boost_insert(context, records[i].number, records[i].account);
}

/* How fast inserts can be here, in a map that may double its memory and that nobody reads meanwhile. */
static void bench_boost_growth(const struct world *world)
{
    double bytes;
    struct peer_boost *peer = peer_boost_create(0, TABLE_SEED);
    double rate = time_growth(world, insert_into_boost, peer, &bytes);
    uint64_t last = population_number(&world->population, world->n / STEP * STEP - 1);
    bench_assert(peer_boost_lookup(peer, &last, 1) == 1, "boost lost a number");
    bench_report(world->bench, "boost_insert_growing", world->n, rate);
    bench_report(world->bench, "boost_memory", world->n, bytes);
    peer_boost_destroy(peer);
}
#endif

static void bench_growth(struct world *world)
{
    struct bench *bench = world->bench;
    double bytes;
    double moves;
    if (bench_wants(bench, "insert_growing") || bench_wants(bench, "memory") ||
        bench_wants(bench, "moves_per_insert")) {
        bench_report(bench, "insert_growing", world->n, grow_from_nothing(world, true, 1, &bytes, &moves));
        bench_report(bench, "moves_per_insert", world->n, moves);
        bench_report(bench, "memory", world->n, bytes);
    }
    if (bench_wants(bench, "insert_growing_batch"))
        bench_report(bench, "insert_growing_batch", world->n,
                     grow_from_nothing(world, true, TABLE_SMALL_BATCH, &bytes, &moves));
#ifdef HAVE_BOOST
    if (bench_wants(bench, "boost_insert_growing") || bench_wants(bench, "boost_memory"))
        bench_boost_growth(world);
#endif
    if (bench_wants(bench, "memory_no_accounts")) {
        (void)grow_from_nothing(world, false, TABLE_SMALL_BATCH, &bytes, &moves);
        bench_report(bench, "memory_no_accounts", world->n, bytes);
    }
}

/* --- readers while it grows --- */

struct grower {
    struct world *world;
    uint64_t from;
    atomic_bool done;
};

static void *grow(void *context)
{
    struct grower *grower = context;
    for (uint64_t i = grower->from; i < grower->world->n; i++)
        world_insert(grower->world, i);
    atomic_store(&grower->done, true);
    return NULL;
}

/* How often the system has taken the processor from this thread. */
static long preemptions(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

/* `latency` counts all batches, `undisturbed` those in which the thread kept the processor, `own` its work between
 * them. */
static void read_while_growing(struct world *world, struct grower *grower, struct histogram *latency,
                               struct histogram *undisturbed, struct histogram *own)
{
    uint64_t numbers[TABLE_SMALL_BATCH];
    uint8_t answers[TABLE_SMALL_BATCH];
    uint64_t random = 3;
    while (!atomic_load(&grower->done)) {
        uint64_t started = bench_now_ns();
        for (unsigned i = 0; i < TABLE_SMALL_BATCH; i++)
            numbers[i] = population_number(&world->population, load_random(&random) % grower->from);
        long before = preemptions();
        uint64_t ready = bench_now_ns();
        directory_lookup(world->directory, world->reader, numbers, TABLE_SMALL_BATCH, answers);
        uint64_t spent = bench_now_ns() - ready;
        histogram_add(latency, spent);
        if (preemptions() == before)
            histogram_add(undisturbed, spent);
        histogram_add(own, ready - started);
        for (unsigned i = 0; i < TABLE_SMALL_BATCH; i++)
            bench_assert(answers[i] == DIRECTORY_REGISTERED, "a registered number was missed while growing");
    }
}

static void bench_growth_readers(struct world *world)
{
    static struct histogram latency;
    static struct histogram undisturbed;
    static struct histogram own;
    struct grower grower = {.world = world, .from = world->n / 100 + TABLE_SMALL_BATCH};
    pthread_t thread;
    world_open(world, 0, true);
    for (uint64_t i = 0; i < grower.from; i++)
        world_insert(world, i);
    pthread_create(&thread, NULL, grow, &grower);
    read_while_growing(world, &grower, &latency, &undisturbed, &own);
    pthread_join(thread, NULL);
    bench_report(world->bench, "grow_reader_p9999", world->n,
                 (double)histogram_percentile(&latency, 99.99) / 1e6);
    bench_report(world->bench, "grow_reader_max", world->n, (double)undisturbed.max_ns / 1e6);
    bench_report(world->bench, "grow_reader_max_any", world->n, (double)latency.max_ns / 1e6);
    bench_report(world->bench, "grow_machine_max", world->n, (double)own.max_ns / 1e6);
    world_close(world);
}

/* --- churn --- */

static double time_both(struct world *world)
{
    return world_time_lookups(world, world->hits, TABLE_BATCH, world->query_count, true) +
           world_time_lookups(world, world->misses, TABLE_BATCH, world->query_count, false);
}

/* A window over the indices moves on: the oldest number goes, the next comes, ten times the size. What is fresh has the
 * same numbers; both are there at the end, and are measured in turn. */
static void bench_churn(struct world *world)
{
    struct world fresh = *world;
    double churned_times[TABLE_ROUNDS];
    double fresh_times[TABLE_ROUNDS];
    world_fill(world);
    for (uint64_t i = 0; i < 10 * world->n; i++) {
        bench_assert(directory_deregister(world->directory, population_number(&world->population, i)) ==
                         DIRECTORY_REMOVED,
                     "a removal found nothing");
        world_insert(world, world->n + i);
    }
    world_open(&fresh, world->n, true);
    for (uint64_t i = 0; i < world->n; i++)
        world_insert(&fresh, 10 * world->n + i);
    world_draw(world, 10 * world->n);
    for (unsigned round = 0; round < TABLE_ROUNDS; round++) {
        churned_times[round] = time_both(world);
        fresh_times[round] = time_both(&fresh);
    }
    bench_report(world->bench, "churn_over_fresh", world->n,
                 bench_median(churned_times, TABLE_ROUNDS) / bench_median(fresh_times, TABLE_ROUNDS));
    world_close(&fresh);
    world_close(world);
    world_draw(world, 0);
}

void bench_table_growth(struct world *world)
{
    bench_growth(world);
    if (bench_wants(world->bench, "grow_reader_p9999") || bench_wants(world->bench, "grow_reader_max") ||
        bench_wants(world->bench, "grow_reader_max_any") || bench_wants(world->bench, "grow_machine_max"))
        bench_growth_readers(world);
    if (bench_wants(world->bench, "churn_over_fresh"))
        bench_churn(world);
}
