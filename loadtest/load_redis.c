/* Redis, numbers in one set or as keys; see load_dialect.h. The protocol: RESP2. */
#include "load_dialect.h"
#include "load_text.h"

/* "$12\r\n" and "\r\n". */
#define ELEMENT_BYTES (LOAD_DIGITS_MAX + 1 + 2 + 2 + 2)
#define COUNT_MAX 8192

static size_t request_bytes(const struct load_asked *asked)
{
    return 64 + (size_t)asked->count * (ELEMENT_BYTES + sizeof "$1\r\n1\r\n");
}

static uint8_t *put_head(uint8_t *at, uint64_t elements)
{
    *at++ = '*';
    at = load_put_number(at, elements, load_digits(elements));
    return load_put_text(at, "\r\n", 2);
}

static uint8_t *put_element(uint8_t *at, uint64_t number)
{
    unsigned digits = load_digits(number);
    *at++ = '$';
    at = load_put_number(at, digits, load_digits(digits));
    at = load_put_text(at, "\r\n", 2);
    at = load_put_number(at, number, digits);
    return load_put_text(at, "\r\n", 2);
}

#define PUT(at, text) load_put_text(at, text, sizeof(text) - 1)

static size_t encode_set(uint8_t *room, const struct load_asked *asked)
{
    uint8_t *at = put_head(room, 2 + (uint64_t)asked->count);
    at = asked->accounts == NULL ? PUT(at, "$10\r\nSMISMEMBER\r\n") : PUT(at, "$4\r\nSADD\r\n");
    at = PUT(at, "$7\r\nnumbers\r\n");
    for (unsigned i = 0; i < asked->count; i++)
        at = put_element(at, asked->numbers[i]);
    return (size_t)(at - room);
}

static size_t encode_keys(uint8_t *room, const struct load_asked *asked)
{
    bool registers = asked->accounts != NULL;
    uint8_t *at = put_head(room, 1 + (uint64_t)asked->count * (registers ? 2 : 1));
    at = registers ? PUT(at, "$4\r\nMSET\r\n") : PUT(at, "$4\r\nMGET\r\n");
    for (unsigned i = 0; i < asked->count; i++) {
        at = put_element(at, asked->numbers[i]);
        if (registers)
            at = PUT(at, "$1\r\n1\r\n");
    }
    return (size_t)(at - room);
}

/* "-LOADING ...\r\n" and the like. */
static enum wire_state decode_error(struct load_cursor *cursor, const uint8_t *bytes,
                                    struct load_answer *answer)
{
    const uint8_t *end = memchr(cursor->at, '\n', (size_t)(cursor->end - cursor->at));
    if (end == NULL)
        return WIRE_INCOMPLETE;
    answer->kind = LOAD_REFUSED;
    answer->count = 0;
    answer->bytes = (size_t)(end + 1 - bytes);
    return WIRE_DONE;
}

/* The head of an array with an element for each number. */
static bool take_head(struct load_cursor *cursor, const struct load_asked *asked)
{
    uint64_t elements;
    return load_take_text(cursor, "*", 1) && load_take_number(cursor, '\r', &elements) &&
           load_take_text(cursor, "\n", 1) && (elements == asked->count || load_stop(cursor, WIRE_MALFORMED));
}

/* ":1\r\n" or ":0\r\n". */
static bool take_membership(struct load_cursor *cursor, uint8_t *status)
{
    if (cursor->end - cursor->at < 4)
        return load_stop(cursor, WIRE_INCOMPLETE);
    if (cursor->at[0] != ':' || (cursor->at[1] | 1) != '1')
        return load_stop(cursor, WIRE_MALFORMED);
    *status = cursor->at[1] == '1' ? WIRE_REGISTERED : WIRE_NOT_REGISTERED;
    cursor->at += 4;
    return true;
}

/* "$1\r\n1\r\n" or "$-1\r\n". */
static bool take_value(struct load_cursor *cursor, uint8_t *status)
{
    if (cursor->end - cursor->at < 5)
        return load_stop(cursor, WIRE_INCOMPLETE);
    *status = cursor->at[1] == '-' ? WIRE_NOT_REGISTERED : WIRE_REGISTERED;
    return *status == WIRE_REGISTERED ? load_take_text(cursor, "$1\r\n1\r\n", 7)
                                      : load_take_text(cursor, "$-1\r\n", 5);
}

static bool take_each(struct load_cursor *cursor, const struct load_asked *asked, uint8_t *room,
                      bool (*take)(struct load_cursor *cursor, uint8_t *status))
{
    bool good = take_head(cursor, asked);
    for (unsigned i = 0; i < asked->count && good; i++)
        good = take(cursor, &room[i]);
    return good;
}

/* SADD says how many were new, not which. */
static bool take_added(struct load_cursor *cursor, const struct load_asked *asked, uint8_t *room)
{
    uint64_t added;
    if (!load_take_text(cursor, ":", 1) || !load_take_number(cursor, '\r', &added) ||
        !load_take_text(cursor, "\n", 1))
        return false;
    for (unsigned i = 0; i < asked->count; i++)
        room[i] = i < added ? WIRE_ADDED : WIRE_REPLACED;
    return true;
}

static enum wire_state decode_set(const uint8_t *bytes, size_t length, const struct load_asked *asked,
                                  struct load_answer *answer)
{
    struct load_cursor cursor = {bytes, bytes + length, WIRE_DONE};
    if (length > 0 && bytes[0] == '-')
        return decode_error(&cursor, bytes, answer);
    bool good = asked->accounts == NULL ? take_each(&cursor, asked, answer->room, take_membership)
                                        : take_added(&cursor, asked, answer->room);
    return good ? load_answered(&cursor, bytes, asked, answer) : cursor.state;
}

/* MSET does not say which were new. */
static enum wire_state decode_keys(const uint8_t *bytes, size_t length, const struct load_asked *asked,
                                   struct load_answer *answer)
{
    struct load_cursor cursor = {bytes, bytes + length, WIRE_DONE};
    if (length > 0 && bytes[0] == '-')
        return decode_error(&cursor, bytes, answer);
    if (asked->accounts != NULL)
        memset(answer->room, WIRE_ADDED, asked->count);
    bool good = asked->accounts == NULL ? take_each(&cursor, asked, answer->room, take_value)
                                        : load_take_text(&cursor, "+OK\r\n", 5);
    return good ? load_answered(&cursor, bytes, asked, answer) : cursor.state;
}

const struct load_dialect load_redis_set = {.name = "redis-set",
                                            .port = 6379,
                                            .count_max = COUNT_MAX,
                                            .answers = true,
                                            .request_bytes = request_bytes,
                                            .encode = encode_set,
                                            .decode = decode_set};
const struct load_dialect load_redis_keys = {.name = "redis-keys",
                                             .port = 6379,
                                             .count_max = COUNT_MAX,
                                             .answers = true,
                                             .request_bytes = request_bytes,
                                             .encode = encode_keys,
                                             .decode = decode_keys};
