/* hashing/table against a plain map: random inserts, replacements and removals, checked slot by slot. */
#include "hashing/table.h"

#include <stdlib.h>
#include <string.h>

#include "hashing/layout.h"
#include "hashing/lookup.h"
#include "hashing/phone.h"
#include "unit.h"

#define SEED UINT64_C(0x5eed)
#define UNIVERSE 4000

/* The model: an array indexed by number - BASE; account 0 means "not there". */
#define BASE UINT64_C(4915100000000)

/* A table alone, with all that a directory would bring. */
struct fixture {
    struct arena *arena;
    _Atomic uint64_t moves;
    struct table *table;
};

static struct table *set_up(struct fixture *fixture, size_t slots, bool accounts)
{
    *fixture = (struct fixture){.arena = arena_create(0)};
    assert_non_null(fixture->arena);
    fixture->table = table_create(
        slots, &(struct table_family){
                   .arena = fixture->arena, .moves = &fixture->moves, .seed = SEED, .accounts = accounts});
    assert_non_null(fixture->table);
    return fixture->table;
}

static void tear_down(struct fixture *fixture)
{
    table_destroy(fixture->table);
    arena_destroy(fixture->arena);
}

struct model {
    struct record records[UNIVERSE];
    size_t count;
};

static void check_against_model(const struct table *table, const struct model *model)
{
    assert_int_equal(table_stats(table)->records, model->count);
    for (size_t i = 0; i < UNIVERSE; i++) {
        uint64_t number = BASE + i;
        uint64_t hash = table_hash(number, SEED);
        struct record found;
        uint8_t flags;
        bool there = model->records[i].number != 0;
        assert_int_equal(table_find_record(table, hash, number, &found), there);
        assert_int_equal(table_find(table, hash, number, &flags), there);
        if (!there)
            continue;
        assert_int_equal(found.number, number);
        assert_int_equal(found.account, model->records[i].account);
        assert_int_equal(found.flags, model->records[i].flags);
        assert_int_equal(flags, model->records[i].flags);
    }
}

static void random_step(struct table *table, struct model *model, uint64_t *random)
{
    size_t i = unit_random(random) % UNIVERSE;
    uint64_t hash = table_hash(BASE + i, SEED);
    struct record old = {0};
    struct record *expected = &model->records[i];
    if (unit_random(random) % 3 == 0) {
        assert_int_equal(table_remove(table, hash, BASE + i, &old), expected->number != 0);
        assert_int_equal(old.account, expected->account);
        model->count -= expected->number != 0;
        *expected = (struct record){0};
        return;
    }
    struct record record = {
        .number = BASE + i, .account = unit_random(random), .flags = (uint8_t)unit_random(random)};
    enum table_insert_result result = table_insert(table, hash, &record, &old);
    if (result == TABLE_FULL) {
        assert_int_equal(expected->number, 0);
        return;
    }
    assert_int_equal(result, expected->number != 0 ? TABLE_REPLACED : TABLE_ADDED);
    assert_int_equal(old.account, expected->account);
    model->count += expected->number == 0;
    *expected = record;
}

/* A long random history in a table too small for all of it: never a wrong answer, also when full. */
static void test_model(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 8, 64, 1000, 2500, 6000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct fixture fixture;
        struct table *table = set_up(&fixture, sizes[s], true);
        struct model *model = calloc(1, sizeof *model);
        uint64_t random = sizes[s];
        for (int round = 0; round < 20; round++) {
            for (int step = 0; step < 5000; step++)
                random_step(table, model, &random);
            check_against_model(table, model);
        }
        tear_down(&fixture);
        free(model);
    }
}

/* Consecutive numbers, numbers of one prefix and random ones all fill the table above 0.95 before it is full.
 */
static void test_fill_of_patterns(void **state)
{
    (void)state;
    for (int pattern = 0; pattern < 3; pattern++) {
        size_t slots = 100000;
        struct fixture fixture;
        struct table *table = set_up(&fixture, slots, false);
        uint64_t random = 7;
        size_t added = 0;
        for (;; added++) {
            uint64_t number = pattern == 0   ? BASE + added
                              : pattern == 1 ? BASE + added * 1000
                                             : PHONE_KEY_MIN + unit_random(&random) % (PHONE_KEY_MAX / 2);
            struct record record = {.number = number};
            if (table_insert(table, table_hash(number, SEED), &record, NULL) == TABLE_FULL)
                break;
        }
        assert_true(added > slots * 95 / 100);
        tear_down(&fixture);
    }
}

static bool count_visit(void *context, const struct record *record)
{
    assert_int_equal(record->account, record->number + 1);
    return --*(int *)context > 0;
}

/* A visit sees each record once and stops when told. */
static void test_visit(void **state)
{
    (void)state;
    struct fixture fixture;
    struct table *table = set_up(&fixture, 100, true);
    for (uint64_t n = BASE; n < BASE + 50; n++) {
        struct record record = {.number = n, .account = n + 1};
        assert_int_equal(table_insert(table, table_hash(n, SEED), &record, NULL), TABLE_ADDED);
    }
    int left = 51;
    assert_true(table_visit(table, count_visit, &left));
    assert_int_equal(left, 1);
    left = 10;
    assert_false(table_visit(table, count_visit, &left));
    tear_down(&fixture);
}

/* Removing spilled numbers wears the filter; fresh tables are not worn. */
static void test_wear(void **state)
{
    (void)state;
    struct fixture fixture;
    struct table *table = set_up(&fixture, 8000, false);
    assert_false(table_is_worn(table));
    uint64_t next = BASE;
    for (int round = 0; round < 100 && !table_is_worn(table); round++) {
        for (int i = 0; i < 7500; i++) {
            struct record record = {.number = next + (uint64_t)i};
            assert_int_not_equal(table_insert(table, table_hash(record.number, SEED), &record, NULL),
                                 TABLE_FULL);
        }
        for (int i = 0; i < 7500; i++, next++)
            assert_true(table_remove(table, table_hash(next, SEED), next, NULL));
    }
    assert_true(table_is_worn(table));
    tear_down(&fixture);
}

static unsigned count_marks(const struct table *table)
{
    const uint64_t *words = table_memory(table);
    unsigned marks = 0;
    for (size_t i = 0; i < table_slots(table); i++)
        marks += (unsigned)__builtin_popcountll(words[i] & LAYOUT_MARK_MASK);
    return marks;
}

/* Hidden accounts leave no mark where they spill, be they put there, pushed there or copied: a lookup that does not find
 * one reads as many lines as for a number that is not there. Shown, they have one. */
static void test_hidden_leave_no_mark(void **state)
{
    enum { SLOTS = 8000, NUMBERS = 7600 };
    (void)state;
    struct fixture fixture;
    struct table *table = set_up(&fixture, SLOTS, false);
    struct table *copy = table_create(
        SLOTS, &(struct table_family){.arena = fixture.arena, .moves = &fixture.moves, .seed = SEED});
    assert_non_null(copy);
    for (uint64_t number = BASE; number < BASE + NUMBERS; number++) {
        struct record record = {.number = number, .flags = RECORD_FLAG_HIDDEN};
        assert_int_equal(table_insert(table, table_hash(number, SEED), &record, NULL), TABLE_ADDED);
    }
    assert_true(table_copy(table, copy));
    assert_true(table_stats(table)->moved > 0);
    assert_true(table_stats(copy)->spilled > NUMBERS / 10);
    assert_int_equal(count_marks(table) + count_marks(copy), 0);
    for (uint64_t number = BASE; number < BASE + NUMBERS; number++) {
        struct record record = {.number = number};
        assert_int_equal(table_insert(table, table_hash(number, SEED), &record, NULL), TABLE_REPLACED);
    }
    assert_true(count_marks(table) > NUMBERS / 20); /* some share one */
    table_destroy(copy);
    tear_down(&fixture);
}

/* Which lines are full is known without a look; of a table that came as an image it is counted when somebody asks. Both
 * ways the same numbers find room, whatever was removed before. */
static void test_full_lines(void **state)
{
    enum { SLOTS = 4096, PUT = 3900, REMOVED = 400 };
    struct fixture fixture;
    struct table *table = set_up(&fixture, SLOTS, true);
    (void)state;
    for (uint64_t number = BASE; number < BASE + PUT; number++) {
        struct record record = {.number = number, .account = number};
        assert_int_equal(table_insert(table, table_hash(number, SEED), &record, NULL), TABLE_ADDED);
    }
    for (uint64_t number = BASE; number < BASE + REMOVED; number++)
        assert_true(table_remove(table, table_hash(number, SEED), number, NULL));
    struct table_image image = table_image(table);
    struct table *loaded = table_create_for(
        &image, &(struct table_family){
                    .arena = fixture.arena, .moves = &fixture.moves, .seed = SEED, .accounts = true});
    assert_non_null(loaded);
    memcpy(table_memory(loaded), table_memory(table), table_image_bytes(&image, true));
    for (uint64_t number = BASE + PUT; number < BASE + PUT + REMOVED; number++) {
        struct record record = {.number = number, .account = number};
        uint64_t hash = table_hash(number, SEED);
        assert_int_equal(table_insert(table, hash, &record, NULL), TABLE_ADDED);
        assert_int_equal(table_insert(loaded, hash, &record, NULL), TABLE_ADDED);
    }
    assert_true(table_stats(loaded)->moved > REMOVED / 8);
    assert_int_equal(table_stats(loaded)->records, table_stats(table)->records);
    assert_memory_equal(table_memory(loaded), table_memory(table), table_image_bytes(&image, true));
    assert_true(table_finds_all(loaded));
    table_destroy(loaded);
    tear_down(&fixture);
}

/* The look that this processor's variant has is the scalar one's. */
static void test_looks_agree(void **state)
{
    const struct lookup_variant *variant = lookup_choose();
    _Alignas(64) struct line lines[2];
    uint64_t random = 4;
    (void)state;
    for (unsigned round = 0; round < 10000; round++) {
        for (unsigned i = 0; i < 2 * TABLE_SLOTS_PER_LINE; i++) {
            uint64_t number = unit_random(&random) % 4 == 0 ? 0 : BASE + unit_random(&random) % 16;
            uint64_t rest = unit_random(&random);
            atomic_store(&lines[i / TABLE_SLOTS_PER_LINE].words[i % TABLE_SLOTS_PER_LINE],
                         layout_word(number, (uint8_t)rest, rest >> 8 & LAYOUT_MARK_MASK));
        }
        uint64_t wanted = BASE + unit_random(&random) % 16;
        assert_int_equal(variant->look(&lines[0], &lines[1], wanted),
                         lookup_look_scalar(&lines[0], &lines[1], wanted));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_fill_of_patterns),
        cmocka_unit_test(test_visit),
        cmocka_unit_test(test_wear),
        cmocka_unit_test(test_hidden_leave_no_mark),
        cmocka_unit_test(test_full_lines),
        cmocka_unit_test(test_looks_agree),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
