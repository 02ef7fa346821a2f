/* What the parts of bench_table share: the world that they measure in. Private to bench_table. */
#ifndef NUMBERD_LOADTEST_BENCH_TABLE_H
#define NUMBERD_LOADTEST_BENCH_TABLE_H

#include "bench.h"
#include "hashing/directory.h"
#include "population.h"

#define TABLE_SEED UINT64_C(0x1234567)
#define TABLE_ROUNDS 7
/* An address book, or the joined requests of a busy moment. */
#define TABLE_BATCH 1024
#define TABLE_SMALL_BATCH 128

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
};

/* A directory for `expected` numbers, joined by the world's reader; world_close takes both away. */
void world_open(struct world *world, uint64_t expected, bool accounts);
void world_close(struct world *world);
/* Registers number `index` of the population one by one; it must be new. */
void world_insert(struct world *world, uint64_t index);
/* Opens one that is sized ahead and registers numbers 0 .. n-1. */
void world_fill(struct world *world);
/* Draws the numbers to look up, from those that an index `first` .. `first`+n-1 has. */
void world_draw(struct world *world, uint64_t first);

/* Looks all of them up; returns how many are there. */
typedef size_t bench_table_look(void *context, const uint64_t numbers[static TABLE_BATCH]);

/* ns per number; all `count` (a multiple of TABLE_BATCH) are registered or none is. The numbers are brought into the cache
 * before the clock starts, where a server has those that it has received: to read so many of them from memory is no part of a
 * lookup, and took 1 to 2 ns a number. */
double bench_table_time(bench_table_look *look, void *context, const uint64_t *numbers, uint64_t count,
                        bool present);
/* The same in the directory, in batches of `batch`, which divides TABLE_BATCH. */
double world_time_lookups(const struct world *world, const uint64_t *numbers, size_t batch, uint64_t count,
                          bool present);

/* Memory of the process in RAM, in bytes. */
uint64_t world_resident(void);

/* The parts, each with its rows. */
void bench_table_lookups(struct world *world);
void bench_table_growth(struct world *world);
void bench_table_build(struct world *world);

#endif
