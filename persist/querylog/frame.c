/* The frame; see frame.h. */
#include "persist/querylog/frame.h"

#include <string.h>

#include <sodium.h>

#include "persist/checksum.h"

static const char magic[4] = {'N', 'B', 'F', '2'};

static_assert(FRAME_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES, "the cipher's tag");
static_assert(crypto_aead_chacha20poly1305_ietf_NPUBBYTES == 12, "the cipher's nonce");
static_assert(FRAME_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "the cipher's key");

/* What is authenticated with the payload. */
struct context {
    unsigned char head[offsetof(struct frame, checksum)];
    struct frame_place place;
};

static_assert(sizeof(struct context) == 72, "the context has no padding");

uint32_t frame_bucket_of(uint64_t requester)
{
    return (uint32_t)(checksum_of(&requester, sizeof requester) % FRAME_GAP_BUCKET);
}

static uint64_t frame_checksum(const struct frame *frame)
{
    uint64_t head = checksum_of(frame, offsetof(struct frame, checksum));
    return checksum_of_with(frame->payload, frame->payload_bytes, head);
}

static struct context context_of(const struct frame *frame, const struct frame_place *place)
{
    struct context context = {.place = *place};
    memcpy(context.head, frame, sizeof context.head);
    return context;
}

static void make_nonce(const struct frame *frame,
                       unsigned char nonce[static crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
    memset(nonce, 0, crypto_aead_chacha20poly1305_ietf_NPUBBYTES);
    memcpy(nonce, &frame->nonce, sizeof frame->nonce);
}

size_t frame_seal(struct frame *frame, const struct frame_batch *batch, const struct frame_place *place,
                  const uint8_t secret[static FRAME_KEY_BYTES], frame_cipher_fn *cipher)
{
    unsigned char nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    memcpy(frame->magic, magic, sizeof magic);
    frame->payload_bytes = (uint32_t)batch->bytes + FRAME_TAG_BYTES;
    frame->hour_ms = batch->hour_ms;
    frame->bucket = batch->bucket;
    frame->events = batch->events;
    struct context context = context_of(frame, place);
    make_nonce(frame, nonce);
    const unsigned char *bytes = (const unsigned char *)&context;
    if (cipher == NULL ||
        !cipher(frame->payload, batch->blocks, batch->bytes, bytes, sizeof context, nonce, secret))
        (void)crypto_aead_chacha20poly1305_ietf_encrypt(frame->payload, NULL, batch->blocks, batch->bytes,
                                                        bytes, sizeof context, NULL, nonce,
                                                        secret); /* never fails at these sizes */
    frame->checksum = frame_checksum(frame);
    return sizeof *frame + frame->payload_bytes;
}

enum frame_state frame_examine(const void *data, size_t length, size_t *bytes)
{
    const struct frame *frame = data;
    if (length < sizeof *frame)
        return FRAME_INCOMPLETE;
    if (memcmp(frame->magic, magic, sizeof magic) != 0 || frame->payload_bytes <= FRAME_TAG_BYTES ||
        frame->payload_bytes > FRAME_BATCH_MAX + FRAME_TAG_BYTES || frame->payload_bytes % 8 != 0 ||
        frame->bucket >= FRAME_BUCKETS)
        return FRAME_INVALID;
    if (length < sizeof *frame + frame->payload_bytes)
        return FRAME_INCOMPLETE;
    if (frame->checksum != frame_checksum(frame))
        return FRAME_INVALID;
    *bytes = sizeof *frame + frame->payload_bytes;
    return FRAME_WHOLE;
}

/* True when the batch is made of whole blocks that hold `batch->events` events, or of gaps. */
static bool has_whole_blocks(const struct frame_batch *batch)
{
    size_t offset = 0;
    uint64_t events = 0;
    if (batch->bucket == FRAME_GAP_BUCKET)
        return batch->events == 0 && batch->bytes % sizeof(struct query_gap) == 0;
    while (offset < batch->bytes) {
        const struct query_block *block = (const void *)(batch->blocks + offset);
        size_t left = batch->bytes - offset;
        if (left < sizeof *block || block->count == 0 || block->count > QUERY_BLOCK_EVENTS_MAX ||
            block->has_via > 1 || left < query_block_bytes(block->count, block->has_via))
            return false;
        offset += query_block_bytes(block->count, block->has_via);
        events += block->count;
    }
    return events == batch->events;
}

bool frame_open(const struct frame *frame, const struct frame_place *place,
                const uint8_t secret[static FRAME_KEY_BYTES], struct frame_batch *batch)
{
    unsigned char nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
    struct context context = context_of(frame, place);
    batch->hour_ms = frame->hour_ms;
    batch->bucket = frame->bucket;
    batch->events = frame->events;
    batch->bytes = frame->payload_bytes - FRAME_TAG_BYTES;
    make_nonce(frame, nonce);
    return crypto_aead_chacha20poly1305_ietf_decrypt(batch->blocks, NULL, NULL, frame->payload,
                                                     frame->payload_bytes, (const unsigned char *)&context,
                                                     sizeof context, nonce, secret) == 0 &&
           has_whole_blocks(batch);
}

const struct query_block *frame_next_block(const struct frame_batch *batch, size_t *offset)
{
    if (*offset >= batch->bytes)
        return NULL;
    const struct query_block *block = (const void *)(batch->blocks + *offset);
    *offset += query_block_bytes(block->count, block->has_via);
    return block;
}
