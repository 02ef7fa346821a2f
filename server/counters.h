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
};

static inline void counter_add(_Atomic uint64_t *counter, uint64_t more)
{
    /* One writer: no need for an atomic addition. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
