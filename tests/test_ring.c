/* ring/ring: order, contiguity, fullness, cursors that wrap; and one producer beside one consumer, 10^8 events or as many as
 * the argument says. The source itself is included, since cursors near 2^64 cannot be had from outside. */
#include "ring/ring.c"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring/event.h"
#include "unit.h"

/* Fills `bytes` bytes with values that follow from the stamp. */
static bool push(struct ring *ring, uint64_t stamp, size_t bytes)
{
    unsigned char *room = ring_reserve(ring, bytes);
    if (room == NULL)
        return false;
    memset(room, (int)(stamp & 0xff), bytes);
    memcpy(room, &stamp, sizeof stamp);
    ring_commit(ring);
    return true;
}

static void expect(struct ring *ring, uint64_t stamp, size_t bytes)
{
    size_t got_bytes = 0;
    const unsigned char *record = ring_next(ring, &got_bytes);
    uint64_t got;
    assert_non_null(record);
    assert_int_equal(got_bytes, bytes);
    assert_int_equal((uintptr_t)record % 8, 0);
    memcpy(&got, record, sizeof got);
    assert_int_equal(got, stamp);
    for (size_t i = sizeof got; i < bytes; i++)
        assert_int_equal(record[i], stamp & 0xff);
}

/* Records of all sizes come out as they went in, across many turns of the memory. */
static void test_order_and_sizes(void **state)
{
    (void)state;
    struct ring *ring = ring_create(1);
    assert_int_equal(ring_capacity(ring), RING_BYTES_MIN);
    uint64_t random = 3;
    for (uint64_t stamp = 0; stamp < 100000; stamp++) {
        size_t bytes = 8 + unit_random(&random) % 1500;
        assert_true(push(ring, stamp, bytes));
        expect(ring, stamp, bytes);
        ring_release(ring);
        assert_int_equal(ring_used(ring), 0);
    }
    ring_destroy(ring);
}

/* A full ring refuses, keeps what it has, and takes more as soon as room is released. */
static void test_full(void **state)
{
    (void)state;
    struct ring *ring = ring_create(RING_BYTES_MIN);
    size_t bytes;
    assert_null(ring_next(ring, &bytes));
    assert_null(ring_reserve(ring, RING_BYTES_MIN));
    uint64_t pushed = 0;
    while (push(ring, pushed, 56))
        pushed++;
    assert_int_equal(pushed, RING_BYTES_MIN / 64);
    assert_int_equal(ring_room(ring), 0);
    expect(ring, 0, 56);
    assert_false(push(ring, pushed, 56)); /* read, but not released */
    ring_release(ring);
    assert_true(push(ring, pushed, 56));
    for (uint64_t stamp = 1; stamp <= pushed; stamp++)
        expect(ring, stamp, 56);
    assert_null(ring_next(ring, &bytes));
    ring_destroy(ring);
}

/* An event keeps number and answer; what is no 50-bit number is kept as 0. */
static void test_event(void **state)
{
    (void)state;
    uint64_t event = query_event(UINT64_C(999999999999999), 3);
    assert_int_equal(query_event_number(event), UINT64_C(999999999999999));
    assert_int_equal(query_event_answer(event), 3);
    assert_int_equal(query_event_number(query_event(UINT64_MAX, 2)), 0);
    assert_int_equal(query_event_answer(query_event(UINT64_MAX, 2)), 2);
    assert_int_equal(query_block_bytes(3, false), 72);
    assert_int_equal(query_block_bytes(3, true), 88);
}

/* --- one producer beside one consumer --- */

#define EVENTS_DEFAULT UINT64_C(100000000)
#define BLOCK_EVENTS_MAX 300

static uint64_t stress_events = EVENTS_DEFAULT;

/* As if so many bytes, a multiple of 8, had gone through it. */
static void set_cursors(struct ring *ring, uint64_t position)
{
    if (ring == NULL)
        abort();
    atomic_store(&ring->head, position);
    atomic_store(&ring->tail, position);
    ring->reserved_head = ring->tail_seen = ring->next = ring->head_seen = position;
}

/* Both sides know how many events the block has that begins with this stamp. */
static uint64_t block_events(uint64_t stamp)
{
    uint64_t state = stamp;
    return 1 + unit_random(&state) % BLOCK_EVENTS_MAX;
}

static void *produce(void *context)
{
    struct ring *ring = context;
    for (uint64_t stamp = 0; stamp < stress_events;) {
        uint64_t events = block_events(stamp);
        uint64_t *room = ring_reserve(ring, events * sizeof *room);
        if (room == NULL) {
            sched_yield();
            continue;
        }
        for (uint64_t i = 0; i < events; i++)
            room[i] = stamp + i;
        ring_commit(ring);
        stamp += events;
    }
    return NULL;
}

/* The first stamp behind the record; ends the test when one is missing, twice there, or of another's. */
static uint64_t consume(const uint64_t *record, size_t bytes, uint64_t stamp)
{
    uint64_t events = block_events(stamp);
    uint64_t wrong = 0;
    assert_int_equal(bytes, events * sizeof *record);
    for (uint64_t i = 0; i < events; i++)
        wrong += record[i] != stamp + i;
    assert_int_equal(wrong, 0);
    return stamp + events;
}

/* Every event once and in order, over many turns of the memory and over the end of the cursors' range. */
static void run_beside(struct ring *ring, uint64_t first_position)
{
    pthread_t producer;
    unsigned blocks = 0;
    set_cursors(ring, first_position);
    assert_int_equal(pthread_create(&producer, NULL, produce, ring), 0);
    for (uint64_t stamp = 0; stamp < stress_events;) {
        size_t bytes;
        const void *record = ring_next(ring, &bytes);
        if (record != NULL)
            stamp = consume(record, bytes, stamp);
        else
            sched_yield();
        if (record == NULL || ++blocks % 7 == 0)
            ring_release(ring);
    }
    pthread_join(producer, NULL);
    ring_release(ring);
    assert_int_equal(ring_used(ring), 0);
    ring_destroy(ring);
}

static void test_producer_beside_consumer(void **state)
{
    (void)state;
    /* The cursors wrap after half of the events. */
    run_beside(ring_create(1 << 14), -(stress_events / 2 * sizeof(uint64_t)) & ~(uint64_t)7);
}

static void test_large_ring(void **state)
{
    (void)state;
    run_beside(ring_create(1 << 20), -(uint64_t)(1 << 20));
}

/* Records of all sizes beside the end of the cursors' range, filled to the brim. */
static void test_cursors_wrap(void **state)
{
    (void)state;
    for (uint64_t before = 0; before <= 2 * RING_BYTES_MIN; before += 8) {
        struct ring *ring = ring_create(RING_BYTES_MIN);
        uint64_t pushed = 0;
        uint64_t random = before;
        size_t bytes[RING_BYTES_MIN / 16];
        set_cursors(ring, -before);
        for (uint64_t read = 0; read < 200;) {
            bytes[pushed % 256] = 8 + unit_random(&random) % 500;
            if (push(ring, pushed, bytes[pushed % 256])) {
                pushed++;
                continue;
            }
            expect(ring, read, bytes[read % 256]);
            ring_release(ring);
            read++;
        }
        ring_destroy(ring);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_sizes),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_cursors_wrap),
        cmocka_unit_test(test_producer_beside_consumer),
        cmocka_unit_test(test_large_ring),
    };
    if (argc == 2)
        stress_events = strtoull(argv[1], NULL, 10);
    if (argc > 2 || stress_events == 0) {
        fprintf(stderr, "usage: %s [EVENTS]\n", argv[0]);
        return 64;
    }
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
