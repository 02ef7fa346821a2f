/* Lookups ahead; see ahead.h. */
#include "server/ahead.h"

#include "server/wire.h"

/* Adds the request's numbers behind the others. */
static void add(struct ahead *ahead, const struct wire_request *request)
{
    uint64_t *numbers = ahead->numbers + ahead->used;
    ahead->entries[ahead->count] = request->entries;
    ahead->firsts[ahead->count++] = (uint16_t)ahead->used;
    ahead->used += request->count;
    for (uint32_t i = 0; i < request->count; i++)
        numbers[i] = wire_get_u64(request->entries + (size_t)i * WIRE_NUMBER_BYTES);
}

void ahead_gather(struct ahead *ahead, const struct directory *directory, const uint8_t *bytes, size_t length)
{
    struct wire_request request;
    size_t at = 0;
    while (ahead->count < AHEAD_REQUESTS &&
           wire_decode_request(bytes + at, length - at, &request) == WIRE_DONE &&
           request.type == WIRE_LOOKUP && request.count <= AHEAD_NUMBERS - ahead->used) {
        if (request.count == 1)
            directory_prefetch(directory, wire_get_u64(request.entries), true);
        else if (request.count <= AHEAD_JOINED_MAX)
            add(ahead, &request);
        at += request.frame_bytes;
    }
}

void ahead_look(struct ahead *ahead, const struct directory *directory, struct epoch_reader *reader)
{
    if (ahead->count > 1)
        directory_lookup(directory, reader, ahead->numbers, ahead->used, ahead->answers);
    else
        ahead_clear(ahead);
}
