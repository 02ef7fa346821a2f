/* numberd's own dialect, and the list of them; see load_dialect.h. */
#include "load_dialect.h"

#include <string.h>

static size_t request_bytes(const struct load_asked *asked)
{
    return wire_request_bytes(asked->accounts == NULL ? WIRE_LOOKUP : WIRE_REGISTER, 0, asked->count);
}

static size_t encode(uint8_t *room, const struct load_asked *asked)
{
    if (asked->accounts == NULL)
        return wire_encode_numbers(room, WIRE_LOOKUP, asked->id, NULL, asked->numbers, asked->count);
    uint32_t bytes = wire_encode_header(room, WIRE_REGISTER, 0, asked->id, asked->count);
    uint8_t *entry = room + WIRE_REQUEST_HEADER_BYTES;
    for (unsigned i = 0; i < asked->count; i++, entry += WIRE_REGISTER_BYTES)
        wire_put_register_entry(entry, asked->numbers[i], asked->accounts[i], 0);
    return bytes;
}

static enum wire_state decode(const uint8_t *bytes, size_t length, const struct load_asked *asked,
                              struct load_answer *answer)
{
    struct wire_reply reply;
    enum wire_state state = wire_decode_reply(bytes, length, &reply);
    if (state != WIRE_DONE)
        return state;
    answer->bytes = reply.frame_bytes;
    answer->kind = reply.code == WIRE_OK ? LOAD_ANSWERED : LOAD_REFUSED;
    if (reply.request_id == 0 && reply.code == WIRE_GOING_AWAY)
        answer->kind = LOAD_GOODBYE;
    else if (reply.request_id != asked->id || reply.body_bytes < (reply.code == WIRE_OK ? reply.count : 0))
        return WIRE_MALFORMED;
    answer->count = reply.count;
    answer->statuses = reply.body;
    return WIRE_DONE;
}

static const struct load_dialect numberd = {.name = "numberd",
                                            .port = WIRE_PORT_DEFAULT,
                                            .count_max = WIRE_COUNT_MAX,
                                            .greets = true,
                                            .answers = true,
                                            .request_bytes = request_bytes,
                                            .encode = encode,
                                            .decode = decode};
static const struct load_dialect floor_dialect = {.name = "floor",
                                                  .port = WIRE_PORT_DEFAULT,
                                                  .count_max = WIRE_COUNT_MAX,
                                                  .greets = true,
                                                  .request_bytes = request_bytes,
                                                  .encode = encode,
                                                  .decode = decode};

const struct load_dialect *load_dialect(const char *name)
{
    const struct load_dialect *const all[] = {&numberd, &floor_dialect, &load_redis_set, &load_redis_keys,
                                              &load_memcached};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(name, all[i]->name) == 0)
            return all[i];
    return NULL;
}
