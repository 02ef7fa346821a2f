/* The drain; see drain.h. */
#include "persist/querylog/drain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <time.h>

#include "persist/clock.h"
#include "persist/priority.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/hold.h"
#include "ring/event.h"

#define PAGE ((size_t)4096)
#define NAP_MS 5
#define PATIENCE_MS 50
#define RETRY_MS 100
#define BUSY_BYTES (64u << 10)
/* A turn takes at most this much from each ring, so that room is given back steadily, and who waits for the turn's end waits for
 * 0.2 ms of work. */
#define TURN_BYTES (256u << 10)
/* The helper begins when so much of a ring is in use, and ends at so much. */
#define BEHIND(capacity) ((capacity) / 2)
#define CAUGHT_UP(capacity) ((capacity) / 16)
#define EXPIRE_EVERY_MS 10000
#define GAPS_EVERY_MS 1000
#define NOTED_MAX 16

struct drain {
    struct drain_options options;
    struct frame_batch *batches[FRAME_BUCKETS]; /* being filled */
    uint64_t hour_ms;                           /* of all that is in them */
    pthread_mutex_t turns;                      /* held for a turn, and for what is done between them */
    atomic_bool is_behind;                      /* the turns are the helper's */
    pthread_t helper;
    pthread_t thread;
    atomic_bool stop;
    atomic_bool gate;
    struct query_gap past; /* reason 0: recorded */
    struct erasure_clock clock;
    struct erasures erased; /* without a receipt */
    pthread_mutex_t mutex;
    struct query_gap noted[NOTED_MAX]; /* under the mutex */
    unsigned noted_count;
};

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

/* Receipts for all that has none; those that the disk refuses wait. */
static void write_receipts(struct drain *drain)
{
    struct fault ignored;
    while (drain->erased.count > 0) {
        uint64_t hour_ms = drain->erased.list[0].hour_ms;
        if (!erasures_write_first(&drain->erased, spool_folder(drain->options.spool),
                                  tally_sealed_in(drain->options.tally, hour_ms), clock_ms(CLOCK_REALTIME),
                                  &ignored))
            return;
        tally_forget_sealed(drain->options.tally, hour_ms);
    }
}

static void expire(struct drain *drain)
{
    bool was_apart = drain->clock.apart_ms > 0;
    uint64_t now_ms = erasure_clock_tick(&drain->clock, clock_ms(CLOCK_REALTIME), clock_ms(CLOCK_MONOTONIC));
    if (!was_apart && drain->clock.apart_ms > 0)
        drain->options.notice(
            NOTICE_ERROR,
            "the clock has jumped: the query log's erasure follows it in an hour if it stays so");
    tally_set_erasure_ms(drain->options.tally, now_ms);
    uint64_t hour_ms;
    uint64_t events;
    bool had_group = spool_group(drain->options.spool, &hour_ms, &events);
    tally_lost(drain->options.tally, spool_expire(drain->options.spool, now_ms, &drain->erased));
    if (had_group && !spool_group(drain->options.spool, &hour_ms, &events))
        tally_lost(drain->options.tally, events); /* the disk has refused it for so long */
    holds_expire(spool_folder(drain->options.spool), now_ms);
    write_receipts(drain);
}

static void count_written(struct drain *drain, uint64_t hour_ms, uint64_t events)
{
    tally_sealed(drain->options.tally, hour_ms, events);
    uint64_t sequence;
    uint64_t offset;
    spool_position(drain->options.spool, &sequence, &offset);
    tally_appended(drain->options.tally, sequence, offset, events);
    if (drain->options.is_final)
        tally_stored(drain->options.tally, events);
}

static bool try_to_write(struct drain *drain, struct fault *fault)
{
    uint64_t hour_ms;
    uint64_t events;
    if (!spool_group(drain->options.spool, &hour_ms, &events))
        return true;
    if (!spool_write(drain->options.spool, fault))
        return false;
    count_written(drain, hour_ms, events);
    return true;
}

static bool try_to_append(struct drain *drain, const struct frame_batch *batch, bool beyond_cap,
                          struct fault *fault)
{
    struct fault ignored;
    if (spool_must_write(drain->options.spool, batch) && !try_to_write(drain, fault))
        return false;
    if (!spool_append(drain->options.spool, batch, beyond_cap, fault)) {
        (void)try_to_write(drain, &ignored); /* the sink has need of it */
        return false;
    }
    return true;
}

/* Appends the batch (NULL: writes the group), however long it takes. At the stop the cap no longer counts: what was answered is worth
 * more than some megabytes; only a disk that refuses makes it give up then. */
static void persevere(struct drain *drain, const struct frame_batch *batch)
{
    struct fault fault;
    for (;;) {
        bool stopping = atomic_load(&drain->stop);
        if (batch == NULL ? try_to_write(drain, &fault) : try_to_append(drain, batch, stopping, &fault))
            break;
        if (!atomic_exchange(&drain->gate, true))
            drain->options.notice(NOTICE_ERROR, fault.text);
        if (stopping)
            return;
        expire(drain);
        nap(RETRY_MS);
    }
    if (batch == NULL && atomic_exchange(&drain->gate, false))
        drain->options.notice(NOTICE_NORMAL, "the query log can be written again");
}

static void flush_batch(struct drain *drain, struct frame_batch *batch)
{
    if (batch->bytes == 0)
        return;
    persevere(drain, batch);
    batch->bytes = 0;
    batch->events = 0;
}

static void flush_all(struct drain *drain)
{
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        flush_batch(drain, drain->batches[i]);
    persevere(drain, NULL);
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

/* --- gaps --- */

/* Into each hour that it has part in and that is not over. False: the disk refuses. */
static bool record_gap(struct drain *drain, const struct query_gap *gap)
{
    struct frame_batch *batch = drain->batches[FRAME_GAP_BUCKET];
    struct fault fault;
    uint64_t now_ms = clock_ms(CLOCK_REALTIME);
    uint64_t first = frame_hour_of(gap->from_ms);
    memcpy(batch->blocks, gap, sizeof *gap);
    for (unsigned i = 0; i < DRAIN_GAP_HOURS; i++) {
        batch->hour_ms = first + i * FRAME_HOUR_MS;
        if (batch->hour_ms >= gap->until_ms)
            break;
        if (spool_is_over(drain->options.spool, batch->hour_ms, now_ms))
            continue;
        batch->bytes = sizeof *gap;
        bool good = try_to_append(drain, batch, true, &fault);
        bool written = good && try_to_write(drain, &fault);
        if (good && !written)
            spool_take_back(drain->options.spool, batch);
        batch->bytes = 0; /* the turns have no part in it */
        if (!written)
            return false;
    }
    return true;
}

/* What each worker has dropped since it was recorded last. */
static void record_dropped(struct drain *drain)
{
    struct tally *tally = drain->options.tally;
    uint64_t now_ms = clock_ms(CLOCK_REALTIME);
    uint64_t from_ms = tally_dropped_recorded_ms(tally);
    bool good = true;
    for (unsigned i = 0; i < TALLY_WORKERS_MAX; i++) {
        struct query_counts *worker = tally_worker(tally, i);
        uint64_t dropped = atomic_load_explicit(&worker->dropped, memory_order_relaxed);
        uint64_t recorded = atomic_load_explicit(&worker->recorded, memory_order_relaxed);
        struct query_gap gap = {.from_ms = from_ms > now_ms ? now_ms : from_ms, /* the clock went back */
                                .until_ms = now_ms + 1,
                                .events = dropped - recorded,
                                .reason = QUERY_GAP_DROPPED,
                                .worker = i};
        if (dropped == recorded)
            continue;
        if (record_gap(drain, &gap))
            atomic_store_explicit(&worker->recorded, dropped, memory_order_relaxed);
        else
            good = false;
    }
    if (good)
        tally_dropped_recorded(tally, now_ms);
}

/* Among those that wait; the mutex is held. */
static void add_noted(struct drain *drain, const struct query_gap *gap)
{
    if (drain->noted_count < NOTED_MAX) {
        drain->noted[drain->noted_count++] = *gap;
        return;
    }
    /* That many wait for a disk: the last one stands for the others. */
    struct query_gap *last = &drain->noted[NOTED_MAX - 1];
    last->from_ms = gap->from_ms < last->from_ms ? gap->from_ms : last->from_ms;
    last->until_ms = gap->until_ms > last->until_ms ? gap->until_ms : last->until_ms;
    last->events += gap->events;
}

static void record_noted(struct drain *drain)
{
    struct query_gap gap;
    bool good = true;
    pthread_mutex_lock(&drain->mutex);
    while (good && drain->noted_count > 0) {
        gap = drain->noted[--drain->noted_count];
        pthread_mutex_unlock(&drain->mutex);
        good = record_gap(drain, &gap);
        pthread_mutex_lock(&drain->mutex);
        if (!good)
            add_noted(drain, &gap);
    }
    pthread_mutex_unlock(&drain->mutex);
}

static void record_gaps(struct drain *drain)
{
    if (drain->past.reason != 0 && record_gap(drain, &drain->past)) {
        tally_missed(drain->options.tally, drain->past.events);
        drain->past.reason = 0;
    }
    record_dropped(drain);
    record_noted(drain);
}

bool drain_note(struct drain *drain, const struct query_gap *gap)
{
    pthread_mutex_lock(&drain->mutex);
    /* The thread looks once more, under the mutex, after this was set. */
    bool stopping = atomic_load(&drain->stop);
    if (!stopping)
        add_noted(drain, gap);
    pthread_mutex_unlock(&drain->mutex);
    if (!stopping)
        tally_lost(drain->options.tally, gap->events);
    return !stopping;
}

/* --- the thread --- */

/* One turn over the rings; returns the bytes taken. */
static size_t take_turn(struct drain *drain)
{
    size_t taken = 0;
    uint64_t first_ms = UINT64_MAX;
    for (unsigned i = 0; i < drain->options.ring_count; i++) {
        size_t from_ring = 0;
        size_t bytes;
        const struct query_block *block;
        while (from_ring < TURN_BYTES && (block = ring_next(drain->options.rings[i], &bytes)) != NULL) {
            if (from_ring == 0 && block->time_ms < first_ms)
                first_ms = block->time_ms;
            take_block(drain, block, bytes);
            from_ring += bytes;
        }
        taken += from_ring;
    }
    flush_all(drain);
    for (unsigned i = 0; i < drain->options.ring_count; i++)
        ring_release(drain->options.rings[i]);
    if (taken > 0)
        tally_passed(drain->options.tally, first_ms);
    return taken;
}

static size_t waiting_bytes(const struct drain *drain)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < drain->options.ring_count; i++)
        bytes += ring_used(drain->options.rings[i]);
    return bytes;
}

/* What is to be done now and then. */
static void keep_house(struct drain *drain, uint64_t now_ms, uint64_t *last_gaps_ms, uint64_t *last_expire_ms)
{
    if (now_ms - *last_gaps_ms >= GAPS_EVERY_MS) {
        record_gaps(drain);
        *last_gaps_ms = now_ms;
    }
    if (now_ms - *last_expire_ms >= EXPIRE_EVERY_MS) {
        expire(drain);
        tally_save(drain->options.tally);
        *last_expire_ms = now_ms;
    }
}

static void *run(void *context)
{
    struct drain *drain = context;
    (void)pthread_setname_np(pthread_self(), "query-log");
    priority_step_back();
    uint64_t last_turn_ms = 0;
    uint64_t last_gaps_ms = 0;
    uint64_t last_expire_ms = 0;
    while (!atomic_load(&drain->stop)) {
        uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
        size_t waiting = waiting_bytes(drain);
        bool has_turn = !atomic_load(&drain->is_behind) &&
                        (waiting >= BUSY_BYTES || (waiting > 0 && now_ms - last_turn_ms >= PATIENCE_MS));
        pthread_mutex_lock(&drain->turns);
        keep_house(drain, now_ms, &last_gaps_ms, &last_expire_ms);
        if (has_turn)
            take_turn(drain);
        pthread_mutex_unlock(&drain->turns);
        if (has_turn)
            last_turn_ms = now_ms;
        else
            nap(NAP_MS);
    }
    return NULL;
}

static bool is_above(const struct drain *drain, bool has_begun)
{
    for (unsigned i = 0; i < drain->options.ring_count; i++) {
        size_t capacity = ring_capacity(drain->options.rings[i]);
        if (ring_used(drain->options.rings[i]) > (has_begun ? CAUGHT_UP(capacity) : BEHIND(capacity)))
            return true;
    }
    return false;
}

static void *help(void *context)
{
    struct drain *drain = context;
    (void)pthread_setname_np(pthread_self(), "query-log-help");
    while (!atomic_load(&drain->stop)) {
        nap(NAP_MS);
        if (!is_above(drain, false))
            continue;
        atomic_store(&drain->is_behind, true); /* else the other would take the mutex again and again */
        pthread_mutex_lock(&drain->turns);
        while (!atomic_load(&drain->stop) && is_above(drain, true))
            take_turn(drain);
        atomic_store(&drain->is_behind, false);
        pthread_mutex_unlock(&drain->turns);
    }
    return NULL;
}

void drain_destroy(struct drain *drain)
{
    if (drain == NULL)
        return;
    for (unsigned i = 0; i < FRAME_BUCKETS; i++)
        free(drain->batches[i]);
    free(drain->erased.list);
    pthread_mutex_destroy(&drain->mutex);
    pthread_mutex_destroy(&drain->turns);
    free(drain);
}

/* Left out of cores, as the rings are. */
static struct frame_batch *create_batch(uint32_t bucket)
{
    size_t bytes = (sizeof(struct frame_batch) + PAGE - 1) & ~(PAGE - 1);
    struct frame_batch *batch = aligned_alloc(PAGE, bytes);
    if (batch == NULL)
        return NULL;
    memset(batch, 0, bytes);
    batch->bucket = bucket;
    (void)madvise(batch, bytes, MADV_DONTDUMP);
    return batch;
}

/* Both or none. */
static bool start_threads(struct drain *drain)
{
    if (pthread_create(&drain->thread, NULL, run, drain) != 0)
        return false;
    if (pthread_create(&drain->helper, NULL, help, drain) == 0)
        return true;
    atomic_store(&drain->stop, true);
    pthread_join(drain->thread, NULL);
    return false;
}

struct drain *drain_start(const struct drain_options *options, struct fault *fault)
{
    struct drain *drain = calloc(1, sizeof *drain);
    if (drain == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    drain->options = *options;
    drain->past = options->past;
    erasure_clock_begin(&drain->clock, clock_ms(CLOCK_REALTIME), clock_ms(CLOCK_MONOTONIC),
                        tally_erasure_ms(options->tally));
    tally_passed(options->tally,
                 clock_ms(CLOCK_REALTIME)); /* the rings are empty, and what was before is the past's */
    if (tally_dropped_recorded_ms(options->tally) == 0)
        tally_dropped_recorded(options->tally, clock_ms(CLOCK_REALTIME));
    pthread_mutex_init(&drain->mutex, NULL);
    pthread_mutex_init(&drain->turns, NULL);
    bool complete = true;
    for (uint32_t i = 0; i < FRAME_BUCKETS; i++) {
        drain->batches[i] = create_batch(i);
        complete = complete && drain->batches[i] != NULL;
    }
    if (!complete || !start_threads(drain)) {
        drain_destroy(drain);
        fault_set(fault, EX_OSERR, "cannot start the query log's threads: out of memory or threads");
        return NULL;
    }
    return drain;
}

void drain_stop(struct drain *drain)
{
    atomic_store(&drain->stop, true);
    pthread_join(drain->thread, NULL);
    pthread_join(drain->helper, NULL);
    while (take_turn(drain) > 0)
        ;
    record_gaps(drain);
    spool_close_segment(drain->options.spool);
}

const atomic_bool *drain_gate(const struct drain *drain)
{
    return &drain->gate;
}
