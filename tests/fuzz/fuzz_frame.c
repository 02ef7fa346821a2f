/* Fuzz target: any bytes as a frame of the query log, which never opens; and as the blocks of a frame that was sealed, so
 * that what lies behind the cipher is reached too: the blocks of a frame that opens must be walkable. */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "persist/querylog/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define POISONED_BYTES 256u

static const uint8_t secret[FRAME_KEY_BYTES];
static const struct frame_place place = {1, 2};

static void walk(const struct frame_batch *batch)
{
    const struct query_block *block;
    size_t offset = 0;
    uint64_t events = 0;
    while ((block = frame_next_block(batch, &offset)) != NULL)
        for (uint32_t i = 0; i < block->count; i++, events++)
            if (query_event_number(block->events[i]) > QUERY_EVENT_NUMBER_MASK)
                abort();
    if (events != batch->events || offset != batch->bytes)
        abort();
}

static bool examine(const void *memory, size_t size, struct frame_batch *batch)
{
    size_t bytes;
    if (frame_examine(memory, size, &bytes) != FRAME_WHOLE)
        return false;
    if (bytes > size)
        abort();
    bool opened = frame_open(memory, &place, secret, batch);
    if (opened)
        walk(batch);
    return opened;
}

/* The bytes as the blocks of a frame that was sealed. */
static void examine_sealed(const uint8_t *data, size_t size, struct frame_batch *batch)
{
    static _Alignas(8) uint8_t memory[FRAME_BYTES_MAX];
    struct frame *frame = (void *)memory;
    memset(frame, 0, sizeof *frame);
    batch->events = size > 8 ? data[8] : 0;
    batch->bucket = 3;
    batch->hour_ms = FRAME_HOUR_MS;
    batch->bytes = size / 8 * 8;
    memcpy(batch->blocks, data, batch->bytes);
    (void)examine(frame, frame_seal(frame, batch, &place, secret, NULL), batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Made once; what lies behind the input is poisoned instead. */
    static _Alignas(8) uint8_t memory[FRAME_BATCH_MAX + POISONED_BYTES];
    static struct frame_batch batch;
    if (size > FRAME_BATCH_MAX)
        return -1;
    memcpy(memory, data, size);
    ASAN_POISON_MEMORY_REGION(memory + size, POISONED_BYTES);
    bool opened = examine(memory, size, &batch);
    ASAN_UNPOISON_MEMORY_REGION(memory + size, POISONED_BYTES);
    if (opened)
        abort(); /* nobody has sealed it */
    if (size > 0)
        examine_sealed(data, size, &batch);
    return 0;
}
