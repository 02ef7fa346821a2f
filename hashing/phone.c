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

static const uint64_t powers_of_ten[] = {
    UINT64_C(1),
    UINT64_C(10),
    UINT64_C(100),
    UINT64_C(1000),
    UINT64_C(10000),
    UINT64_C(100000),
    UINT64_C(1000000),
    UINT64_C(10000000),
    UINT64_C(100000000),
    UINT64_C(1000000000),
    UINT64_C(10000000000),
    UINT64_C(100000000000),
    UINT64_C(1000000000000),
    UINT64_C(10000000000000),
    UINT64_C(100000000000000),
    UINT64_C(1000000000000000),
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Decimal digits of a key up to PHONE_KEY_MAX; from the bit length, corrected by one comparison. */
static unsigned count_digits(uint64_t key)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(key | 1);
    unsigned digits = bits * 1233u >> 12; /* 1233/4096 is log10(2) rounded up, exact for up to 64 bits */
    return digits + (key >= powers_of_ten[digits]);
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
    unsigned leading_three = (unsigned)(key / powers_of_ten[count_digits(key) - 3]);
    if (((unsigned)country_codes[leading_three / 10] >> (leading_three % 10) & 1u) == 0)
        return PHONE_UNASSIGNED_COUNTRY_CODE;
    return PHONE_OK;
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
    unsigned digits = count_digits(key);
    text[0] = '+';
    text[1 + digits] = '\0';
    for (unsigned i = digits; i > 0; i--) {
        text[i] = (char)('0' + key % 10);
        key /= 10;
    }
    return 1 + digits;
}
