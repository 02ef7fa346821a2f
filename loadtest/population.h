/* The population: a deterministic set of registered numbers over real mobile numbering plans, with neighbours that
 * are surely not registered.
 *
 * Number i (0 .. POPULATION_MAX-1) of a seed: a plan by weight, then a subscriber number by a seeded bijection, so no
 * two indices share a number. Registered subscribers are even, the neighbour of a number is the odd one behind
 * it: it differs in the last digit and is in no population of the seed.
 * Pure functions but for population_init, which fills the caller's struct; any thread may read it. */
#ifndef NUMBERD_LOADTEST_POPULATION_H
#define NUMBERD_LOADTEST_POPULATION_H

#include <stdint.h>

#define POPULATION_MAX UINT64_C(2000000000)
#define POPULATION_PLANS_MAX 64

struct population_plan {
    uint64_t first;      /* the plan's first number */
    uint64_t pairs;      /* pairs of numbers: one registered, one its neighbour */
    uint64_t multiplier; /* of the bijection, prime to pairs */
    uint64_t offset;
    uint64_t slot_first; /* the plan's share of each round of indices */
    uint64_t slots;
};

struct population {
    struct population_plan plans[POPULATION_PLANS_MAX];
    unsigned plan_count;
    uint64_t slots; /* of all plans together: a round */
    uint64_t seed;
};

void population_init(struct population *population, uint64_t seed);

uint64_t population_number(const struct population *population, uint64_t index);
uint64_t population_neighbour(const struct population *population, uint64_t index);
/* The account of number `index`; never 0. */
uint64_t population_account(const struct population *population, uint64_t index);

#endif
