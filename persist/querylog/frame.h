/* The frame: the unit in which query events are sealed, stored, shipped and expired.
 *
 * A frame holds whole query blocks, or gaps, (ring/event.h) of one hour and one bucket, encrypted with the hour's data key
 * (hour_key.h):
 *    0  4  magic "NBF2"             4  4  payload bytes
 *    8  8  index in its segment, from 1    16  8  hour, Unix time in ms of its first moment
 *   24  4  bucket, 0..16           28  4  events in the payload
 *   32  8  number of the data key  40  8  nonce: counts what was sealed with this key
 *   48  8  ordinal: counts the frames of this key and bucket, from 1
 *   56  8  XXH3-64 of the payload, seeded with the XXH3-64 of bytes 0..55
 *   64     payload: the blocks, one after another, encrypted and authenticated with ChaCha20-Poly1305 (RFC 8439; the nonce in
 *          its first 8 bytes, then zero); authenticated with them: bytes 0..55, the server's id and the sequence number of the
 *          segment, 8 bytes each
 * So a frame that was changed, or that lies in another place than the one it was written for, does not open; one that
 * is missing leaves a hole in the ordinals. The checksum is for those without the key.
 * The same bytes lie in the segment file and, as the value of one stream entry, in Redis. Pure functions. */
#ifndef NUMBERD_PERSIST_QUERYLOG_FRAME_H
#define NUMBERD_PERSIST_QUERYLOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ring/event.h"

#define FRAME_BUCKETS 17
/* Requesters have the others; this one holds, instead of blocks, the gaps (struct query_gap), which concern them all. */
#define FRAME_GAP_BUCKET 16
/* A batch is sealed before it would grow over this; a block alone is always smaller. */
#define FRAME_BATCH_MAX (64u << 10)
#define FRAME_TAG_BYTES 16u
#define FRAME_KEY_BYTES 32
#define FRAME_HOUR_MS UINT64_C(3600000)

/* Blocks before they are sealed, and after they were opened. */
struct frame_batch {
    uint64_t hour_ms;
    uint32_t bucket;
    uint32_t events;
    size_t bytes;
    _Alignas(8) unsigned char blocks[FRAME_BATCH_MAX];
};

struct frame {
    char magic[4];
    uint32_t payload_bytes;
    uint64_t index;
    uint64_t hour_ms;
    uint32_t bucket;
    uint32_t events;
    uint64_t key;
    uint64_t nonce;
    uint64_t ordinal;
    uint64_t checksum;
    unsigned char payload[];
};

static_assert(sizeof(struct frame) == 64, "the header has no padding");

#define FRAME_BYTES_MAX (sizeof(struct frame) + FRAME_BATCH_MAX + FRAME_TAG_BYTES)

/* Where a frame lies: whoever reads it knows that from there, not from the frame. */
struct frame_place {
    uint64_t server_id;
    uint64_t sequence; /* of the segment */
};

enum frame_state { FRAME_WHOLE, FRAME_INCOMPLETE, FRAME_INVALID };

/* The bucket of a requester: one requester's events of an hour share a bucket. */
uint32_t frame_bucket_of(uint64_t requester);

static inline uint64_t frame_hour_of(uint64_t time_ms)
{
    return time_ms - time_ms % FRAME_HOUR_MS;
}

/* When the hour's last moment is `retention_ms` ago, and nothing of the hour may be there any more. No lookup of it is read
 * from its own retention's end on (disclose.h); the first of the hour so lie there unread for one hour. */
static inline uint64_t frame_hour_over_at(uint64_t hour_ms, uint64_t retention_ms)
{
    return hour_ms + FRAME_HOUR_MS + retention_ms;
}

/* ChaCha20-Poly1305 (RFC 8439): encrypts `bytes` of `plain` to `sealed`, and writes the tag behind them. False when it cannot now. */
typedef bool frame_cipher_fn(uint8_t *sealed, const uint8_t *plain, size_t bytes, const uint8_t *context,
                             size_t context_bytes, const uint8_t nonce[static 12],
                             const uint8_t secret[static FRAME_KEY_BYTES]);

/* Makes the frame of the batch, which is not changed; its index, key, nonce and ordinal must be set, and the nonce
 * never have been used with this secret. `frame` has room for FRAME_BYTES_MAX. `cipher` NULL, or unable: by libsodium.
 * Returns its bytes, a multiple of 8. */
size_t frame_seal(struct frame *frame, const struct frame_batch *batch, const struct frame_place *place,
                  const uint8_t secret[static FRAME_KEY_BYTES], frame_cipher_fn *cipher);

/* The bytes that the frame of this batch has. */
static inline size_t frame_sealed_bytes(const struct frame_batch *batch)
{
    return sizeof(struct frame) + batch->bytes + FRAME_TAG_BYTES;
}

/* Judges the frame at the start of `length` bytes (8-byte aligned), as far as that can be done without the key.
 * FRAME_WHOLE: it is complete, its checksum is right, and `*bytes` is its size. */
enum frame_state frame_examine(const void *data, size_t length, size_t *bytes);

/* Opens a whole frame. False when it is not what was sealed for this place with this secret; or was, and does not hold
 * whole blocks with as many events as it says. */
bool frame_open(const struct frame *frame, const struct frame_place *place,
                const uint8_t secret[static FRAME_KEY_BYTES], struct frame_batch *batch);

/* The block at `*offset` of an opened batch, and moves on; NULL at the end. Not for the bucket of gaps. */
const struct query_block *frame_next_block(const struct frame_batch *batch, size_t *offset);

#endif
