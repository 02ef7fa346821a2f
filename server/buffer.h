/* A growable run of bytes: appended at the end, consumed from the front. One owner, one thread. */
#ifndef NUMBERD_SERVER_BUFFER_H
#define NUMBERD_SERVER_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *bytes;
    size_t length;
    size_t capacity; /* of the memory, `skipped` included */
    size_t skipped;  /* what was consumed stays before `bytes` until the room is needed */
};

/* Room for `more` bytes behind the content, not yet counted in; NULL when memory is short. */
uint8_t *buffer_reserve(struct buffer *buffer, size_t more);

/* Appends a copy. False when memory is short; nothing is then appended. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t length);

/* Drops `length` bytes from the front. Nothing is moved: each byte is moved a few times at most, however small the pieces are in which
 * it is appended and consumed. */
void buffer_consume(struct buffer *buffer, size_t length);

/* Frees the memory; the buffer is empty and may be used again. */
void buffer_deinit(struct buffer *buffer);

#endif
