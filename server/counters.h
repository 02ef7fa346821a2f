/* What one worker counts. Written by its worker alone, read by anyone, each counter by itself: relaxed atomics,
 * no lock, no shared cache line between workers. */
#ifndef NUMBERD_SERVER_COUNTERS_H
#define NUMBERD_SERVER_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#define COUNTERS_REQUEST_TYPES 13 /* by wire type; 0: of unknown type */
#define COUNTERS_ANSWERS 4        /* by wire status: not registered, registered, invalid, limited */
#define COUNTERS_DETECTORS 3      /* by enum detector (access/budgets.h) */
#define COUNTERS_REFUSALS 3       /* by enum seats_verdict (access/seats.h) from SEATS_FULL on */
#define COUNTERS_UPDATES 7        /* by wire status from WIRE_ADDED on */

/* Batches by how many numbers were asked for in a request: at most 1, 2, 4 and so on. */
#define COUNTERS_BATCHES 17
/* Times by how long they were: at most 4 us, 16, 64 and so on, the last one longer than all. */
#define COUNTERS_TIMES 11
#define COUNTERS_TIME_FIRST_NS 4000u

struct counters_times {
    _Atomic uint64_t counts[COUNTERS_TIMES];
    _Atomic uint64_t ns; /* of all of them */
};

struct counters {
    _Alignas(64) _Atomic uint64_t connections_opened;
    _Atomic uint64_t connections_closed;
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t frames_malformed;
    _Atomic uint64_t requests_unavailable; /* answered UNAVAILABLE */
    _Atomic uint64_t requests_elsewhere;   /* answered ELSEWHERE */
    _Atomic uint64_t limited_unlogged;     /* numbers: LIMITED and not in the query log (recorder.h) */
    _Atomic uint64_t connections_slow;     /* closed since the client took too long (connections.h) */
    _Atomic uint64_t connections_evicted;  /* closed to bound the memory of all (connections.h) */
    _Atomic uint64_t buffer_bytes;         /* held for connections now */
    _Atomic uint64_t refused[COUNTERS_REFUSALS];
    _Atomic uint64_t suspicions[COUNTERS_DETECTORS];
    _Atomic uint64_t requests[COUNTERS_REQUEST_TYPES];
    _Atomic uint64_t answers[COUNTERS_ANSWERS];
    _Atomic uint64_t updates[COUNTERS_UPDATES];
    _Atomic uint64_t batches[COUNTERS_BATCHES]; /* requests */
    _Atomic uint64_t batch_numbers;             /* of all of them */
    struct counters_times turns;
    struct counters_times waits; /* of the probes (worker.h) */
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t more)
{
    /* One writer: no need for an atomic addition. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

/* The least power of two, as its exponent, that is not below; 0 for 0. */
static inline unsigned counter_exponent(uint64_t value)
{
    return value <= 1 ? 0 : 64u - (unsigned)__builtin_clzll(value - 1);
}

static inline void counter_add_batch(struct counters *counters, uint32_t numbers)
{
    unsigned at = counter_exponent(numbers);
    counter_add(&counters->batches[at < COUNTERS_BATCHES ? at : COUNTERS_BATCHES - 1], 1);
    counter_add(&counters->batch_numbers, numbers);
}

static inline void counter_add_time(struct counters_times *times, uint64_t ns)
{
    unsigned at = (counter_exponent((ns + COUNTERS_TIME_FIRST_NS - 1) / COUNTERS_TIME_FIRST_NS) + 1) / 2;
    counter_add(&times->counts[at < COUNTERS_TIMES ? at : COUNTERS_TIMES - 1], 1);
    counter_add(&times->ns, ns);
}

/* Of a probe, one of which is sent each `interval_ns` unless another is under way. One that took longer stands for those that would have been
 * sent meanwhile, too, and would have waited for the rest of the time: else a stall would be one sample among many good ones. */
static inline void counter_add_wait(struct counters_times *waits, uint64_t ns, uint64_t interval_ns)
{
    for (; ns > interval_ns; ns -= interval_ns)
        counter_add_time(waits, ns);
    counter_add_time(waits, ns);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
