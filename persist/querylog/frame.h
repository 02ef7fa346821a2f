/* The frame: the unit in which query events are stored, shipped and expired.
 *
 * A frame holds whole query blocks (ring/event.h) of one hour and one bucket:
 *    0  4  magic "NBF1"             4  4  payload bytes
 *    8  8  index in its segment, from 1    16  8  hour, Unix time in ms of its first moment
 *   24  4  bucket, 0..15           28  4  events in the payload
 *   32  8  XXH3-64 of bytes 0..31 and the payload
 *   40     payload: query blocks, one after another
 * The same bytes lie in the segment file and, as the value of one stream entry, in Redis. Pure functions. */
#ifndef NUMBERD_PERSIST_QUERYLOG_FRAME_H
#define NUMBERD_PERSIST_QUERYLOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring/event.h"

#define FRAME_BUCKETS 16
/* A frame is closed before it would grow over this; a block alone is always smaller. */
#define FRAME_PAYLOAD_MAX (64u << 10)
#define FRAME_HOUR_MS UINT64_C(3600000)

struct frame {
    char magic[4];
    uint32_t payload_bytes;
    uint64_t index;
    uint64_t hour_ms;
    uint32_t bucket;
    uint32_t events;
    uint64_t checksum;
    unsigned char payload[];
};

static_assert(sizeof(struct frame) == 40, "the header has no padding");

enum frame_state { FRAME_WHOLE, FRAME_INCOMPLETE, FRAME_INVALID };

/* The bucket of a requester: one requester's events of an hour share a bucket. */
uint32_t frame_bucket_of(uint64_t requester);

static inline uint64_t frame_hour_of(uint64_t time_ms)
{
    return time_ms - time_ms % FRAME_HOUR_MS;
}

/* Fills magic and checksum; all else must be set. */
void frame_seal(struct frame *frame);

/* Judges the frame at the start of `length` bytes (8-byte aligned). FRAME_WHOLE: it is complete, its checksum is
 * right, `*bytes` is its size and its payload splits into whole blocks with as many events as it says. */
enum frame_state frame_examine(const void *data, size_t length, size_t *bytes);

/* The block at `*offset` of a whole frame's payload, and moves on; NULL at the end. */
const struct query_block *frame_next_block(const struct frame *frame, size_t *offset);

#endif
