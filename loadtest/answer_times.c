/* answer_times: the measuring part of bench_answers, which see.
 *
 *   answer_times wire N SERVER   registers N numbers with an empty numberd; the replies' sizes, then lookups one by one
 *   answer_times table N         the same N in a directory of its own, without a server
 *
 * Prints lines "NAME VALUE". A wrong answer ends it. */
#include "answer_times.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "bench.h"
#include "population.h"
#include "two_sample.h"

#define SEED UINT64_C(4164)
/* Three pairs of classes and three statistics are nine comparisons: with 899 deals the chance that any of them is above
 * its noise though all classes are alike is 9 in 900. */
#define DEALS 899

static const char *const class_names[ANSWER_CLASSES] = {"hit", "miss", "hidden"};

uint64_t answer_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* SplitMix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    bench_assert(memory != NULL, "out of memory");
    return memory;
}

/* --- the numbers --- */

/* 0 .. n-1 in an order by chance (Fisher and Yates). A number's index also says of which country it is, so whatever is
 * drawn by a pattern in the indices would draw countries. */
static uint32_t *shuffled_indices(uint64_t n, uint64_t *random)
{
    uint32_t *indices = allocate(n, sizeof *indices);
    for (uint64_t i = 0; i < n; i++)
        indices[i] = (uint32_t)i;
    for (uint64_t i = n - 1; i > 0; i--) {
        uint64_t other = answer_random(random) % (i + 1);
        uint32_t index = indices[i];
        indices[i] = indices[other];
        indices[other] = index;
    }
    return indices;
}

void answer_world_init(struct answer_world *world, uint64_t n)
{
    static struct population population;
    uint64_t random = SEED;
    uint32_t *indices = shuffled_indices(n, &random);
    *world = (struct answer_world){.n = n, .count = n / 6, .records = allocate(n, sizeof *world->records)};
    population_init(&population, SEED);
    for (uint64_t i = 0; i < n; i++)
        world->records[i] = (struct record){.number = population_number(&population, i),
                                            .account = population_account(&population, i)};
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++) {
        world->asked[class] = allocate(world->count, sizeof *world->asked[class]);
        for (uint64_t i = 0; i < world->count; i++) {
            uint32_t index = indices[class * world->count + i];
            world->asked[class][i] = class == ANSWER_MISS ? population_neighbour(&population, index)
                                                          : world->records[index].number;
            if (class == ANSWER_HIDDEN)
                world->records[index].flags = RECORD_FLAG_HIDDEN;
        }
    }
    free(indices);
}

void answer_world_deinit(struct answer_world *world)
{
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++)
        free(world->asked[class]);
    free(world->records);
}

uint8_t *answer_order(uint64_t count_of_each, uint64_t *random)
{
    uint64_t left[ANSWER_CLASSES] = {count_of_each, count_of_each, count_of_each};
    uint64_t total = count_of_each * ANSWER_CLASSES;
    uint8_t *order = allocate(total, sizeof *order);
    for (uint64_t i = 0; i < total; i++) {
        uint64_t ticket = answer_random(random) % (total - i);
        uint8_t class = 0;
        while (class + 1 < ANSWER_CLASSES && ticket >= left[class])
            ticket -= left[class ++];
        left[class]--;
        order[i] = class;
    }
    return order;
}

/* --- the figures --- */

void answer_print(const char *prefix, const char *name, double value)
{
    printf("%s_%s %.9g\n", prefix, name, value);
    fflush(stdout);
}

void answer_compare(const char *prefix, uint32_t *times[ANSWER_CLASSES], uint64_t count, double lookups)
{
    static const uint8_t pairs[][2] = {
        {ANSWER_HIDDEN, ANSWER_MISS}, {ANSWER_HIT, ANSWER_MISS}, {ANSWER_HIDDEN, ANSWER_HIT}};
    static const char *const statistic_names[TWO_SAMPLE_STATISTICS] = {"distance", "ranks", "shift"};
    char name[64];
    for (unsigned i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct two_sample_result result;
        const char *a = class_names[pairs[i][0]];
        const char *b = class_names[pairs[i][1]];
        bench_assert(two_sample_compare(times[pairs[i][0]], count, times[pairs[i][1]], count, DEALS, SEED + i,
                                        &result),
                     "out of memory");
        for (unsigned j = 0; j < TWO_SAMPLE_STATISTICS; j++) {
            double scale = j == TWO_SAMPLE_SHIFT ? lookups : 1;
            snprintf(name, sizeof name, "%s_%s_%s", a, b, statistic_names[j]);
            answer_print(prefix, name, result.values[j] / scale);
            snprintf(name, sizeof name, "%s_%s_%s_noise", a, b, statistic_names[j]);
            answer_print(prefix, name, result.noise[j] / scale);
        }
        snprintf(name, sizeof name, "%s_%s_over_noise", a, b);
        answer_print(prefix, name, two_sample_over_noise(&result));
    }
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++)
        answer_print(prefix, class_names[class],
                     two_sample_trimmed_mean(times[class], count) / lookups); /* sorted by now */
}

int main(int argc, char **argv)
{
    struct answer_world world;
    uint64_t n = argc >= 3 ? strtoull(argv[2], NULL, 10) : 0;
    bool wire = argc == 4 && strcmp(argv[1], "wire") == 0;
    bool table = argc == 3 && strcmp(argv[1], "table") == 0;
    if (n < 6000 || n > UINT32_MAX || (!wire && !table)) {
        fprintf(stderr, "usage: %s wire N SERVER | table N, with N from 6,000 on\n", argv[0]);
        return EX_USAGE;
    }
    answer_world_init(&world, n);
    if (wire)
        answer_wire(&world, argv[3]);
    else
        answer_table(&world);
    answer_world_deinit(&world);
    return EX_OK;
}
