/* server/proxy: a header of version 2 is taken whole, at no cut too early, and nothing else is taken for one. */
#include <string.h>

#include "server/proxy.h"
#include "unit.h"

static const uint8_t ipv4_header[] = {13, 10, 13,  10, 0, 13, 10,  81, 85,  73, 84,   10, 0x21, 0x11,
                                      0,  12, 192, 0,  2, 1,  198, 51, 100, 2,  0x80, 0,  16,   68};

static size_t make(uint8_t out[static PROXY_HEADER_BYTES_MAX + 16], uint8_t command, uint8_t family,
                   size_t rest)
{
    memcpy(out, ipv4_header, 12);
    out[12] = 0x20 | command;
    out[13] = family;
    out[14] = (uint8_t)(rest >> 8);
    out[15] = (uint8_t)rest;
    for (size_t i = 0; i < rest && i < PROXY_HEADER_BYTES_MAX; i++)
        out[16 + i] = (uint8_t)(i + 1);
    return 16 + rest;
}

/* The example of the specification's layout, byte by byte. */
static void test_example(void **state)
{
    (void)state;
    struct proxy_header header;
    static const uint8_t expected[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 1};
    assert_int_equal(proxy_decode(ipv4_header, sizeof ipv4_header, &header), PROXY_DONE);
    assert_int_equal(header.bytes, sizeof ipv4_header);
    assert_false(header.is_local);
    assert_memory_equal(header.ip, expected, 16);
}

/* Every prefix is incomplete, and says how many bytes are wanted, never more than the header has; more bytes change nothing. */
static void test_prefixes(void **state)
{
    (void)state;
    static const uint8_t families[] = {0x00, 0x11, 0x21};
    uint8_t bytes[PROXY_HEADER_BYTES_MAX + 16];
    for (size_t i = 0; i < sizeof families; i++)
        for (uint8_t command = 0; command < 2; command++)
            for (size_t rest = 36; rest <= PROXY_HEADER_BYTES_MAX - 16; rest += 97) {
                struct proxy_header header;
                size_t size = make(bytes, command, families[i], rest);
                for (size_t length = 0; length < size; length++) {
                    assert_int_equal(proxy_decode(bytes, length, &header), PROXY_INCOMPLETE);
                    assert_true(header.bytes > length && header.bytes <= size);
                }
                assert_int_equal(proxy_decode(bytes, size, &header), PROXY_DONE);
                assert_int_equal(header.bytes, size);
                assert_int_equal(proxy_decode(bytes, size + 1, &header), PROXY_DONE);
                assert_int_equal(header.bytes, size);
            }
}

/* Another version, command, family, transport, a length too short for its addresses or too long: invalid, as soon as it is seen. */
static void test_invalid(void **state)
{
    (void)state;
    struct proxy_header header;
    uint8_t bytes[PROXY_HEADER_BYTES_MAX + 16];
    for (size_t at = 0; at < 12; at++)
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(bytes, ipv4_header, sizeof ipv4_header);
            bytes[at] ^= (uint8_t)(1u << bit);
            assert_int_equal(proxy_decode(bytes, at + 1, &header), PROXY_INVALID);
            assert_int_equal(proxy_decode(bytes, sizeof ipv4_header, &header), PROXY_INVALID);
        }
    for (unsigned value = 0; value < 256; value++) {
        memcpy(bytes, ipv4_header, sizeof ipv4_header);
        bytes[12] = (uint8_t)value;
        assert_int_equal(proxy_decode(bytes, sizeof ipv4_header, &header),
                         value == 0x20 || value == 0x21 ? PROXY_DONE : PROXY_INVALID);
        memcpy(bytes, ipv4_header, sizeof ipv4_header);
        bytes[13] = (uint8_t)value;
        assert_int_equal(proxy_decode(bytes, sizeof ipv4_header, &header),
                         value == 0x00 || value == 0x11 ? PROXY_DONE : PROXY_INVALID);
    }
    assert_int_equal(proxy_decode(bytes, make(bytes, 1, 0x11, 11), &header), PROXY_INVALID);
    assert_int_equal(proxy_decode(bytes, make(bytes, 1, 0x21, 35), &header), PROXY_INVALID);
    assert_int_equal(proxy_decode(bytes, make(bytes, 0, 0x11, 0), &header), PROXY_DONE);
    assert_int_equal(proxy_decode(bytes, make(bytes, 1, 0x11, PROXY_HEADER_BYTES_MAX - 16), &header),
                     PROXY_DONE);
    (void)make(bytes, 1, 0x11, PROXY_HEADER_BYTES_MAX - 15);
    assert_int_equal(proxy_decode(bytes, 16, &header), PROXY_INVALID);
}

/* A client whose address is that of nobody is told apart from one of an address. */
static void test_unknown(void **state)
{
    (void)state;
    struct proxy_header header;
    uint8_t bytes[PROXY_HEADER_BYTES_MAX + 16];
    static const uint8_t zeros[16];
    assert_int_equal(proxy_decode(bytes, make(bytes, 1, 0x00, 40), &header), PROXY_DONE);
    assert_false(header.is_local);
    assert_memory_equal(header.ip, zeros, 16);
    assert_int_equal(proxy_decode(bytes, make(bytes, 0, 0x21, 36), &header), PROXY_DONE);
    assert_true(header.is_local);
    assert_memory_equal(header.ip, zeros, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_example), cmocka_unit_test(test_prefixes),
                                       cmocka_unit_test(test_invalid), cmocka_unit_test(test_unknown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
