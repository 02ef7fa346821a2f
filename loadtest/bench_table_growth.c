/* bench_table's rows about inserts: rate, memory, readers beside them, and what churn leaves behind. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench_table.h"
#include "histogram.h"

/* Numbers between two looks at the memory, and the records that are prepared outside of the measured time. */
#define STEP 1024

/* --- rate and memory --- */

static void prepare(const struct world *world, uint64_t first, struct record *records)
{
    for (uint64_t i = 0; i < STEP; i++)
        records[i] = (struct record){.number = population_number(&world->population, first + i),
                                     .account = population_account(&world->population, first + i)};
}

/* Registers STEP records in batches of `batch`; ns. */
static uint64_t time_inserts(struct world *world, const struct record *records, size_t batch)
{
    uint8_t results[STEP];
    uint64_t started = bench_now_ns();
    if (batch == 1)
        for (size_t i = 0; i < STEP; i++)
            results[i] = (uint8_t)directory_register(world->directory, &records[i]);
    else
        for (size_t i = 0; i < STEP; i += batch)
            directory_register_batch(world->directory, records + i, batch, results + i);
    uint64_t spent = bench_now_ns() - started;
    for (size_t i = 0; i < STEP; i++)
        bench_assert(results[i] == DIRECTORY_ADDED, "an insert was not added");
    return spent;
}

/* Grows a directory from 0 to n. Returns its rate in M/s; `*bytes` are those resident a number at its worst from 1 M on
 * (from n/2 on if n is smaller). */
static double grow_from_nothing(struct world *world, bool accounts, size_t batch, double *bytes,
                                double *moves)
{
    struct record records[STEP];
    uint64_t resident_before = world_resident();
    uint64_t settled = world->n >= 2000000 ? 1000000 : world->n / 2;
    uint64_t spent = 0;
    uint64_t done = 0;
    struct directory_stats stats;
    world_open(world, 0, accounts);
    *bytes = 0;
    for (; done + STEP <= world->n; done += STEP) {
        prepare(world, done, records);
        spent += time_inserts(world, records, batch);
        double now = (double)(world_resident() - resident_before) / (double)(done + STEP);
        if (done >= settled && now > *bytes)
            *bytes = now;
    }
    directory_stats(world->directory, &stats);
    bench_assert(stats.records == done, "the directory counts wrong");
    /* What is not resident between two inserts: a shard that is there twice. */
    double peak = (double)stats.bytes_peak / (double)done;
    *bytes = peak > *bytes ? peak : *bytes;
    *moves = (double)stats.moved / (double)stats.added;
    world_close(world);
    return (double)done / (double)spent * 1e3;
}

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
            numbers[i] = population_number(&world->population, world_random(&random) % grower->from);
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
    double rounds[TABLE_ROUNDS];
    for (unsigned round = 0; round < TABLE_ROUNDS; round++)
        rounds[round] = world_time_lookups(world, world->hits, TABLE_BATCH, world->query_count, true) +
                        world_time_lookups(world, world->misses, TABLE_BATCH, world->query_count, false);
    return bench_median(rounds, TABLE_ROUNDS);
}

/* A window over the indices moves on: the oldest number goes, the next comes, ten times the size. What is fresh is
 * measured afterwards, of the same numbers. */
static void bench_churn(struct world *world)
{
    world_fill(world);
    for (uint64_t i = 0; i < 10 * world->n; i++) {
        bench_assert(directory_deregister(world->directory, population_number(&world->population, i)) ==
                         DIRECTORY_REMOVED,
                     "a removal found nothing");
        world_insert(world, world->n + i);
    }
    world_draw(world, 10 * world->n);
    double churned = time_both(world);
    world_close(world);
    world_open(world, world->n, true);
    for (uint64_t i = 0; i < world->n; i++)
        world_insert(world, 10 * world->n + i);
    bench_report(world->bench, "churn_over_fresh", world->n, churned / time_both(world));
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
