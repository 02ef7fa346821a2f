/* hashing/directory: answers, growth and moves; and readers beside writers, for ThreadSanitizer too. */
#include "hashing/directory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "hashing/phone.h"
#include "unit.h"

#define BASE UINT64_C(447700000000)

static struct directory *new_directory(unsigned shard_bits)
{
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = 99, .shard_bits = shard_bits, .accounts = true});
    assert_non_null(directory);
    return directory;
}

static enum directory_result add(struct directory *directory, uint64_t number, uint64_t account,
                                 uint8_t flags)
{
    return directory_register(directory, &(struct record){number, account, flags});
}

static enum directory_answer look(struct directory *directory, struct epoch_reader *reader, uint64_t number,
                                  struct record *record)
{
    uint8_t one;
    uint8_t both;
    directory_lookup(directory, reader, &number, 1, &one);
    directory_lookup_records(directory, reader, &number, 1, &both, record);
    assert_int_equal(one, both);
    assert_int_equal(one, directory_lookup_alike(directory, reader, number));
    return one;
}

/* Register, replace, deregister; each visible at once, each invalid number named as such. */
static void test_register_and_deregister(void **state)
{
    (void)state;
    struct directory *directory = new_directory(2);
    struct epoch_reader *reader = directory_join(directory);
    struct record record;
    assert_int_equal(look(directory, reader, BASE, &record), DIRECTORY_NOT_REGISTERED);
    assert_int_equal(add(directory, BASE, 5, 6), DIRECTORY_ADDED);
    assert_int_equal(look(directory, reader, BASE, &record), DIRECTORY_REGISTERED);
    assert_int_equal(record.account, 5);
    assert_int_equal(record.flags, 6);
    assert_int_equal(add(directory, BASE, 7, 8), DIRECTORY_REPLACED);
    look(directory, reader, BASE, &record);
    assert_int_equal(record.account, 7);
    assert_int_equal(record.flags, 8);
    assert_int_equal(directory_deregister(directory, BASE), DIRECTORY_REMOVED);
    assert_int_equal(directory_deregister(directory, BASE), DIRECTORY_ABSENT);
    assert_int_equal(look(directory, reader, BASE, &record), DIRECTORY_NOT_REGISTERED);
    assert_int_equal(record.account, 0);
    assert_int_equal(look(directory, reader, 12, &record), DIRECTORY_INVALID);
    assert_int_equal(add(directory, 0, 1, 0), DIRECTORY_INVALID_NUMBER);
    assert_int_equal(directory_deregister(directory, UINT64_MAX), DIRECTORY_INVALID_NUMBER);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* A hidden account answers exactly as no account, to both kinds of lookup. */
static void test_hidden_is_not_registered(void **state)
{
    (void)state;
    struct directory *directory = new_directory(0);
    struct epoch_reader *reader = directory_join(directory);
    struct record record;
    add(directory, BASE, 5, RECORD_FLAG_HIDDEN | 0x40);
    assert_int_equal(look(directory, reader, BASE, &record), DIRECTORY_NOT_REGISTERED);
    assert_int_equal(record.account, 0);
    assert_int_equal(record.flags, 0);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* Accounts of a full table, many of them not in their home lines, are hidden and shown again; each time lookups see
 * it, and writers see them all the time. */
static void test_hide_and_show(void **state)
{
    enum { NUMBERS = 20000 };
    (void)state;
    struct directory *directory = new_directory(0);
    struct epoch_reader *reader = directory_join(directory);
    struct directory_stats stats;
    struct record record;
    for (unsigned i = 0; i < NUMBERS; i++)
        assert_int_equal(add(directory, BASE + i, i, RECORD_FLAG_HIDDEN), DIRECTORY_ADDED);
    directory_stats(directory, &stats);
    assert_true(stats.spilled > NUMBERS / 100);
    assert_true(directory_check_shard(directory, 0));
    for (unsigned round = 0; round < 4; round++) {
        uint8_t flags = round % 2 == 0 ? 0 : RECORD_FLAG_HIDDEN;
        for (unsigned i = 0; i < NUMBERS; i++) {
            assert_int_equal(add(directory, BASE + i, i + round % 3, flags), DIRECTORY_REPLACED);
            assert_int_equal(look(directory, reader, BASE + i, &record),
                             flags == 0 ? DIRECTORY_REGISTERED : DIRECTORY_NOT_REGISTERED);
            assert_true(directory_read(directory, BASE + i, &record));
            assert_int_equal(record.account, i + round % 3);
        }
    }
    for (unsigned i = 0; i < NUMBERS; i++)
        assert_int_equal(directory_deregister(directory, BASE + i), DIRECTORY_REMOVED);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* A move takes account and flags along, within a shard and across shards, and refuses what it must. */
static void test_move(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 4; bits += 4) {
        struct directory *directory = new_directory(bits);
        struct epoch_reader *reader = directory_join(directory);
        struct record record;
        for (uint64_t i = 0; i < 200; i++)
            add(directory, BASE + i, i, 0);
        for (uint64_t i = 0; i < 200; i++) {
            assert_int_equal(directory_move(directory, BASE + i, BASE + 1000 + i), DIRECTORY_MOVED);
            assert_int_equal(look(directory, reader, BASE + i, &record), DIRECTORY_NOT_REGISTERED);
            assert_int_equal(look(directory, reader, BASE + 1000 + i, &record), DIRECTORY_REGISTERED);
            assert_int_equal(record.account, i);
        }
        assert_int_equal(directory_move(directory, BASE, BASE + 5), DIRECTORY_ABSENT);
        assert_int_equal(directory_move(directory, BASE + 1000, BASE + 1001), DIRECTORY_OCCUPIED);
        assert_int_equal(directory_move(directory, BASE + 1000, BASE + 1000), DIRECTORY_OCCUPIED);
        assert_int_equal(directory_move(directory, BASE + 1000, 1), DIRECTORY_INVALID_NUMBER);
        directory_leave(directory, reader);
        directory_destroy(directory);
    }
}

struct sum {
    uint64_t records;
    uint64_t accounts;
};

static bool add_to_sum(void *context, const struct record *record)
{
    struct sum *sum = context;
    sum->records++;
    sum->accounts += record->account;
    return true;
}

/* From empty to 200,000 in small shards: all found in batches of every odd size, all neighbours not; a
 * visit of the shards adds up to the same. */
static void test_growth_and_batches(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    struct directory *directory = new_directory(3);
    struct epoch_reader *reader = directory_join(directory);
    uint64_t *numbers = malloc(2 * COUNT * sizeof *numbers);
    uint8_t *answers = malloc(2 * COUNT);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(add(directory, BASE + 2 * i, i, 0), DIRECTORY_ADDED);
    for (uint64_t i = 0; i < 2 * COUNT; i++)
        numbers[i] = BASE + i;
    size_t batch = 1;
    for (size_t done = 0; done < 2 * COUNT; done += batch, batch += 2) {
        size_t size = batch < 2 * COUNT - done ? batch : 2 * COUNT - done;
        directory_lookup(directory, reader, numbers + done, size, answers + done);
    }
    for (uint64_t i = 0; i < 2 * COUNT; i++)
        assert_int_equal(answers[i], i % 2 == 0 ? DIRECTORY_REGISTERED : DIRECTORY_NOT_REGISTERED);

    struct directory_stats stats;
    directory_stats(directory, &stats);
    assert_int_equal(stats.records, COUNT);
    assert_true(stats.rebuilds > 8);
    assert_true((double)stats.records / (double)stats.slots > 0.70);
    struct sum sum = {0};
    for (unsigned shard = 0; shard < stats.shards; shard++)
        assert_true(directory_visit_shard(directory, shard, add_to_sum, &sum));
    assert_int_equal(sum.records, COUNT);
    assert_int_equal(sum.accounts, (uint64_t)COUNT * (COUNT - 1) / 2);
    free(numbers);
    free(answers);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* Numbers at all borders of validity: both ends of what begins with each three digits, in each length, and what lies around
 * powers of two; keys whose low 50 bits are a registered number; and random ones. Fills `numbers`. */
static size_t draw_borders(uint64_t *numbers, uint64_t registered)
{
    size_t count = 0;
    uint64_t random = 17;
    for (uint64_t scale = 1; scale <= UINT64_C(1000000000000); scale *= 10)
        for (uint64_t leading = 99; leading <= 1000; leading++)
            for (uint64_t step = 0; step < 2; step++)
                numbers[count++] = leading * scale - step;
    for (unsigned bit = 0; bit < 64; bit++)
        for (uint64_t step = 0; step < 3; step++)
            numbers[count++] = (UINT64_C(1) << bit) + step - 1;
    for (unsigned bit = 50; bit < 64; bit++)
        numbers[count++] = registered | UINT64_C(1) << bit;
    for (unsigned i = 0; i < 5000; i++)
        numbers[count++] = unit_random(&random) >> unit_random(&random) % 64;
    return count;
}

/* Every lookup variant finds valid what phone_check does, in batches and one by one, among empty slots (number 0) and
 * a registered number's likes. */
static void test_validity(void **state)
{
    (void)state;
    enum { MOST = 40000 };
    uint64_t *numbers = malloc(MOST * sizeof *numbers);
    uint8_t *answers = malloc(MOST);
    struct directory *directory = new_directory(2);
    struct epoch_reader *reader = directory_join(directory);
    add(directory, BASE, 1, 0);
    size_t count = draw_borders(numbers, BASE);
    assert_true(count <= MOST);
    directory_lookup(directory, reader, numbers, count, answers);
    for (size_t i = 0; i < count; i++) {
        uint8_t expected = phone_check(numbers[i]) != PHONE_OK ? DIRECTORY_INVALID
                           : numbers[i] == BASE                ? DIRECTORY_REGISTERED
                                                               : DIRECTORY_NOT_REGISTERED;
        uint8_t one;
        directory_lookup(directory, reader, &numbers[i], 1, &one);
        assert_int_equal(answers[i], expected);
        assert_int_equal(one, expected);
    }
    directory_leave(directory, reader);
    directory_destroy(directory);
    free(numbers);
    free(answers);
}

/* A batch of registrations gives what one by one would, in its order, also for a number that comes twice, for invalid
 * ones and while shards grow. */
static void test_register_batch(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct directory *directory = new_directory(3);
    struct epoch_reader *reader = directory_join(directory);
    struct record *records = malloc(COUNT * sizeof *records);
    uint8_t *results = malloc(COUNT);
    uint64_t random = 23;
    for (size_t size = 0, done = 0; done < COUNT; done += size, size++) {
        size = size < COUNT - done ? size : COUNT - done;
        for (size_t i = 0; i < size; i++)
            records[i] = (struct record){.number = unit_random(&random) % 50 == 0 ? 7 : BASE + (done + i) / 2,
                                         .account = done + i};
        directory_register_batch(directory, records, size, results);
        for (size_t i = 0; i < size; i++) {
            if (records[i].number == 7)
                assert_int_equal(results[i], DIRECTORY_INVALID_NUMBER);
            else if ((done + i) % 2 == 0)
                assert_int_equal(results[i], DIRECTORY_ADDED);
            else
                assert_true(results[i] == DIRECTORY_REPLACED || results[i] == DIRECTORY_ADDED);
        }
        for (size_t i = 0; i < size; i++) {
            struct record record;
            if (records[i].number != 7 && (i + 1 == size || records[i + 1].number != records[i].number)) {
                assert_int_equal(look(directory, reader, records[i].number, &record), DIRECTORY_REGISTERED);
                assert_int_equal(record.account, records[i].account);
            }
        }
    }
    free(records);
    free(results);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* A shard's records as a bulk: added, replaced and invalid ones are counted, and the last of one number stays. */
static void test_register_shard(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct directory *directory = new_directory(0);
    struct epoch_reader *reader = directory_join(directory);
    struct record *records = malloc(2 * COUNT * sizeof *records);
    struct directory_bulk bulk = {0};
    for (uint64_t i = 0; i < 2 * COUNT; i++)
        records[i] = (struct record){.number = i % COUNT == 7 ? 3 : BASE + i % COUNT, .account = i};
    directory_register_shard(directory, 0, records, 2 * COUNT, &bulk);
    assert_int_equal(bulk.added, COUNT - 1);
    assert_int_equal(bulk.replaced, COUNT - 1);
    assert_int_equal(bulk.invalid, 2);
    assert_int_equal(bulk.refused, 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        struct record record;
        if (i == 7)
            continue;
        assert_int_equal(look(directory, reader, BASE + i, &record), DIRECTORY_REGISTERED);
        assert_int_equal(record.account, COUNT + i);
    }
    free(records);
    directory_leave(directory, reader);
    directory_destroy(directory);
}

/* Long churn cleans filters up again and again; growth afterwards is what it is without it, and the shards stay
 * alike. */
static void test_growth_after_churn(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    struct directory *directory = new_directory(3);
    struct directory_stats stats;
    uint64_t first = BASE;
    uint64_t next = BASE;
    while (next < BASE + COUNT)
        add(directory, next++, 1, 0);
    directory_stats(directory, &stats);
    uint64_t rebuilds = stats.rebuilds;
    for (int i = 0; i < 20 * COUNT; i++) {
        assert_int_equal(directory_deregister(directory, first++), DIRECTORY_REMOVED);
        add(directory, next++, 1, 0);
    }
    directory_stats(directory, &stats);
    assert_true(stats.rebuilds > rebuilds + 40); /* five rounds of eight shards */
    for (int i = 0; i < COUNT; i++)
        add(directory, next++, 1, 0);
    directory_stats(directory, &stats);
    assert_int_equal(stats.records, 2 * COUNT);
    assert_true((double)stats.records / (double)stats.slots > 0.80);
    for (unsigned shard = 0; shard < stats.shards; shard++) {
        struct directory_stats own;
        directory_shard_stats(directory, shard, &own);
        assert_true((double)(own.slots * stats.shards) < 1.3 * (double)stats.slots);
    }
    directory_destroy(directory);
}

/* What doubles its tables as long as it is small has fewer rebuilds, and memory for twice as many numbers at most; then it grows as ever. */
static void test_doubling(void **state)
{
    (void)state;
    enum { COUNT = 40000, SLOTS = 1 << 14 };
    uint64_t rebuilds[2];
    for (int doubles = 0; doubles <= 1; doubles++) {
        struct directory *directory = directory_create(&(struct directory_options){
            .seed = 5, .shard_bits = 3, .accounts = true, .doubling_slots = doubles ? SLOTS : 0});
        assert_non_null(directory);
        struct directory_stats stats;
        for (uint64_t i = 0; i < COUNT; i++) {
            add(directory, BASE + i, 1, 0);
            directory_stats(directory, &stats);
            uint64_t room = doubles && i < SLOTS ? 5 * i / 2 : 5 * i / 4;
            assert_true(i < 1000 || stats.slots <= room);
        }
        rebuilds[doubles] = stats.rebuilds;
        directory_destroy(directory);
    }
    assert_true(rebuilds[1] < rebuilds[0] / 2);
}

/* --- readers beside writers --- */

enum { STABLE = 4000, CHURNED = 4000, NEVER = 4000, READERS = 2, WRITERS = 2 };

struct stress {
    struct directory *directory;
    atomic_bool stop;
};

/* Stable numbers have account = number ^ version << 56 for some version: a mixture of two would show. */
static void check_batch(const uint64_t *numbers, const uint8_t *answers, const struct record *records,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t offset = numbers[i] - BASE;
        if (offset < STABLE)
            assert_int_equal(answers[i], DIRECTORY_REGISTERED);
        if (offset >= STABLE + CHURNED)
            assert_int_equal(answers[i], DIRECTORY_NOT_REGISTERED);
        if (records != NULL && answers[i] == DIRECTORY_REGISTERED) {
            assert_int_equal(records[i].account & (UINT64_MAX >> 8), numbers[i]);
            assert_int_equal(records[i].account >> 56, records[i].flags >> 1);
        }
    }
}

static void *read_all_the_time(void *context)
{
    struct stress *stress = context;
    struct epoch_reader *reader = directory_join(stress->directory);
    uint64_t random = (uint64_t)(uintptr_t)reader;
    uint64_t numbers[100];
    uint8_t answers[100];
    struct record records[100];
    for (int round = 0; !atomic_load(&stress->stop); round++) {
        for (size_t i = 0; i < 100; i++)
            numbers[i] = BASE + unit_random(&random) % (STABLE + CHURNED + NEVER);
        if (round % 2 == 0) {
            directory_lookup(stress->directory, reader, numbers, 100, answers);
            check_batch(numbers, answers, NULL, 100);
        } else {
            directory_lookup_records(stress->directory, reader, numbers, 100, answers, records);
            check_batch(numbers, answers, records, 100);
        }
    }
    directory_leave(stress->directory, reader);
    return NULL;
}

static void *write_all_the_time(void *context)
{
    struct stress *stress = context;
    uint64_t random = (uint64_t)(uintptr_t)&random;
    for (int step = 0; step < 60000; step++) {
        uint64_t offset = unit_random(&random) % (STABLE + CHURNED);
        uint64_t number = BASE + offset;
        uint8_t version = unit_random(&random) & 0x7f;
        if (offset < STABLE || unit_random(&random) % 2 == 0)
            add(stress->directory, number, number | (uint64_t)version << 56, (uint8_t)(version << 1));
        else
            directory_deregister(stress->directory, number);
    }
    return NULL;
}

/* While two writers replace, add, remove and grow, registered numbers are always found with an account and
 * flags of one moment, and numbers that were never registered never. */
static void test_readers_beside_writers(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        struct stress stress = {.directory = new_directory(1)};
        for (uint64_t n = BASE; n < BASE + STABLE; n++)
            add(stress.directory, n, n, 0);
        pthread_t readers[READERS];
        pthread_t writers[WRITERS];
        for (int i = 0; i < READERS; i++)
            pthread_create(&readers[i], NULL, read_all_the_time, &stress);
        for (int i = 0; i < WRITERS; i++)
            pthread_create(&writers[i], NULL, write_all_the_time, &stress);
        for (int i = 0; i < WRITERS; i++)
            pthread_join(writers[i], NULL);
        atomic_store(&stress.stop, true);
        for (int i = 0; i < READERS; i++)
            pthread_join(readers[i], NULL);
        struct directory_stats stats;
        directory_stats(stress.directory, &stats);
        assert_true(stats.records >= STABLE && stats.records <= STABLE + CHURNED);
        directory_destroy(stress.directory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_register_and_deregister), cmocka_unit_test(test_hidden_is_not_registered),
        cmocka_unit_test(test_hide_and_show),           cmocka_unit_test(test_move),
        cmocka_unit_test(test_growth_and_batches),      cmocka_unit_test(test_validity),
        cmocka_unit_test(test_register_batch),          cmocka_unit_test(test_register_shard),
        cmocka_unit_test(test_growth_after_churn),      cmocka_unit_test(test_doubling),
        cmocka_unit_test(test_readers_beside_writers),
    };
    return cmocka_run_group_tests_name("directory", tests, NULL, NULL);
}
