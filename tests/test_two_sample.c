/* loadtest/two_sample: textbook values, and what it does and does not take for a difference. */
#include "loadtest/two_sample.h"

#include <math.h>

#include "unit.h"

enum { COUNT = 20000, DEALS = 99 };

/* Times like a round trip's: most of them near `least`, some far above. */
static void draw_times(uint32_t *times, uint32_t least, uint64_t *random)
{
    for (unsigned i = 0; i < COUNT; i++) {
        double uniform = (double)(unit_random(random) >> 11) / (double)(UINT64_C(1) << 53);
        times[i] = least + (uint32_t)(1000 * -log(1 - uniform)) + (uint32_t)(unit_random(random) % 50);
    }
}

/* Samples small enough for paper. Of {1, 2, 4} and {3, 4, 5, 6} the distributions are farthest apart at 2, a has the
 * ranks 1 + 2 + 4.5 where 12 is expected, with one tie the variance is 12 / 12 * (8 - 6 / 42), and the lower halves
 * are {1, 2} and {3, 4}. */
static void test_values(void **state)
{
    (void)state;
    uint32_t a[] = {4, 1, 2};
    uint32_t b[] = {6, 3, 5, 4};
    struct two_sample_result result;
    assert_true(two_sample_compare(a, 3, b, 4, 0, 1, &result));
    assert_true(fabs(result.values[TWO_SAMPLE_DISTANCE] - 2.0 / 3) < 1e-12);
    assert_true(fabs(result.values[TWO_SAMPLE_RANKS] - -4.5 / sqrt(8 - 6.0 / 42)) < 1e-12);
    assert_true(fabs(result.values[TWO_SAMPLE_SHIFT] - -2) < 1e-12);
}

/* Like samples are above the noise of 99 deals in about 3 of 100 cases, three statistics taken together. */
static void test_like_samples(void **state)
{
    (void)state;
    static uint32_t a[COUNT];
    static uint32_t b[COUNT];
    uint64_t random = 5;
    unsigned above = 0;
    for (unsigned i = 0; i < 40; i++) {
        struct two_sample_result result;
        draw_times(a, 10000, &random);
        draw_times(b, 10000, &random);
        assert_true(two_sample_compare(a, COUNT, b, COUNT, DEALS, i, &result));
        above += two_sample_over_noise(&result) > 1;
    }
    assert_in_range(above, 0, 5);
}

/* A shift of a twentieth of the spread, be it up or down, is seen. */
static void test_shifted_samples(void **state)
{
    (void)state;
    static uint32_t a[COUNT];
    static uint32_t b[COUNT];
    struct two_sample_result result;
    uint64_t random = 6;
    draw_times(a, 10050, &random);
    draw_times(b, 10000, &random);
    assert_true(two_sample_compare(a, COUNT, b, COUNT, DEALS, 1, &result));
    assert_true(two_sample_over_noise(&result) > 1.5);
    assert_true(fabs(result.values[TWO_SAMPLE_SHIFT] - 50) < 20);
    assert_true(two_sample_compare(b, COUNT, a, COUNT, DEALS, 1, &result));
    assert_true(two_sample_over_noise(&result) > 1.5);
    assert_true(fabs(result.values[TWO_SAMPLE_SHIFT] + 50) < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_like_samples),
        cmocka_unit_test(test_shifted_samples),
    };
    return cmocka_run_group_tests_name("two_sample", tests, NULL, NULL);
}
