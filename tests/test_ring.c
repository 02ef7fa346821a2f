/* ring/ring: order, contiguity, fullness, rewind; and one producer beside one consumer. */
#include "ring/ring.h"

#include <pthread.h>
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
    assert_int_equal(query_block_bytes(3), 72);
}

struct stress {
    struct ring *ring;
    uint64_t records;
};

static size_t stamp_bytes(uint64_t stamp)
{
    uint64_t state = stamp;
    return 8 + unit_random(&state) % 200;
}

static void *produce(void *context)
{
    struct stress *stress = context;
    for (uint64_t stamp = 0; stamp < stress->records;)
        if (push(stress->ring, stamp, stamp_bytes(stamp)))
            stamp++;
        else
            sched_yield();
    return NULL;
}

/* One thread produces, another consumes: every record once, in order, whole. */
static void test_producer_beside_consumer(void **state)
{
    (void)state;
    struct stress stress = {.ring = ring_create(1 << 14), .records = 1000000};
    pthread_t producer;
    pthread_create(&producer, NULL, produce, &stress);
    for (uint64_t stamp = 0; stamp < stress.records;) {
        size_t bytes;
        const unsigned char *record = ring_next(stress.ring, &bytes);
        if (record == NULL) {
            ring_release(stress.ring);
            sched_yield();
            continue;
        }
        uint64_t got;
        memcpy(&got, record, sizeof got);
        assert_int_equal(got, stamp);
        assert_int_equal(bytes, stamp_bytes(stamp));
        assert_true(bytes == 8 || record[bytes - 1] == (stamp & 0xff));
        stamp++;
        if (stamp % 7 == 0)
            ring_release(stress.ring);
    }
    pthread_join(producer, NULL);
    ring_destroy(stress.ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_sizes),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_producer_beside_consumer),
    };
    return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
