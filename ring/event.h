/* The query event: what a looked-up number leaves behind, as it lies in the ring and in the query log; and the gap, which
 * stands there for events that are missing.
 *
 * A block is one header, `count` events of 8 bytes and, if has_via says so, the IP of the proxy through which was asked, 16 bytes.
 * All integers little-endian, no padding.
 *   event: number in bits 0..49 (0 when what was asked is no 50-bit value), answer in bits 56..63.
 * The layout is a file format: persist/QUERYLOG.md shows it byte by byte, and changes with it. */
#ifndef NUMBERD_RING_EVENT_H
#define NUMBERD_RING_EVENT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A request with more numbers leaves several blocks; so a block stays below 33 KiB. Short ones that are answered together share one. */
#define QUERY_BLOCK_EVENTS_MAX 4096
#define QUERY_EVENT_NUMBER_MASK ((UINT64_C(1) << 50) - 1)
#define QUERY_EVENT_ANSWER_SHIFT 56

struct query_block {
    uint64_t time_ms;   /* of the lookup, Unix time in milliseconds */
    uint64_t requester; /* the principal on whose behalf was asked, 0 when unnamed */
    uint8_t ip[16];     /* of the requester, as far as ip_kept says; IPv4 as ::ffff:a.b.c.d */
    uint64_t sequence;  /* counts the blocks of one worker, from 1 at each start of the server */
    uint32_t count;     /* events, 1 .. QUERY_BLOCK_EVENTS_MAX */
    uint16_t worker;    /* whose block it is */
    uint8_t ip_kept;    /* enum query_ip */
    uint8_t has_via;    /* 0 or 1 */
    uint64_t events[];
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the layout is the host's, and little-endian");
static_assert(sizeof(struct query_block) == 48, "the header has no padding");
static_assert(offsetof(struct query_block, events) == 48, "the events follow the header");

/* How much of an IP is kept: all, or its network (IPv4 /24, IPv6 /48; the rest is zero), or nothing (all zero). */
enum query_ip { QUERY_IP_WHOLE, QUERY_IP_NETWORK, QUERY_IP_NONE };

#define QUERY_IP_NETWORK_BYTES_V4 15 /* of the 16 */
#define QUERY_IP_NETWORK_BYTES_V6 6

static inline bool query_ip_is_v4(const uint8_t ip[static 16])
{
    return memcmp(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
}

static inline void query_ip_cut(uint8_t ip[static 16], enum query_ip kept)
{
    size_t bytes = kept == QUERY_IP_NONE    ? 0
                   : kept == QUERY_IP_WHOLE ? 16
                   : query_ip_is_v4(ip)     ? QUERY_IP_NETWORK_BYTES_V4
                                            : QUERY_IP_NETWORK_BYTES_V6;
    memset(ip + bytes, 0, 16 - bytes);
}

/* Why events are missing from the log. */
enum query_gap_reason {
    QUERY_GAP_DROPPED = 1,   /* the log took no more: the ring or the spool was full, or the disk refused */
    QUERY_GAP_KILLED = 2,    /* the server was killed with them in its rings */
    QUERY_GAP_UNWRITTEN = 3, /* they were in the rings at the stop, and the disk refused them */
    QUERY_GAP_RESTARTED =
        4, /* the machine was restarted, or the tally was lost: nobody knows how many, or whether any */
    QUERY_GAP_DAMAGED =
        5 /* the segment was damaged before they reached Redis, or Redis cannot take them any more */
};

#define QUERY_GAP_ALL_WORKERS UINT32_MAX

/* Events of lookups at from_ms .. until_ms - 1 that are not in the log. */
struct query_gap {
    uint64_t from_ms;
    uint64_t until_ms;
    uint64_t events; /* 0: not known */
    uint32_t reason; /* enum query_gap_reason */
    uint32_t worker;
};

static_assert(sizeof(struct query_gap) == 32, "no padding");

/* What one worker counts of its events, each by itself; read by anyone. */
struct query_counts {
    _Alignas(64) _Atomic uint64_t logged; /* given to the ring */
    _Atomic uint64_t dropped;             /* looked up, but the log took no more */
    _Atomic uint64_t last_ms;             /* when it logged last, Unix time */
    _Atomic uint64_t recorded;            /* the consumer's: so many of the dropped are recorded as gaps */
};

#define QUERY_VIA_BYTES 16

static inline size_t query_block_bytes(uint32_t count, bool has_via)
{
    return sizeof(struct query_block) + count * sizeof(uint64_t) + (has_via ? QUERY_VIA_BYTES : 0);
}

/* The proxy's IP, or NULL. It is kept whole: it is the operator's own. */
static inline const uint8_t *query_block_via(const struct query_block *block)
{
    return block->has_via == 0 ? NULL : (const uint8_t *)&block->events[block->count];
}

static inline uint64_t query_event(uint64_t number, uint8_t answer)
{
    uint64_t kept = number <= QUERY_EVENT_NUMBER_MASK ? number : 0;
    return kept | (uint64_t)answer << QUERY_EVENT_ANSWER_SHIFT;
}

static inline uint64_t query_event_number(uint64_t event)
{
    return event & QUERY_EVENT_NUMBER_MASK;
}

static inline uint8_t query_event_answer(uint64_t event)
{
    return (uint8_t)(event >> QUERY_EVENT_ANSWER_SHIFT);
}

#endif
