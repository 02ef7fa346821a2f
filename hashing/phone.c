/* E.164 numbers as text and as 50-bit keys; see phone.h. */
#include "hashing/phone.h"

#include <assert.h>
#include <string.h>

#define ALL 0x3ffu
#define D(digit) (1u << (digit))

/* Assigned country codes, by their first two digits; bit d says that a number may go on with digit d. Codes
 * of one or two digits allow every next digit. Source: ITU-T, List of Recommendation E.164 assigned country
 * codes; the test compares it with the metadata of python3-phonenumbers. */
/* clang-format off */
static const uint16_t country_codes[100] = {
    [10] = ALL, [11] = ALL, [12] = ALL, [13] = ALL, [14] = ALL, /* 1: North America */
    [15] = ALL, [16] = ALL, [17] = ALL, [18] = ALL, [19] = ALL,
    [20] = ALL, /* Egypt */
    [21] = D(1) | D(2) | D(3) | D(6) | D(8),
    [22] = ALL, [23] = ALL, [24] = ALL,
    [25] = ALL & ~D(9),
    [26] = ALL,
    [27] = ALL, /* South Africa */
    [29] = D(0) | D(1) | D(7) | D(8) | D(9),
    [30] = ALL, [31] = ALL, [32] = ALL, [33] = ALL, [34] = ALL, /* Greece to Spain */
    [35] = ALL,
    [36] = ALL, /* Hungary */
    [37] = ALL & ~D(9),
    [38] = ALL & ~(D(4) | D(8)),
    [39] = ALL, [40] = ALL, [41] = ALL, /* Italy, Romania, Switzerland */
    [42] = D(0) | D(1) | D(3),
    [43] = ALL, [44] = ALL, [45] = ALL, [46] = ALL, [47] = ALL, [48] = ALL, [49] = ALL, /* Austria to Germany */
    [50] = ALL,
    [51] = ALL, [52] = ALL, [53] = ALL, [54] = ALL, [55] = ALL, [56] = ALL, [57] = ALL, [58] = ALL, /* Peru to Venezuela */
    [59] = ALL,
    [60] = ALL, [61] = ALL, [62] = ALL, [63] = ALL, [64] = ALL, [65] = ALL, [66] = ALL, /* Malaysia to Thailand */
    [67] = ALL & ~D(1),
    [68] = ALL & ~D(4),
    [69] = D(0) | D(1) | D(2),
    [70] = ALL, [71] = ALL, [72] = ALL, [73] = ALL, [74] = ALL, /* 7: Russia, Kazakhstan */
    [75] = ALL, [76] = ALL, [77] = ALL, [78] = ALL, [79] = ALL,
    [80] = D(0) | D(8),
    [81] = ALL, [82] = ALL, [84] = ALL, /* Japan, Korea, Viet Nam */
    [85] = D(0) | D(2) | D(3) | D(5) | D(6),
    [86] = ALL, /* China */
    [87] = D(0) | D(8),
    [88] = D(0) | D(1) | D(2) | D(3) | D(6) | D(8),
    [90] = ALL, [91] = ALL, [92] = ALL, [93] = ALL, [94] = ALL, [95] = ALL, /* Türkiye to Myanmar */
    [96] = ALL & ~D(9),
    [97] = ALL & ~(D(8)),
    [98] = ALL, /* Iran */
    [99] = D(2) | D(3) | D(4) | D(5) | D(6) | D(8),
};
/* clang-format on */

/* Multipliers only where phone_leading_three needs them. */
const struct phone_scale phone_scales[PHONE_DIGITS_MAX + 1] = {
    [0] = {.limit = UINT64_C(1)},
    [1] = {.limit = UINT64_C(10)},
    [2] = {.limit = UINT64_C(100)},
    [3] = {.limit = UINT64_C(1000)},
    [4] = {.limit = UINT64_C(10000)},
    [5] = {.limit = UINT64_C(100000)},
    [6] = {UINT64_C(1000000), UINT64_C(0x83126e978d4fdf3c), 9},
    [7] = {UINT64_C(10000000), UINT64_C(0xd1b71758e219652c), 13},
    [8] = {UINT64_C(100000000), UINT64_C(0xa7c5ac471b478424), 16},
    [9] = {UINT64_C(1000000000), UINT64_C(0x8637bd05af6c69b6), 19},
    [10] = {UINT64_C(10000000000), UINT64_C(0xd6bf94d5e57a42bd), 23},
    [11] = {UINT64_C(100000000000), UINT64_C(0xabcc77118461cefd), 26},
    [12] = {UINT64_C(1000000000000), UINT64_C(0x89705f4136b4a598), 29},
    [13] = {UINT64_C(10000000000000), UINT64_C(0xdbe6fecebdedd5bf), 33},
    [14] = {UINT64_C(100000000000000), UINT64_C(0xafebff0bcb24aaff), 36},
    [15] = {UINT64_C(1000000000000000), UINT64_C(0x8cbccc096f5088cc), 39},
};

static bool is_assigned(unsigned leading_three)
{
    return (unsigned)country_codes[leading_three / 10] >> leading_three % 10 & 1u;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

const char *phone_error_text(enum phone_error error)
{
    static const char *const texts[] = {
#define X(code, text) text,
        PHONE_ERRORS(X)
#undef X
    };
    assert((size_t)error < sizeof texts / sizeof texts[0]);
    return texts[error];
}

enum phone_error phone_check(uint64_t key)
{
    if (key < PHONE_KEY_MIN)
        return key == 0 ? PHONE_EMPTY : PHONE_TOO_SHORT;
    if (key > PHONE_KEY_MAX)
        return PHONE_TOO_LONG;
    return is_assigned(phone_leading_three(key)) ? PHONE_OK : PHONE_UNASSIGNED_COUNTRY_CODE;
}

/* True when all keys of the range are valid: they are equally long, and begin with digits of countries only. */
static bool is_sure(uint64_t range)
{
    uint64_t exponent = 16 + (range >> PHONE_RANGE_BITS);
    uint64_t mantissa = range & ((UINT64_C(1) << PHONE_RANGE_BITS) - 1);
    uint64_t first = (UINT64_C(1) << PHONE_RANGE_BITS | mantissa) << exponent >> PHONE_RANGE_BITS;
    uint64_t last = first + (UINT64_C(1) << exponent >> PHONE_RANGE_BITS) - 1;
    if (phone_check(first) != PHONE_OK || phone_check(last) != PHONE_OK)
        return false;
    /* Across a power of ten the leading digits go down, and nothing is sure. */
    unsigned leading = phone_leading_three(first);
    while (leading < phone_leading_three(last) && is_assigned(leading))
        leading++;
    return leading == phone_leading_three(last);
}

void phone_index_init(struct phone_index *index)
{
    memset(index, 0, sizeof *index);
    for (unsigned leading = 100; leading < 1000; leading++)
        index->beginnings[leading / 32] |= (uint32_t)is_assigned(leading) << leading % 32;
    for (uint64_t range = 0; range < PHONE_RANGES; range++)
        index->sure[range / 64] |= (uint64_t)is_sure(range) << range % 64;
}

enum phone_error phone_parse(const char *text, size_t length, uint64_t *key)
{
    if (length > 0 && text[0] == '+') {
        text++;
        length--;
    }
    if (length == 0)
        return PHONE_EMPTY;
    for (size_t i = 0; i < length; i++)
        if (!is_digit(text[i]))
            return is_letter(text[i]) ? PHONE_LETTER : PHONE_SYMBOL;
    if (text[0] == '0')
        return PHONE_LEADING_ZERO;
    if (length < PHONE_DIGITS_MIN)
        return PHONE_TOO_SHORT;
    if (length > PHONE_DIGITS_MAX)
        return PHONE_TOO_LONG;

    uint64_t value = 0;
    for (size_t i = 0; i < length; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    enum phone_error error = phone_check(value);
    if (error == PHONE_OK)
        *key = value;
    return error;
}

size_t phone_format(uint64_t key, char text[static PHONE_TEXT_BYTES])
{
    assert(key <= PHONE_KEY_MAX);
    unsigned digits = 1;
    while (key >= phone_scales[digits].limit)
        digits++;
    text[0] = '+';
    text[1 + digits] = '\0';
    for (unsigned i = digits; i > 0; i--) {
        text[i] = (char)('0' + key % 10);
        key /= 10;
    }
    return 1 + digits;
}
