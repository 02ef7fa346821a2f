/* Random numbers for the load tester and the benchmarks: SplitMix64 (Steele, Lea, Flood 2014), whose state is one word of the caller's. Never for secrets. */
#ifndef NUMBERD_LOADTEST_LOAD_RANDOM_H
#define NUMBERD_LOADTEST_LOAD_RANDOM_H

#include <stdint.h>

static inline uint64_t load_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* From 0 to below 1. */
static inline double load_random_real(uint64_t *state)
{
    return (double)(load_random(state) >> 11) * 0x1p-53;
}

#endif
