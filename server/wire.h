/* The binary protocol's frames: sizes, codes, encoders and decoders. PROTOCOL.md is the specification; this
 * header names what it names.
 *
 * All functions are pure: they look at (bytes, length) and nothing else, allocate nothing, and may be called
 * from any thread. Pointers in a decoded frame lead into the caller's bytes. Bytes need no alignment. */
#ifndef NUMBERD_SERVER_WIRE_H
#define NUMBERD_SERVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1
#define WIRE_MAGIC "NMBR"
#define WIRE_PORT_DEFAULT 4164
#define WIRE_REQUEST_HEADER_BYTES 16u
#define WIRE_REPLY_HEADER_BYTES 24u
#define WIRE_ORIGIN_BYTES 24u
#define WIRE_HELLO_BYTES 12u
#define WIRE_HELLO_REPLY_BYTES 16u
#define WIRE_TOKEN_BYTES_MAX 255u
#define WIRE_NUMBER_BYTES 8u
#define WIRE_REGISTER_BYTES 24u
#define WIRE_MOVE_BYTES 16u
#define WIRE_RECORD_BYTES 16u
#define WIRE_COUNT_MAX 65535u
/* The longest request: a full batch to register. */
#define WIRE_REQUEST_BYTES_MAX (WIRE_REQUEST_HEADER_BYTES + WIRE_COUNT_MAX * WIRE_REGISTER_BYTES)
/* The longest reply: a full batch of records, or a text. */
#define WIRE_REPLY_BYTES_MAX (WIRE_REPLY_HEADER_BYTES + WIRE_COUNT_MAX * WIRE_RECORD_BYTES)
#define WIRE_QUOTA_UNLIMITED UINT32_MAX

enum wire_type {
    WIRE_HELLO = 0x01,
    WIRE_LOOKUP = 0x02,
    WIRE_LOOKUP_RECORDS = 0x03,
    WIRE_REGISTER = 0x04,
    WIRE_DEREGISTER = 0x05,
    WIRE_MOVE = 0x06,
    WIRE_PING = 0x07,
    WIRE_STATS = 0x08,
    WIRE_SNAPSHOT = 0x09,
    WIRE_GOODBYE = 0x0a,
    WIRE_REPLACE_ALL = 0x0b,
    WIRE_MAP = 0x0c,
    WIRE_REPLY_BIT = 0x80
};

/* A lookup with this flag begins with an origin: requester and IP on whose behalf is asked. */
#define WIRE_FLAG_ORIGIN UINT8_C(0x01)
#define WIRE_FLAG_AGE                                                                                        \
    UINT8_C(0x02) /* of a lookup: the reply's body ends with the answers' age, WIRE_AGE_BYTES */
#define WIRE_AGE_BYTES 4u
#define WIRE_ELSEWHERE_BYTES 8u /* the body of such a reply: the map's version */

/* Reply codes: value, name, meaning for people. */
#define WIRE_CODES(X)                                                                                        \
    X(WIRE_OK, 0, "ok")                                                                                      \
    X(WIRE_BAD_FRAME, 1, "the frame is malformed; the connection is closed")                                 \
    X(WIRE_HELLO_EXPECTED, 2, "the first frame must be a hello; the connection is closed")                   \
    X(WIRE_VERSION_UNSUPPORTED, 3, "no common protocol version; the connection is closed")                   \
    X(WIRE_UNAUTHORIZED, 4, "the token is missing or unknown; the connection is closed")                     \
    X(WIRE_UNKNOWN_TYPE, 5, "this server does not know the request's type")                                  \
    X(WIRE_UNAVAILABLE, 6, "the server cannot do this now; try again in a moment")                           \
    X(WIRE_NOT_READY, 7, "the server is starting; try again in a moment")                                    \
    X(WIRE_READ_ONLY, 8, "the server takes no registrations now")                                            \
    X(WIRE_GOING_AWAY, 9, "the server is stopping; reconnect elsewhere or later")                            \
    X(WIRE_INTERNAL, 10, "the server failed; nothing of the request was done")                               \
    X(WIRE_FORBIDDEN, 11, "the token does not allow this request")                                           \
    X(WIRE_ELSEWHERE, 12, "a number is in a partition that this server does not hold; ask for the map")

enum wire_code {
#define X(name, value, text) name = value,
    WIRE_CODES(X)
#undef X
};

/* Status of one number in a reply. */
#define WIRE_STATUSES(X)                                                                                     \
    X(WIRE_NOT_REGISTERED, 0x00, "not registered")                                                           \
    X(WIRE_REGISTERED, 0x01, "registered")                                                                   \
    X(WIRE_INVALID, 0x02, "invalid")                                                                         \
    X(WIRE_LIMITED, 0x03, "limited")                                                                         \
    X(WIRE_ADDED, 0x10, "added")                                                                             \
    X(WIRE_REPLACED, 0x11, "replaced")                                                                       \
    X(WIRE_REMOVED, 0x12, "removed")                                                                         \
    X(WIRE_MOVED, 0x13, "moved")                                                                             \
    X(WIRE_ABSENT, 0x14, "absent")                                                                           \
    X(WIRE_OCCUPIED, 0x15, "occupied")                                                                       \
    X(WIRE_REFUSED, 0x16, "refused")

enum wire_status {
#define X(name, value, text) name = value,
    WIRE_STATUSES(X)
#undef X
};

/* Phrases from the lists above; "unknown" for any other value. */
const char *wire_code_text(uint8_t code);
const char *wire_status_text(uint8_t status);

enum wire_state { WIRE_DONE, WIRE_INCOMPLETE, WIRE_MALFORMED };

struct wire_origin {
    uint64_t requester;
    uint8_t ip[16]; /* IPv4 as ::ffff:a.b.c.d */
};

struct wire_request {
    uint32_t frame_bytes;
    uint8_t type; /* may be one that enum wire_type does not have: then only the header was looked at */
    uint8_t flags;
    uint16_t count;
    uint32_t request_id;
    struct wire_origin origin; /* with WIRE_FLAG_ORIGIN */
    const uint8_t *entries;    /* count entries of the type's size */
    /* WIRE_HELLO only */
    uint16_t version_min;
    uint16_t version_max;
    const uint8_t *token;
    uint16_t token_bytes;
    /* WIRE_MALFORMED only: what is wrong */
    const char *reason;
};

struct wire_reply {
    uint32_t frame_bytes; /* set by decode; encode computes it from body_bytes */
    uint8_t type;         /* with WIRE_REPLY_BIT */
    uint8_t code;
    uint16_t count;
    uint32_t request_id;
    uint32_t quota_left;
    uint32_t retry_after_ms;
    uint32_t cache_seconds;
    const uint8_t *body;
    uint32_t body_bytes;
};

struct wire_hello_reply {
    uint16_t version;
    uint32_t count_max;
    uint32_t request_bytes_max;
};

/* --- integers, little-endian --- */

static inline uint16_t wire_get_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static inline uint32_t wire_get_u32(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline uint64_t wire_get_u64(const uint8_t *bytes)
{
    return wire_get_u32(bytes) | (uint64_t)wire_get_u32(bytes + 4) << 32;
}

static inline void wire_put_u16(uint8_t *bytes, uint16_t value)
{
    bytes[0] = (uint8_t)value;
    bytes[1] = (uint8_t)(value >> 8);
}

static inline void wire_put_u32(uint8_t *bytes, uint32_t value)
{
    wire_put_u16(bytes, (uint16_t)value);
    wire_put_u16(bytes + 2, (uint16_t)(value >> 16));
}

static inline void wire_put_u64(uint8_t *bytes, uint64_t value)
{
    wire_put_u32(bytes, (uint32_t)value);
    wire_put_u32(bytes + 4, (uint32_t)(value >> 32));
}

/* --- requests --- */

/* Judges the frame at the start of the bytes. WIRE_MALFORMED comes as early as the header can show it. */
enum wire_state wire_decode_request(const uint8_t *bytes, size_t length, struct wire_request *request);

/* Bytes of one entry in a request of this type; 0 when the type has none. */
uint32_t wire_entry_bytes(uint8_t type);

/* The whole frame's size. For WIRE_HELLO `count` is the token's length. */
uint32_t wire_request_bytes(uint8_t type, uint8_t flags, uint32_t count);

/* REGISTER, DEREGISTER, MOVE. */
static inline bool wire_is_update(uint8_t type)
{
    return type >= WIRE_REGISTER && type <= WIRE_MOVE;
}

/* Each encoder writes wire_request_bytes(...) bytes and returns that size. */
uint32_t wire_encode_hello(uint8_t *bytes, uint32_t request_id, const char *token, uint16_t token_bytes);
/* A request without entries: ping, stats, snapshot, goodbye, replace all, map. */
uint32_t wire_encode_plain(uint8_t *bytes, uint8_t type, uint32_t request_id);
/* Lookup, lookup with records, deregister. `origin` may be NULL; only lookups take one. */
uint32_t wire_encode_numbers(uint8_t *bytes, uint8_t type, uint32_t request_id,
                             const struct wire_origin *origin, const uint64_t *numbers, uint16_t count);
/* The header of a register or move; the caller then puts the entries. */
uint32_t wire_encode_header(uint8_t *bytes, uint8_t type, uint8_t flags, uint32_t request_id, uint16_t count);
void wire_put_register_entry(uint8_t *bytes, uint64_t number, uint64_t account, uint8_t flags);

/* --- replies --- */

/* Writes the header for a body of `reply->body_bytes`; the caller puts the body behind it. */
void wire_encode_reply_header(uint8_t *bytes, const struct wire_reply *reply);

enum wire_state wire_decode_reply(const uint8_t *bytes, size_t length, struct wire_reply *reply);

void wire_put_hello_reply(uint8_t *bytes, const struct wire_hello_reply *hello);
/* False when the body is too short. */
bool wire_get_hello_reply(const struct wire_reply *reply, struct wire_hello_reply *hello);

#endif
