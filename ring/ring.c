/* The lock-free ring; layout and argument in ring.h. */
#include "ring/ring.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Of memory that is to be left out of cores; RING_BYTES_MIN is one. */
#define PAGE ((size_t)4096)
#define LENGTH_BYTES sizeof(uint64_t)
/* A length word with this bit is a filler up to the end of the memory. */
#define FILLER (UINT64_C(1) << 63)

struct ring {
    /* Constant after ring_create. */
    _Alignas(64) unsigned char *memory;
    size_t capacity;
    /* Written by the producer. */
    _Alignas(64) _Atomic uint64_t head;
    uint64_t reserved_head; /* where head goes at the commit */
    uint64_t tail_seen;
    /* Written by the consumer. */
    _Alignas(64) _Atomic uint64_t tail;
    uint64_t next;
    uint64_t head_seen;
};

static_assert(sizeof(struct ring) == 192, "three cache lines: constants, producer, consumer");

static size_t round_up(size_t bytes)
{
    return (bytes + 7) & ~(size_t)7;
}

struct ring *ring_create(size_t bytes)
{
    size_t capacity = RING_BYTES_MIN;
    while (capacity < bytes)
        capacity *= 2;
    struct ring *ring = aligned_alloc(64, sizeof *ring);
    unsigned char *memory = aligned_alloc(PAGE, capacity);
    if (ring == NULL || memory == NULL) {
        free(ring);
        free(memory);
        return NULL;
    }
    memset(memory, 0, capacity); /* so that no page fault comes later, on the lookup path */
    (void)madvise(memory, capacity, MADV_DONTDUMP); /* where there are no cores at all, that is as good */
    *ring = (struct ring){.memory = memory, .capacity = capacity};
    return ring;
}

void ring_destroy(struct ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->memory);
    free(ring);
}

size_t ring_capacity(const struct ring *ring)
{
    return ring->capacity;
}

static void write_length(struct ring *ring, uint64_t position, uint64_t length)
{
    memcpy(ring->memory + (position & (ring->capacity - 1)), &length, sizeof length);
}

static uint64_t read_length(const struct ring *ring, uint64_t position)
{
    uint64_t length;
    memcpy(&length, ring->memory + (position & (ring->capacity - 1)), sizeof length);
    return length;
}

/* True when the producer may write up to `end`; asks the consumer's cursor only if the copy is not enough. */
static bool has_room_until(struct ring *ring, uint64_t end)
{
    if (end - ring->tail_seen <= ring->capacity)
        return true;
    /* Acquire: the consumer's reads of this room happen before we overwrite it. */
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return end - ring->tail_seen <= ring->capacity;
}

void *ring_reserve(struct ring *ring, size_t bytes)
{
    assert(bytes > 0);
    uint64_t start = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t total = LENGTH_BYTES + round_up(bytes);
    if (total > ring->capacity / 2)
        return NULL;
    size_t until_end = ring->capacity - (start & (ring->capacity - 1));
    size_t filler = until_end < total ? until_end : 0;
    if (!has_room_until(ring, start + filler + total))
        return NULL;
    if (filler > 0)
        write_length(ring, start, FILLER | filler);
    start += filler;
    write_length(ring, start, bytes);
    ring->reserved_head = start + total;
    return ring->memory + (start & (ring->capacity - 1)) + LENGTH_BYTES;
}

void ring_commit(struct ring *ring)
{
    /* Release: the record is complete before the consumer can see it. */
    atomic_store_explicit(&ring->head, ring->reserved_head, memory_order_release);
}

size_t ring_room(struct ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return ring->capacity - (size_t)(head - ring->tail_seen);
}

const void *ring_next(struct ring *ring, size_t *bytes)
{
    for (;;) {
        if (ring->next == ring->head_seen) {
            /* Acquire: whatever was committed is complete. */
            ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
            if (ring->next == ring->head_seen)
                return NULL;
        }
        uint64_t length = read_length(ring, ring->next);
        if (length & FILLER) {
            ring->next += length & ~FILLER;
            continue;
        }
        const unsigned char *record = ring->memory + (ring->next & (ring->capacity - 1)) + LENGTH_BYTES;
        ring->next += LENGTH_BYTES + round_up(length);
        *bytes = length;
        return record;
    }
}

void ring_release(struct ring *ring)
{
    /* Release: our reads are done before the producer can see the room. */
    atomic_store_explicit(&ring->tail, ring->next, memory_order_release);
}

size_t ring_used(const struct ring *ring)
{
    /* Tail first: head only grows, so the difference is never negative. */
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return (size_t)(head - tail);
}
