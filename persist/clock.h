/* The kernel's clocks in milliseconds: CLOCK_MONOTONIC for how long something takes, CLOCK_REALTIME for what others are told. */
#ifndef NUMBERD_PERSIST_CLOCK_H
#define NUMBERD_PERSIST_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

#endif
