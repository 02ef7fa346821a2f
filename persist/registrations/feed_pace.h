/* The pace of a feed's thread that catches up: rounds of a few milliseconds, with pauses between them, so that Redis and whoever shares the
 * processors go on as before.
 *
 * Short rounds, since it is not the share alone that counts: a program that is busy for 20 of 80 ms has every hundredth lookup beside it take
 * 2 ms rather than 0.3, one that is busy for 0.5 of 2 ms, or has a low priority, next to nothing (Linux 6.18, two processors).
 * What counts is the thread's own time of a processor: one that has to wait for its turn has rested already.
 * Pauses end after FEED_PACE_MS: what comes faster than it is read at this pace is read without any then.
 *
 * Pure; the thread's own. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_PACE_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_PACE_H

#include <stdint.h>

#define FEED_PACE_MS UINT64_C(600000)
/* A round that works longer reads less next time; one that works less than half of it reads more. */
#define FEED_PACE_ROUND_US 4000u
#define FEED_PACE_REST_MS_MAX 250u

struct feed_pace {
    unsigned percent; /* 1 .. 100: of its time that it works */
    uint64_t ends_ms;
    unsigned most;     /* entries of each partition for the next round, 1 .. most_max */
    unsigned most_max; /* and for all when it is over */
};

void feed_pace_begin(struct feed_pace *pace, unsigned percent, unsigned most_max, uint64_t now_ms);

/* For how many ms to rest after a round that took so much of a processor. */
unsigned feed_pace_rest(struct feed_pace *pace, uint64_t worked_us, uint64_t now_ms);

/* It has caught up. */
void feed_pace_end(struct feed_pace *pace);

#endif
