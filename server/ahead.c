/* Lookups ahead; see ahead.h. */
#include "server/ahead.h"

#include "server/wire.h"

/* Adds the request's numbers behind the `used` ones. */
static void add(struct ahead *ahead, const struct wire_request *request, uint32_t used)
{
    ahead->entries[ahead->count] = request->entries;
    ahead->firsts[ahead->count++] = (uint16_t)used;
    for (uint32_t i = 0; i < request->count; i++)
        ahead->numbers[used + i] = wire_get_u64(request->entries + (size_t)i * WIRE_NUMBER_BYTES);
}

size_t ahead_look(struct ahead *ahead, const struct directory *directory, struct epoch_reader *reader,
                  const uint8_t *bytes, size_t length, size_t from)
{
    struct wire_request request;
    uint32_t used = 0;
    uint32_t lone = 0;
    size_t at = from;
    ahead_clear(ahead);
    while (ahead->count < AHEAD_REQUESTS && lone < AHEAD_REQUESTS &&
           wire_decode_request(bytes + at, length - at, &request) == WIRE_DONE) {
        bool is_first = at == from;
        if (request.type != WIRE_LOOKUP || (is_first && request.frame_bytes == length - at)) {
            at += request.frame_bytes; /* nothing is joined with it */
            break;
        }
        if (request.count > AHEAD_NUMBERS - used) {
            at += is_first ? request.frame_bytes : 0; /* else it may begin the next ones */
            break;
        }
        if (request.count == 1) {
            directory_prefetch(directory, wire_get_u64(request.entries), true);
            lone++;
        } else {
            add(ahead, &request, used);
            used += request.count;
        }
        at += request.frame_bytes;
    }
    if (ahead->count > 1)
        directory_lookup(directory, reader, ahead->numbers, used, ahead->answers);
    else
        ahead_clear(ahead);
    return at;
}
