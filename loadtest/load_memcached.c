/* memcached, numbers as keys; see load_dialect.h. The protocol: its text one. A reply to get has what is there, in the order of the keys. */
#include "load_dialect.h"
#include "load_text.h"

#define COUNT_MAX 8192

static const char behind_key[] = " 0 0 1\r\n1\r\n"; /* of a set: flags, time, bytes, and the value */
static const char behind_value_key[] = "0 1\r\n1\r\n";

static size_t request_bytes(const struct load_asked *asked)
{
    return 16 + (size_t)asked->count * (sizeof "set " + LOAD_DIGITS_MAX + sizeof behind_key);
}

static size_t encode(uint8_t *room, const struct load_asked *asked)
{
    uint8_t *at = room;
    if (asked->accounts == NULL)
        at = load_put_text(at, "get", 3);
    for (unsigned i = 0; i < asked->count; i++) {
        at = asked->accounts == NULL ? load_put_text(at, " ", 1) : load_put_text(at, "set ", 4);
        at = load_put_number(at, asked->numbers[i], load_digits(asked->numbers[i]));
        if (asked->accounts != NULL)
            at = load_put_text(at, behind_key, sizeof behind_key - 1);
    }
    if (asked->accounts == NULL)
        at = load_put_text(at, "\r\n", 2);
    return (size_t)(at - room);
}

/* The values up to END; those between are not there. */
static bool take_values(struct load_cursor *cursor, const struct load_asked *asked, uint8_t *room)
{
    unsigned next = 0;
    uint64_t number;
    memset(room, WIRE_NOT_REGISTERED, asked->count);
    while (cursor->at < cursor->end && *cursor->at == 'V') {
        if (!load_take_text(cursor, "VALUE ", 6) || !load_take_number(cursor, ' ', &number) ||
            !load_take_text(cursor, behind_value_key, sizeof behind_value_key - 1))
            return false;
        while (next < asked->count && asked->numbers[next] != number)
            next++;
        if (next == asked->count)
            return load_stop(cursor, WIRE_MALFORMED);
        room[next++] = WIRE_REGISTERED;
    }
    return load_take_text(cursor, "END\r\n", 5);
}

static bool take_stored(struct load_cursor *cursor, const struct load_asked *asked, uint8_t *room)
{
    memset(room, WIRE_ADDED, asked->count);
    for (unsigned i = 0; i < asked->count; i++)
        if (!load_take_text(cursor, "STORED\r\n", 8))
            return false;
    return true;
}

static enum wire_state decode(const uint8_t *bytes, size_t length, const struct load_asked *asked,
                              struct load_answer *answer)
{
    struct load_cursor cursor = {bytes, bytes + length, WIRE_DONE};
    bool good = asked->accounts == NULL ? take_values(&cursor, asked, answer->room)
                                        : take_stored(&cursor, asked, answer->room);
    return good ? load_answered(&cursor, bytes, asked, answer) : cursor.state;
}

const struct load_dialect load_memcached = {.name = "memcached",
                                            .port = 11211,
                                            .count_max = COUNT_MAX,
                                            .answers = true,
                                            .request_bytes = request_bytes,
                                            .encode = encode,
                                            .decode = decode};
