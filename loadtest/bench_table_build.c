/* bench_table's rows about building: numbers sorted by shard, by two threads; and a billion of them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_table.h"
#include "huge.h"

#define THREADS 2
#define SHARDS (1u << DIRECTORY_SHARD_BITS_DEFAULT)
#define PIECE 1024
#define BILLION UINT64_C(1000000000)

/* One thread's share: the shards first .. end-1, whose records are `sorted`, or numbers first .. end-1 of the
 * population. */
struct builder {
    struct world *world;
    const struct record *sorted;
    const uint64_t *starts;
    uint64_t first;
    uint64_t end;
};

static void register_all(struct world *world, const struct record *records, size_t count)
{
    uint8_t results[PIECE];
    directory_register_batch(world->directory, records, count, results);
    for (size_t i = 0; i < count; i++)
        bench_assert(results[i] == DIRECTORY_ADDED, "an insert was not added");
}

static void *build_sorted(void *context)
{
    const struct builder *builder = context;
    const uint64_t *starts = builder->starts;
    struct directory_bulk bulk = {0};
    for (uint64_t shard = builder->first; shard < builder->end; shard++)
        directory_register_shard(builder->world->directory, (unsigned)shard, builder->sorted + starts[shard],
                                 starts[shard + 1] - starts[shard], &bulk);
    bench_assert(bulk.added == starts[builder->end] - starts[builder->first], "an insert was not added");
    return NULL;
}

static void *build_drawn(void *context)
{
    const struct builder *builder = context;
    struct record records[PIECE];
    for (uint64_t i = builder->first; i < builder->end; i += PIECE) {
        size_t count = builder->end - i < PIECE ? builder->end - i : PIECE;
        for (size_t j = 0; j < count; j++)
            records[j] = (struct record){.number = population_number(&builder->world->population, i + j),
                                         .account = population_account(&builder->world->population, i + j)};
        register_all(builder->world, records, count);
    }
    return NULL;
}

/* Splits 0 .. count-1 between two threads. Seconds. */
static double build(struct world *world, void *(*build_share)(void *), const struct record *sorted,
                    const uint64_t *starts, uint64_t count)
{
    struct builder builders[THREADS] = {{world, sorted, starts, 0, count / 2},
                                        {world, sorted, starts, count / 2, count}};
    pthread_t threads[THREADS];
    uint64_t started = bench_now_ns();
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, build_share, &builders[i]);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return (double)(bench_now_ns() - started) / 1e9;
}

/* The population's first n records by their shard (counting sort); `starts[s]` is where shard s begins. */
static struct record *sort_by_shard(const struct world *world, uint64_t starts[static SHARDS + 1])
{
    struct record *sorted = huge_allocate(world->n * sizeof *sorted);
    uint64_t next[SHARDS];
    bench_assert(sorted != NULL, "out of memory");
    for (unsigned s = 0; s <= SHARDS; s++)
        starts[s] = 0;
    for (uint64_t i = 0; i < world->n; i++)
        starts[directory_shard_of(world->directory, population_number(&world->population, i)) + 1]++;
    for (unsigned s = 0; s < SHARDS; s++) {
        starts[s + 1] += starts[s];
        next[s] = starts[s];
    }
    for (uint64_t i = 0; i < world->n; i++) {
        uint64_t number = population_number(&world->population, i);
        sorted[next[directory_shard_of(world->directory, number)]++] =
            (struct record){.number = number, .account = population_account(&world->population, i)};
    }
    return sorted;
}

static void check_build(const struct world *world, uint64_t n)
{
    struct directory_stats stats;
    directory_stats(world->directory, &stats);
    bench_assert(stats.records == n, "not everything is there");
}

static void bench_bulk_build(struct world *world)
{
    uint64_t starts[SHARDS + 1];
    double rates[3];
    for (unsigned round = 0; round < 3; round++) {
        world_open(world, world->n, true);
        struct record *sorted = sort_by_shard(world, starts);
        rates[round] = (double)world->n / 1e6 / build(world, build_sorted, sorted, starts, SHARDS);
        check_build(world, world->n);
        huge_free(sorted, world->n * sizeof *sorted);
        world_close(world);
    }
    bench_report(world->bench, "bulk_build", world->n, bench_median(rates, 3));
}

static double median_of_lookups(struct world *world, const uint64_t *numbers, bool present)
{
    double rounds[TABLE_ROUNDS];
    for (unsigned round = 0; round < TABLE_ROUNDS; round++)
        rounds[round] = world_time_lookups(world, numbers, TABLE_BATCH, world->query_count, present);
    return bench_median(rounds, TABLE_ROUNDS);
}

static void bench_billion(struct world *world)
{
    uint64_t usual = world->n;
    if (world->bench->n == 0 && !world->bench->quick)
        world->n = BILLION;
    world_open(world, world->n, true);
    double rate = (double)world->n / 1e6 / build(world, build_drawn, NULL, NULL, world->n);
    check_build(world, world->n);
    bench_report(world->bench, "billion_build", world->n, rate);
    bench_report(world->bench, "billion_resident", world->n, (double)world_resident() / 1e9);
    world_draw(world, 0);
    bench_report(world->bench, "billion_miss", world->n, median_of_lookups(world, world->misses, false));
    bench_report(world->bench, "billion_hit", world->n, median_of_lookups(world, world->hits, true));
    world_close(world);
    world->n = usual;
}

void bench_table_build(struct world *world)
{
    if (bench_wants(world->bench, "bulk_build"))
        bench_bulk_build(world);
    if (bench_wants(world->bench, "billion_build") || bench_wants(world->bench, "billion_resident") ||
        bench_wants(world->bench, "billion_miss") || bench_wants(world->bench, "billion_hit"))
        bench_billion(world);
}
