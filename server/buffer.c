/* A growable run of bytes; see buffer.h. */
#include "server/buffer.h"

#include <stdlib.h>
#include <string.h>

/* Moves the content to the front of the memory. */
static void shift(struct buffer *buffer)
{
    if (buffer->skipped == 0)
        return;
    uint8_t *front = buffer->bytes - buffer->skipped;
    memmove(front, buffer->bytes, buffer->length);
    buffer->bytes = front;
    buffer->skipped = 0;
}

static bool grow(struct buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity < 512 ? 512 : buffer->capacity * 2;
    if (capacity < buffer->length + more)
        capacity = buffer->length + more;
    uint8_t *grown = realloc(buffer->bytes, capacity);
    if (grown == NULL)
        return false;
    buffer->bytes = grown;
    buffer->capacity = capacity;
    return true;
}

uint8_t *buffer_reserve(struct buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->skipped - buffer->length < more) {
        bool is_worth_it =
            buffer->skipped >= buffer->capacity / 4; /* so much was consumed since the last time */
        shift(buffer);
        if ((!is_worth_it || buffer->capacity - buffer->length < more) && !grow(buffer, more))
            return NULL;
    }
    return buffer->bytes + buffer->length;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length == 0)
        return true;
    uint8_t *room = buffer_reserve(buffer, length);
    if (room == NULL)
        return false;
    memcpy(room, bytes, length);
    buffer->length += length;
    return true;
}

void buffer_consume(struct buffer *buffer, size_t length)
{
    if (length == 0)
        return;
    buffer->length -= length;
    buffer->skipped += length;
    buffer->bytes += length;
    if (buffer->length == 0)
        shift(buffer);
}

void buffer_deinit(struct buffer *buffer)
{
    if (buffer->bytes != NULL)
        free(buffer->bytes - buffer->skipped);
    *buffer = (struct buffer){0};
}
