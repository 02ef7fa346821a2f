/* The worker's end of the query log; see recorder.h. */
#include "server/recorder.h"

#include <assert.h>
#include <string.h>

#include "hashing/directory.h"
#include "ring/event.h"
#include "server/counters.h"

/* Bytes that `count` events can take in the ring at worst: blocks with their lengths, and one filler. */
static uint64_t bytes_needed(uint32_t count)
{
    uint64_t blocks = count / QUERY_BLOCK_EVENTS_MAX + 1;
    return count * sizeof(uint64_t) + blocks * (query_block_bytes(0, true) + sizeof(uint64_t)) +
           query_block_bytes(QUERY_BLOCK_EVENTS_MAX, true);
}

enum recorder_verdict recorder_admit(struct recorder *recorder, uint32_t count, bool is_begun)
{
    bool open = is_begun || !atomic_load_explicit(recorder->gate, memory_order_relaxed);
    if (open && ring_room(recorder->ring) >= bytes_needed(count))
        return RECORDER_LOG;
    return recorder->refuse_when_full ? RECORDER_REFUSE : RECORDER_DROP;
}

uint32_t recorder_admit_limited(struct recorder *recorder, uint64_t now_ns, uint32_t count)
{
    const uint64_t interval_ns = UINT64_C(1000000000) / RECORDER_LIMITED_PER_SECOND;
    uint64_t since_ns = now_ns > recorder->limited_filled_ns ? now_ns - recorder->limited_filled_ns : 0;
    uint64_t more = since_ns / interval_ns;
    recorder->limited_filled_ns += more * interval_ns;
    recorder->limited_left += more;
    if (recorder->limited_left > RECORDER_LIMITED_BURST)
        recorder->limited_left = RECORDER_LIMITED_BURST;
    if (count > recorder->limited_left)
        count = (uint32_t)recorder->limited_left;
    recorder->limited_left -= count;
    return count;
}

/* Where misses are not. */
static bool is_kept(uint8_t answer)
{
    return answer != DIRECTORY_NOT_REGISTERED && answer != DIRECTORY_INVALID;
}

static uint32_t count_kept(const struct recorder *recorder, const uint8_t *answers, uint32_t count)
{
    uint32_t kept = 0;
    if (!recorder->hits_only)
        return count;
    for (uint32_t i = 0; i < count; i++)
        kept += is_kept(answers[i]);
    return kept;
}

/* A block of the first `count` that are kept. */
static void write_block(struct recorder *recorder, const struct query_block *head, const uint8_t *via,
                        const uint64_t *numbers, const uint8_t *answers, uint32_t count)
{
    struct query_block *block = ring_reserve(recorder->ring, query_block_bytes(count, head->has_via));
    assert(block != NULL); /* recorder_admit has seen the room, and only we take from it */
    *block = *head;
    block->sequence = ++recorder->sequence;
    block->count = count;
    if (recorder->hits_only) {
        for (uint32_t i = 0, kept = 0; kept < count; i++)
            if (is_kept(answers[i]))
                block->events[kept++] = query_event(numbers[i], answers[i]);
    } else {
        for (uint32_t i = 0; i < count; i++)
            block->events[i] = query_event(numbers[i], answers[i]);
    }
    if (head->has_via)
        memcpy(&block->events[count], via, QUERY_VIA_BYTES);
    /* Counted before the drain can see it, so that "stored" never runs ahead of "logged". */
    counter_add(&recorder->counts->logged, count);
    ring_commit(recorder->ring);
}

void recorder_write(struct recorder *recorder, const struct recorder_origin *origin, const uint64_t *numbers,
                    const uint8_t *answers, uint32_t count)
{
    static const uint8_t none[QUERY_VIA_BYTES];
    struct query_block head = {.time_ms = origin->time_ms,
                               .requester = origin->requester,
                               .worker = recorder->worker,
                               .ip_kept = (uint8_t)recorder->ip_kept,
                               .has_via = memcmp(origin->via, none, sizeof none) != 0};
    memcpy(head.ip, origin->ip, sizeof head.ip);
    query_ip_cut(head.ip, recorder->ip_kept);
    for (uint32_t done = 0; done < count;) {
        uint32_t size = count - done < QUERY_BLOCK_EVENTS_MAX ? count - done : QUERY_BLOCK_EVENTS_MAX;
        uint32_t kept = count_kept(recorder, answers + done, size);
        if (kept > 0)
            write_block(recorder, &head, origin->via, numbers + done, answers + done, kept);
        done += size;
    }
    atomic_store_explicit(&recorder->counts->last_ms, origin->time_ms, memory_order_relaxed);
}

void recorder_drop(struct recorder *recorder, const uint8_t *answers, uint32_t count)
{
    counter_add(&recorder->counts->dropped, count_kept(recorder, answers, count));
}
