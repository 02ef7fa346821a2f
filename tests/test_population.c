/* loadtest/population: distinct, valid, spread, and no neighbour is ever a member. */
#include "loadtest/population.h"

#include <stdbool.h>
#include <stdlib.h>

#include "hashing/phone.h"
#include "unit.h"

#define COUNT 2000000

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* Two million numbers and their neighbours: all valid, all different. */
static void test_members_and_neighbours_differ(void **state)
{
    (void)state;
    struct population population;
    uint64_t *numbers = malloc(2 * COUNT * sizeof *numbers);
    population_init(&population, 7);
    for (uint64_t i = 0; i < COUNT; i++) {
        numbers[2 * i] = population_number(&population, i);
        numbers[2 * i + 1] = population_neighbour(&population, i);
        assert_int_equal(phone_check(numbers[2 * i]), PHONE_OK);
        assert_int_equal(phone_check(numbers[2 * i + 1]), PHONE_OK);
    }
    qsort(numbers, 2 * COUNT, sizeof *numbers, by_value);
    for (uint64_t i = 1; i < 2 * COUNT; i++)
        assert_true(numbers[i - 1] < numbers[i]);
    free(numbers);
}

/* The same seed gives the same population, another seed another one; the last index works. */
static void test_seed(void **state)
{
    (void)state;
    struct population a;
    struct population b;
    struct population c;
    population_init(&a, 1);
    population_init(&b, 1);
    population_init(&c, 2);
    unsigned same = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        assert_int_equal(population_number(&a, i), population_number(&b, i));
        assert_int_equal(population_account(&a, i), population_account(&b, i));
        assert_int_not_equal(population_account(&a, i), 0);
        same += population_number(&a, i) == population_number(&c, i);
    }
    assert_true(same < 10);
    assert_int_equal(phone_check(population_number(&a, POPULATION_MAX - 1)), PHONE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_and_neighbours_differ),
        cmocka_unit_test(test_seed),
    };
    return cmocka_run_group_tests_name("population", tests, NULL, NULL);
}
