/* Fuzz target: any bytes as a frame of the query log. With its checksum set right, so that what lies behind
 * the check is reached too; the blocks of a whole frame must be walkable. */
#include <stdlib.h>
#include <string.h>

#include "persist/querylog/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void examine(const void *memory, size_t size)
{
    size_t bytes;
    if (frame_examine(memory, size, &bytes) != FRAME_WHOLE)
        return;
    const struct frame *frame = memory;
    const struct query_block *block;
    size_t offset = 0;
    uint64_t events = 0;
    while ((block = frame_next_block(frame, &offset)) != NULL)
        for (uint32_t i = 0; i < block->count; i++, events++)
            if (query_event_number(block->events[i]) > QUERY_EVENT_NUMBER_MASK)
                abort();
    if (events != frame->events || offset != frame->payload_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *memory = aligned_alloc(8, (size + 7) / 8 * 8 + 8);
    memcpy(memory, data, size);
    examine(memory, size);
    if (size > sizeof(struct frame)) {
        struct frame *frame = memory;
        frame->payload_bytes = (uint32_t)(size - sizeof *frame);
        frame->bucket %= FRAME_BUCKETS;
        frame_seal(frame);
        examine(memory, size);
    }
    free(memory);
    return 0;
}
