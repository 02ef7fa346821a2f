/* hashing/phone: each refusal has its reason, and text and key stand for each other. */
#include "hashing/phone.h"

#include <string.h>

#include "unit.h"

static enum phone_error parse(const char *text, uint64_t *key)
{
    return phone_parse(text, strlen(text), key);
}

/* The number is read with and without its plus sign, and printed with it. */
static void test_parse_accepts_e164(void **state)
{
    (void)state;
    uint64_t key = 0;
    char text[PHONE_TEXT_BYTES];
    assert_int_equal(parse("+4915112345678", &key), PHONE_OK);
    assert_int_equal(key, UINT64_C(4915112345678));
    assert_int_equal(parse("4915112345678", &key), PHONE_OK);
    assert_int_equal(phone_format(key, text), 14);
    assert_string_equal(text, "+4915112345678");
    assert_int_equal(parse("+878999999999999", &key), PHONE_OK);
    assert_int_equal(phone_format(key, text), 16);
    assert_string_equal(text, "+878999999999999");
    assert_int_equal(parse("+989601", &key), PHONE_OK);
}

/* Each malformed text is refused for its own reason and leaves the key alone. */
static void test_parse_gives_the_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum phone_error error;
    } cases[] = {
        {"", PHONE_EMPTY},
        {"+", PHONE_EMPTY},
        {"+49151abc", PHONE_LETTER},
        {"+49 151", PHONE_SYMBOL},
        {"++49151123456", PHONE_SYMBOL},
        {"+49-151-123", PHONE_SYMBOL},
        {"+4915112345\xd9\xa3", PHONE_SYMBOL},
        {"0049151123456", PHONE_LEADING_ZERO},
        {"+0151123456", PHONE_LEADING_ZERO},
        {"+4915", PHONE_TOO_SHORT},
        {"+1", PHONE_TOO_SHORT},
        {"+4915112345678901", PHONE_TOO_LONG},
        {"+49151123456789012345678901234567890", PHONE_TOO_LONG},
        {"+2101234567", PHONE_UNASSIGNED_COUNTRY_CODE},
        {"+9991234567", PHONE_UNASSIGNED_COUNTRY_CODE},
        {"+2801234567", PHONE_UNASSIGNED_COUNTRY_CODE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t key = 42;
        assert_int_equal(parse(cases[i].text, &key), cases[i].error);
        assert_int_equal(key, 42);
        assert_true(strlen(phone_error_text(cases[i].error)) > 5);
    }
}

/* Keys that come as integers are held to the same bounds. */
static void test_check_of_integers(void **state)
{
    (void)state;
    assert_int_equal(phone_check(0), PHONE_EMPTY);
    assert_int_equal(phone_check(99999), PHONE_TOO_SHORT);
    assert_int_equal(phone_check(100000), PHONE_OK);
    assert_int_equal(phone_check(PHONE_KEY_MAX), PHONE_UNASSIGNED_COUNTRY_CODE);
    assert_int_equal(phone_check(UINT64_C(998999999999999)), PHONE_OK);
    assert_int_equal(phone_check(PHONE_KEY_MAX + 1), PHONE_TOO_LONG);
    assert_int_equal(phone_check(UINT64_MAX), PHONE_TOO_LONG);
}

/* Around every power of ten and for a million random values, check and parse agree and print back. */
static void test_key_and_text_agree(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (int i = 0; i < 1000000; i++) {
        uint64_t value = unit_random(&random) >> (unit_random(&random) % 40);
        char digits[32];
        size_t length = 0;
        for (uint64_t rest = value; rest > 0; rest /= 10)
            digits[31 - length++] = (char)('0' + rest % 10);
        uint64_t key = 0;
        enum phone_error error = phone_parse(digits + 32 - length, length, &key);
        assert_int_equal(error, phone_check(value));
        if (error != PHONE_OK)
            continue;
        char text[PHONE_TEXT_BYTES];
        assert_int_equal(key, value);
        assert_int_equal(phone_format(value, text), length + 1);
        assert_memory_equal(text + 1, digits + 32 - length, length);
    }
}

/* The multiplications give what the divisions would, at both ends of each quotient's keys; and the lookup's check agrees
 * with phone_check there. */
static void test_leading_three(void **state)
{
    (void)state;
    static struct phone_index index;
    phone_index_init(&index);
    for (uint64_t scale = 1000; scale <= UINT64_C(1000000000000); scale *= 10) {
        for (uint64_t leading = 100; leading < 1000; leading++) {
            uint64_t ends[] = {leading * scale, leading * scale + scale - 1};
            for (size_t i = 0; i < 2; i++) {
                assert_int_equal(phone_leading_three(ends[i]), leading);
                assert_int_equal(phone_is_valid(ends[i], &index), phone_check(ends[i]) == PHONE_OK);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_accepts_e164), cmocka_unit_test(test_parse_gives_the_reason),
        cmocka_unit_test(test_check_of_integers),  cmocka_unit_test(test_key_and_text_agree),
        cmocka_unit_test(test_leading_three),
    };
    return cmocka_run_group_tests_name("phone", tests, NULL, NULL);
}
