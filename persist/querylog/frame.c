/* The frame; see frame.h. */
#include "persist/querylog/frame.h"

#include <string.h>

#include <xxhash.h>

static const char magic[4] = {'N', 'B', 'F', '1'};

uint32_t frame_bucket_of(uint64_t requester)
{
    return (uint32_t)(XXH3_64bits(&requester, sizeof requester) % FRAME_BUCKETS);
}

static uint64_t frame_checksum(const struct frame *frame)
{
    XXH64_hash_t head = XXH3_64bits(frame, offsetof(struct frame, checksum));
    return XXH3_64bits_withSeed(frame->payload, frame->payload_bytes, head);
}

void frame_seal(struct frame *frame)
{
    memcpy(frame->magic, magic, sizeof magic);
    frame->checksum = frame_checksum(frame);
}

/* True when the payload is made of whole blocks that hold `frame->events` events. */
static bool has_whole_blocks(const struct frame *frame)
{
    size_t offset = 0;
    uint64_t events = 0;
    while (offset < frame->payload_bytes) {
        const struct query_block *block = (const void *)(frame->payload + offset);
        size_t left = frame->payload_bytes - offset;
        if (left < sizeof *block || block->count == 0 || block->count > QUERY_BLOCK_EVENTS_MAX ||
            left < query_block_bytes(block->count))
            return false;
        offset += query_block_bytes(block->count);
        events += block->count;
    }
    return events == frame->events;
}

enum frame_state frame_examine(const void *data, size_t length, size_t *bytes)
{
    const struct frame *frame = data;
    if (length < sizeof *frame)
        return FRAME_INCOMPLETE;
    if (memcmp(frame->magic, magic, sizeof magic) != 0 || frame->payload_bytes == 0 ||
        frame->payload_bytes > FRAME_PAYLOAD_MAX || frame->bucket >= FRAME_BUCKETS)
        return FRAME_INVALID;
    if (length < sizeof *frame + frame->payload_bytes)
        return FRAME_INCOMPLETE;
    if (frame->checksum != frame_checksum(frame) || !has_whole_blocks(frame))
        return FRAME_INVALID;
    *bytes = sizeof *frame + frame->payload_bytes;
    return FRAME_WHOLE;
}

const struct query_block *frame_next_block(const struct frame *frame, size_t *offset)
{
    if (*offset >= frame->payload_bytes)
        return NULL;
    const struct query_block *block = (const void *)(frame->payload + *offset);
    *offset += query_block_bytes(block->count);
    return block;
}
