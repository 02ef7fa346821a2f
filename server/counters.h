/* What one worker counts. Written by its worker alone, read by anyone, each counter by itself: relaxed atomics,
 * no lock, no shared cache line between workers. */
#ifndef NUMBERD_SERVER_COUNTERS_H
#define NUMBERD_SERVER_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#define COUNTERS_REQUEST_TYPES 12 /* by wire type; 0: of unknown type */
#define COUNTERS_ANSWERS 4        /* by wire status: not registered, registered, invalid, limited */
#define COUNTERS_DETECTORS 3      /* by enum detector (access/budgets.h) */
#define COUNTERS_REFUSALS 3       /* by enum seats_verdict (access/seats.h) from SEATS_FULL on */
#define COUNTERS_UPDATES 7        /* by wire status from WIRE_ADDED on */

/* Batches by how many numbers were asked for in a request: at most 1, 2, 4 and so on. */
#define COUNTERS_BATCHES 17
/* Turns by how long they took: at most 4 us, 16, 64 and so on, the last one longer than all. */
#define COUNTERS_TURNS 11
#define COUNTERS_TURN_FIRST_NS 4000u

struct counters {
    _Alignas(64) _Atomic uint64_t connections_opened;
    _Atomic uint64_t connections_closed;
    _Atomic uint64_t bytes_in;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t frames_malformed;
    _Atomic uint64_t requests_unavailable; /* answered UNAVAILABLE */
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
    _Atomic uint64_t turns[COUNTERS_TURNS];
    _Atomic uint64_t turn_ns; /* of all of them */
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

static inline void counter_add_turn(struct counters *counters, uint64_t ns)
{
    unsigned at = (counter_exponent((ns + COUNTERS_TURN_FIRST_NS - 1) / COUNTERS_TURN_FIRST_NS) + 1) / 2;
    counter_add(&counters->turns[at < COUNTERS_TURNS ? at : COUNTERS_TURNS - 1], 1);
    counter_add(&counters->turn_ns, ns);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
