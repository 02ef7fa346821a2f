/* The worker's end of the query log: looked-up numbers into the worker's own ring, without ever waiting.
 *
 * Ask recorder_admit before the lookup; it says whether the log can take so many events. If it cannot, the
 * policy decides: drop (answer, count the events as lost) or refuse (answer UNAVAILABLE, look nothing up).
 *
 * Short requests that one client's turn answers together (one origin, one time) leave one block, not one each: a block's header is as
 * long as six events. What is written is so kept until it is flushed, which is to be done before an answer leaves.
 * (8 requests of one number at a time: 14 bytes an event rather than 56, and 17 ns of the drain's time rather than 50.)
 *
 * One recorder, one worker thread. */
#ifndef NUMBERD_SERVER_RECORDER_H
#define NUMBERD_SERVER_RECORDER_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring/event.h"
#include "ring/ring.h"

/* Requests of up to so many events are joined, into blocks of up to so many. */
#define RECORDER_JOINED_MAX 64u
#define RECORDER_OPEN_EVENTS 256u

/* Who has asked, and when. */
struct recorder_origin {
    uint64_t time_ms;
    uint64_t requester;
    uint8_t ip[16];
    uint8_t via[QUERY_VIA_BYTES]; /* of the proxy through which it came; all zero: none */
};

static_assert(sizeof(struct recorder_origin) == 48, "no padding: it is compared as bytes");

/* A block that is not yet in the ring. */
struct recorder_open {
    struct recorder_origin origin;
    uint32_t count;
    uint64_t events[RECORDER_OPEN_EVENTS];
};

struct recorder {
    struct ring *ring;
    const atomic_bool *gate; /* true while the log behind the ring takes nothing */
    bool refuse_when_full;
    bool hits_only; /* events of numbers that are registered, and of those that were limited, alone */
    enum query_ip ip_kept;
    uint16_t worker;
    uint64_t sequence;
    struct query_counts *counts;
    /* What is LIMITED costs who asks nothing, so not all of it is logged: a token bucket. */
    uint64_t limited_left;
    uint64_t limited_filled_ns;
    struct recorder_open open;
};

/* Of a worker, in numbers. */
#define RECORDER_LIMITED_PER_SECOND 1000u
#define RECORDER_LIMITED_BURST 100000u

/* How many of `count` numbers that were not looked up, since a budget was used up, are to be logged all the same. `now_ns`: of a
 * monotonic clock, and may be some time ago. */
uint32_t recorder_admit_limited(struct recorder *recorder, uint64_t now_ns, uint32_t count);

enum recorder_verdict { RECORDER_LOG, RECORDER_DROP, RECORDER_REFUSE };

/* What will become of `count` events. For a request of which parts are logged already (`is_begun`) the gate does not count any more, only
 * whether the ring has room: what was taken on is carried out. */
enum recorder_verdict recorder_admit(struct recorder *recorder, uint32_t count, bool is_begun);

/* After RECORDER_LOG for the same count: writes those that are to be kept, in blocks. `answers` are enum directory_answer. */
void recorder_write(struct recorder *recorder, const struct recorder_origin *origin, const uint64_t *numbers,
                    const uint8_t *answers, uint32_t count);

/* What was written and is not in the ring goes there. */
void recorder_flush(struct recorder *recorder);

/* After RECORDER_DROP: counts those that were to be kept. */
void recorder_drop(struct recorder *recorder, const uint8_t *answers, uint32_t count);

/* Bytes a ring must have so that the longest request fits. */
#define RECORDER_RING_BYTES_MIN (UINT32_C(2) << 20)

#endif
