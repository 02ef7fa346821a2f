/* Fuzz target: any bytes as a request and as a reply. A decoder answers the same for more bytes as soon as it has answered:
 * before that every prefix is incomplete; what it points at lies inside the frame; and the encoders make the same bytes of it
 * again. Nothing is allocated, and what lies behind a prefix is poisoned, so that AddressSanitizer sees a read beyond it. */
#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "server/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A hello with the longest token, and lookups and registrations with some entries. Longer inputs have nothing that is new to
 * functions that see a frame's header and its length. */
#define INPUT_BYTES_MAX 320u
#define NUMBERS_MAX (INPUT_BYTES_MAX / WIRE_NUMBER_BYTES)
/* All prefixes as far as any header reaches, and one in so many beyond. */
#define EACH_PREFIX_BYTES 32u
#define PREFIX_STEP 16u
/* Of so many inputs one is cut everywhere, the others once: cutting takes most of the time, and the next mutation may well be the
 * one that is cut. */
#define CUT_EVERYWHERE_IN 8u

static uint8_t input[INPUT_BYTES_MAX];

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* --- prefixes: from long to short, so that only what was cut off has to be poisoned --- */

/* Where the inputs are cut, by their content. */
static uint8_t content;

static size_t next_prefix(size_t length)
{
    if (content % CUT_EVERYWHERE_IN != 0)
        return (size_t)content * length / 256;
    return length > EACH_PREFIX_BYTES + PREFIX_STEP ? length - PREFIX_STEP : length - 1;
}

/* `final` is the answer for the whole input, and came for a frame of `frame_bytes`, if it is WIRE_DONE. */
static void check_prefix(enum wire_state state, enum wire_state final, size_t length, size_t frame_bytes,
                         bool *is_incomplete)
{
    expect(state == final || state == WIRE_INCOMPLETE);
    expect(state == WIRE_INCOMPLETE || !*is_incomplete);
    *is_incomplete = state == WIRE_INCOMPLETE;
    if (final == WIRE_DONE)
        expect(*is_incomplete == (length < frame_bytes));
}

static void check_request_prefixes(size_t size, enum wire_state final, size_t frame_bytes)
{
    struct wire_request request;
    bool is_incomplete = final == WIRE_INCOMPLETE;
    for (size_t end = size; end > 0;) {
        size_t length = next_prefix(end);
        ASAN_POISON_MEMORY_REGION(input + length, end - length);
        end = length;
        check_prefix(wire_decode_request(input, length, &request), final, length, frame_bytes,
                     &is_incomplete);
    }
    ASAN_UNPOISON_MEMORY_REGION(input, sizeof input);
}

static void check_reply_prefixes(size_t size, enum wire_state final, size_t frame_bytes)
{
    struct wire_reply reply;
    bool is_incomplete = final == WIRE_INCOMPLETE;
    for (size_t end = size; end > 0;) {
        size_t length = next_prefix(end);
        ASAN_POISON_MEMORY_REGION(input + length, end - length);
        end = length;
        check_prefix(wire_decode_reply(input, length, &reply), final, length, frame_bytes, &is_incomplete);
    }
    ASAN_UNPOISON_MEMORY_REGION(input, sizeof input);
}

/* --- requests --- */

static bool is_lookup(uint8_t type)
{
    return type == WIRE_LOOKUP || type == WIRE_LOOKUP_RECORDS;
}

static void check_hello(const struct wire_request *request)
{
    uint8_t again[INPUT_BYTES_MAX];
    expect(request->token_bytes <= WIRE_TOKEN_BYTES_MAX && request->version_min <= request->version_max);
    expect(request->token + request->token_bytes == input + request->frame_bytes);
    if (request->version_min != WIRE_VERSION || request->version_max != WIRE_VERSION)
        return; /* the encoder speaks this version alone */
    expect(wire_encode_hello(again, request->request_id, (const char *)request->token,
                             request->token_bytes) == request->frame_bytes);
    expect(memcmp(again, input, request->frame_bytes) == 0);
}

/* Makes the frame again of what was decoded; its bytes. */
static uint32_t encode(const struct wire_request *request, uint8_t *again)
{
    uint64_t numbers[NUMBERS_MAX];
    uint32_t entry_bytes = wire_entry_bytes(request->type);
    if (entry_bytes == 0)
        return wire_encode_plain(again, request->type, request->request_id);
    if (entry_bytes == WIRE_NUMBER_BYTES) {
        for (uint32_t i = 0; i < request->count; i++)
            numbers[i] = wire_get_u64(request->entries + (size_t)i * WIRE_NUMBER_BYTES);
        uint32_t length = wire_encode_numbers(again, request->type, request->request_id,
                                              request->flags & WIRE_FLAG_ORIGIN ? &request->origin : NULL,
                                              numbers, request->count);
        again[5] |= request->flags & WIRE_FLAG_AGE; /* which no encoder asks for */
        return length;
    }
    uint32_t bytes =
        wire_encode_header(again, request->type, request->flags, request->request_id, request->count);
    memcpy(again + WIRE_REQUEST_HEADER_BYTES, request->entries, (size_t)request->count * entry_bytes);
    return bytes;
}

static void check_done_request(const struct wire_request *request, size_t size)
{
    uint8_t again[INPUT_BYTES_MAX];
    expect(request->reason == NULL && request->frame_bytes <= size);
    expect((request->type & WIRE_REPLY_BIT) == 0);
    if (request->type == WIRE_HELLO) {
        check_hello(request);
        return;
    }
    expect(request->entries >= input + WIRE_REQUEST_HEADER_BYTES &&
           request->entries <= input + request->frame_bytes);
    if (request->type < WIRE_HELLO || request->type > WIRE_MAP)
        return; /* of a type to come: only its length is known */
    uint32_t entry_bytes = wire_entry_bytes(request->type);
    expect((request->count == 0) == (entry_bytes == 0));
    expect(request->entries + (size_t)request->count * entry_bytes == input + request->frame_bytes);
    expect(is_lookup(request->type) || request->flags == 0);
    expect(encode(request, again) == request->frame_bytes && memcmp(again, input, request->frame_bytes) == 0);
}

static void check_request(size_t size)
{
    struct wire_request request = {0};
    enum wire_state state = wire_decode_request(input, size, &request);
    if (state == WIRE_DONE)
        check_done_request(&request, size);
    if (state == WIRE_MALFORMED)
        expect(request.reason != NULL);
    check_request_prefixes(size, state, request.frame_bytes);
}

/* --- replies --- */

static void check_done_reply(const struct wire_reply *reply, size_t size)
{
    uint8_t header[WIRE_REPLY_HEADER_BYTES];
    struct wire_hello_reply hello;
    struct wire_hello_reply hello_again;
    uint8_t body[WIRE_HELLO_REPLY_BYTES];
    expect(reply->frame_bytes <= size && (reply->type & WIRE_REPLY_BIT) != 0);
    expect(reply->body == input + WIRE_REPLY_HEADER_BYTES &&
           reply->body + reply->body_bytes == input + reply->frame_bytes);
    wire_encode_reply_header(header, reply);
    expect(memcmp(header, input, sizeof header) == 0);
    if (!wire_get_hello_reply(reply, &hello)) {
        expect(reply->body_bytes < WIRE_HELLO_REPLY_BYTES);
        return;
    }
    wire_put_hello_reply(body, &hello);
    struct wire_reply again = {.body = body, .body_bytes = sizeof body};
    expect(wire_get_hello_reply(&again, &hello_again) && hello.version == hello_again.version &&
           hello.count_max == hello_again.count_max &&
           hello.request_bytes_max == hello_again.request_bytes_max);
}

static void check_reply(size_t size)
{
    struct wire_reply reply = {0};
    enum wire_state state = wire_decode_reply(input, size, &reply);
    if (state == WIRE_DONE)
        check_done_reply(&reply, size);
    check_reply_prefixes(size, state, reply.frame_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > sizeof input)
        return -1;
    memcpy(input, data, size);
    content = 0;
    for (size_t i = 0; i < size; i++)
        content = (uint8_t)(content * 31u + input[i]);
    ASAN_POISON_MEMORY_REGION(input + size, sizeof input - size);
    /* A frame is a request or a reply, by its type: the other decoder refuses it, or has unknown types to skip. */
    check_request(size);
    ASAN_POISON_MEMORY_REGION(input + size, sizeof input - size);
    check_reply(size);
    return 0;
}
