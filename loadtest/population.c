/* The population; see population.h. */
#include "population.h"

#include <assert.h>
#include <stddef.h>

/* Mobile ranges: prefix, subscriber digits that follow, and the plan's share per thousand. The shares follow the
 * countries' sizes roughly; each range is large enough for its share of POPULATION_MAX numbers. */
static const struct {
    uint64_t prefix;
    unsigned digits;
    unsigned share;
} ranges[] = {
    {917, 9, 60},   {918, 9, 60},   {919, 9, 60},  /* India */
    {8613, 9, 60},  {8615, 9, 60},  {8618, 9, 60}, /* China */
    {12, 9, 50},    {13, 9, 30},    {14, 9, 25},    {15, 9, 25},
    {17, 9, 25},    {18, 9, 20},    {19, 9, 20},                   /* North America */
    {628, 10, 60},                                                 /* Indonesia */
    {55119, 8, 10}, {55219, 8, 10}, {55319, 8, 10}, {55719, 8, 5}, /* Brazil */
    {79, 9, 35},                                                   /* Russia */
    {8180, 8, 10},  {8190, 8, 10},  {8170, 8, 5},                  /* Japan */
    {4915, 9, 20},  {4916, 9, 10},  {4917, 9, 10},                 /* Germany */
    {447, 9, 25},                                                  /* United Kingdom */
    {336, 8, 10},   {337, 8, 8},                                   /* France */
    {393, 9, 18},                                                  /* Italy */
    {346, 8, 12},                                                  /* Spain */
    {905, 9, 20},                                                  /* Türkiye */
    {989, 9, 15},                                                  /* Iran */
    {923, 9, 25},                                                  /* Pakistan */
    {8801, 9, 20},                                                 /* Bangladesh */
    {2347, 9, 12},  {2348, 9, 12},                                 /* Nigeria */
    {201, 9, 18},                                                  /* Egypt */
    {639, 9, 18},                                                  /* Philippines */
    {849, 8, 12},                                                  /* Viet Nam */
    {521, 10, 15},                                                 /* Mexico */
    {276, 8, 5},    {278, 8, 5},                                   /* South Africa */
    {614, 8, 5},                                                   /* Australia */
};

/* For a product of two 33-bit numbers; ISO C has no such type. */
__extension__ typedef unsigned __int128 wide;

#define RANGE_COUNT (sizeof ranges / sizeof ranges[0])
static_assert(RANGE_COUNT <= POPULATION_PLANS_MAX, "the plans fit");

/* SplitMix64's finalizer: a well-mixed function of its argument. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static uint64_t power_of_ten(unsigned digits)
{
    uint64_t power = 1;
    while (digits-- > 0)
        power *= 10;
    return power;
}

void population_init(struct population *population, uint64_t seed)
{
    *population = (struct population){.plan_count = RANGE_COUNT, .seed = seed};
    for (uint64_t i = 0; i < RANGE_COUNT; i++) {
        struct population_plan *plan = &population->plans[i];
        uint64_t size = power_of_ten(ranges[i].digits);
        plan->first = ranges[i].prefix * size;
        plan->pairs = size / 2;
        assert(plan->pairs > 0);
        plan->multiplier = mix(seed + 2 * i) % plan->pairs | 1;
        while (greatest_common_divisor(plan->multiplier, plan->pairs) != 1)
            plan->multiplier += 2;
        plan->offset = mix(seed + 2 * i + 1) % plan->pairs;
        plan->slot_first = population->slots;
        plan->slots = ranges[i].share;
        population->slots += ranges[i].share;
    }
    /* Each plan must have room for its share of all indices. */
    for (unsigned i = 0; i < RANGE_COUNT; i++)
        assert((POPULATION_MAX / population->slots + 1) * population->plans[i].slots <=
               population->plans[i].pairs);
}

static const struct population_plan *plan_of(const struct population *population, uint64_t slot)
{
    unsigned low = 0;
    unsigned high = population->plan_count;
    while (high - low > 1) {
        unsigned middle = (low + high) / 2;
        if (population->plans[middle].slot_first <= slot)
            low = middle;
        else
            high = middle;
    }
    return &population->plans[low];
}

uint64_t population_number(const struct population *population, uint64_t index)
{
    assert(index < POPULATION_MAX);
    /* Round by round through the slots, in an order that mixes the plans; 619 is prime, and so prime to
     * slots. */
    uint64_t round = index / population->slots;
    uint64_t slot = index % population->slots * 619 % population->slots;
    const struct population_plan *plan = plan_of(population, slot);
    uint64_t within = round * plan->slots + (slot - plan->slot_first);
    uint64_t pair = (uint64_t)(((wide)within * plan->multiplier + plan->offset) % plan->pairs);
    return plan->first + 2 * pair;
}

uint64_t population_neighbour(const struct population *population, uint64_t index)
{
    return population_number(population, index) + 1;
}

uint64_t population_account(const struct population *population, uint64_t index)
{
    return mix(population->seed ^ (index + 1) * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}
