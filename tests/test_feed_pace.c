/* The pace at which a feed is caught up with. */
#include "persist/registrations/feed_pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BEGUN 1000000
#define MOST 64

static void test_share(void **state)
{
    (void)state;
    struct feed_pace pace;
    feed_pace_begin(&pace, 25, MOST, BEGUN);
    assert_int_equal(feed_pace_rest(&pace, 4000, BEGUN), 12);
    assert_int_equal(feed_pace_rest(&pace, 0, BEGUN), 0);
    assert_int_equal(feed_pace_rest(&pace, 5000000, BEGUN), FEED_PACE_REST_MS_MAX);
    feed_pace_begin(&pace, 1, MOST, BEGUN);
    assert_int_equal(feed_pace_rest(&pace, 2000, BEGUN), 198);
}

static void test_rounds(void **state)
{
    (void)state;
    struct feed_pace pace;
    feed_pace_begin(&pace, 50, MOST, BEGUN);
    assert_int_equal(pace.most, 1);
    for (unsigned i = 0; i < 10; i++)
        (void)feed_pace_rest(&pace, 1000, BEGUN); /* short ones: more, up to all */
    assert_int_equal(pace.most, MOST);
    (void)feed_pace_rest(&pace, FEED_PACE_ROUND_US, BEGUN); /* right */
    assert_int_equal(pace.most, MOST);
    for (unsigned most = MOST; most > 1; most /= 2) {
        (void)feed_pace_rest(&pace, FEED_PACE_ROUND_US + 1, BEGUN);
        assert_int_equal(pace.most, most / 2);
    }
    (void)feed_pace_rest(&pace, 100000, BEGUN);
    assert_int_equal(pace.most, 1);
}

static void test_end(void **state)
{
    (void)state;
    struct feed_pace pace;
    feed_pace_begin(&pace, 25, MOST, BEGUN);
    assert_int_equal(feed_pace_rest(&pace, 8000, BEGUN + FEED_PACE_MS - 1), 24);
    assert_int_equal(feed_pace_rest(&pace, 8000, BEGUN + FEED_PACE_MS), 0);
    assert_int_equal(pace.most, MOST);
    assert_int_equal(feed_pace_rest(&pace, 100000, BEGUN), 0);
    feed_pace_begin(&pace, 25, MOST, BEGUN);
    feed_pace_end(&pace);
    assert_int_equal(pace.most, MOST);
    feed_pace_begin(&pace, 100, MOST, BEGUN);
    assert_int_equal(pace.most, MOST);
    assert_int_equal(feed_pace_rest(&pace, 100000, BEGUN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
