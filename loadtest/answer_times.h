/* What the parts of answer_times share: the numbers that are asked about, and the comparison of their times. Private to
 * answer_times; bench_answers, which runs it, says what it is for. */
#ifndef NUMBERD_LOADTEST_ANSWER_TIMES_H
#define NUMBERD_LOADTEST_ANSWER_TIMES_H

#include <stdint.h>

#include "hashing/record.h"

enum answer_class { ANSWER_HIT, ANSWER_MISS, ANSWER_HIDDEN, ANSWER_CLASSES };

/* Of `n` registered numbers a sixth, drawn by chance, is hidden and asked about; another sixth is asked about; and so
 * are the neighbours of another, which are not registered. No number is asked about twice, so each finds its line as
 * cold as the others. */
struct answer_world {
    uint64_t n;
    uint64_t count;                  /* of each class */
    uint64_t *asked[ANSWER_CLASSES]; /* in an order by chance */
    struct record *records;          /* all n */
};

/* Ends the program when memory is short. */
void answer_world_init(struct answer_world *world, uint64_t n);
void answer_world_deinit(struct answer_world *world);

/* SplitMix64. */
uint64_t answer_random(uint64_t *state);

/* Each class `count_of_each` times, in an order by chance; the caller frees. */
uint8_t *answer_order(uint64_t count_of_each, uint64_t *random);

void answer_print(const char *prefix, const char *name, double value);

/* Compares the classes by pairs and prints what comes out. Each of `count` times of a class is that of `lookups`
 * lookups. Sorts them. */
void answer_compare(const char *prefix, uint32_t *times[ANSWER_CLASSES], uint64_t count, double lookups);

/* The parts. */
void answer_wire(const struct answer_world *world, const char *server);
void answer_table(const struct answer_world *world);

#endif
