/* The binary protocol's frames; see wire.h and PROTOCOL.md. */
#include "server/wire.h"

#include <string.h>

const char *wire_code_text(uint8_t code)
{
    switch (code) {
#define X(name, value, text)                                                                                 \
    case value:                                                                                              \
        return text;
        WIRE_CODES(X)
#undef X
    default:
        return "unknown";
    }
}

const char *wire_status_text(uint8_t status)
{
    switch (status) {
#define X(name, value, text)                                                                                 \
    case value:                                                                                              \
        return text;
        WIRE_STATUSES(X)
#undef X
    default:
        return "unknown";
    }
}

/* --- requests --- */

uint32_t wire_entry_bytes(uint8_t type)
{
    switch (type) {
    case WIRE_LOOKUP:
    case WIRE_LOOKUP_RECORDS:
    case WIRE_DEREGISTER:
        return WIRE_NUMBER_BYTES;
    case WIRE_REGISTER:
        return WIRE_REGISTER_BYTES;
    case WIRE_MOVE:
        return WIRE_MOVE_BYTES;
    default:
        return 0;
    }
}

static bool is_lookup(uint8_t type)
{
    return type == WIRE_LOOKUP || type == WIRE_LOOKUP_RECORDS;
}

static bool is_known(uint8_t type)
{
    return type >= WIRE_HELLO && type <= WIRE_MAP;
}

uint32_t wire_request_bytes(uint8_t type, uint8_t flags, uint32_t count)
{
    if (type == WIRE_HELLO)
        return WIRE_REQUEST_HEADER_BYTES + WIRE_HELLO_BYTES + count;
    return WIRE_REQUEST_HEADER_BYTES + (flags & WIRE_FLAG_ORIGIN ? WIRE_ORIGIN_BYTES : 0) +
           count * wire_entry_bytes(type);
}

/* What the header alone shows to be wrong, or NULL. */
static const char *header_fault(const struct wire_request *request, uint32_t zero)
{
    if (request->frame_bytes < WIRE_REQUEST_HEADER_BYTES)
        return "frame_bytes is smaller than the header";
    if (request->frame_bytes > WIRE_REQUEST_BYTES_MAX)
        return "frame_bytes is larger than any request";
    if (request->type & WIRE_REPLY_BIT)
        return "the type is a reply's";
    if (!is_known(request->type))
        return NULL;
    if (zero != 0)
        return "the header's last four bytes are not zero";
    if (request->flags & ~(is_lookup(request->type) ? WIRE_FLAG_ORIGIN | WIRE_FLAG_AGE : 0))
        return "a flag that this type does not have";
    if (request->type == WIRE_HELLO)
        return request->frame_bytes < WIRE_REQUEST_HEADER_BYTES + WIRE_HELLO_BYTES ||
                       request->frame_bytes > wire_request_bytes(WIRE_HELLO, 0, WIRE_TOKEN_BYTES_MAX)
                   ? "a hello of impossible size"
                   : NULL;
    if ((request->count == 0) != (wire_entry_bytes(request->type) == 0))
        return request->count == 0 ? "count is 0" : "count is not 0";
    if (request->frame_bytes != wire_request_bytes(request->type, request->flags, request->count))
        return "frame_bytes does not fit type, flags and count";
    return NULL;
}

static const char *decode_hello(const uint8_t *body, struct wire_request *request)
{
    if (memcmp(body, WIRE_MAGIC, 4) != 0)
        return "the hello's magic is wrong: not a client of numberd?";
    request->version_min = wire_get_u16(body + 4);
    request->version_max = wire_get_u16(body + 6);
    request->token_bytes = wire_get_u16(body + 8);
    request->token = body + WIRE_HELLO_BYTES;
    if (request->frame_bytes != wire_request_bytes(WIRE_HELLO, 0, request->token_bytes))
        return "frame_bytes does not fit the token's length";
    if (wire_get_u16(body + 10) != 0 || request->count != 0)
        return "a reserved field of the hello is not zero";
    if (request->version_min > request->version_max)
        return "the hello's version range is empty";
    return NULL;
}

enum wire_state wire_decode_request(const uint8_t *bytes, size_t length, struct wire_request *request)
{
    if (length < WIRE_REQUEST_HEADER_BYTES)
        return WIRE_INCOMPLETE;
    *request = (struct wire_request){.frame_bytes = wire_get_u32(bytes),
                                     .type = bytes[4],
                                     .flags = bytes[5],
                                     .count = wire_get_u16(bytes + 6),
                                     .request_id = wire_get_u32(bytes + 8)};
    request->reason = header_fault(request, wire_get_u32(bytes + 12));
    if (request->reason != NULL)
        return WIRE_MALFORMED;
    if (length < request->frame_bytes)
        return WIRE_INCOMPLETE;
    const uint8_t *body = bytes + WIRE_REQUEST_HEADER_BYTES;
    if (request->type == WIRE_HELLO) {
        request->reason = decode_hello(body, request);
        return request->reason == NULL ? WIRE_DONE : WIRE_MALFORMED;
    }
    if (is_lookup(request->type) && request->flags & WIRE_FLAG_ORIGIN) {
        request->origin.requester = wire_get_u64(body);
        memcpy(request->origin.ip, body + 8, sizeof request->origin.ip);
        body += WIRE_ORIGIN_BYTES;
    }
    request->entries = body;
    return WIRE_DONE;
}

static void put_request_header(uint8_t *bytes, uint32_t frame_bytes, uint8_t type, uint8_t flags,
                               uint32_t request_id, uint16_t count)
{
    wire_put_u32(bytes, frame_bytes);
    bytes[4] = type;
    bytes[5] = flags;
    wire_put_u16(bytes + 6, count);
    wire_put_u32(bytes + 8, request_id);
    wire_put_u32(bytes + 12, 0);
}

uint32_t wire_encode_hello(uint8_t *bytes, uint32_t request_id, const char *token, uint16_t token_bytes)
{
    uint32_t frame_bytes = wire_request_bytes(WIRE_HELLO, 0, token_bytes);
    put_request_header(bytes, frame_bytes, WIRE_HELLO, 0, request_id, 0);
    uint8_t *body = bytes + WIRE_REQUEST_HEADER_BYTES;
    memcpy(body, WIRE_MAGIC, 4);
    wire_put_u16(body + 4, WIRE_VERSION);
    wire_put_u16(body + 6, WIRE_VERSION);
    wire_put_u16(body + 8, token_bytes);
    wire_put_u16(body + 10, 0);
    if (token_bytes > 0)
        memcpy(body + WIRE_HELLO_BYTES, token, token_bytes);
    return frame_bytes;
}

uint32_t wire_encode_header(uint8_t *bytes, uint8_t type, uint8_t flags, uint32_t request_id, uint16_t count)
{
    uint32_t frame_bytes = wire_request_bytes(type, flags, count);
    put_request_header(bytes, frame_bytes, type, flags, request_id, count);
    return frame_bytes;
}

uint32_t wire_encode_plain(uint8_t *bytes, uint8_t type, uint32_t request_id)
{
    return wire_encode_header(bytes, type, 0, request_id, 0);
}

uint32_t wire_encode_numbers(uint8_t *bytes, uint8_t type, uint32_t request_id,
                             const struct wire_origin *origin, const uint64_t *numbers, uint16_t count)
{
    uint8_t flags = origin == NULL ? 0 : WIRE_FLAG_ORIGIN;
    uint32_t frame_bytes = wire_encode_header(bytes, type, flags, request_id, count);
    uint8_t *body = bytes + WIRE_REQUEST_HEADER_BYTES;
    if (origin != NULL) {
        wire_put_u64(body, origin->requester);
        memcpy(body + 8, origin->ip, sizeof origin->ip);
        body += WIRE_ORIGIN_BYTES;
    }
    for (size_t i = 0; i < count; i++)
        wire_put_u64(body + i * WIRE_NUMBER_BYTES, numbers[i]);
    return frame_bytes;
}

void wire_put_register_entry(uint8_t *bytes, uint64_t number, uint64_t account, uint8_t flags)
{
    wire_put_u64(bytes, number);
    wire_put_u64(bytes + 8, account);
    wire_put_u64(bytes + 16, flags); /* the flags' byte and seven zero bytes */
}

/* --- replies --- */

void wire_encode_reply_header(uint8_t *bytes, const struct wire_reply *reply)
{
    wire_put_u32(bytes, WIRE_REPLY_HEADER_BYTES + reply->body_bytes);
    bytes[4] = reply->type;
    bytes[5] = reply->code;
    wire_put_u16(bytes + 6, reply->count);
    wire_put_u32(bytes + 8, reply->request_id);
    wire_put_u32(bytes + 12, reply->quota_left);
    wire_put_u32(bytes + 16, reply->retry_after_ms);
    wire_put_u32(bytes + 20, reply->cache_seconds);
}

enum wire_state wire_decode_reply(const uint8_t *bytes, size_t length, struct wire_reply *reply)
{
    if (length < WIRE_REPLY_HEADER_BYTES)
        return WIRE_INCOMPLETE;
    *reply = (struct wire_reply){.frame_bytes = wire_get_u32(bytes),
                                 .type = bytes[4],
                                 .code = bytes[5],
                                 .count = wire_get_u16(bytes + 6),
                                 .request_id = wire_get_u32(bytes + 8),
                                 .quota_left = wire_get_u32(bytes + 12),
                                 .retry_after_ms = wire_get_u32(bytes + 16),
                                 .cache_seconds = wire_get_u32(bytes + 20)};
    if (reply->frame_bytes < WIRE_REPLY_HEADER_BYTES || reply->frame_bytes > WIRE_REPLY_BYTES_MAX ||
        !(reply->type & WIRE_REPLY_BIT))
        return WIRE_MALFORMED;
    reply->body = bytes + WIRE_REPLY_HEADER_BYTES;
    reply->body_bytes = reply->frame_bytes - WIRE_REPLY_HEADER_BYTES;
    if (reply->code == WIRE_OK && reply->type != (WIRE_HELLO | WIRE_REPLY_BIT) && reply->count > 0) {
        uint32_t entry = reply->type == (WIRE_LOOKUP_RECORDS | WIRE_REPLY_BIT) ? WIRE_RECORD_BYTES : 1;
        bool may_have_age = is_lookup(reply->type & (uint8_t)~WIRE_REPLY_BIT);
        if (reply->body_bytes != reply->count * entry &&
            !(may_have_age && reply->body_bytes == reply->count * entry + WIRE_AGE_BYTES))
            return WIRE_MALFORMED;
    }
    return length < reply->frame_bytes ? WIRE_INCOMPLETE : WIRE_DONE;
}

void wire_put_hello_reply(uint8_t *bytes, const struct wire_hello_reply *hello)
{
    wire_put_u16(bytes, hello->version);
    wire_put_u16(bytes + 2, 0);
    wire_put_u32(bytes + 4, hello->count_max);
    wire_put_u32(bytes + 8, hello->request_bytes_max);
    wire_put_u32(bytes + 12, 0);
}

bool wire_get_hello_reply(const struct wire_reply *reply, struct wire_hello_reply *hello)
{
    if (reply->body_bytes < WIRE_HELLO_REPLY_BYTES)
        return false;
    *hello = (struct wire_hello_reply){.version = wire_get_u16(reply->body),
                                       .count_max = wire_get_u32(reply->body + 4),
                                       .request_bytes_max = wire_get_u32(reply->body + 8)};
    return true;
}
