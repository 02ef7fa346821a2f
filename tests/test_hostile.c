/* Numbers chosen by somebody else: whatever set is registered, the directory's lines, moves and memory are those of
 * random numbers, since the seed is not known to whoever chose the set. */
#include <stdlib.h>

#include "hashing/directory.h"
#include "hashing/hash.h"
#include "hashing/phone.h"
#include "unit.h"

#define COUNT 300000
#define SEED UINT64_C(0xfeedc0de)
#define OTHER_SEED UINT64_C(0x0badcafe)

/* Number i of a set. */
typedef uint64_t number_set(uint64_t i, uint64_t *state);

static uint64_t random_number(uint64_t i, uint64_t *state)
{
    (void)i;
    uint64_t number;
    do
        number = PHONE_KEY_MIN + unit_random(state) % (PHONE_KEY_MAX - PHONE_KEY_MIN);
    while (phone_check(number) != PHONE_OK);
    return number;
}

static uint64_t consecutive_number(uint64_t i, uint64_t *state)
{
    (void)state;
    return UINT64_C(491510000000) + i;
}

/* All numbers of one prefix that share their last four digits. */
static uint64_t number_of_prefix(uint64_t i, uint64_t *state)
{
    (void)state;
    return UINT64_C(4420000000000) + i * 10000 + 1234;
}

/* Against another seed all of these have their home in the first sixteenth of one shard in sixteen. */
static uint64_t number_of_other_seed(uint64_t i, uint64_t *state)
{
    (void)i;
    uint64_t hash;
    uint64_t number = *state == 0 ? UINT64_C(33600000000) : *state;
    do
        hash = hash_number(++number, OTHER_SEED);
    while (hash >> 60 != 0 || (hash & UINT32_MAX) >> 28 != 0);
    return *state = number;
}

/* In steps of a power of two, as if the hash were a modulo. */
static uint64_t number_in_steps(uint64_t i, uint64_t *state)
{
    (void)state;
    return UINT64_C(8613000000000) + (i << 18);
}

static struct directory_stats fill(number_set *number, uint64_t *lookup_failures)
{
    struct directory_stats stats;
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = SEED, .shard_bits = 8, .accounts = false});
    assert_non_null(directory);
    struct epoch_reader *reader = directory_join(directory);
    uint64_t state = 0;
    *lookup_failures = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        struct record record = {.number = number(i, &state)};
        uint8_t answer;
        enum directory_result result = directory_register(directory, &record);
        assert_true(result == DIRECTORY_ADDED || result == DIRECTORY_REPLACED);
        directory_lookup(directory, reader, &record.number, 1, &answer);
        *lookup_failures += answer != DIRECTORY_REGISTERED;
    }
    directory_stats(directory, &stats);
    directory_leave(directory, reader);
    directory_destroy(directory);
    return stats;
}

static void assert_near(double value, double expected, double tolerance)
{
    if (value < expected * (1 - tolerance) || value > expected * (1 + tolerance))
        fail_msg("%g is not within %g %% of %g", value, tolerance * 100, expected);
}

static void test_sets(void **state)
{
    (void)state;
    static number_set *const sets[] = {consecutive_number, number_of_prefix, number_of_other_seed,
                                       number_in_steps};
    uint64_t failures;
    struct directory_stats expected = fill(random_number, &failures);
    assert_int_equal(failures, 0);
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        struct directory_stats stats = fill(sets[i], &failures);
        assert_int_equal(failures, 0);
        assert_int_equal(stats.records, COUNT);
        assert_near((double)stats.slots, (double)expected.slots, 0.02);
        assert_near((double)stats.spilled, (double)expected.spilled, 0.05);
        assert_near((double)stats.moved, (double)expected.moved, 0.05);
        assert_near((double)stats.rebuilds, (double)expected.rebuilds, 0.05);
    }
}

/* Numbers that do collide, since they were chosen with the seed: they fill their two lines, then the shard has to grow
 * until they part. Nothing is refused, nothing is lost, and it ends. */
static void test_known_seed(void **state)
{
    (void)state;
    enum { COLLIDING = 40 };
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = SEED, .shard_bits = 0, .accounts = false});
    struct epoch_reader *reader = directory_join(directory);
    uint64_t numbers[COLLIDING];
    uint8_t answers[COLLIDING];
    uint64_t number = UINT64_C(12020000000);
    for (size_t i = 0; i < COLLIDING; i++) {
        /* The same home and the same alternate as long as there are fewer than 64 lines. */
        uint64_t hash;
        do
            hash = hash_number(++number, SEED);
        while ((hash & UINT32_MAX) >> 26 != 5 || (hash >> 46 & 63) != 9);
        numbers[i] = number;
        assert_int_equal(directory_register(directory, &(struct record){.number = number}), DIRECTORY_ADDED);
    }
    directory_lookup(directory, reader, numbers, COLLIDING, answers);
    for (size_t i = 0; i < COLLIDING; i++)
        assert_int_equal(answers[i], DIRECTORY_REGISTERED);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_known_seed),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
