/* The drain; see drain.h. */
#include "persist/querylog/drain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "ring/event.h"

#define NAP_MS 5
#define PATIENCE_MS 50
#define RETRY_MS 100
#define BUSY_BYTES (64u << 10)
/* A turn takes at most this much from each ring, so that room is given back steadily. */
#define TURN_BYTES (1u << 20)
#define EXPIRE_EVERY_MS 10000

struct drain {
    struct drain_options options;
    struct frame_batch *batches[FRAME_BUCKETS]; /* being filled */
    uint64_t hour_ms;                           /* of all that is in them */
    pthread_t thread;
    atomic_bool stop;
    atomic_bool gate;
    _Atomic uint64_t appended;
    _Atomic uint64_t lost;
};

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

/* Writes the batch, however long it takes. At the stop the cap no longer counts: what was answered is worth
 * more than some megabytes; only a disk that refuses makes it give up then. */
static void append_batch(struct drain *drain, const struct frame_batch *batch)
{
    struct fault fault;
    for (;;) {
        bool stopping = atomic_load(&drain->stop);
        if (spool_append(drain->options.spool, batch, stopping, &fault))
            break;
        if (!atomic_exchange(&drain->gate, true))
            drain->options.notice(fault.text);
        if (stopping) {
            atomic_fetch_add(&drain->lost, batch->events);
            return;
        }
        atomic_fetch_add(&drain->lost, spool_expire(drain->options.spool, clock_ms(CLOCK_REALTIME)));
        nap(RETRY_MS);
    }
    if (atomic_exchange(&drain->gate, false))
        drain->options.notice("the query log can be written again");
    atomic_fetch_add(&drain->appended, batch->events);
}

static void flush_batch(struct drain *drain, struct frame_batch *batch)
{
    if (batch->bytes == 0)
        return;
    append_batch(drain, batch);
    batch->bytes = 0;
    batch->events = 0;
}

static void flush_all(struct drain *drain)
{
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        flush_batch(drain, drain->batches[i]);
}

static void take_block(struct drain *drain, const struct query_block *block, size_t bytes)
{
    uint64_t hour_ms = frame_hour_of(block->time_ms);
    if (hour_ms != drain->hour_ms) {
        flush_all(drain); /* a batch is of one hour */
        drain->hour_ms = hour_ms;
    }
    struct frame_batch *batch = drain->batches[frame_bucket_of(block->requester)];
    if (batch->bytes + bytes > FRAME_BATCH_MAX)
        flush_batch(drain, batch);
    batch->hour_ms = hour_ms;
    memcpy(batch->blocks + batch->bytes, block, bytes);
    batch->bytes += bytes;
    batch->events += block->count;
}

/* One turn over the rings; returns the bytes taken. */
static size_t take_turn(struct drain *drain)
{
    size_t taken = 0;
    for (unsigned i = 0; i < drain->options.ring_count; i++) {
        size_t from_ring = 0;
        size_t bytes;
        const struct query_block *block;
        while (from_ring < TURN_BYTES && (block = ring_next(drain->options.rings[i], &bytes)) != NULL) {
            take_block(drain, block, bytes);
            from_ring += bytes;
        }
        taken += from_ring;
    }
    flush_all(drain);
    for (unsigned i = 0; i < drain->options.ring_count; i++)
        ring_release(drain->options.rings[i]);
    return taken;
}

static size_t waiting_bytes(const struct drain *drain)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < drain->options.ring_count; i++)
        bytes += ring_used(drain->options.rings[i]);
    return bytes;
}

static void *run(void *context)
{
    struct drain *drain = context;
    uint64_t last_turn_ms = 0;
    uint64_t last_expire_ms = 0;
    while (!atomic_load(&drain->stop)) {
        uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
        if (now_ms - last_expire_ms >= EXPIRE_EVERY_MS) {
            atomic_fetch_add(&drain->lost, spool_expire(drain->options.spool, clock_ms(CLOCK_REALTIME)));
            last_expire_ms = now_ms;
        }
        size_t waiting = waiting_bytes(drain);
        if (waiting >= BUSY_BYTES || (waiting > 0 && now_ms - last_turn_ms >= PATIENCE_MS)) {
            take_turn(drain);
            last_turn_ms = now_ms;
        } else {
            nap(NAP_MS);
        }
    }
    while (take_turn(drain) > 0)
        ;
    spool_close_segment(drain->options.spool);
    return NULL;
}

static void free_drain(struct drain *drain)
{
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        free(drain->batches[i]);
    free(drain);
}

struct drain *drain_start(const struct drain_options *options, struct fault *fault)
{
    struct drain *drain = calloc(1, sizeof *drain);
    if (drain == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    drain->options = *options;
    bool complete = true;
    for (uint32_t i = 0; i < FRAME_BUCKETS; i++) {
        drain->batches[i] = calloc(1, sizeof *drain->batches[i]);
        complete = complete && drain->batches[i] != NULL;
        if (complete)
            drain->batches[i]->bucket = i;
    }
    if (!complete || pthread_create(&drain->thread, NULL, run, drain) != 0) {
        free_drain(drain);
        fault_set(fault, EX_OSERR, "cannot start the query log's thread: out of memory or threads");
        return NULL;
    }
    return drain;
}

struct drain_figures drain_stop(struct drain *drain)
{
    atomic_store(&drain->stop, true);
    pthread_join(drain->thread, NULL);
    struct drain_figures figures = drain_figures(drain);
    free_drain(drain);
    return figures;
}

struct drain_figures drain_figures(const struct drain *drain)
{
    return (struct drain_figures){.appended = atomic_load(&drain->appended),
                                  .lost = atomic_load(&drain->lost)};
}

const atomic_bool *drain_gate(const struct drain *drain)
{
    return &drain->gate;
}
