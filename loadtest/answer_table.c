/* answer_times without a server: directory_lookup itself, where a few ns show. */
#include <stdlib.h>
#include <string.h>

#include "answer_times.h"
#include "bench.h"
#include "hashing/directory.h"

#define SEED UINT64_C(0x1234567)
#define BATCH 128
/* Lookups one by one are timed by so many, since the clock takes as long as one. */
#define LONE_BLOCK 16

/* A lookup that is done before the next one begins: over the wire there are system calls between them. */
static inline void finish_all(void)
{
#ifdef __x86_64__
    __builtin_ia32_lfence();
#else
    __sync_synchronize();
#endif
}

struct bed {
    const struct answer_world *world;
    struct directory *directory;
    struct epoch_reader *reader;
};

static void fill(struct bed *bed)
{
    const struct answer_world *world = bed->world;
    bed->directory = directory_create(&(struct directory_options){.seed = SEED,
                                                                  .expected_records = world->n,
                                                                  .shard_bits = DIRECTORY_SHARD_BITS_DEFAULT,
                                                                  .accounts = true,
                                                                  .populate = true});
    bench_assert(bed->directory != NULL, "out of memory for the directory");
    for (uint64_t i = 0; i < world->n; i++)
        bench_assert(directory_register(bed->directory, &world->records[i]) == DIRECTORY_ADDED,
                     "a number was not added");
    bed->reader = directory_join(bed->directory);
}

/* How numbers are looked up. */
enum manner { ALIKE, LONE, BATCHED };

/* ns for a block of numbers of one class. */
static uint32_t time_block(const struct bed *bed, const uint64_t *numbers, size_t count, enum manner manner,
                           uint8_t *answers)
{
    size_t batch = manner == BATCHED ? count : 1;
    uint64_t started = bench_now_ns();
    for (size_t i = 0; i < count; i += batch) {
        finish_all();
        if (manner == ALIKE)
            answers[i] = (uint8_t)directory_lookup_alike(bed->directory, bed->reader, numbers[i]);
        else
            directory_lookup(bed->directory, bed->reader, numbers + i, batch, answers + i);
    }
    finish_all();
    uint64_t time = bench_now_ns() - started;
    return time < UINT32_MAX ? (uint32_t)time : UINT32_MAX;
}

/* Blocks of numbers of one class each; which class is next is chance. */
static void measure(const struct bed *bed, const char *prefix, size_t block, enum manner manner)
{
    uint64_t random = bench_now_ns();
    uint64_t blocks = bed->world->count / block;
    uint8_t *order = answer_order(blocks, &random);
    uint32_t *times[ANSWER_CLASSES];
    uint64_t done[ANSWER_CLASSES] = {0};
    uint64_t registered[ANSWER_CLASSES] = {0};
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++) {
        times[class] = malloc(blocks * sizeof *times[class]);
        bench_assert(times[class] != NULL, "out of memory");
    }
    for (uint64_t i = 0; i < blocks * ANSWER_CLASSES; i++) {
        uint64_t numbers[BATCH];
        uint8_t answers[BATCH];
        uint8_t class = order[i];
        uint64_t at = done[class]++;
        /* Out of the classes' arrays, which lie in different pages: to read them takes different times. */
        memcpy(numbers, &bed->world->asked[class][at * block], block * sizeof *numbers);
        times[class][at] = time_block(bed, numbers, block, manner, answers);
        for (size_t j = 0; j < block; j++)
            registered[class] += answers[j] == DIRECTORY_REGISTERED;
    }
    bench_assert(registered[ANSWER_HIT] == blocks * block && registered[ANSWER_MISS] == 0 &&
                     registered[ANSWER_HIDDEN] == 0,
                 "a lookup gave a wrong answer");
    answer_compare(prefix, times, blocks, (double)block);
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++)
        free(times[class]);
    free(order);
}

void answer_table(const struct answer_world *world)
{
    struct bed bed = {.world = world};
    fill(&bed);
    measure(&bed, "alike", LONE_BLOCK, ALIKE);
    measure(&bed, "lone", LONE_BLOCK, LONE);
    measure(&bed, "batch", BATCH, BATCHED);
    directory_leave(bed.directory, bed.reader);
    directory_destroy(bed.directory);
}
