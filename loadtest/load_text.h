/* Decimal numbers in the peers' text protocols, and reading their replies. */
#ifndef NUMBERD_LOADTEST_LOAD_TEXT_H
#define NUMBERD_LOADTEST_LOAD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "load_dialect.h"

#define LOAD_DIGITS_MAX 20

static inline unsigned load_digits(uint64_t value)
{
    unsigned digits = 1;
    for (; value >= 10; value /= 10)
        digits++;
    return digits;
}

/* Writes its digits and returns behind them. */
static inline uint8_t *load_put_number(uint8_t *at, uint64_t value, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; value /= 10)
        at[i] = (uint8_t)('0' + value % 10);
    return at + digits;
}

static inline uint8_t *load_put_text(uint8_t *at, const char *text, size_t bytes)
{
    memcpy(at, text, bytes);
    return at + bytes;
}

/* What is left of a reply while it is read; `state` says why something could not be taken. */
struct load_cursor {
    const uint8_t *at;
    const uint8_t *end;
    enum wire_state state;
};

static inline bool load_stop(struct load_cursor *cursor, enum wire_state state)
{
    cursor->state = state;
    return false;
}

/* The bytes taken so far are the reply, the statuses are in the answer's room. */
static inline enum wire_state load_answered(const struct load_cursor *cursor, const uint8_t *bytes,
                                            const struct load_asked *asked, struct load_answer *answer)
{
    answer->kind = LOAD_ANSWERED;
    answer->bytes = (size_t)(cursor->at - bytes);
    answer->count = asked->count;
    answer->statuses = answer->room;
    return WIRE_DONE;
}

/* Takes these bytes. */
static inline bool load_take_text(struct load_cursor *cursor, const char *text, size_t bytes)
{
    size_t there = (size_t)(cursor->end - cursor->at);
    if (memcmp(cursor->at, text, there < bytes ? there : bytes) != 0)
        return load_stop(cursor, WIRE_MALFORMED);
    if (there < bytes)
        return load_stop(cursor, WIRE_INCOMPLETE);
    cursor->at += bytes;
    return true;
}

/* Takes a number and the byte behind it. */
static inline bool load_take_number(struct load_cursor *cursor, uint8_t behind, uint64_t *value)
{
    const uint8_t *at = cursor->at;
    for (*value = 0; at < cursor->end && (unsigned)(*at - '0') < 10; at++)
        *value = *value * 10 + (uint64_t)(*at - '0');
    if (at - cursor->at >= LOAD_DIGITS_MAX)
        return load_stop(cursor, WIRE_MALFORMED);
    if (at == cursor->end)
        return load_stop(cursor, WIRE_INCOMPLETE);
    if (at == cursor->at || *at != behind)
        return load_stop(cursor, WIRE_MALFORMED);
    cursor->at = at + 1;
    return true;
}

#endif
