/* Are the directory's answers those of one table in one order of events? A million numbers, each with a history of
 * registrations, replacements, hidings and removals by one writer, while readers look them up, the directory grows and numbers
 * are pushed to and fro. All calls are recorded with the moments when they began and ended; afterwards each answer is
 * held against its number's history: it must be what was true at some moment between its lookup's beginning and end.
 *
 * The million is made of rounds with a small directory each, so that a number that is just being moved has a good chance
 * of being looked up just then. Each of these changes made the test fail: a slot cleared before its number is copied,
 * `moves` not raised for a move, no wait for readers before a table is freed, and, a mistake that it found, a number's
 * second line looked for in a newer table than its first. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "hashing/directory.h"
#include "unit.h"

enum {
    ROUNDS = 256,
    NUMBERS = 4096, /* of each round */
    CHANGES = 6,    /* of each number */
    WRITERS = 2,
    READERS = 2,
    BATCH = 32,
    OBSERVATIONS = 400000 /* a reader and round at most */
};

#define BASE UINT64_C(491700000000)
#define ABSENT 0 /* a state; otherwise the version, which account and flags carry */

/* A change of a number's state, and when its call began and ended, in ticks of the common clock. A hidden number is
 * ABSENT to those who look it up. */
struct entry {
    uint32_t began;
    uint32_t ended;
    uint8_t state;
    bool hidden;
};

struct observation {
    uint32_t number;
    uint32_t began;
    uint32_t ended;
    uint8_t state;
};

struct recorder {
    struct directory *directory;
    _Atomic uint32_t clock;
    atomic_int writers_left;
    _Atomic uint32_t position[WRITERS]; /* where each writer is, so that readers look there */
    struct entry (*histories)[CHANGES];
};

struct thread {
    struct recorder *recorder;
    unsigned index;
    struct observation *observations;
    size_t count;
};

static uint32_t tick(struct recorder *recorder)
{
    return atomic_fetch_add(&recorder->clock, 1) + 1;
}

/* The number's next state: registered first, then now and then removed or hidden. */
static uint8_t next_state(unsigned change, uint8_t before, uint64_t *random)
{
    if (before != ABSENT && unit_random(random) % 2 == 0)
        return ABSENT;
    return (uint8_t)(change + 1);
}

static void make_change(struct recorder *recorder, uint32_t number, unsigned change, uint64_t *random)
{
    struct entry *history = recorder->histories[number];
    struct entry before = change == 0 ? (struct entry){.state = ABSENT} : history[change - 1];
    uint8_t state = next_state(change, before.state, random);
    bool hide = state == ABSENT && unit_random(random) % 2 == 0;
    bool remove = state == ABSENT && !hide;
    uint8_t flags = (uint8_t)(hide ? RECORD_FLAG_HIDDEN : state << 1);
    enum directory_result result;
    uint32_t began = tick(recorder);
    if (remove)
        result = directory_deregister(recorder->directory, BASE + number);
    else
        result = directory_register(recorder->directory,
                                    &(struct record){BASE + number, (uint64_t)state << 32 | number, flags});
    history[change] = (struct entry){began, tick(recorder), state, hide};
    assert_int_equal(result, remove                                     ? DIRECTORY_REMOVED
                             : before.state == ABSENT && !before.hidden ? DIRECTORY_ADDED
                                                                        : DIRECTORY_REPLACED);
}

/* Each writer has every WRITERS-th number, so each history has one writer. The first pass grows the directory, the
 * others change what is there. */
static void *write_histories(void *context)
{
    struct thread *thread = context;
    struct recorder *recorder = thread->recorder;
    uint64_t random = thread->index;
    for (unsigned change = 0; change < CHANGES; change++) {
        for (uint32_t number = thread->index; number < NUMBERS; number += WRITERS) {
            atomic_store_explicit(&recorder->position[thread->index], number, memory_order_relaxed);
            make_change(recorder, number, change, &random);
        }
    }
    atomic_fetch_sub(&recorder->writers_left, 1);
    return NULL;
}

/* Now what is being changed just now or soon, now any. */
static uint32_t draw_number(const struct recorder *recorder, uint64_t *random)
{
    uint64_t bits = unit_random(random);
    if (bits % 2 == 0)
        return (uint32_t)(bits >> 32) % NUMBERS;
    uint32_t position = atomic_load_explicit(&recorder->position[bits / 2 % WRITERS], memory_order_relaxed);
    return (position + (uint32_t)(bits >> 32) % 64 * WRITERS) % NUMBERS;
}

static uint8_t state_of(uint8_t answer, const struct record *record)
{
    if (answer != DIRECTORY_REGISTERED)
        return ABSENT;
    assert_int_equal(record->account & UINT32_MAX, record->number - BASE);
    assert_int_equal(record->account >> 32, record->flags >> 1);
    return record->flags >> 1;
}

/* Every second batch asks for records; the others only say whether a number is registered, which is state 255 here. */
static void *read_histories(void *context)
{
    struct thread *thread = context;
    struct recorder *recorder = thread->recorder;
    struct epoch_reader *reader = directory_join(recorder->directory);
    uint64_t random = 100 + thread->index;
    uint64_t numbers[BATCH];
    uint8_t answers[BATCH];
    struct record records[BATCH];
    for (unsigned round = 0; atomic_load(&recorder->writers_left) > 0; round++) {
        bool with_records = round % 2 == 0;
        size_t size = round % 8 == 1 ? 1 : BATCH;
        for (unsigned i = 0; i < size; i++)
            numbers[i] = BASE + draw_number(recorder, &random);
        uint32_t began = tick(recorder);
        if (with_records)
            directory_lookup_records(recorder->directory, reader, numbers, size, answers, records);
        else if (round % 16 == 1)
            answers[0] = (uint8_t)directory_lookup_alike(recorder->directory, reader, numbers[0]);
        else
            directory_lookup(recorder->directory, reader, numbers, size, answers);
        uint32_t ended = tick(recorder);
        for (unsigned i = 0; i < size && thread->count < OBSERVATIONS; i++) {
            uint8_t state = with_records                         ? state_of(answers[i], &records[i])
                            : answers[i] == DIRECTORY_REGISTERED ? UINT8_MAX
                                                                 : ABSENT;
            thread->observations[thread->count++] =
                (struct observation){(uint32_t)(numbers[i] - BASE), began, ended, state};
        }
    }
    directory_leave(recorder->directory, reader);
    return NULL;
}

static bool is_same(uint8_t seen, uint8_t state)
{
    return seen == UINT8_MAX ? state != ABSENT : seen == state;
}

/* True states: that of the last change that had ended before the lookup began, and of each that began before it
 * ended. */
static bool is_explained(const struct entry *history, const struct observation *observation)
{
    uint8_t before = ABSENT;
    bool explained = false;
    for (unsigned i = 0; i < CHANGES && history[i].began < observation->ended; i++) {
        if (history[i].ended < observation->began)
            before = history[i].state;
        else
            explained = explained || is_same(observation->state, history[i].state);
    }
    return explained || is_same(observation->state, before);
}

static void check_end(struct recorder *recorder)
{
    struct epoch_reader *reader = directory_join(recorder->directory);
    uint64_t records = 0;
    struct directory_stats stats;
    for (uint32_t number = 0; number < NUMBERS; number++) {
        uint64_t key = BASE + number;
        uint8_t answer;
        const struct entry *last = &recorder->histories[number][CHANGES - 1];
        bool expected = last->state != ABSENT;
        directory_lookup(recorder->directory, reader, &key, 1, &answer);
        assert_int_equal(answer == DIRECTORY_REGISTERED, expected);
        records += expected || last->hidden;
    }
    directory_stats(recorder->directory, &stats);
    assert_int_equal(stats.records, records);
    assert_true(stats.rebuilds > 10);
    assert_true(stats.moved > NUMBERS / 4);
    directory_leave(recorder->directory, reader);
}

static size_t count_wrong(const struct recorder *recorder, const struct thread *thread)
{
    size_t wrong = 0;
    for (size_t i = 0; i < thread->count; i++)
        wrong += !is_explained(recorder->histories[thread->observations[i].number], &thread->observations[i]);
    return wrong;
}

/* One round. Returns the answers without an explanation. */
static size_t record_and_check(struct recorder *recorder, struct thread *threads, uint64_t seed)
{
    pthread_t handles[WRITERS + READERS];
    size_t wrong = 0;
    recorder->directory = directory_create(
        &(struct directory_options){.seed = seed, .shard_bits = (unsigned)seed % 3, .accounts = true});
    assert_non_null(recorder->directory);
    atomic_store(&recorder->clock, 0);
    atomic_store(&recorder->writers_left, WRITERS);
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        threads[i].count = 0;
        pthread_create(&handles[i], NULL, i < WRITERS ? write_histories : read_histories, &threads[i]);
    }
    for (unsigned i = 0; i < WRITERS + READERS; i++)
        pthread_join(handles[i], NULL);
    for (unsigned i = WRITERS; i < WRITERS + READERS; i++)
        wrong += count_wrong(recorder, &threads[i]);
    check_end(recorder);
    directory_destroy(recorder->directory);
    return wrong;
}

static void test_histories(void **state)
{
    (void)state;
    static struct recorder recorder;
    struct thread threads[WRITERS + READERS];
    size_t observed = 0;
    size_t wrong = 0;
    recorder.histories = calloc(NUMBERS, sizeof *recorder.histories);
    assert_non_null(recorder.histories);
    for (unsigned i = 0; i < WRITERS + READERS; i++) {
        threads[i] = (struct thread){.recorder = &recorder, .index = i};
        threads[i].observations = malloc(OBSERVATIONS * sizeof(struct observation));
        assert_non_null(threads[i].observations);
    }
    for (uint64_t round = 0; round < ROUNDS; round++) {
        wrong += record_and_check(&recorder, threads, round);
        for (unsigned i = WRITERS; i < WRITERS + READERS; i++)
            observed += threads[i].count;
    }
    for (unsigned i = 0; i < WRITERS + READERS; i++)
        free(threads[i].observations);
    free(recorder.histories);
    print_message("%d histories, %zu observations, %zu without an explanation\n", ROUNDS * NUMBERS, observed,
                  wrong);
    assert_int_equal(wrong, 0);
    assert_true(observed > (size_t)ROUNDS * NUMBERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_histories)};
    return cmocka_run_group_tests_name("histories", tests, NULL, NULL);
}
