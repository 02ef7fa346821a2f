/* The parts of the feed that need no Redis: entries, how far one has come, and jobs with their moves. */
#include "unit.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/directory.h"
#include "persist/registrations/feed_entry.h"
#include "persist/registrations/feed_jobs.h"
#include "persist/registrations/feed_map.h"
#include "persist/registrations/feed_state.h"

#define BASE UINT64_C(12025550000)

/* --- entries --- */

static void fill_entry(struct feed_entry *entry, size_t count, unsigned dependencies, uint64_t *random)
{
    *entry = (struct feed_entry){.writer = unit_random(random),
                                 .sequence = 1 + unit_random(random) % 1000,
                                 .dependencies = dependencies,
                                 .count = count};
    for (unsigned i = 0; i < dependencies; i++)
        entry->after[i] = (struct feed_position){unit_random(random), unit_random(random)};
    for (size_t i = 0; i < count; i++) {
        enum step_kind kind = (enum step_kind)(1 + unit_random(random) % 4);
        entry->steps[i] = (struct step){.kind = kind,
                                        .record = {.number = unit_random(random) >> 14,
                                                   .account = kind == STEP_REMOVE ? 0 : unit_random(random),
                                                   .flags = (uint8_t)unit_random(random)}};
    }
}

static void test_entries(void **state)
{
    (void)state;
    static struct feed_entry entry;
    static struct feed_entry again;
    static uint8_t bytes[FEED_ENTRY_BYTES_MAX];
    uint64_t random = 1;
    const size_t counts[] = {1, 2, 17, FEED_STEPS_MAX};
    for (size_t i = 0; i < 4; i++) {
        unsigned partitions = i % 2 == 0 ? 16 : FEED_PARTITIONS_MAX;
        fill_entry(&entry, counts[i], i < 2 ? 0 : partitions, &random);
        size_t length = feed_entry_encode(bytes, &entry);
        assert_true(length <= FEED_ENTRY_BYTES_MAX);
        assert_true(feed_entry_decode(&again, bytes, length, partitions));
        assert_int_equal(again.count, entry.count);
        assert_memory_equal(again.after, entry.after, entry.dependencies * sizeof *entry.after);
        for (size_t j = 0; j < entry.count; j++) {
            assert_int_equal(again.steps[j].kind, entry.steps[j].kind);
            assert_int_equal(again.steps[j].record.number, entry.steps[j].record.number);
            assert_int_equal(again.steps[j].record.account, entry.steps[j].record.account);
            assert_int_equal(again.steps[j].record.flags, entry.steps[j].record.flags);
        }
        /* Another count of partitions, a byte less, and each bit turned, are refused. */
        if (entry.dependencies > 0)
            assert_false(feed_entry_decode(&again, bytes, length, partitions - 1));
        assert_false(feed_entry_decode(&again, bytes, length - 1, partitions));
        for (size_t bit = 0; bit < 8 * (length < 200 ? length : 200); bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_false(feed_entry_decode(&again, bytes, length, partitions));
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_positions(void **state)
{
    (void)state;
    char text[FEED_POSITION_TEXT_BYTES];
    struct feed_position position;
    const struct feed_position great = {UINT64_MAX, UINT64_MAX};
    feed_position_format(text, &great);
    assert_string_equal(text, "18446744073709551615-18446744073709551615");
    assert_true(feed_position_parse(text, &position));
    assert_int_equal(feed_position_compare(&position, &great), 0);
    assert_true(feed_position_parse("12-3 rest", &position));
    assert_true(feed_position_compare(&position, &(struct feed_position){12, 4}) < 0);
    assert_true(feed_position_compare(&position, &(struct feed_position){11, 9}) > 0);
    const char *const wrong[] = {"", "12", "12-", "-3", "12-3x", "x12-3"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(feed_position_parse(wrong[i], &position));
}

/* Consecutive numbers, as countries give them out, are spread evenly. */
static void test_partitions(void **state)
{
    (void)state;
    size_t counts[16] = {0};
    for (uint64_t i = 0; i < 160000; i++)
        counts[partition_of(BASE + i, 16)]++;
    for (size_t i = 0; i < 16; i++)
        assert_true(counts[i] > 9500 && counts[i] < 10500);
    assert_int_equal(partition_of(BASE, 1), 0);
}

/* Every set of the first 12, and the longest text. */
static void test_sets(void **unused)
{
    (void)unused;
    char text[PARTITION_SET_TEXT_BYTES];
    struct partition_set set;
    struct partition_set again;
    for (unsigned bits = 1; bits < 1u << 12; bits++) {
        memset(&set, 0, sizeof set);
        for (unsigned i = 0; i < 12; i++)
            set.has[i] = bits >> i & 1;
        partition_set_format(text, &set, 12);
        assert_true(partition_set_parse(text, &again));
        assert_memory_equal(&set, &again, sizeof set);
        assert_int_equal(partition_set_count(&again, PARTITIONS_MAX), __builtin_popcount(bits));
    }
    for (unsigned i = 0; i < PARTITIONS_MAX; i++)
        set.has[i] = i % 3 != 2;
    partition_set_format(text, &set, PARTITIONS_MAX);
    assert_true(strlen(text) > 600 && partition_set_parse(text, &again));
    assert_memory_equal(&set, &again, sizeof set);
    memset(&set, 0, sizeof set);
    partition_set_format(text, &set, PARTITIONS_MAX);
    assert_string_equal(text, "-");
    const char *const wrong[] = {"",   "-",  "1-",   "-1", "2-1", "256",        "0-256",
                                 "1,", ",1", "1,,2", "1 ", "x",   "99999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(partition_set_parse(wrong[i], &again));
    assert_true(partition_set_parse("7,0-2,1", &again) && partition_set_count(&again, PARTITIONS_MAX) == 4);
}

/* --- how far --- */

static struct feed_entry entry_of(uint64_t writer, uint64_t sequence)
{
    return (struct feed_entry){.writer = writer, .sequence = sequence};
}

static void carry(struct feed_state *state, unsigned partition, uint64_t writer, uint64_t sequence,
                  uint64_t ms)
{
    struct feed_entry entry = entry_of(writer, sequence);
    struct change marks[FEED_ENTRY_MARKS];
    struct feed_position position = {ms, 1};
    bool is_new = feed_state_is_new(state, partition, &entry);
    assert_int_equal(feed_state_entry_marks(marks, partition, &entry, &position, is_new), is_new ? 2 : 1);
    assert_true(feed_state_reserve(state, partition));
    feed_state_advance(state, partition, &entry, &position, is_new);
}

static bool is_new(const struct feed_state *state, unsigned partition, uint64_t writer, uint64_t sequence)
{
    struct feed_entry entry = entry_of(writer, sequence);
    return feed_state_is_new(state, partition, &entry);
}

static void test_repeated_entries(void **unused)
{
    (void)unused;
    struct feed_state state = {.feed = 7, .partitions = 4};
    carry(&state, 2, 100, 1, 1000);
    carry(&state, 2, 100, 2, 1001);
    carry(&state, 2, 200, 1, 1002);
    assert_false(is_new(&state, 2, 100, 1));
    assert_false(is_new(&state, 2, 100, 2));
    assert_true(is_new(&state, 2, 100, 3));
    assert_false(is_new(&state, 2, 100, 4)); /* ahead of one that is not there */
    assert_false(is_new(&state, 2, 200, 1));
    assert_true(is_new(&state, 1, 100, 1)); /* of another partition */
    /* One that is repeated moves the position alone. */
    carry(&state, 2, 100, 1, 1003);
    assert_int_equal(state.progress[2].position.ms, 1003);
    assert_true(is_new(&state, 2, 100, 3));
    /* Who was silent for a day is forgotten, who was not is known. */
    carry(&state, 2, 200, 2, 1003 + FEED_WRITER_FORGOTTEN_MS);
    assert_int_equal(state.progress[2].count, 1);
    assert_false(is_new(&state, 2, 200, 2));
    feed_state_deinit(&state);
}

/* All of it as marks, and read back; and what follows an entry, mark by mark. */
static void test_marks(void **unused)
{
    (void)unused;
    struct feed_state state = {.feed = UINT64_MAX, .partitions = FEED_PARTITIONS_MAX};
    struct feed_state again = {.feed = 1, .partitions = 1};
    size_t count;
    for (unsigned i = 0; i < FEED_PARTITIONS_MAX; i++)
        feed_state_follow(&state, i);
    for (unsigned i = 0; i < 1000; i++) /* each writer's next ones */
        carry(&state, i % FEED_PARTITIONS_MAX, i / FEED_PARTITIONS_MAX % 2, 1 + i / FEED_PARTITIONS_MAX / 2,
              5000 + i);
    struct change *marks = feed_state_marks(&state, &count);
    assert_non_null(marks);
    for (int times = 0; times < 2; times++) /* twice is as good as once */
        for (size_t i = 0; i < count; i++)
            feed_state_take(&again, &marks[i]);
    free(marks);
    struct feed_entry entry = entry_of(99, (UINT64_C(1) << 48) - 1);
    const struct feed_position position = {UINT64_MAX, (UINT64_C(1) << 48) - 1};
    struct change two[FEED_ENTRY_MARKS];
    assert_int_equal(feed_state_entry_marks(two, 255, &entry, &position, true), 2);
    feed_state_take(&again, &two[0]);
    feed_state_take(&again, &two[1]);
    assert_false(again.has_failed);
    assert_true(again.feed == state.feed && again.partitions == state.partitions);
    for (unsigned i = 0; i < 255; i++) {
        assert_int_equal(feed_position_compare(&again.progress[i].position, &state.progress[i].position), 0);
        for (uint64_t writer = 0; writer < 3; writer++)
            for (uint64_t sequence = 1; sequence <= 4; sequence++)
                assert_int_equal(is_new(&again, i, writer, sequence), is_new(&state, i, writer, sequence));
    }
    assert_int_equal(feed_position_compare(&again.progress[255].position, &position), 0);
    assert_false(is_new(&again, 255, 99, entry.sequence));
    feed_state_deinit(&state);
    feed_state_deinit(&again);
}

static void take_all(struct feed_state *to, const struct feed_state *from)
{
    size_t count;
    struct change *marks = feed_state_marks(from, &count);
    assert_non_null(marks);
    for (size_t i = 0; i < count; i++)
        feed_state_take(to, &marks[i]);
    free(marks);
}

/* A partition that is left is forgotten at once, and leaving it outlives whatever is read back in between. */
static void test_leaving(void **unused)
{
    (void)unused;
    struct feed_state state = {.feed = 7, .partitions = 4};
    struct feed_state again = {0};
    const struct partition_set first = {.has = {true, true}};
    carry(&state, 0, 1, 1, 1000);
    carry(&state, 1, 1, 1, 1000);
    assert_false(feed_state_follows(&state, &first)); /* what carries out has begun to follow before */
    for (unsigned i = 0; i < 2; i++)
        feed_state_follow(&state, i);
    take_all(&again, &state);
    assert_true(feed_state_follows(&again, &first));
    assert_false(again.progress[2].is_followed);
    struct change mark = feed_state_leave(&state, 1, false);
    feed_state_take(&again, &mark);
    for (int times = 0; times < 2; times++) {
        assert_true(again.progress[1].is_leaving && again.progress[1].position.ms == 0);
        assert_true(is_new(&again, 1, 1, 1) && !is_new(&again, 0, 1, 1));
        assert_false(feed_state_follows(&again, &first));
        feed_state_deinit(&again);
        take_all(&again, &state);
    }
    mark = feed_state_leave(&state, 1, true);
    feed_state_take(&again, &mark);
    assert_false(again.progress[1].is_leaving || again.progress[1].is_followed || again.has_failed);
    feed_state_follow(&again, 1);
    assert_true(feed_state_follows(&again, &first));
    feed_state_deinit(&state);
    feed_state_deinit(&again);
}

/* --- who holds what --- */

static redisReply *text_reply(const char *text)
{
    redisReply *reply = calloc(1, sizeof *reply);
    assert_non_null(reply);
    reply->type = REDIS_REPLY_STRING;
    reply->str = strdup(text);
    reply->len = strlen(text);
    return reply;
}

/* What nodes say; what is nonsense is left out. */
static void test_map(void **unused)
{
    (void)unused;
    const char *const texts[] = {
        "a1", "{\"said_at_ms\":95000,\"lookups\":\"h:1\",\"state\":\"followed\",\"holds\":\"0-2\"}", "b2",
        "{\"said_at_ms\":80000,\"lookups\":\"h:2\",\"state\":\"followed\",\"holds\":\"3\"}", "c3",
        "{\"said_at_ms\":99999,\"lookups\":\"h:3\",\"state\":\"catching up\",\"holds\":\"0-3\"}", "d4",
        "{\"said_at_ms\":99999,\"lookups\":\"a b\",\"state\":\"followed\",\"holds\":\"0\"}", "e5",
        "{\"said_at_ms\":99999,\"lookups\":\"h:5\",\"state\":\"followed\",\"holds\":\"0;1\"}", "f6",
        "{\"said_at_ms\":99999,\"lookups\":\"h:6\",\"state\":\"followed\"}", "g7", "no json",
        /* One that was where another is now, and two that are nowhere. */
        "h8", "{\"said_at_ms\":94000,\"lookups\":\"h:1\",\"state\":\"followed\",\"holds\":\"3\"}", "i9",
        "{\"said_at_ms\":99000,\"lookups\":\"-\",\"state\":\"followed\",\"holds\":\"3\"}", "j0",
        "{\"said_at_ms\":99000,\"lookups\":\"-\",\"state\":\"followed\",\"holds\":\"2\"}",
        "a node with much too long a name for the place",
        "{\"said_at_ms\":95000,\"lookups\":\"h:1\",\"state\":\"followed\",\"holds\":\"0-2\"}"};
    redisReply *all = calloc(1, sizeof *all);
    assert_non_null(all);
    all->type = REDIS_REPLY_ARRAY;
    all->elements = sizeof texts / sizeof texts[0];
    all->element = calloc(all->elements, sizeof *all->element);
    assert_non_null(all->element);
    for (size_t i = 0; i < all->elements; i++)
        all->element[i] = text_reply(texts[i]);
    struct feed_map *map = feed_map_create(all, 0xf, 4, 9, 100000);
    assert_non_null(map);
    char *text = feed_map_text(map);
    assert_string_equal(text, "feed 000000000000000f\nversion 9\npartitions 4\nnode a1 h:1 ready 0-2\nnode "
                              "b2 h:2 away 3\nnode c3 h:3 away 0-3\n");
    struct feed_map *later = feed_map_create(all, 0xf, 4, 9, 100000);
    freeReplyObject(all);
    assert_non_null(later);
    assert_true(feed_map_serves(later, "a1", 2));
    later->nodes[1].said_ms++;
    later->nodes[1].is_ready = true;
    feed_map_distrust(later, map); /* b2 has said something since, and a1 has not */
    assert_false(feed_map_serves(later, "a1", 2));
    assert_true(feed_map_serves(later, "b2", 3));
    free(later);
    assert_true(feed_map_serves(map, "a1", 2));
    assert_true(feed_map_serves(map, "i9", 3) && feed_map_serves(map, "j0", 2));
    assert_false(feed_map_serves(map, "h8", 3) || feed_map_serves(map, "a1", 3) ||
                 feed_map_serves(map, "b2", 3) || feed_map_serves(map, "c3", 0) ||
                 feed_map_serves(map, "zz", 0));
    free(text);
    free(map);
}

/* --- jobs --- */

#define NUMBERS 40u

/* A feed with one writer: what is appended waits, and is carried out on a table of accounts, 0 being none. */
struct world {
    uint64_t accounts[NUMBERS];
    struct waiting {
        struct feed_job *job;
        size_t index;
        struct step step;
    } waiting[1000];
    size_t count;
    bool is_short; /* of memory */
};

static bool read_account(void *context, uint64_t number, struct record *record)
{
    const struct world *world = context;
    *record = (struct record){.number = number, .account = world->accounts[number - BASE]};
    return record->account != 0;
}

static bool append(void *context, struct feed_job *job, size_t index, const struct step *step)
{
    struct world *world = context;
    if (world->is_short)
        return false;
    world->waiting[world->count++] = (struct waiting){job, index, *step};
    return true;
}

static uint8_t carry_step(struct world *world, const struct step *step)
{
    uint64_t *account = &world->accounts[step->record.number - BASE];
    bool was_there = *account != 0;
    switch (step->kind) {
    case STEP_SET:
        *account = step->record.account;
        return was_there ? DIRECTORY_REPLACED : DIRECTORY_ADDED;
    case STEP_REMOVE:
        *account = 0;
        return was_there ? DIRECTORY_REMOVED : DIRECTORY_ABSENT;
    case STEP_ADD:
        if (!was_there)
            *account = step->record.account;
        return was_there ? DIRECTORY_OCCUPIED : DIRECTORY_ADDED;
    case STEP_RELEASE:
        if (*account != step->record.account)
            return DIRECTORY_ABSENT;
        *account = 0;
        return DIRECTORY_REMOVED;
    }
    return DIRECTORY_NO_MEMORY;
}

/* All that waits. */
static void carry_all(struct world *world)
{
    for (size_t i = 0; i < world->count; i++)
        feed_job_settle(world->waiting[i].job, world->waiting[i].index,
                        carry_step(world, &world->waiting[i].step));
    world->count = 0;
}

static unsigned run_job(struct world *world, struct feed_job *job)
{
    const struct feed_job_hands hands = {read_account, append, world};
    unsigned rounds = 0;
    while (!feed_job_advance(job, &hands)) {
        carry_all(world);
        rounds++;
    }
    return rounds;
}

static void test_steps(void **state)
{
    (void)state;
    struct world world = {0};
    const struct step steps[] = {{STEP_SET, {BASE, 1, 0}},
                                 {STEP_SET, {5, 1, 0}},
                                 {STEP_SET, {BASE, 2, 0}},
                                 {STEP_REMOVE, {BASE, 0, 0}},
                                 {STEP_REMOVE, {BASE + 1, 0, 0}}};
    struct feed_job *job = feed_job_create(steps, 5);
    assert_int_equal(run_job(&world, job), 1);
    const uint8_t expected[] = {DIRECTORY_ADDED, DIRECTORY_INVALID_NUMBER, DIRECTORY_REPLACED,
                                DIRECTORY_REMOVED, DIRECTORY_ABSENT};
    assert_memory_equal(job->results, expected, sizeof expected);
    feed_job_destroy(job);
    world.is_short = true;
    job = feed_job_create(steps, 5);
    assert_int_equal(run_job(&world, job), 0);
    assert_int_equal(job->results[0], DIRECTORY_NO_MEMORY);
    feed_job_destroy(job);
}

/* Any moves, one request after the other, come to what a table says that makes them one by one. */
static void test_moves(void **state)
{
    (void)state;
    uint64_t random = 3;
    struct world world = {0};
    uint64_t model[NUMBERS] = {0};
    for (size_t i = 0; i < NUMBERS / 2; i++)
        world.accounts[2 * i] = model[2 * i] = i + 1;
    for (unsigned round = 0; round < 300; round++) {
        struct feed_pair pairs[60];
        uint8_t expected[60];
        size_t count = 1 + unit_random(&random) % 60;
        for (size_t i = 0; i < count; i++) {
            size_t from = unit_random(&random) % NUMBERS;
            size_t to = unit_random(&random) % NUMBERS;
            pairs[i] = (struct feed_pair){BASE + from, BASE + to};
            expected[i] = model[from] == 0 ? DIRECTORY_ABSENT
                          : model[to] != 0 ? DIRECTORY_OCCUPIED
                                           : DIRECTORY_MOVED;
            if (expected[i] == DIRECTORY_MOVED) {
                model[to] = model[from];
                model[from] = 0;
            }
        }
        struct feed_job *job = feed_job_create_moves(pairs, count);
        run_job(&world, job);
        assert_memory_equal(job->results, expected, count);
        assert_memory_equal(world.accounts, model, sizeof model);
        feed_job_destroy(job);
    }
}

/* Those that have no number in common take two trips together. */
static void test_moves_together(void **state)
{
    (void)state;
    struct world world = {0};
    struct feed_pair pairs[NUMBERS / 2];
    for (size_t i = 0; i < NUMBERS / 2; i++) {
        world.accounts[2 * i] = i + 1;
        pairs[i] = (struct feed_pair){BASE + 2 * i, BASE + 2 * i + 1};
    }
    struct feed_job *job = feed_job_create_moves(pairs, NUMBERS / 2);
    assert_int_equal(run_job(&world, job), 2);
    feed_job_destroy(job);
}

/* Somebody else changes the old number between the two steps: the move is undone, and both are as that one left them. */
static void test_move_is_overtaken(void **state)
{
    (void)state;
    struct world world = {.accounts = {1}};
    const struct feed_job_hands hands = {read_account, append, &world};
    struct feed_job *job = feed_job_create_moves(&(struct feed_pair){BASE, BASE + 1}, 1);
    assert_false(feed_job_advance(job, &hands));
    carry_all(&world);
    assert_true(world.accounts[0] == 1 && world.accounts[1] == 1); /* at no moment neither */
    world.accounts[0] = 9;
    assert_false(feed_job_advance(job, &hands));
    carry_all(&world);
    assert_false(feed_job_advance(job, &hands));
    carry_all(&world);
    assert_true(feed_job_advance(job, &hands));
    assert_int_equal(job->results[0], DIRECTORY_NO_MEMORY);
    assert_true(world.accounts[0] == 9 && world.accounts[1] == 0);
    feed_job_destroy(job);
}

/* The new number was taken in between. */
static void test_move_comes_too_late(void **state)
{
    (void)state;
    struct world world = {.accounts = {1}};
    const struct feed_job_hands hands = {read_account, append, &world};
    struct feed_job *job = feed_job_create_moves(&(struct feed_pair){BASE, BASE + 1}, 1);
    assert_false(feed_job_advance(job, &hands));
    world.accounts[1] = 5;
    carry_all(&world);
    assert_true(feed_job_advance(job, &hands));
    assert_int_equal(job->results[0], DIRECTORY_OCCUPIED);
    assert_true(world.accounts[0] == 1 && world.accounts[1] == 5);
    feed_job_destroy(job);
}

/* One that is cut ends what it has begun, and begins nothing more. */
static void test_cut(void **state)
{
    (void)state;
    struct world world = {.accounts = {1}};
    const struct feed_job_hands hands = {read_account, append, &world};
    const struct feed_pair pairs[] = {{BASE, BASE + 1}, {BASE + 1, BASE + 2}};
    struct feed_job *job = feed_job_create_moves(pairs, 2);
    assert_false(feed_job_advance(job, &hands));
    feed_job_cut(job);
    carry_all(&world);
    run_job(&world, job);
    assert_true(world.accounts[0] == 0 && world.accounts[1] == 1 && world.accounts[2] == 0);
    feed_job_destroy(job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_entries),
                                       cmocka_unit_test(test_positions),
                                       cmocka_unit_test(test_partitions),
                                       cmocka_unit_test(test_repeated_entries),
                                       cmocka_unit_test(test_marks),
                                       cmocka_unit_test(test_sets),
                                       cmocka_unit_test(test_leaving),
                                       cmocka_unit_test(test_map),
                                       cmocka_unit_test(test_steps),
                                       cmocka_unit_test(test_moves),
                                       cmocka_unit_test(test_moves_together),
                                       cmocka_unit_test(test_move_is_overtaken),
                                       cmocka_unit_test(test_move_comes_too_late),
                                       cmocka_unit_test(test_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
