/* The worker's end of the query log; see recorder.h. */
#include "server/recorder.h"

#include <assert.h>
#include <string.h>

#include "ring/event.h"
#include "server/counters.h"

/* Bytes that `count` events can take in the ring at worst: blocks with their lengths, and one filler. */
static uint64_t bytes_needed(uint32_t count)
{
    uint64_t blocks = count / QUERY_BLOCK_EVENTS_MAX + 1;
    return count * sizeof(uint64_t) + blocks * (sizeof(struct query_block) + sizeof(uint64_t)) +
           query_block_bytes(QUERY_BLOCK_EVENTS_MAX);
}

enum recorder_verdict recorder_admit(struct recorder *recorder, uint32_t count)
{
    bool open = !atomic_load_explicit(recorder->gate, memory_order_relaxed);
    if (open && ring_room(recorder->ring) >= bytes_needed(count))
        return RECORDER_LOG;
    return recorder->refuse_when_full ? RECORDER_REFUSE : RECORDER_DROP;
}

void recorder_write(struct recorder *recorder, uint64_t time_ms, uint64_t requester,
                    const uint8_t ip[static 16], const uint64_t *numbers, const uint8_t *answers,
                    uint32_t count)
{
    for (uint32_t done = 0; done < count;) {
        uint32_t size = count - done < QUERY_BLOCK_EVENTS_MAX ? count - done : QUERY_BLOCK_EVENTS_MAX;
        struct query_block *block = ring_reserve(recorder->ring, query_block_bytes(size));
        assert(block != NULL); /* recorder_admit has seen the room, and only we take from it */
        block->time_ms = time_ms;
        block->requester = requester;
        memcpy(block->ip, ip, sizeof block->ip);
        block->sequence = ++recorder->sequence;
        block->count = size;
        block->worker = recorder->worker;
        for (uint32_t i = 0; i < size; i++)
            block->events[i] = query_event(numbers[done + i], answers[done + i]);
        /* Counted before the drain can see it, so that "stored" never runs ahead of "logged". */
        counter_add(&recorder->counts->logged, size);
        ring_commit(recorder->ring);
        done += size;
    }
    atomic_store_explicit(&recorder->counts->last_ms, time_ms, memory_order_relaxed);
}

void recorder_drop(struct recorder *recorder, uint32_t count)
{
    counter_add(&recorder->counts->dropped, count);
}
