/* The worker's end of the query log; see recorder.h. */
#include "server/recorder.h"

#include <assert.h>
#include <string.h>

#include "hashing/directory.h"
#include "ring/event.h"
#include "server/counters.h"

/* Bytes that `count` events, and what is not yet flushed, can take in the ring at worst: blocks with their lengths, and one filler. */
static uint64_t bytes_needed(uint32_t count)
{
    uint64_t blocks = count / QUERY_BLOCK_EVENTS_MAX + 2;
    uint64_t events = (uint64_t)count + RECORDER_OPEN_EVENTS;
    return events * sizeof(uint64_t) + blocks * (query_block_bytes(0, true) + sizeof(uint64_t)) +
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

/* As vectors of what the processor has, chosen when the program is loaded: 0.13 ns an event, else 0.35. (Sanitizers do not bear that.) */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&     \
    !defined(__SANITIZE_THREAD__)
#define FOR_THE_PROCESSOR __attribute__((target_clones("avx2", "default")))
#else
#define FOR_THE_PROCESSOR
#endif

FOR_THE_PROCESSOR static void put_all(const uint64_t *restrict numbers, const uint8_t *restrict answers,
                                      uint32_t count, uint64_t *restrict events)
{
    for (uint32_t i = 0; i < count; i++)
        events[i] = query_event(numbers[i], answers[i]);
}

/* Those that are kept, `count` in all. */
static void put_events(const struct recorder *recorder, const uint64_t *numbers, const uint8_t *answers,
                       uint32_t count, uint64_t *events)
{
    if (!recorder->hits_only) {
        put_all(numbers, answers, count, events);
        return;
    }
    for (uint32_t i = 0, kept = 0; kept < count; i++)
        if (is_kept(answers[i]))
            events[kept++] = query_event(numbers[i], answers[i]);
}

/* Room in the ring for a block whose events are still to be put. */
static struct query_block *begin_block(struct recorder *recorder, const struct recorder_origin *origin,
                                       uint32_t count)
{
    static const uint8_t none[QUERY_VIA_BYTES];
    bool has_via = memcmp(origin->via, none, sizeof none) != 0;
    struct query_block *block = ring_reserve(recorder->ring, query_block_bytes(count, has_via));
    assert(block != NULL); /* recorder_admit has seen the room, and only we take from it */
    *block = (struct query_block){.time_ms = origin->time_ms,
                                  .requester = origin->requester,
                                  .sequence = ++recorder->sequence,
                                  .count = count,
                                  .worker = recorder->worker,
                                  .ip_kept = (uint8_t)recorder->ip_kept,
                                  .has_via = has_via};
    memcpy(block->ip, origin->ip, sizeof block->ip);
    query_ip_cut(block->ip, recorder->ip_kept);
    if (has_via)
        memcpy(&block->events[count], origin->via, QUERY_VIA_BYTES);
    return block;
}

static void end_block(struct recorder *recorder, const struct query_block *block)
{
    /* Counted before the drain can see it, so that "stored" never runs ahead of "logged". */
    counter_add(&recorder->counts->logged, block->count);
    ring_commit(recorder->ring);
    atomic_store_explicit(&recorder->counts->last_ms, block->time_ms, memory_order_relaxed);
}

void recorder_flush(struct recorder *recorder)
{
    struct recorder_open *open = &recorder->open;
    if (open->count == 0)
        return;
    struct query_block *block = begin_block(recorder, &open->origin, open->count);
    memcpy(block->events, open->events, open->count * sizeof *open->events);
    end_block(recorder, block);
    open->count = 0;
}

/* Of a short request. */
static void join(struct recorder *recorder, const struct recorder_origin *origin, const uint64_t *numbers,
                 const uint8_t *answers, uint32_t kept)
{
    struct recorder_open *open = &recorder->open;
    if (open->count + kept > RECORDER_OPEN_EVENTS || memcmp(&open->origin, origin, sizeof *origin) != 0)
        recorder_flush(recorder);
    if (open->count == 0)
        open->origin = *origin;
    put_events(recorder, numbers, answers, kept, open->events + open->count);
    open->count += kept;
}

void recorder_write(struct recorder *recorder, const struct recorder_origin *origin, const uint64_t *numbers,
                    const uint8_t *answers, uint32_t count)
{
    if (count <= RECORDER_JOINED_MAX) {
        join(recorder, origin, numbers, answers, count_kept(recorder, answers, count));
        return;
    }
    recorder_flush(recorder);
    for (uint32_t done = 0; done < count;) {
        uint32_t size = count - done < QUERY_BLOCK_EVENTS_MAX ? count - done : QUERY_BLOCK_EVENTS_MAX;
        uint32_t kept = count_kept(recorder, answers + done, size);
        if (kept > 0) {
            struct query_block *block = begin_block(recorder, origin, kept);
            put_events(recorder, numbers + done, answers + done, kept, block->events);
            end_block(recorder, block);
        }
        done += size;
    }
}

void recorder_drop(struct recorder *recorder, const uint8_t *answers, uint32_t count)
{
    counter_add(&recorder->counts->dropped, count_kept(recorder, answers, count));
}
