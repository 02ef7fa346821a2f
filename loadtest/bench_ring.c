/* bench_ring: query events a second through the ring, from one thread to another, beside Concurrency Kit's ck_ring (single producer, single
 * consumer) with the same events.
 *
 * Ours takes blocks, as the server writes them: a header with time, requester and IP, and 8 bytes a number. ck_ring takes records of one size:
 * one event, with time, requester and IP in each. Both rings have as many bytes. The consumer reads each event and adds its number and
 * requester up; sums and counts are checked. Producer and consumer have a processor each; rounds take turns, each figure is their median. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ck_ring.h>

#include "bench.h"
#include "ring/event.h"
#include "ring/ring.h"

#define RING_BYTES ((size_t)1 << 20)
#define ROUNDS 7
#define BATCHES 3

static const struct bench_row rows[] = {
    {"ring_1", "M/s", BENCH_NO_BAR, 0, "events through our ring, blocks of 1"},
    {"ring_16", "M/s", BENCH_NO_BAR, 0, "the same, blocks of 16"},
    {"ring_128", "M/s", BENCH_NO_BAR, 0, "the same, blocks of 128"},
    {"ck_ring", "M/s", BENCH_NO_BAR, 0, "events through ck_ring, each by itself"},
    {"ring_1_over_ck", "ratio", BENCH_NO_BAR, 0, "ours over it, blocks of 1"},
    {"ring_16_over_ck", "ratio", BENCH_AT_LEAST, 2, "the same, blocks of 16"},
    {"ring_128_over_ck", "ratio", BENCH_AT_LEAST, 2, "the same, blocks of 128"},
};

/* What a block says of each of its events, in one record. */
struct lone_event {
    uint64_t time_ms;
    uint64_t requester;
    uint8_t ip[16];
    uint64_t event;
};

CK_RING_PROTOTYPE(lone_event, lone_event)

#define CK_SLOTS                                                                                             \
    ((unsigned)(RING_BYTES / sizeof(struct lone_event) * 5 / 4)) /* made a power of two: 1.25 MiB of them */

struct run {
    uint64_t events;
    unsigned batch; /* 0: ck_ring */
    struct ring *ring;
    ck_ring_t *ck;
    struct lone_event *slots;
    uint64_t sum; /* the consumer's */
};

/* The producer's event number i: of a requester that changes with each block. */
static uint64_t event_at(uint64_t i)
{
    return (UINT64_C(491510000000) + i % 1000003) | (i & 1) << QUERY_EVENT_ANSWER_SHIFT;
}

static uint64_t expected_sum(const struct run *run)
{
    uint64_t sum = 0;
    unsigned batch = run->batch == 0 ? 1 : run->batch;
    for (uint64_t i = 0; i < run->events; i++)
        sum += event_at(i) + i / batch;
    return sum;
}

static void produce_blocks(const struct run *run)
{
    size_t bytes = query_block_bytes(run->batch, false);
    for (uint64_t i = 0; i < run->events; i += run->batch) {
        struct query_block *block;
        while ((block = ring_reserve(run->ring, bytes)) == NULL)
            ;
        *block = (struct query_block){.time_ms = i, .requester = i / run->batch, .count = run->batch};
        for (unsigned j = 0; j < run->batch; j++)
            block->events[j] = event_at(i + j);
        ring_commit(run->ring);
    }
}

static void produce_lone(const struct run *run)
{
    for (uint64_t i = 0; i < run->events; i++) {
        struct lone_event event = {.time_ms = i, .requester = i, .event = event_at(i)};
        while (!CK_RING_ENQUEUE_SPSC(lone_event, run->ck, run->slots, &event))
            ;
    }
}

static void consume_blocks(struct run *run)
{
    uint64_t sum = 0;
    for (uint64_t taken = 0; taken < run->events;) {
        const struct query_block *block;
        size_t bytes;
        while ((block = ring_next(run->ring, &bytes)) != NULL) {
            for (unsigned j = 0; j < block->count; j++)
                sum += block->events[j] + block->requester;
            taken += block->count;
        }
        ring_release(run->ring);
    }
    run->sum = sum;
}

static void consume_lone(struct run *run)
{
    uint64_t sum = 0;
    for (uint64_t taken = 0; taken < run->events;) {
        struct lone_event event;
        if (!CK_RING_DEQUEUE_SPSC(lone_event, run->ck, run->slots, &event))
            continue;
        sum += event.event + event.requester;
        taken++;
    }
    run->sum = sum;
}

static void *consume(void *context)
{
    struct run *run = context;
    if (run->batch == 0)
        consume_lone(run);
    else
        consume_blocks(run);
    return NULL;
}

static void pin(pthread_t thread, unsigned processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    bench_assert(pthread_setaffinity_np(thread, sizeof set, &set) == 0, "two processors are needed");
}

/* Million events a second. */
static double measure(struct run *run, unsigned batch)
{
    pthread_t consumer;
    run->batch = batch;
    uint64_t expected = expected_sum(run);
    uint64_t started = bench_now_ns();
    bench_assert(pthread_create(&consumer, NULL, consume, run) == 0, "no thread");
    pin(consumer, 1);
    if (batch == 0)
        produce_lone(run);
    else
        produce_blocks(run);
    pthread_join(consumer, NULL);
    uint64_t took = bench_now_ns() - started;
    bench_assert(run->sum == expected, "events were lost, doubled or changed");
    return (double)run->events * 1e3 / (double)took;
}

static void run_rounds(struct bench *bench, struct run *run)
{
    static const unsigned batches[BATCHES + 1] = {1, 16, 128, 0};
    static const char *const names[] = {"ring_1", "ring_16", "ring_128", "ck_ring"};
    static const char *const ratios[] = {"ring_1_over_ck", "ring_16_over_ck", "ring_128_over_ck"};
    double rates[BATCHES + 1][ROUNDS];
    double over[ROUNDS];
    unsigned rounds = bench->quick ? 1 : ROUNDS;
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i <= BATCHES; i++)
            rates[i][round] = measure(run, batches[i]);
    for (unsigned i = 0; i < BATCHES; i++) {
        for (unsigned round = 0; round < rounds; round++)
            over[round] = rates[i][round] / rates[BATCHES][round];
        bench_report(bench, ratios[i], run->events, bench_median(over, rounds));
    }
    for (unsigned i = 0; i <= BATCHES; i++)
        bench_report(bench, names[i], run->events, bench_median(rates[i], rounds));
}

int main(int argc, char **argv)
{
    struct bench bench;
    int status = bench_init(&bench, "Query events through the ring, beside ck_ring.", rows,
                            sizeof rows / sizeof rows[0], argc, argv);
    if (status >= 0)
        return status;
    uint64_t n = bench.n > 0 ? bench.n : bench.quick ? 1280000 : 38400000;
    ck_ring_t ck;
    unsigned slots = 1;
    while (2 * slots <= CK_SLOTS)
        slots *= 2;
    ck_ring_init(&ck, slots);
    struct run run = {.events = (n + 127) / 128 * 128,
                      .ring = ring_create(RING_BYTES),
                      .ck = &ck,
                      .slots = malloc(slots * sizeof *run.slots)};
    bench_assert(run.ring != NULL && run.slots != NULL, "out of memory");
    memset(run.slots, 0, slots * sizeof *run.slots);
    pin(pthread_self(), 0);
    run_rounds(&bench, &run);
    ring_destroy(run.ring);
    free(run.slots);
    return bench_status(&bench);
}
