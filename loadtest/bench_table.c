/* bench_table: the directory against raw memory, against boost's map, and against its own bars.
 *
 * All times of one row set come from one run, the contestants taking turns, each figure the median of the
 * rounds. Every lookup's answers are counted and checked. */
#include "bench_table.h"
#include "load_random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "huge.h"

#define DEFAULT_N UINT64_C(100000000)
#define QUICK_N UINT64_C(1000000)

static const struct bench_row rows[] = {
    {"raw_line_read", "ns", BENCH_NO_BAR, 0,
     "independent random reads of 64-byte lines, the fastest way found"},
    {"lookup_miss", "ns", BENCH_NO_BAR, 0, "lookup in batches of 1,024 of numbers that are not there"},
    {"lookup_hit", "ns", BENCH_NO_BAR, 0, "the same of numbers that are there"},
    {"lookup_miss_128", "ns", BENCH_NO_BAR, 0, "the same in batches of 128"},
    {"lookup_hit_128", "ns", BENCH_NO_BAR, 0, "the same for hits"},
    {"miss_over_raw", "ratio", BENCH_AT_MOST, 1.2, "lookup_miss over raw_line_read"},
    {"hit_over_raw", "ratio", BENCH_AT_MOST, 1.4, "the same for hits"},
    {"load", "ratio", BENCH_AT_LEAST, 0.90, "fill of the directory these were measured on"},
    {"second_line", "share", BENCH_NO_BAR, 0, "hits that read a second line"},
    {"huge_pages", "share", BENCH_NO_BAR, 0,
     "of the process's memory then, boost's and the raw memory included"},
    {"boost_hit", "ns", BENCH_NO_BAR, 0, "boost::unordered_flat_map, one by one"},
    {"boost_miss", "ns", BENCH_NO_BAR, 0, "the same for misses"},
    {"boost_over_hit", "ratio", BENCH_AT_LEAST, 2.0, "batch hits against boost"},
    {"boost_over_miss", "ratio", BENCH_AT_LEAST, 1.4, "batch misses against boost"},
    {"single_hit", "ns", BENCH_NO_BAR, 0, "lookups in batches of one, independent numbers"},
    {"single_miss", "ns", BENCH_NO_BAR, 0, "the same for misses"},
    {"boost_over_single_hit", "ratio", BENCH_AT_LEAST, 1.0, "single hits against boost"},
    {"boost_over_single_miss", "ratio", BENCH_AT_LEAST, 1.0, "single misses against boost"},
    {"insert_growing", "M/s", BENCH_AT_LEAST, 4.0, "one by one inserts into a growing directory, from 0"},
    {"insert_growing_batch", "M/s", BENCH_NO_BAR, 0, "the same in batches of 128"},
    {"boost_insert_growing", "M/s", BENCH_NO_BAR, 0,
     "boost's map in place of the directory, growing from nothing"},
    {"boost_memory", "bytes/number", BENCH_NO_BAR, 0, "the most that was resident for it from 1 M on"},
    {"moves_per_insert", "moves", BENCH_NO_BAR, 0, "numbers that changed their line for one that was added"},
    {"memory", "bytes/number", BENCH_AT_MOST, 18.5,
     "resident memory, the most at any count from 1 M on while growing, with accounts"},
    {"memory_no_accounts", "bytes/number", BENCH_AT_MOST, 9.5, "the same without account ids"},
    {"grow_reader_p9999", "ms", BENCH_AT_MOST, 1.0,
     "a reader's batch of 128 while it grows from a hundredth"},
    {"grow_reader_max", "ms", BENCH_AT_MOST, 5.0,
     "the longest of these in which the system did not take the processor from the thread"},
    {"grow_reader_max_any", "ms", BENCH_NO_BAR, 0, "the longest of all"},
    {"grow_machine_max", "ms", BENCH_NO_BAR, 0,
     "the same thread's longest pause in work that touches nothing shared: the machine's own"},
    {"churn_over_fresh", "ratio", BENCH_AT_MOST, 1.10,
     "lookups after ten times the size in removals and inserts"},
    {"bulk_build", "M/s", BENCH_AT_LEAST, 20,
     "two threads, sized ahead and that memory there, numbers sorted by shard"},
    {"billion_build", "M/s", BENCH_NO_BAR, 0,
     "10^9 numbers (or --n), two threads, sized ahead and that memory there, in any order"},
    {"billion_resident", "GB", BENCH_AT_MOST, 18.5, "memory of the process with these"},
    {"billion_miss", "ns", BENCH_NO_BAR, 0, "lookup in batches of 1,024 in these"},
    {"billion_hit", "ns", BENCH_NO_BAR, 0, "the same for hits"},
};

/* The first rows come from one run; this is the last of them. */
#define LAST_OF_LOOKUPS "boost_over_single_miss"

void world_open(struct world *world, uint64_t expected, bool accounts)
{
    world->directory =
        directory_create(&(struct directory_options){.seed = TABLE_SEED,
                                                     .expected_records = expected,
                                                     .shard_bits = DIRECTORY_SHARD_BITS_DEFAULT,
                                                     .accounts = accounts,
                                                     .doubling_slots = DIRECTORY_DOUBLING_SLOTS,
                                                     .populate = expected > 0});
    bench_assert(world->directory != NULL, "out of memory for the directory");
    world->reader = directory_join(world->directory);
}

void world_close(struct world *world)
{
    directory_leave(world->directory, world->reader);
    directory_destroy(world->directory);
    world->directory = NULL;
}

void world_insert(struct world *world, uint64_t index)
{
    struct record record = {.number = population_number(&world->population, index),
                            .account = population_account(&world->population, index)};
    bench_assert(directory_register(world->directory, &record) == DIRECTORY_ADDED, "an insert was not added");
}

void world_fill(struct world *world)
{
    world_open(world, world->n, true);
    for (uint64_t i = 0; i < world->n; i++)
        world_insert(world, i);
}

void world_draw(struct world *world, uint64_t first)
{
    uint64_t random = 99;
    for (uint64_t i = 0; i < world->query_count; i++) {
        world->hits[i] = population_number(&world->population, first + load_random(&random) % world->n);
        world->misses[i] = population_neighbour(&world->population, first + load_random(&random) % world->n);
    }
}

double bench_table_time(bench_table_look *look, void *context, const uint64_t *numbers, uint64_t count,
                        bool present)
{
    uint64_t near[TABLE_BATCH];
    uint64_t spent = 0;
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i += TABLE_BATCH) {
        memcpy(near, numbers + i, sizeof near);
        uint64_t started = bench_now_ns();
        found += look(context, near);
        spent += bench_now_ns() - started;
    }
    bench_assert(found == (present ? count : 0), "a lookup gave a wrong answer");
    return (double)spent / (double)count;
}

struct directory_look {
    const struct world *world;
    size_t batch;
};

static size_t look_in_directory(void *context, const uint64_t numbers[static TABLE_BATCH])
{
    const struct directory_look *look = context;
    const struct world *world = look->world;
    uint8_t answers[TABLE_BATCH];
    size_t found = 0;
    for (size_t i = 0; i < TABLE_BATCH; i += look->batch)
        directory_lookup(world->directory, world->reader, numbers + i, look->batch, answers + i);
    for (size_t i = 0; i < TABLE_BATCH; i++)
        found += answers[i] == DIRECTORY_REGISTERED;
    return found;
}

double world_time_lookups(const struct world *world, const uint64_t *numbers, size_t batch, uint64_t count,
                          bool present)
{
    return bench_table_time(look_in_directory, &(struct directory_look){world, batch}, numbers, count,
                            present);
}

uint64_t world_resident(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    bench_assert(file != NULL && fscanf(file, "%*u %lu", &pages) == 1, "/proc/self/statm is unreadable");
    fclose(file);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool wants_lookups(const struct bench *bench)
{
    for (const struct bench_row *row = rows;; row++) {
        if (bench_wants(bench, row->name))
            return true;
        if (strcmp(row->name, LAST_OF_LOOKUPS) == 0)
            return false;
    }
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
    world.query_count = bench.quick ? 1 << 20 : 1 << 23;
    world.hits = huge_allocate(world.query_count * sizeof *world.hits);
    world.misses = huge_allocate(world.query_count * sizeof *world.misses);
    bench_assert(world.hits != NULL && world.misses != NULL, "out of memory");
    population_init(&world.population, TABLE_SEED);
    world_draw(&world, 0);
    if (wants_lookups(&bench))
        bench_table_lookups(&world);
    bench_table_growth(&world);
    bench_table_build(&world);
    huge_free(world.hits, world.query_count * sizeof *world.hits);
    huge_free(world.misses, world.query_count * sizeof *world.misses);
    return bench_status(&bench);
}
