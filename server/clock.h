/* The clocks that connections and workers are measured with: monotonic, in ns. The coarse one is right to some ms (the kernel's last tick),
 * for a quarter of what the precise one costs. */
#ifndef NUMBERD_SERVER_CLOCK_H
#define NUMBERD_SERVER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_precise_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_precise_ms(void)
{
    return clock_precise_ns() / 1000000;
}

static inline uint64_t clock_coarse_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_coarse_ms(void)
{
    return clock_coarse_ns() / 1000000;
}

#endif
