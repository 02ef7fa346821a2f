/* What was acknowledged is there, whatever the disk does: every call fails in turn, once and from then on; the power goes at
 * every call. A server's life in small (load, journal, changes, snapshots, stop) runs over the disk of disk.h; a
 * model knows what was acknowledged, and what was tried and may or may not be there. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"
#include "folder.h"
#include "persist/registrations/journal.h"
#include "persist/registrations/journal_file.h"
#include "persist/registrations/store.h"
#include "unit.h"

#define BASE UINT64_C(491510000000)
#define NUMBERS 48
/* Few, since every call of theirs fails in turn; enough for some segments and two snapshots. */
#define STEPS 20
#define SNAPSHOT_EVERY 8
#define SEGMENT_BYTES 512
/* Of the many that the disk may be in after one power cut. */
#define STATES 4
#define PENDING_MAX (NUMBERS + 1)

/* --- the model --- */

/* The account that a number has; 0: none. */
struct model {
    uint64_t acknowledged[NUMBERS];
    /* Changes without an acknowledgement, in their order: what number i would have then. Those of a group are there all
     * or not at all. */
    struct {
        unsigned group;
        unsigned number;
        uint64_t account;
    } pending[PENDING_MAX];
    unsigned pending_count;
    unsigned group;
    uint64_t next_account;
    bool was_read_only;
};

static void try_change(struct model *model, unsigned number, uint64_t account)
{
    assert_true(model->pending_count < PENDING_MAX);
    model->pending[model->pending_count].group = model->group;
    model->pending[model->pending_count].number = number;
    model->pending[model->pending_count++].account = account;
}

static void acknowledge(struct model *model)
{
    for (unsigned i = 0; i < model->pending_count; i++)
        model->acknowledged[model->pending[i].number] = model->pending[i].account;
    model->pending_count = 0;
}

/* --- the judgement --- */

/* True when number i may have this account: the acknowledged one, or one that was tried since. */
static bool is_possible(const struct model *model, unsigned number, uint64_t account)
{
    bool possible = model->acknowledged[number] == account;
    for (unsigned i = 0; i < model->pending_count; i++)
        possible = possible || (model->pending[i].number == number && model->pending[i].account == account);
    return possible;
}

/* The groups that are there come before those that are not, and each is there whole or not at all. Where a number
 * is in two groups, the later one's state tells of both. */
static void check_groups(struct directory *directory, const struct model *model)
{
    bool done = true;
    for (unsigned i = 0; i < model->pending_count; i++) {
        struct record record = {0};
        directory_read(directory, BASE + model->pending[i].number, &record);
        bool is_done = record.account == model->pending[i].account;
        for (unsigned later = i + 1; later < model->pending_count; later++)
            is_done = is_done || (model->pending[later].number == model->pending[i].number &&
                                  record.account == model->pending[later].account);
        if (i == 0 || model->pending[i].group != model->pending[i - 1].group)
            done = done && is_done;
        assert_true(is_done == done);
    }
}

/* Compares what was loaded; it then counts as acknowledged, since it is served. */
static void judge_directory(struct directory *directory, struct model *model)
{
    for (unsigned i = 0; i < NUMBERS; i++) {
        struct record record = {0};
        bool present = directory_read(directory, BASE + i, &record);
        assert_true(present == (record.account != 0));
        if (!is_possible(model, i, record.account))
            print_message("number %u: %llu, acknowledged was %llu\n", i, (unsigned long long)record.account,
                          (unsigned long long)model->acknowledged[i]);
        assert_true(is_possible(model, i, record.account));
    }
    check_groups(directory, model);
    for (unsigned i = 0; i < NUMBERS; i++) {
        struct record record = {0};
        directory_read(directory, BASE + i, &record);
        model->acknowledged[i] = record.account;
    }
    model->pending_count = 0;
}

/* The same for what a start would load. */
static void judge(const char *data_dir, struct model *model)
{
    struct fault fault = {0};
    struct snapshot_progress progress = {0};
    struct store_found found;
    struct store_options options = {.data_dir = data_dir, .accounts = true, .threads = 1};
    struct directory *directory = store_load(&options, &progress, &found, &fault);
    if (directory == NULL)
        print_message("%s\n", fault.text);
    assert_non_null(directory);
    judge_directory(directory, model);
    directory_destroy(directory);
}

/* --- a life --- */

struct life {
    const char *data_dir;
    struct model *model;
    uint64_t random;
    struct directory *directory;
    struct journal *journal;
    uint64_t position;
};

static void ignore_change(void *context)
{
    (void)context;
}

static void ignore_line(enum notice_level level, const char *line)
{
    (void)level;
    assert_true(line[0] != '\0');
}

/* A refusal is a line that says something. */
static bool refused(const struct fault *fault)
{
    assert_true(fault->status != 0 && fault->text[0] != '\0');
    return false;
}

static bool begin(struct life *life)
{
    struct fault fault = {0};
    struct snapshot_progress progress = {0};
    struct store_found found;
    char journal_folder[PATH_MAX];
    struct store_options options = {
        .data_dir = life->data_dir, .accounts = true, .threads = 1, .notice = ignore_line};
    if (!store_make_folders(life->data_dir, &fault))
        return refused(&fault);
    life->directory = store_load(&options, &progress, &found, &fault);
    if (life->directory == NULL)
        return refused(&fault);
    assert_true(snprintf(journal_folder, PATH_MAX, "%s/journal", life->data_dir) < PATH_MAX);
    life->position = found.position;
    if (store_settle(life->data_dir, &found, &fault))
        life->journal = journal_start(&(struct journal_options){.folder = journal_folder,
                                                                .position = found.position,
                                                                .segment_bytes = SEGMENT_BYTES,
                                                                .changed = ignore_change,
                                                                .notice = ignore_line},
                                      &fault);
    return life->journal != NULL || refused(&fault);
}

static void end(struct life *life)
{
    struct fault fault;
    if (life->journal != NULL && !journal_stop(life->journal, &fault))
        refused(&fault);
    directory_destroy(life->directory);
}

static bool settle(void *context, struct fault *fault)
{
    const struct life *life = context;
    return journal_sync(life->journal) || life->model->was_read_only ||
           fault_set(fault, 74, "the journal failed while a snapshot was written");
}

static bool snapshot(struct life *life, struct fault *fault)
{
    char snapshots[PATH_MAX];
    struct snapshot_info info;
    assert_true(snprintf(snapshots, PATH_MAX, "%s/snapshots", life->data_dir) < PATH_MAX);
    if (!snapshot_write(snapshots, life->directory, life->position, 1, false, settle, life, &info, fault))
        return refused(fault);
    journal_trim(life->journal, store_trim(life->data_dir));
    return true;
}

/* As the door does it (server/registrations.c): carried out, and appended. False: read-only. */
static bool append(struct life *life, const struct change *changes, size_t count)
{
    if (journal_has_failed(life->journal) || !journal_reserve(life->journal, count))
        return false;
    life->model->group++;
    for (size_t i = 0; i < count; i++) {
        enum directory_result result = changes[i].kind == CHANGE_SET
                                           ? directory_register(life->directory, &changes[i].record)
                                           : directory_deregister(life->directory, changes[i].record.number);
        assert_true(result <= DIRECTORY_REMOVED); /* the tables have room for all numbers */
        try_change(life->model, (unsigned)(changes[i].record.number - BASE),
                   changes[i].kind == CHANGE_SET ? changes[i].record.account : 0);
    }
    life->position = journal_append(life->journal, changes, count);
    return true;
}

/* False: the journal has failed before it had all. */
static bool wait_for_it(const struct life *life)
{
    while (journal_acknowledged(life->journal) < life->position) {
        if (journal_has_failed(life->journal))
            return journal_acknowledged(life->journal) >= life->position;
        sched_yield();
    }
    return true;
}

static struct change set(struct life *life, unsigned number)
{
    return (struct change){CHANGE_SET, {BASE + number, ++life->model->next_account, (uint8_t)number}};
}

static struct change remove_of(unsigned number)
{
    return (struct change){CHANGE_REMOVE, {BASE + number, 0, 0}};
}

static void pause_writing(void *context)
{
    (void)context;
    usleep(300);
}

/* While the journal writes one change, two groups come that together need more than a segment, and are written together. */
static bool append_many(struct life *life, unsigned number)
{
    struct change changes[NUMBERS / 2];
    changes[0] = set(life, number);
    disk_before_next_write(pause_writing, NULL, false);
    if (!append(life, changes, 1))
        return false;
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned i = 0; i < NUMBERS / 2; i++)
            changes[i] = set(life, (number + half * NUMBERS / 2 + i) % NUMBERS);
        if (!append(life, changes, NUMBERS / 2))
            return false;
    }
    return true;
}

/* One change of a random kind: a number removed, one moved, three set, or all. */
static bool step(struct life *life)
{
    unsigned number = (unsigned)(unit_random(&life->random) % NUMBERS);
    unsigned other = (unsigned)(unit_random(&life->random) % NUMBERS);
    unsigned kind = (unsigned)(unit_random(&life->random) % 5);
    uint64_t account = life->model->acknowledged[number];
    bool good;
    if (kind <= 1 && account != 0) {
        good = append(life, (struct change[]){remove_of(number)}, 1);
    } else if (kind == 2 && account != 0 && life->model->acknowledged[other] == 0) {
        struct change to = {CHANGE_SET, {BASE + other, account, (uint8_t)number}};
        good = append(life, (struct change[]){to, remove_of(number)}, 2);
    } else if (kind == 3) {
        good = append_many(life, number);
    } else {
        struct change changes[3];
        for (unsigned i = 0; i < 3; i++)
            changes[i] = set(life, (number + i) % NUMBERS);
        good = append(life, changes, 3);
    }
    good = good && wait_for_it(life);
    if (good)
        acknowledge(life->model);
    return good;
}

/* Read-only: lookups still answer what they did. The way back is a snapshot with all that is in memory. */
static bool recover(struct life *life)
{
    struct fault fault;
    struct record record;
    life->model->was_read_only = true;
    for (unsigned i = 0; i < NUMBERS && life->model->pending_count == 0; i++)
        assert_int_equal(directory_read(life->directory, BASE + i, &record),
                         life->model->acknowledged[i] != 0);
    if (!journal_has_failed(life->journal) || !snapshot(life, &fault) ||
        !journal_resume(life->journal, life->position, &fault))
        return false;
    acknowledge(life->model);
    return true;
}

/* Runs until its end, or until the disk leaves it no way on. */
static void live(const char *data_dir, struct model *model, uint64_t seed)
{
    struct life life = {.data_dir = data_dir, .model = model, .random = seed};
    struct fault fault;
    model->was_read_only = false;
    if (begin(&life)) {
        judge_directory(life.directory, model);
        for (unsigned i = 0; i < STEPS; i++) {
            if (i % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1)
                (void)snapshot(&life, &fault); /* one that fails leaves all as it was */
            if (!step(&life) && !recover(&life))
                break;
        }
    }
    end(&life);
}

/* --- the tests --- */

/* With a first snapshot of few shards, whose shape all others then have: else most calls would write empty shards. */
static void make_data_dir(char path[PATH_MAX], const char *name, unsigned shard_bits)
{
    char snapshots[PATH_MAX];
    struct snapshot_info info;
    struct fault fault;
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = 5, .shard_bits = shard_bits, .accounts = true});
    assert_true(snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_true(store_make_folders(path, &fault));
    assert_true(store_begin_journal(path, 0, &fault));
    assert_true(snprintf(snapshots, PATH_MAX, "%s/snapshots", path) < PATH_MAX);
    assert_true(snapshot_write(snapshots, directory, 0, 1, false, NULL, NULL, &info, &fault));
    directory_destroy(directory);
}

static void remove_data_dir(const char *path)
{
    char command[PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -r '%s'", path);
    assert_int_equal(system(command), 0);
}

/* A life, another that meets the failure, and on a good disk, which finds all and goes on. Returns whether the
 * failure was met at all. */
static bool fail_once(unsigned nth, bool lasting, int error, bool with_memory)
{
    char data_dir[PATH_MAX];
    struct model model = {.next_account = 0};
    assert_true(snprintf(data_dir, PATH_MAX, "%s/data", folder) < PATH_MAX);
    disk_keep(data_dir);
    make_data_dir(data_dir, "data", 0);
    live(data_dir, &model, 1);
    disk_fail_at(nth, lasting, error, with_memory);
    live(data_dir, &model, 2);
    bool met = disk_calls() >= nth;
    disk_reset();
    judge(data_dir, &model);
    live(data_dir, &model, 3);
    assert_false(model.was_read_only);
    judge(data_dir, &model);
    remove_data_dir(data_dir);
    return met;
}

/* Every write, sync, open, rename, removal and preallocation fails once, and from then on. */
static void test_each_call_fails(void **state)
{
    (void)state;
    unsigned nth = 1;
    while (fail_once(nth, false, nth % 2 == 0 ? ENOSPC : EIO, false) &&
           fail_once(nth, true, nth % 2 == 0 ? EIO : ENOSPC, false))
        nth++;
    print_message("%u calls failed, once and from then on\n", nth - 1);
    assert_true(nth > 80);
}

/* So does every allocation of the server's own; what it does with the disk then fails as well where it is that call. */
static void test_each_allocation_fails(void **state)
{
    (void)state;
    unsigned nth = 1;
    while (fail_once(nth, false, ENOMEM, true))
        nth++;
    print_message("%u calls and allocations failed\n", nth - 1);
    assert_true(nth > 120);
}

/* The power goes at every call, and of what was not synced by then any part may be there. */
static void test_power_cut_at_each_call(void **state)
{
    (void)state;
    bool met = true;
    unsigned cuts = 0;
    for (unsigned nth = 1; met; nth++) {
        char before[PATH_MAX];
        char after[PATH_MAX];
        struct model model = {.next_account = 0};
        assert_true(snprintf(before, PATH_MAX, "%s/before", folder) < PATH_MAX);
        disk_keep(before);
        make_data_dir(before, "before", 0);
        disk_cut_power_at(nth);
        live(before, &model, nth);
        met = disk_calls() >= nth;
        for (uint64_t seed = 0; seed < STATES; seed++, cuts++) {
            struct model copy = model;
            assert_true(snprintf(after, sizeof after, "%s/after", folder) < PATH_MAX);
            disk_leave(after, nth * STATES + seed);
            judge(after, &copy);
            remove_data_dir(after);
        }
        disk_reset();
        remove_data_dir(before);
    }
    print_message("%u states after power cuts\n", cuts);
    assert_true(cuts > 80 * STATES);
}

/* A server is killed, another goes on from what the kernel has, and then the power goes: what the second one began to serve is
 * there, though the first one may never have synced it. */
static void test_power_cut_after_a_kill(void **state)
{
    (void)state;
    unsigned cuts = 0;
    for (unsigned killed = 10; killed < 100; killed += 15) {
        bool met = true;
        for (unsigned nth = 1; met; nth += 3) {
            char before[PATH_MAX];
            char after[PATH_MAX];
            struct model model = {.next_account = 0};
            assert_true(snprintf(before, PATH_MAX, "%s/before", folder) < PATH_MAX);
            assert_true(snprintf(after, PATH_MAX, "%s/after", folder) < PATH_MAX);
            disk_keep(before);
            make_data_dir(before, "before", 0);
            disk_cut_power_at(killed);
            live(before, &model, killed);
            disk_go_on();
            disk_cut_power_at(nth);
            live(before, &model, nth);
            met = disk_calls() >= nth;
            disk_leave(after, nth);
            judge(after, &model);
            cuts++;
            disk_reset();
            remove_data_dir(before);
            remove_data_dir(after);
        }
    }
    print_message("%u power cuts after a kill\n", cuts);
    assert_true(cuts > 150);
}

/* The newest snapshot is damaged after a life with several: the one before it and the journal since give the same. */
static void test_damage_after_a_life(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        char data_dir[PATH_MAX];
        char command[2 * PATH_MAX];
        struct model model = {.next_account = 0};
        make_data_dir(data_dir, "data", 0);
        live(data_dir, &model, seed);
        live(data_dir, &model, seed + 100);
        snprintf(command, sizeof command, "truncate -s 1000 $(ls '%s'/snapshots/*.snapshot | tail -n 1)",
                 data_dir);
        assert_int_equal(system(command), 0);
        judge(data_dir, &model);
        remove_data_dir(data_dir);
    }
}

struct between {
    struct life *life;
    unsigned from;
    unsigned to;
};

/* The journal's disk fails from now on, and a number moves from the shard that is not yet copied to the one that is. */
static void move_between(void *context)
{
    const struct between *between = context;
    struct life *life = between->life;
    struct change to = {CHANGE_SET, {BASE + between->to, life->model->acknowledged[between->from], 0}};
    disk_fail_data_syncs(true);
    assert_true(append(life, (struct change[]){to, remove_of(between->from)}, 2));
}

/* A snapshot that was copied while a change was made counts only if the journal has got the change, too. */
static void test_snapshot_waits_for_the_journal(void **state)
{
    (void)state;
    char data_dir[PATH_MAX];
    char snapshots[PATH_MAX];
    struct model model = {.next_account = 0};
    struct life life = {.data_dir = data_dir, .model = &model};
    struct between between = {.life = &life};
    struct fault fault;
    struct snapshot_info info;
    assert_true(snprintf(snapshots, PATH_MAX, "%s/data/snapshots", folder) < PATH_MAX);
    make_data_dir(data_dir, "data", 1);
    assert_true(begin(&life));
    while (directory_shard_of(life.directory, BASE + between.from) == 0)
        between.from++;
    while (directory_shard_of(life.directory, BASE + between.to) == 1)
        between.to++;
    assert_true(append(&life, (struct change[]){set(&life, between.from)}, 1) && wait_for_it(&life));
    acknowledge(&model);
    /* This thread's first write is that of shard 0, when it is copied and shard 1 is not. (The journal's may still mark what
     * was acknowledged.) */
    disk_before_next_write(move_between, &between, true);
    assert_false(
        snapshot_write(snapshots, life.directory, life.position, 1, false, settle, &life, &info, &fault));
    end(&life);
    disk_fail_data_syncs(false);
    judge(data_dir, &model);
}

/* --- a successor --- */

struct successor {
    struct store_options options;
    struct store_found found;
    struct directory *directory;
};

/* In a thread of its own, while the life writes. */
static void *load_ahead(void *context)
{
    struct successor *successor = context;
    struct snapshot_progress progress = {0};
    struct fault fault = {0};
    successor->directory = store_load_ahead(&successor->options, &progress, &successor->found, &fault);
    return NULL;
}

static void go_on(struct life *life, unsigned steps, unsigned snapshots)
{
    struct fault fault;
    for (unsigned i = 0; i < steps; i++) {
        assert_true(step(life));
        if (snapshots > 0 && i % (steps / snapshots) == 0)
            assert_true(snapshot(life, &fault));
    }
}

/* Loads while the life goes on, and catches up behind its end. True when what it had loaded could be continued. */
static bool succeed(struct life *life, unsigned steps, unsigned snapshots)
{
    struct successor successor = {
        .options = {.data_dir = life->data_dir, .accounts = true, .threads = 1, .notice = ignore_line}};
    struct fault fault = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, load_ahead, &successor), 0);
    go_on(life, STEPS, 0);
    pthread_join(thread, NULL);
    assert_non_null(successor.directory);
    go_on(life, steps, snapshots);
    end(life);
    bool fits = store_catch_up(&successor.options, successor.directory, &successor.found, &fault);
    if (fits) {
        assert_true(store_settle(life->data_dir, &successor.found, &fault));
        assert_int_equal(successor.found.position, life->position);
        judge_directory(successor.directory, life->model);
    } else {
        refused(&fault);
    }
    directory_destroy(successor.directory);
    judge(life->data_dir, life->model);
    return fits;
}

/* Who loads while another writes has all in the end, or is told that it has not. */
static void test_successor(void **state)
{
    (void)state;
    char data_dir[PATH_MAX];
    unsigned fitted = 0;
    unsigned misfits = 0;
    struct model model = {.next_account = 0};
    make_data_dir(data_dir, "data", 1);
    for (unsigned i = 0; i < 60; i++) {
        struct life life = {.data_dir = data_dir, .model = &model, .random = i + 1};
        assert_true(begin(&life));
        go_on(&life, STEPS, i % 3);
        bool many = i % 4 == 3;
        if (succeed(&life, STEPS, many ? 4 : i % 2))
            fitted++;
        else
            misfits++;
        assert_true(many || fitted > 0);
    }
    print_message("%u fitted, %u did not\n", fitted, misfits);
    assert_true(fitted >= 45); /* all whose journal was not trimmed behind them */
    assert_true(misfits >= 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_call_fails, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_each_allocation_fails, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_power_cut_at_each_call, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_power_cut_after_a_kill, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damage_after_a_life, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_snapshot_waits_for_the_journal, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_successor, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
