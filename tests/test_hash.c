/* hashing/hash: the short form gives what the library gives. */
#include "hashing/hash.h"

#include "unit.h"

static void test_short_form(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int i = 0; i < 1000000; i++) {
        uint64_t seed = i % 3 == 0 ? (uint64_t)i : unit_random(&random);
        uint64_t number = i % 2 == 0 ? unit_random(&random) : unit_random(&random) >> 14;
        assert_int_equal(hash_flipped(number, hash_flip(seed)), hash_number(number, seed));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_short_form)};
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
