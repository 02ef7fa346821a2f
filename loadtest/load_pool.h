/* The numbers that requests are slices of, drawn before the clock starts, so that a number then costs the load tester a copy and a
 * comparison. Read-only once made; any thread may read. */
#ifndef NUMBERD_LOADTEST_LOAD_POOL_H
#define NUMBERD_LOADTEST_LOAD_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "load_options.h"
#include "population.h"

/* Behind its end a pool goes on as at its beginning, for as many numbers as a request may have: every request is one slice. */
struct load_pool {
    uint64_t size;
    uint64_t *numbers;
    uint64_t *accounts; /* of registrations; else NULL */
    uint8_t *expected;  /* of lookups: the wire's status; else NULL */
};

/* 4 million numbers to look up, as the options say. At 64 bytes of a server's memory each that is far beyond any cache. False when memory is
 * short. */
bool load_pool_draw(struct load_pool *pool, const struct load_options *options,
                    const struct population *population);

/* The first `size` of the population, in its order, to register. */
bool load_pool_list(struct load_pool *pool, uint64_t size, const struct population *population);

void load_pool_deinit(struct load_pool *pool);

#endif
