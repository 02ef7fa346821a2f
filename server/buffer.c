/* A growable run of bytes; see buffer.h. */
#include "server/buffer.h"

#include <stdlib.h>
#include <string.h>

uint8_t *buffer_reserve(struct buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->length < more) {
        size_t capacity = buffer->capacity < 512 ? 512 : buffer->capacity * 2;
        if (capacity < buffer->length + more)
            capacity = buffer->length + more;
        uint8_t *grown = realloc(buffer->bytes, capacity);
        if (grown == NULL)
            return NULL;
        buffer->bytes = grown;
        buffer->capacity = capacity;
    }
    return buffer->bytes + buffer->length;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    uint8_t *room = buffer_reserve(buffer, length);
    if (room == NULL)
        return false;
    if (length > 0)
        memcpy(room, bytes, length);
    buffer->length += length;
    return true;
}

void buffer_consume(struct buffer *buffer, size_t length)
{
    buffer->length -= length;
    if (buffer->length > 0)
        memmove(buffer->bytes, buffer->bytes + length, buffer->length);
}

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
