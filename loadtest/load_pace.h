/* When the next request is due, and how many numbers it has. Pure, but for the random state that it holds; one thread. */
#ifndef NUMBERD_LOADTEST_LOAD_PACE_H
#define NUMBERD_LOADTEST_LOAD_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "load_options.h"

struct load_pace {
    const struct load_options *options;
    uint64_t random;
    double ns_per_number; /* of this thread's share of the rate; 0: closed loop */
    double due_ns;        /* since the start: the next request */
};

/* `number`: which of the options' threads. */
void load_pace_init(struct load_pace *pace, const struct load_options *options, unsigned number);

/* How many numbers the next request has: the batch, or an address book. */
uint16_t load_pace_count(struct load_pace *pace);

/* Whether the next request is one of registrations. */
bool load_pace_registers(struct load_pace *pace);

/* A request with so many numbers was sent: the next one is due so much later that the rate holds. */
void load_pace_advance(struct load_pace *pace, uint16_t count);

#endif
