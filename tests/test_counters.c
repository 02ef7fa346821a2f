/* server/counters.h: what is counted lands in its place, and a stall is not one good sample less. */
#include "server/counters.h"
#include "unit.h"

#define MS UINT64_C(1000000)

static uint64_t sum(const struct counters_times *times)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < COUNTERS_TIMES; i++)
        all += counter_read(&times->counts[i]);
    return all;
}

/* A place goes up to its bound and with it. */
static void test_times(void **state)
{
    (void)state;
    for (unsigned place = 0; place + 1 < COUNTERS_TIMES; place++) {
        static struct counters_times times;
        uint64_t bound = (uint64_t)COUNTERS_TIME_FIRST_NS << 2 * place;
        uint64_t before = counter_read(&times.counts[place]);
        uint64_t next = counter_read(&times.counts[place + 1]);
        counter_add_time(&times, bound);
        assert_int_equal(counter_read(&times.counts[place]), before + 1);
        counter_add_time(&times, bound + 1);
        assert_int_equal(counter_read(&times.counts[place + 1]), next + 1);
    }
    static struct counters_times ends;
    counter_add_time(&ends, 0);
    counter_add_time(&ends, UINT64_C(1) << 62);
    assert_int_equal(counter_read(&ends.counts[0]), 1);
    assert_int_equal(counter_read(&ends.counts[COUNTERS_TIMES - 1]), 1);
    assert_int_equal(counter_read(&ends.ns), UINT64_C(1) << 62);
}

static void test_batches(void **state)
{
    (void)state;
    static struct counters counters;
    static const struct {
        uint32_t numbers;
        unsigned place;
    } cases[] = {{0, 0}, {1, 0}, {2, 1}, {3, 2}, {4, 2}, {5, 3}, {128, 7}, {65535, 16}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t before = counter_read(&counters.batches[cases[i].place]);
        counter_add_batch(&counters, cases[i].numbers);
        assert_int_equal(counter_read(&counters.batches[cases[i].place]), before + 1);
    }
}

/* A wait of 1,020 ms, with a probe each 50: those that would have come meanwhile waited for 970, 920, ... and 20 ms. */
static void test_waits(void **state)
{
    (void)state;
    static struct counters_times waits;
    counter_add_wait(&waits, 50 * MS, 50 * MS);
    assert_int_equal(sum(&waits), 1);
    counter_add_wait(&waits, 1020 * MS, 50 * MS);
    assert_int_equal(sum(&waits), 1 + 21);
    assert_int_equal(counter_read(&waits.ns), (50 + 21 * 520) * MS); /* the mean of 1,020 and 20, 21 times */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
