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
    struct frame *frames[FRAME_BUCKETS]; /* being filled; payload_bytes 0 when empty */
    uint64_t hour_ms;                    /* of all that is in them */
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

/* Writes the frame, however long it takes. At the stop the cap no longer counts: what was answered is worth
 * more than some megabytes; only a disk that refuses makes it give up then. */
static void append_frame(struct drain *drain, struct frame *frame)
{
    struct fault fault;
    for (;;) {
        bool stopping = atomic_load(&drain->stop);
        if (spool_append(drain->options.spool, frame, stopping, &fault))
            break;
        if (!atomic_exchange(&drain->gate, true))
            drain->options.notice(fault.text);
        if (stopping) {
            atomic_fetch_add(&drain->lost, frame->events);
            return;
        }
        atomic_fetch_add(&drain->lost, spool_expire(drain->options.spool, clock_ms(CLOCK_REALTIME)));
        nap(RETRY_MS);
    }
    if (atomic_exchange(&drain->gate, false))
        drain->options.notice("the query log can be written again");
    atomic_fetch_add(&drain->appended, frame->events);
}

static void flush_frame(struct drain *drain, struct frame *frame)
{
    if (frame->payload_bytes == 0)
        return;
    append_frame(drain, frame);
    frame->payload_bytes = 0;
    frame->events = 0;
}

static void flush_all(struct drain *drain)
{
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        flush_frame(drain, drain->frames[i]);
}

static void take_block(struct drain *drain, const struct query_block *block, size_t bytes)
{
    uint64_t hour_ms = frame_hour_of(block->time_ms);
    if (hour_ms != drain->hour_ms) {
        flush_all(drain); /* a frame is of one hour */
        drain->hour_ms = hour_ms;
    }
    struct frame *frame = drain->frames[frame_bucket_of(block->requester)];
    if (frame->payload_bytes + bytes > FRAME_PAYLOAD_MAX)
        flush_frame(drain, frame);
    frame->hour_ms = hour_ms;
    memcpy(frame->payload + frame->payload_bytes, block, bytes);
    frame->payload_bytes += (uint32_t)bytes;
    frame->events += block->count;
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
    spool_seal(drain->options.spool);
    return NULL;
}

static void free_drain(struct drain *drain)
{
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        free(drain->frames[i]);
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
        drain->frames[i] = calloc(1, sizeof(struct frame) + FRAME_PAYLOAD_MAX);
        complete = complete && drain->frames[i] != NULL;
        if (complete)
            drain->frames[i]->bucket = i;
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
