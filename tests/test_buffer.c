/* server/buffer: whatever is appended and consumed, the content is what it should be, and the memory stays in proportion. */
#include <stdlib.h>
#include <string.h>

#include "server/buffer.h"
#include "unit.h"

#define ROUNDS 20000
#define LENGTH_MAX 4096u

/* Random pieces go in at the end and out at the front. */
static void test_queue(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    uint64_t random = 9;
    uint8_t piece[LENGTH_MAX];
    uint8_t next_in = 0;
    uint8_t next_out = 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t more = unit_random(&random) % (LENGTH_MAX - buffer.length + 1);
        for (size_t i = 0; i < more; i++)
            piece[i] = next_in++;
        assert_true(buffer_append(&buffer, piece, more));
        size_t less = unit_random(&random) % (buffer.length + 1);
        for (size_t i = 0; i < buffer.length; i++)
            assert_int_equal(buffer.bytes[i], (uint8_t)(next_out + i));
        buffer_consume(&buffer, less);
        next_out = (uint8_t)(next_out + less);
        assert_true(buffer.capacity <= 2 * LENGTH_MAX);
    }
    buffer_deinit(&buffer);
    assert_null(buffer.bytes);
}

/* However little is consumed and appended at a time behind much that stays, the memory does not grow, and few bytes are moved: the
 * content's place changes once for every quarter of the capacity. */
static void test_little_by_little(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    static const uint8_t much[100000];
    unsigned moves = 0;
    assert_true(buffer_append(&buffer, much, sizeof much));
    for (unsigned i = 0; i < 1000000; i++) {
        const uint8_t *end = buffer.bytes + buffer.length;
        assert_true(buffer_append(&buffer, "x", 1));
        moves += buffer.bytes + buffer.length - 1 != end;
        buffer_consume(&buffer, 1);
    }
    assert_true(buffer.capacity <= 4 * sizeof much);
    assert_in_range(moves, 1, 1000000 / (sizeof much / 4) + 2);
    buffer_deinit(&buffer);
}

/* Room that was asked for is there, behind what there is. */
static void test_reserve(void **state)
{
    (void)state;
    struct buffer buffer = {0};
    assert_true(buffer_append(&buffer, "abcdef", 6));
    buffer_consume(&buffer, 2);
    uint8_t *room = buffer_reserve(&buffer, 100000);
    memset(room, 'x', 100000);
    assert_memory_equal(buffer.bytes, "cdef", 4);
    assert_ptr_equal(room, buffer.bytes + 4);
    assert_int_equal(buffer.length, 4);
    buffer_consume(&buffer, 4);
    assert_int_equal(buffer.length, 0);
    buffer_deinit(&buffer);
    buffer_deinit(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_queue), cmocka_unit_test(test_little_by_little),
                                       cmocka_unit_test(test_reserve)};
    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
