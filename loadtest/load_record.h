/* What a load has come to: counts, latencies, and how both went from second to second.
 *
 * Threads: each thread of the load adds to a record of its own; another may sum them up meanwhile (load_record_merge), and sees each count as it was
 * at some moment then: relaxed atomics. */
#ifndef NUMBERD_LOADTEST_LOAD_RECORD_H
#define NUMBERD_LOADTEST_LOAD_RECORD_H

#include <stdatomic.h>
#include <stdint.h>

#include "histogram.h"

enum load_count {
    LOAD_REQUESTS,    /* lookups answered; with the verb register: registrations */
    LOAD_NUMBERS,     /* in them */
    LOAD_REGISTERED,  /* answers */
    LOAD_WRONG,       /* answers that contradict the population */
    LOAD_LIMITED,     /* numbers answered LIMITED */
    LOAD_ADDED,       /* registrations that were new */
    LOAD_REPLACED,    /* and those that were not */
    LOAD_UPDATES,     /* requests of registrations beside lookups */
    LOAD_UNAVAILABLE, /* requests that the server would not carry out */
    LOAD_BROKEN,      /* connections lost */
    LOAD_GOODBYES,    /* connections that the server ended in order, and that were made anew */
    LOAD_CHURNED,     /* connections closed and made anew as --churn says */
    LOAD_SLOW_ENDED,  /* slow readers that the server closed */
    LOAD_COUNTS
};

struct load_record {
    _Atomic uint64_t counts[LOAD_COUNTS];
    struct histogram latency; /* of LOAD_REQUESTS */
    struct histogram update_latency;
};

static inline void load_record_add(struct load_record *record, enum load_count count, uint64_t more)
{
    _Atomic uint64_t *counter = &record->counts[count];
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static inline uint64_t load_record_count(const struct load_record *record, enum load_count count)
{
    return atomic_load_explicit(&record->counts[count], memory_order_relaxed);
}

void load_record_clear(struct load_record *record);
void load_record_merge(struct load_record *into, const struct load_record *from);

/* One second of the counted time. */
struct load_second {
    double seconds; /* since the counting began, at its end */
    double numbers_per_second;
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t max_ns;
};

struct load_report {
    double seconds; /* counted */
    struct load_record total;
    struct load_second *timeline;
    uint64_t timeline_length;
    uint64_t timeline_capacity;
};

#endif
