/* bench_table: the directory against raw memory, against boost's map, and against its own bars.
 *
 * All times of one row set come from one run, the contestants taking turns, each figure the median of the
 * rounds. Every lookup's answers are counted and checked. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "hashing/directory.h"
#include "hashing/pages.h"
#include "histogram.h"
#include "population.h"
#ifdef HAVE_BOOST
#include "peer_boost.h"
#endif

#define SEED UINT64_C(0x1234567)
#define ROUNDS 7
#define BATCH 128
#define DEFAULT_N UINT64_C(100000000)
#define QUICK_N UINT64_C(1000000)

static const struct bench_row rows[] = {
    {"raw_line_read", "ns", BENCH_NO_BAR, 0,
     "independent random reads of 64-byte lines, the fastest way found"},
    {"lookup_miss", "ns", BENCH_NO_BAR, 0, "batch lookup of numbers that are not there"},
    {"lookup_hit", "ns", BENCH_NO_BAR, 0, "batch lookup of numbers that are there"},
    {"miss_over_raw", "ratio", BENCH_AT_MOST, 1.2, "the first two, related"},
    {"hit_over_raw", "ratio", BENCH_AT_MOST, 1.4, "the same for hits"},
    {"load", "ratio", BENCH_AT_LEAST, 0.90, "fill of the directory these were measured on"},
    {"boost_hit", "ns", BENCH_NO_BAR, 0, "boost::unordered_flat_map, one by one"},
    {"boost_miss", "ns", BENCH_NO_BAR, 0, "the same for misses"},
    {"boost_over_hit", "ratio", BENCH_AT_LEAST, 2.0, "batch hits against boost"},
    {"boost_over_miss", "ratio", BENCH_AT_LEAST, 1.4, "batch misses against boost"},
    {"single_hit", "ns", BENCH_NO_BAR, 0, "lookups in batches of one, independent numbers"},
    {"single_miss", "ns", BENCH_NO_BAR, 0, "the same for misses"},
    {"boost_over_single_hit", "ratio", BENCH_AT_LEAST, 1.0, "single hits against boost"},
    {"boost_over_single_miss", "ratio", BENCH_AT_LEAST, 1.0, "single misses against boost"},
    {"insert_growing", "M/s", BENCH_AT_LEAST, 4.0, "one by one inserts into a growing directory, from 0"},
    {"memory", "bytes/number", BENCH_AT_MOST, 18.5,
     "most at any count from 1 M on while growing, with accounts"},
    {"memory_no_accounts", "bytes/number", BENCH_AT_MOST, 9.5, "the same without account ids"},
    {"grow_reader_p9999", "ms", BENCH_AT_MOST, 1.0, "a reader's batch of 128 while it grows from 1 M"},
    {"grow_reader_max", "ms", BENCH_AT_MOST, 5.0, "the longest of these"},
    {"churn_over_fresh", "ratio", BENCH_AT_MOST, 1.10,
     "lookups after ten times the size in removals and inserts"},
};

struct world {
    struct bench *bench;
    uint64_t n;
    struct population population;
    struct directory *directory;
    struct epoch_reader *reader;
    /* Numbers to look up, in random order. */
    uint64_t query_count;
    uint64_t *hits;
    uint64_t *misses;
    uint8_t *answers;
};

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* SplitMix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static struct directory *new_directory(uint64_t expected, bool accounts)
{
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = SEED,
                                                     .expected_records = expected,
                                                     .shard_bits = DIRECTORY_SHARD_BITS_DEFAULT,
                                                     .accounts = accounts});
    bench_assert(directory != NULL, "out of memory for the directory");
    return directory;
}

static void insert(struct directory *directory, const struct population *population, uint64_t index)
{
    struct record record = {.number = population_number(population, index),
                            .account = population_account(population, index)};
    bench_assert(directory_register(directory, &record) == DIRECTORY_ADDED, "an insert was not added");
}

static void draw_queries(struct world *world)
{
    uint64_t random = 99;
    world->query_count = world->bench->quick ? 1 << 20 : 1 << 23;
    world->hits = pages_allocate(world->query_count * sizeof *world->hits);
    world->misses = pages_allocate(world->query_count * sizeof *world->misses);
    world->answers = malloc(world->query_count);
    bench_assert(world->hits != NULL && world->misses != NULL && world->answers != NULL, "out of memory");
    for (uint64_t i = 0; i < world->query_count; i++) {
        world->hits[i] = population_number(&world->population, next_random(&random) % world->n);
        world->misses[i] = population_neighbour(&world->population, next_random(&random) % world->n);
    }
}

/* --- raw reads --- */

/* Reads random lines of `memory`: prefetches a group, then adds up one word of each. ns per line. */
static double time_raw_reads(const uint64_t *memory, const uint32_t *order, uint64_t count, uint64_t *sum,
                             unsigned group)
{
    uint64_t started = bench_now_ns();
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i += group) {
        for (unsigned j = 0; j < group; j++)
            __builtin_prefetch(&memory[(uint64_t)order[i + j] * 8]);
        for (unsigned j = 0; j < group; j++)
            total += memory[(uint64_t)order[i + j] * 8];
    }
    *sum += total;
    return (double)(bench_now_ns() - started) / (double)count;
}

static double time_plain_reads(const uint64_t *memory, const uint32_t *order, uint64_t count, uint64_t *sum)
{
    uint64_t started = bench_now_ns();
    uint64_t totals[4] = {0};
    for (uint64_t i = 0; i < count; i += 4)
        for (unsigned j = 0; j < 4; j++)
            totals[j] += memory[(uint64_t)order[i + j] * 8];
    *sum += totals[0] + totals[1] + totals[2] + totals[3];
    return (double)(bench_now_ns() - started) / (double)count;
}

/* The fastest of plain loads and prefetch groups of 16 to 256, chosen anew in each round. */
static double best_raw(const uint64_t *memory, const uint32_t *order, uint64_t count, uint64_t *sum)
{
    double best = time_plain_reads(memory, order, count, sum);
    for (unsigned group = 16; group <= 256; group *= 2) {
        double time = time_raw_reads(memory, order, count, sum, group);
        best = time < best ? time : best;
    }
    return best;
}

/* --- lookups --- */

static double time_lookups(struct world *world, const uint64_t *numbers, size_t batch, uint64_t count,
                           bool present)
{
    uint64_t started = bench_now_ns();
    for (uint64_t i = 0; i < count; i += batch)
        directory_lookup(world->directory, world->reader, numbers + i, batch, world->answers + i);
    double time = (double)(bench_now_ns() - started) / (double)count;
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i++)
        found += world->answers[i] == DIRECTORY_REGISTERED;
    bench_assert(found == (present ? count : 0), "a lookup gave a wrong answer");
    return time;
}

#ifdef HAVE_BOOST
static double time_boost(const struct peer_boost *peer, const uint64_t *numbers, uint64_t count, bool present)
{
    uint64_t started = bench_now_ns();
    size_t found = peer_boost_lookup(peer, numbers, count);
    double time = (double)(bench_now_ns() - started) / (double)count;
    bench_assert(found == (present ? count : 0), "boost gave a wrong answer");
    return time;
}

static struct peer_boost *fill_boost(const struct world *world)
{
    struct peer_boost *peer = peer_boost_create(world->n, SEED);
    for (uint64_t i = 0; i < world->n; i++)
        peer_boost_insert(peer, population_number(&world->population, i),
                          population_account(&world->population, i));
    return peer;
}
#endif

enum contestant { RAW, MISS, HIT, SINGLE_MISS, SINGLE_HIT, BOOST_MISS, BOOST_HIT, CONTESTANTS };

static void fill_ahead(struct world *world)
{
    world->directory = new_directory(world->n, true);
    world->reader = directory_join(world->directory);
    for (uint64_t i = 0; i < world->n; i++)
        insert(world->directory, &world->population, i);
}

static void empty(struct world *world)
{
    directory_leave(world->directory, world->reader);
    directory_destroy(world->directory);
    world->directory = NULL;
}

static void run_round(struct world *world, const uint64_t *memory, const uint32_t *order,
                      double times[CONTESTANTS], void *peer)
{
    uint64_t count = world->query_count;
    uint64_t sum = 0;
    times[RAW] = best_raw(memory, order, count, &sum);
    times[MISS] = time_lookups(world, world->misses, BATCH, count, false);
    times[HIT] = time_lookups(world, world->hits, BATCH, count, true);
    times[SINGLE_MISS] = time_lookups(world, world->misses, 1, count / 4, false);
    times[SINGLE_HIT] = time_lookups(world, world->hits, 1, count / 4, true);
#ifdef HAVE_BOOST
    times[BOOST_MISS] = time_boost(peer, world->misses, count, false);
    times[BOOST_HIT] = time_boost(peer, world->hits, count, true);
#else
    (void)peer;
#endif
    bench_assert(sum == 0, "the raw memory was not zero");
}

static void report_lookups(struct world *world, const double t[CONTESTANTS])
{
    struct bench *bench = world->bench;
    struct directory_stats stats;
    directory_stats(world->directory, &stats);
    bench_report(bench, "raw_line_read", world->n, t[RAW]);
    bench_report(bench, "lookup_miss", world->n, t[MISS]);
    bench_report(bench, "lookup_hit", world->n, t[HIT]);
    bench_report(bench, "miss_over_raw", world->n, t[MISS] / t[RAW]);
    bench_report(bench, "hit_over_raw", world->n, t[HIT] / t[RAW]);
    bench_report(bench, "load", world->n, (double)stats.records / (double)stats.slots);
    bench_report(bench, "single_hit", world->n, t[SINGLE_HIT]);
    bench_report(bench, "single_miss", world->n, t[SINGLE_MISS]);
#ifdef HAVE_BOOST
    bench_report(bench, "boost_hit", world->n, t[BOOST_HIT]);
    bench_report(bench, "boost_miss", world->n, t[BOOST_MISS]);
    bench_report(bench, "boost_over_hit", world->n, t[BOOST_HIT] / t[HIT]);
    bench_report(bench, "boost_over_miss", world->n, t[BOOST_MISS] / t[MISS]);
    bench_report(bench, "boost_over_single_hit", world->n, t[BOOST_HIT] / t[SINGLE_HIT]);
    bench_report(bench, "boost_over_single_miss", world->n, t[BOOST_MISS] / t[SINGLE_MISS]);
#endif
}

static void bench_lookups(struct world *world)
{
    double times[ROUNDS][CONTESTANTS] = {{0}};
    double medians[CONTESTANTS];
    double column[ROUNDS];
    struct directory_stats stats;
    void *peer = NULL;
    fill_ahead(world);
#ifdef HAVE_BOOST
    peer = fill_boost(world);
#endif
    directory_stats(world->directory, &stats);
    uint64_t lines = stats.slots / 8;
    uint64_t *memory = pages_allocate(lines * 64);
    uint32_t *order = pages_allocate(world->query_count * sizeof *order);
    bench_assert(memory != NULL && order != NULL, "out of memory");
    memset(memory, 0, lines * 64);
    uint64_t random = 5;
    for (uint64_t i = 0; i < world->query_count; i++)
        order[i] = (uint32_t)(next_random(&random) % lines);
    for (unsigned round = 0; round < ROUNDS; round++)
        run_round(world, memory, order, times[round], peer);
    for (unsigned c = 0; c < CONTESTANTS; c++) {
        for (unsigned round = 0; round < ROUNDS; round++)
            column[round] = times[round][c];
        medians[c] = bench_median(column, ROUNDS);
    }
    report_lookups(world, medians);
    pages_free(memory, lines * 64);
    pages_free(order, world->query_count * sizeof *order);
#ifdef HAVE_BOOST
    peer_boost_destroy(peer);
#endif
    empty(world);
}

/* --- growth --- */

/* Bytes a number at its worst between 1 M and n, asked for after every thousandth insert. */
static double worst_bytes(uint64_t n, const struct population *population, bool accounts, double *rate)
{
    struct directory *directory = new_directory(0, accounts);
    double worst = 0;
    uint64_t spent = 0;
    enum { STEP = 1000 };
    struct record *records = malloc(STEP * sizeof *records);
    for (uint64_t done = 0; done < n; done += STEP) {
        for (uint64_t i = 0; i < STEP; i++)
            records[i] = (struct record){.number = population_number(population, done + i),
                                         .account = population_account(population, done + i)};
        uint64_t started = bench_now_ns();
        for (uint64_t i = 0; i < STEP; i++)
            bench_assert(directory_register(directory, &records[i]) == DIRECTORY_ADDED,
                         "an insert was not added");
        spent += bench_now_ns() - started;
        struct directory_stats stats;
        directory_stats(directory, &stats);
        double bytes = (double)stats.bytes_peak / (double)stats.records;
        if (done + STEP >= 1000000 && bytes > worst)
            worst = bytes;
    }
    *rate = (double)n / (double)spent * 1e3;
    free(records);
    directory_destroy(directory);
    return worst;
}

static void bench_growth(struct world *world)
{
    double rate;
    double worst;
    if (bench_wants(world->bench, "insert_growing") || bench_wants(world->bench, "memory")) {
        worst = worst_bytes(world->n, &world->population, true, &rate);
        bench_report(world->bench, "insert_growing", world->n, rate);
        bench_report(world->bench, "memory", world->n, worst);
    }
    if (bench_wants(world->bench, "memory_no_accounts")) {
        worst = worst_bytes(world->n, &world->population, false, &rate);
        bench_report(world->bench, "memory_no_accounts", world->n, worst);
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
        insert(grower->world->directory, &grower->world->population, i);
    atomic_store(&grower->done, true);
    return NULL;
}

static void bench_growth_readers(struct world *world)
{
    static struct histogram latency;
    struct grower grower = {.world = world, .from = world->n / 100 > 100000 ? world->n / 100 : 100000};
    uint64_t numbers[BATCH];
    uint8_t answers[BATCH];
    uint64_t random = 3;
    pthread_t thread;
    world->directory = new_directory(0, true);
    world->reader = directory_join(world->directory);
    for (uint64_t i = 0; i < grower.from; i++)
        insert(world->directory, &world->population, i);
    pthread_create(&thread, NULL, grow, &grower);
    while (!atomic_load(&grower.done)) {
        for (unsigned i = 0; i < BATCH; i++)
            numbers[i] = population_number(&world->population, next_random(&random) % grower.from);
        uint64_t started = bench_now_ns();
        directory_lookup(world->directory, world->reader, numbers, BATCH, answers);
        histogram_add(&latency, bench_now_ns() - started);
        for (unsigned i = 0; i < BATCH; i++)
            bench_assert(answers[i] == DIRECTORY_REGISTERED, "a registered number was missed while growing");
    }
    pthread_join(thread, NULL);
    bench_report(world->bench, "grow_reader_p9999", world->n,
                 (double)histogram_percentile(&latency, 99.99) / 1e6);
    bench_report(world->bench, "grow_reader_max", world->n, (double)latency.max_ns / 1e6);
    empty(world);
}

/* --- churn --- */

static void bench_churn(struct world *world)
{
    double fresh[ROUNDS];
    double churned[ROUNDS];
    fill_ahead(world);
    for (unsigned round = 0; round < ROUNDS; round++)
        fresh[round] = time_lookups(world, world->hits, BATCH, world->query_count, true) +
                       time_lookups(world, world->misses, BATCH, world->query_count, false);
    /* A window over the indices moves on: the oldest goes, the next comes, ten times the size. */
    for (uint64_t i = 0; i < 10 * world->n; i++) {
        bench_assert(directory_deregister(world->directory, population_number(&world->population, i)) ==
                         DIRECTORY_REMOVED,
                     "a removal found nothing");
        insert(world->directory, &world->population, world->n + i);
    }
    uint64_t random = 99;
    for (uint64_t i = 0; i < world->query_count; i++) {
        uint64_t index = 10 * world->n + next_random(&random) % world->n;
        world->hits[i] = population_number(&world->population, index);
    }
    for (unsigned round = 0; round < ROUNDS; round++)
        churned[round] = time_lookups(world, world->hits, BATCH, world->query_count, true) +
                         time_lookups(world, world->misses, BATCH, world->query_count, false);
    bench_report(world->bench, "churn_over_fresh", world->n,
                 bench_median(churned, ROUNDS) / bench_median(fresh, ROUNDS));
    empty(world);
}

static bool wants_lookups(const struct bench *bench)
{
    for (size_t i = 0; i < 14; i++)
        if (bench_wants(bench, rows[i].name))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    struct bench bench;
    static struct world world;
    int status = bench_init(&bench, "The directory against raw memory, boost's map and its bars.", rows,
                            sizeof rows / sizeof rows[0], argc, argv);
    if (status >= 0)
        return status;
    world.bench = &bench;
    world.n = bench.n > 0 ? bench.n : bench.quick ? QUICK_N : DEFAULT_N;
    population_init(&world.population, SEED);
    draw_queries(&world);
    if (wants_lookups(&bench))
        bench_lookups(&world);
    bench_growth(&world);
    if (bench_wants(&bench, "grow_reader_p9999") || bench_wants(&bench, "grow_reader_max"))
        bench_growth_readers(&world);
    if (bench_wants(&bench, "churn_over_fresh"))
        bench_churn(&world);
    pages_free(world.hits, world.query_count * sizeof *world.hits);
    pages_free(world.misses, world.query_count * sizeof *world.misses);
    free(world.answers);
    return bench_status(&bench);
}
