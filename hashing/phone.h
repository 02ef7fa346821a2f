/* E.164 numbers as text and as 50-bit keys.
 *
 * Text: an optional '+', then 6 to 15 ASCII digits, the first of which is not 0 and which begin with a
 * country code that the ITU has assigned. Nothing else: no spaces, no dashes, no "00" prefix.
 * Key: the digits read as one integer, 100000 .. 999999999999999 < 2^50. No leading zero is possible, so text
 * and key stand for each other one to one; the key 0 never occurs and may mean "none".
 *
 * The number's length is checked against E.164's own bounds, not against each country's numbering plan:
 * plans change every month, and a number that nobody can own is simply never registered. Six digits is the
 * shortest number in use (Iran's universal access numbers).
 *
 * All functions are pure, allocate nothing, and may be called from any thread.
 *
 *     uint64_t key;
 *     enum phone_error error = phone_parse("+4915112345678", 14, &key);
 *     if (error != PHONE_OK)
 *         fprintf(stderr, "%s\n", phone_error_text(error));
 */
#ifndef NUMBERD_HASHING_PHONE_H
#define NUMBERD_HASHING_PHONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHONE_DIGITS_MIN 6
#define PHONE_DIGITS_MAX 15
#define PHONE_KEY_BITS 50
#define PHONE_KEY_MIN UINT64_C(100000)
#define PHONE_KEY_MAX UINT64_C(999999999999999)
/* '+', the digits, the terminating NUL. */
#define PHONE_TEXT_BYTES (1 + PHONE_DIGITS_MAX + 1)

/* Code, and the reason as it is shown to people. */
#define PHONE_ERRORS(X)                                                                                      \
    X(PHONE_OK, "valid")                                                                                     \
    X(PHONE_EMPTY, "empty: write + and 6 to 15 digits")                                                      \
    X(PHONE_LETTER, "has a letter: only + and digits are allowed")                                           \
    X(PHONE_SYMBOL, "has a space or sign: only a leading + and digits are allowed")                          \
    X(PHONE_LEADING_ZERO, "begins with 0: write the country code first")                                     \
    X(PHONE_TOO_SHORT, "too short: E.164 numbers have at least 6 digits")                                    \
    X(PHONE_TOO_LONG, "too long: E.164 numbers have at most 15 digits")                                      \
    X(PHONE_UNASSIGNED_COUNTRY_CODE, "begins with a country code that is not assigned")

enum phone_error {
#define X(code, text) code,
    PHONE_ERRORS(X)
#undef X
};

/* The reason as a constant English phrase. */
const char *phone_error_text(enum phone_error error);

/* Reads `length` bytes (no NUL needed). On PHONE_OK `*key` is set; otherwise it is left alone. */
enum phone_error phone_parse(const char *text, size_t length, uint64_t *key);

/* Checks a key that came as an integer: PHONE_OK, or the reason why it is no number (0 is PHONE_EMPTY). */
enum phone_error phone_check(uint64_t key);

/* Writes '+', the digits and a NUL into `text`; returns the length without the NUL. `key` must be valid. */
size_t phone_format(uint64_t key, char text[static PHONE_TEXT_BYTES]);

/* --- the same check for the lookup's inner loop --- */

/* By the number of digits d: the power 10^d, and a multiplication and shift that divide by 10^(d-3). */
struct phone_scale {
    uint64_t limit;
    uint64_t multiplier;
    uint64_t shift;
};
extern const struct phone_scale phone_scales[PHONE_DIGITS_MAX + 1];

/* What phone_is_valid looks into; constant once phone_index_init has filled it. */
#define PHONE_BEGINNING_WORDS 32
#define PHONE_RANGE_BITS 10
#define PHONE_RANGE_FIRST ((UINT64_C(1023) + 16) << PHONE_RANGE_BITS)
#define PHONE_RANGES (((uint64_t)PHONE_KEY_BITS - 16) << PHONE_RANGE_BITS)
struct phone_index {
    /* Bit n (100 .. 999) says that numbers may begin with the digits n. */
    uint32_t beginnings[PHONE_BEGINNING_WORDS];
    /* Numbers from 2^16 on, by their exponent and the ten bits behind their first one: all of the range are valid. */
    uint64_t sure[PHONE_RANGES / 64];
};
void phone_index_init(struct phone_index *index);

__extension__ typedef unsigned __int128 phone_product;

/* The first three digits of a key PHONE_KEY_MIN .. PHONE_KEY_MAX. The division by a constant power of ten is a
 * multiplication (Granlund and Montgomery, "Division by invariant integers", 1994); the multipliers are exact for
 * keys of 50 bits, as test_phone checks at each quotient's ends. */
static inline unsigned phone_leading_three(uint64_t key)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(key | 1);
    unsigned digits = bits * 1233u >> 12; /* 1233/4096 is log10(2) rounded up, exact for up to 64 bits */
    digits += key >= phone_scales[digits].limit;
    const struct phone_scale *scale = &phone_scales[digits];
    return (unsigned)((uint64_t)((phone_product)key * scale->multiplier >> 64) >> scale->shift);
}

/* True for most valid numbers: those that lie in a range that is valid as a whole. The range comes from the bits of
 * the number as a double; a key beyond 2^50 or with its top bit set has a range beyond the last. */
static inline bool phone_is_surely_valid(uint64_t key, const struct phone_index *index)
{
    union {
        double value;
        uint64_t bits;
    } as = {.value = (double)(int64_t)key};
    uint64_t range = (as.bits >> (52 - PHONE_RANGE_BITS)) - PHONE_RANGE_FIRST;
    return range < PHONE_RANGES && index->sure[range / 64] >> range % 64 & 1;
}

/* phone_check(key) == PHONE_OK. */
static inline bool phone_is_valid(uint64_t key, const struct phone_index *index)
{
    if (phone_is_surely_valid(key, index))
        return true;
    if (key - PHONE_KEY_MIN > PHONE_KEY_MAX - PHONE_KEY_MIN)
        return false;
    unsigned leading = phone_leading_three(key);
    return index->beginnings[leading / 32] >> leading % 32 & 1;
}

#endif
