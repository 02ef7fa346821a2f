/* bench_table's lookups, against raw memory and against boost's map. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_table.h"
#include "hashing/arena.h"
#include "huge.h"
#include "load_random.h"
#ifdef HAVE_BOOST
#include "peer_boost.h"
#endif

/* --- raw reads --- */

/* As the numbers of a lookup's batch, the lines to read are in the cache when the clock starts; behind them is room for
 * what a window prefetches beyond the end. */
#define AHEAD_MAX 256
struct piece {
    uint32_t order[TABLE_BATCH + AHEAD_MAX];
};

/* Adds up one word of each line of the piece. */
typedef uint64_t raw_reader(const uint64_t *memory, const struct piece *piece, unsigned size);

/* Prefetches a group, then reads it. */
static uint64_t read_groups(const uint64_t *memory, const struct piece *piece, unsigned group)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < TABLE_BATCH; i += group) {
        for (unsigned j = 0; j < group; j++)
            __builtin_prefetch(&memory[(uint64_t)piece->order[i + j] * 8]);
        for (unsigned j = 0; j < group; j++)
            total += memory[(uint64_t)piece->order[i + j] * 8];
    }
    return total;
}

/* Prefetches into the second-level cache `far` lines ahead, into the first NEAR ahead. */
static uint64_t read_window(const uint64_t *memory, const struct piece *piece, unsigned far)
{
    enum { NEAR = 12 };
    uint64_t total = 0;
    for (unsigned i = 0; i < far; i++)
        __builtin_prefetch(&memory[(uint64_t)piece->order[i] * 8], 0, 2);
    for (unsigned i = 0; i < TABLE_BATCH; i++) {
        __builtin_prefetch(&memory[(uint64_t)piece->order[i + far] * 8], 0, 2);
        __builtin_prefetch(&memory[(uint64_t)piece->order[i + NEAR] * 8], 0, 3);
        total += memory[(uint64_t)piece->order[i] * 8];
    }
    return total;
}

static uint64_t read_plainly(const uint64_t *memory, const struct piece *piece, unsigned size)
{
    uint64_t totals[4] = {0};
    (void)size;
    for (unsigned i = 0; i < TABLE_BATCH; i += 4)
        for (unsigned j = 0; j < 4; j++)
            totals[j] += memory[(uint64_t)piece->order[i + j] * 8];
    return totals[0] + totals[1] + totals[2] + totals[3];
}

/* ns per line. */
static double time_raw(raw_reader *reader, const uint64_t *memory, const uint32_t *order, uint64_t count,
                       unsigned size, uint64_t *sum)
{
    struct piece piece;
    uint64_t spent = 0;
    for (uint64_t i = 0; i < count; i += TABLE_BATCH) {
        memcpy(piece.order, order + i, TABLE_BATCH * sizeof *order);
        for (unsigned j = 0; j < AHEAD_MAX; j++)
            piece.order[TABLE_BATCH + j] = piece.order[TABLE_BATCH - 1];
        uint64_t started = bench_now_ns();
        *sum += reader(memory, &piece, size);
        spent += bench_now_ns() - started;
    }
    return (double)spent / (double)count;
}

/* The fastest of plain loads, prefetched groups and prefetching windows, chosen anew in each round. */
static double best_raw(const uint64_t *memory, const uint32_t *order, uint64_t count, uint64_t *sum)
{
    double best = time_raw(read_plainly, memory, order, count, 0, sum);
    for (unsigned size = 32; size <= AHEAD_MAX; size *= 2) {
        best = fmin(best, time_raw(read_groups, memory, order, count, size, sum));
        best = fmin(best, time_raw(read_window, memory, order, count, size, sum));
    }
    return best;
}

/* --- the contestants --- */

#ifdef HAVE_BOOST
static size_t look_in_boost(void *context, const uint64_t numbers[static TABLE_BATCH])
{
    return peer_boost_lookup(context, numbers, TABLE_BATCH);
}

static bool wants_boost(const struct bench *bench)
{
    static const char *const names[] = {"boost_hit",
                                        "boost_miss",
                                        "boost_over_hit",
                                        "boost_over_miss",
                                        "boost_over_single_hit",
                                        "boost_over_single_miss"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (bench_wants(bench, names[i]))
            return true;
    return false;
}

static struct peer_boost *fill_boost(const struct world *world)
{
    struct peer_boost *peer = peer_boost_create(world->n, TABLE_SEED);
    for (uint64_t i = 0; i < world->n; i++)
        peer_boost_insert(peer, population_number(&world->population, i),
                          population_account(&world->population, i));
    return peer;
}
#endif

enum contestant {
    RAW,
    MISS,
    HIT,
    SMALL_MISS,
    SMALL_HIT,
    SINGLE_MISS,
    SINGLE_HIT,
    BOOST_MISS,
    BOOST_HIT,
    CONTESTANTS
};

static void run_round(struct world *world, const uint64_t *memory, const uint32_t *order,
                      double times[CONTESTANTS], void *peer)
{
    uint64_t count = world->query_count;
    uint64_t sum = 0;
    times[RAW] = best_raw(memory, order, count, &sum);
    times[MISS] = world_time_lookups(world, world->misses, TABLE_BATCH, count, false);
    times[HIT] = world_time_lookups(world, world->hits, TABLE_BATCH, count, true);
    times[SMALL_MISS] = world_time_lookups(world, world->misses, TABLE_SMALL_BATCH, count, false);
    times[SMALL_HIT] = world_time_lookups(world, world->hits, TABLE_SMALL_BATCH, count, true);
    times[SINGLE_MISS] = world_time_lookups(world, world->misses, 1, count / 4, false);
    times[SINGLE_HIT] = world_time_lookups(world, world->hits, 1, count / 4, true);
#ifdef HAVE_BOOST
    if (peer != NULL) {
        times[BOOST_MISS] = bench_table_time(look_in_boost, peer, world->misses, count, false);
        times[BOOST_HIT] = bench_table_time(look_in_boost, peer, world->hits, count, true);
    }
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
    bench_report(bench, "lookup_miss_128", world->n, t[SMALL_MISS]);
    bench_report(bench, "lookup_hit_128", world->n, t[SMALL_HIT]);
    bench_report(bench, "miss_over_raw", world->n, t[MISS] / t[RAW]);
    bench_report(bench, "hit_over_raw", world->n, t[HIT] / t[RAW]);
    bench_report(bench, "load", world->n, (double)stats.records / (double)stats.slots);
    bench_report(bench, "second_line", world->n, (double)stats.spilled / (double)stats.records);
    bench_report(bench, "huge_pages", world->n, (double)arena_huge_bytes() / (double)world_resident());
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

void bench_table_lookups(struct world *world)
{
    double times[TABLE_ROUNDS][CONTESTANTS] = {{0}};
    double medians[CONTESTANTS];
    double column[TABLE_ROUNDS];
    struct directory_stats stats;
    void *peer = NULL;
    world_fill(world);
#ifdef HAVE_BOOST
    peer = wants_boost(world->bench) ? fill_boost(world) : NULL;
#endif
    directory_stats(world->directory, &stats);
    uint64_t lines = stats.slots / 8;
    uint64_t *memory = huge_allocate(lines * 64);
    uint32_t *order = huge_allocate(world->query_count * sizeof *order);
    bench_assert(memory != NULL && order != NULL, "out of memory");
    memset(memory, 0, lines * 64);
    uint64_t random = 5;
    for (uint64_t i = 0; i < world->query_count; i++)
        order[i] = (uint32_t)(load_random(&random) % lines);
    for (unsigned round = 0; round < TABLE_ROUNDS; round++)
        run_round(world, memory, order, times[round], peer);
    for (unsigned c = 0; c < CONTESTANTS; c++) {
        for (unsigned round = 0; round < TABLE_ROUNDS; round++)
            column[round] = times[round][c];
        medians[c] = bench_median(column, TABLE_ROUNDS);
    }
    report_lookups(world, medians);
    huge_free(memory, lines * 64);
    huge_free(order, world->query_count * sizeof *order);
#ifdef HAVE_BOOST
    if (peer != NULL)
        peer_boost_destroy(peer);
#endif
    world_close(world);
}
