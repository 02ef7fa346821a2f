/* persist/registrations/journal: what was appended is read back in its order; a file that is cut or changed anywhere is
 * read to the longest valid prefix, or not at all; threads that append and wait meet no race. */
#include "persist/registrations/journal.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"
#include "persist/registrations/journal_file.h"
#include "unit.h"

#define BASE UINT64_C(491510000000)

static void count_call(void *context)
{
    if (context != NULL)
        atomic_fetch_add((atomic_uint *)context, 1);
}

static void ignore_line(enum notice_level level, const char *line)
{
    (void)level;
    (void)line;
}

static struct journal *start(uint64_t position, uint64_t segment_bytes, enum journal_policy policy)
{
    struct fault fault;
    struct journal *journal = journal_start(&(struct journal_options){.folder = folder,
                                                                      .position = position,
                                                                      .segment_bytes = segment_bytes,
                                                                      .policy = policy,
                                                                      .interval_ms = 20,
                                                                      .changed = count_call,
                                                                      .notice = ignore_line},
                                            &fault);
    assert_non_null(journal);
    return journal;
}

static void stop(struct journal *journal)
{
    struct fault fault;
    assert_true(journal_stop(journal, &fault));
}

/* The nth change of every test: what it must be can be told from its position. */
static struct change change_at(uint64_t position)
{
    struct change change = {.kind = position % 3 == 0 ? CHANGE_REMOVE : CHANGE_SET,
                            .record = {.number = BASE + position}};
    if (change.kind == CHANGE_SET) {
        change.record.account = position * position;
        change.record.flags = (uint8_t)position;
    }
    return change;
}

static uint64_t append(struct journal *journal, uint64_t first, size_t count)
{
    struct change changes[JOURNAL_TOGETHER_MAX];
    for (size_t i = 0; i < count; i++)
        changes[i] = change_at(first + i);
    assert_true(journal_reserve(journal, count));
    return journal_append(journal, changes, count);
}

static void wait_for(const struct journal *journal, uint64_t position)
{
    while (journal_acknowledged(journal) < position)
        sched_yield();
}

struct reading {
    uint64_t next;
};

static bool check_change(void *context, uint64_t position, const struct change *change)
{
    struct reading *reading = context;
    struct change right = change_at(position);
    assert_int_equal(position, reading->next);
    reading->next++;
    assert_int_equal(change->kind, right.kind);
    assert_int_equal(change->record.number, right.record.number);
    assert_int_equal(change->record.account, right.record.account);
    assert_int_equal(change->record.flags, right.record.flags);
    return true;
}

/* Reads all segments from the one of `first` on; returns the last position, and how the last one ended. */
static uint64_t read_all(uint64_t first, enum journal_end *end)
{
    struct journal_segment *segments;
    struct fault fault;
    size_t count;
    struct reading reading = {first};
    *end = JOURNAL_CLEAN;
    assert_true(journal_list(folder, &segments, &count, &fault));
    for (size_t i = 0; i < count; i++) {
        struct journal_extent extent;
        if (segments[i].first_position < first)
            continue;
        assert_true(journal_read(folder, &segments[i], 0, check_change, &reading, &extent, &fault));
        *end = extent.end;
        assert_int_equal(extent.last_position + 1, reading.next);
    }
    free(segments);
    return reading.next - 1;
}

/* Appended in groups of many sizes, over many segments, and again behind the end: all is read back in order. */
static void test_round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 7, 100, 512, JOURNAL_TOGETHER_MAX};
    enum journal_end end;
    uint64_t position = 0;
    for (unsigned round = 0; round < 3; round++) {
        struct journal *journal = start(position, 4096, JOURNAL_ALWAYS);
        for (unsigned i = 0; i < 200; i++) {
            size_t count = sizes[(i + round) % (sizeof sizes / sizeof sizes[0])];
            uint64_t last = append(journal, position + 1, count);
            assert_int_equal(last, position + count);
            position = last;
            if (i % 10 == 0)
                wait_for(journal, position);
        }
        stop(journal);
        assert_int_equal(read_all(1, &end), position);
        assert_int_equal(end, JOURNAL_CLEAN);
    }
    struct journal_segment *segments;
    struct fault fault;
    size_t count;
    assert_true(journal_list(folder, &segments, &count, &fault));
    assert_true(count > 20);
    free(segments);
}

/* A trim removes what lies before the position, no more. */
static void test_trim(void **state)
{
    (void)state;
    struct journal *journal = start(0, 1024, JOURNAL_ALWAYS);
    struct journal_figures figures;
    for (uint64_t i = 0; i < 100; i++)
        wait_for(journal, append(journal, 1 + 10 * i, 10));
    journal_figures(journal, &figures);
    uint64_t before = figures.segments;
    journal_trim(journal, 0);
    journal_figures(journal, &figures);
    assert_int_equal(figures.segments, before);
    journal_trim(journal, 500);
    journal_figures(journal, &figures);
    assert_true(figures.segments < before && figures.segments > before / 3);
    stop(journal);
    struct journal_segment *segments;
    struct fault fault;
    size_t count;
    assert_true(journal_list(folder, &segments, &count, &fault));
    assert_int_equal(count, figures.segments);
    assert_true(segments[0].first_position <= 501 && segments[1].first_position > 501);
    free(segments);
}

/* Under each policy a change is acknowledged; only `always` has it on the disk by then, and a sync has it in any case. */
static void test_policies(void **state)
{
    (void)state;
    static const enum journal_policy policies[] = {JOURNAL_ALWAYS, JOURNAL_INTERVAL, JOURNAL_OFF};
    uint64_t position = 0;
    for (unsigned i = 0; i < 3; i++) {
        struct journal *journal = start(position, 0, policies[i]);
        struct journal_figures figures;
        for (unsigned round = 0; round < 20; round++, usleep(3000)) {
            position = append(journal, position + 1, 5);
            wait_for(journal, position);
            journal_figures(journal, &figures);
            assert_true(policies[i] != JOURNAL_ALWAYS || figures.durable == position);
            assert_true(policies[i] != JOURNAL_OFF || figures.durable == position - 5 * (round + 1));
        }
        /* In its time. */
        for (unsigned tries = 0; policies[i] == JOURNAL_INTERVAL && figures.durable < position; tries++) {
            assert_true(tries < 5000);
            usleep(1000);
            journal_figures(journal, &figures);
        }
        assert_true(journal_sync(journal));
        journal_figures(journal, &figures);
        assert_int_equal(figures.durable, position);
        assert_int_equal(figures.commits, 20);
        stop(journal);
    }
    enum journal_end end;
    assert_int_equal(read_all(1, &end), 300);
}

/* --- files that are cut or changed --- */

#define RECORDED 60

static size_t record_journal(uint8_t **bytes, char path[PATH_MAX])
{
    char name[JOURNAL_NAME_BYTES];
    struct journal *journal = start(0, 3072, JOURNAL_ALWAYS);
    for (uint64_t i = 0; i < RECORDED / 3; i++)
        wait_for(journal, append(journal, 1 + 3 * i, 3));
    stop(journal);
    journal_name(1, name);
    assert_true(snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    *bytes = malloc((size_t)status.st_size);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, *bytes, (size_t)status.st_size), status.st_size);
    close(fd);
    return (size_t)status.st_size;
}

static void write_bytes(const char *path, const uint8_t *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, bytes, length), length);
    close(fd);
}

/* Where each block of the recorded file begins and which position is its last; the marks between them count as blocks. */
static size_t list_blocks(const uint8_t *bytes, size_t length, size_t *ends, uint64_t *positions)
{
    size_t count = 0;
    for (size_t at = JOURNAL_HEADER_BYTES; at + JOURNAL_BLOCK_BYTES <= length;) {
        struct journal_block block;
        memcpy(&block, bytes + at, sizeof block);
        if (memcmp(block.magic, "NBJB", 4) != 0)
            break;
        at += sizeof block + block.payload_bytes;
        ends[count] = at;
        positions[count++] = block.first_position - 1 + (block.payload_bytes > 0 ? 3 : 0);
    }
    return count;
}

/* Cut at every byte: exactly the changes of the blocks that are whole; within the header, which was synced before the file
 * had its name, it is damage. */
static void test_cut_at_every_byte(void **state)
{
    (void)state;
    uint8_t *bytes;
    char path[PATH_MAX];
    size_t ends[256];
    uint64_t positions[256];
    size_t length = record_journal(&bytes, path);
    size_t blocks = list_blocks(bytes, length, ends, positions);
    assert_true(blocks >= RECORDED / 3 && positions[blocks - 1] == RECORDED);
    for (size_t cut = 0; cut <= length; cut++) {
        enum journal_end end;
        uint64_t right = 0;
        for (size_t i = 0; i < blocks; i++)
            right = ends[i] <= cut ? positions[i] : right;
        write_bytes(path, bytes, cut);
        assert_int_equal(read_all(1, &end), right);
        assert_int_equal(end == JOURNAL_DAMAGED, cut < JOURNAL_HEADER_BYTES);
    }
    free(bytes);
}

/* Every bit flipped: never read as good. Behind what was durable it is damage; in the last mark or behind it, where no
 * change is touched, an unfinished commit. */
static void test_every_bit_flipped(void **state)
{
    (void)state;
    uint8_t *bytes;
    char path[PATH_MAX];
    size_t ends[256];
    uint64_t positions[256];
    size_t length = record_journal(&bytes, path);
    size_t blocks = list_blocks(bytes, length, ends, positions);
    size_t changes_end = ends[blocks - 2]; /* the last block is a mark */
    for (size_t bit = 0; bit < length * 8; bit++) {
        enum journal_end end;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_bytes(path, bytes, length);
        uint64_t last = read_all(1, &end);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (bit / 8 < changes_end) {
            assert_int_equal(end, JOURNAL_DAMAGED);
        } else {
            assert_int_equal(end, JOURNAL_TORN);
            assert_int_equal(last, RECORDED);
        }
    }
    free(bytes);
}

/* A block of another journal, of the same positions and with a right checksum, in the place of the journal's own: it does not
 * continue the chain, so it is not read. */
static void test_foreign_block(void **state)
{
    (void)state;
    uint8_t *bytes;
    uint8_t *other;
    char path[PATH_MAX];
    size_t ends[256] = {0};
    uint64_t positions[256] = {0};
    enum journal_end end;
    size_t length = record_journal(&bytes, path);
    size_t blocks = list_blocks(bytes, length, ends, positions);
    other = malloc(length);
    memcpy(other, bytes, length);
    struct journal_block *block = (void *)(other + ends[0]);
    assert_true(blocks > 4 && ends[1] < length);
    block->previous ^= 1;
    journal_seal_block(block);
    write_bytes(path, other, length);
    uint64_t last = read_all(1, &end);
    assert_int_equal(last, positions[0]);
    assert_int_equal(end, JOURNAL_DAMAGED);
    free(other);
    free(bytes);
}

/* --- threads --- */

#define THREADS 4
#define ROUNDS 400

struct crowd {
    struct journal *journal;
    pthread_mutex_t door;
    uint64_t position;
};

static void *append_and_wait(void *context)
{
    struct crowd *crowd = context;
    for (unsigned round = 0; round < ROUNDS; round++) {
        pthread_mutex_lock(&crowd->door);
        size_t count = 1 + (crowd->position * 7 + round) % 600;
        uint64_t position = append(crowd->journal, crowd->position + 1, count);
        crowd->position = position;
        pthread_mutex_unlock(&crowd->door);
        if (round % 4 == 0)
            wait_for(crowd->journal, position);
        if (round % 100 == 50)
            assert_true(journal_sync(crowd->journal));
    }
    return NULL;
}

/* Many threads append under the door's lock and wait; commits share the disk, and nothing is lost or out of order. */
static void test_many_threads(void **state)
{
    (void)state;
    atomic_uint calls = 0;
    struct fault fault;
    struct crowd crowd = {.door = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[THREADS];
    struct journal_figures figures;
    crowd.journal = journal_start(&(struct journal_options){.folder = folder,
                                                            .segment_bytes = 1 << 20,
                                                            .changed = count_call,
                                                            .notice = ignore_line,
                                                            .context = &calls},
                                  &fault);
    assert_non_null(crowd.journal);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_and_wait, &crowd), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    wait_for(crowd.journal, crowd.position);
    journal_figures(crowd.journal, &figures);
    stop(crowd.journal);
    assert_true(figures.commits <= THREADS * ROUNDS && atomic_load(&calls) == figures.commits);
    enum journal_end end;
    assert_int_equal(read_all(1, &end), crowd.position);
    assert_int_equal(end, JOURNAL_CLEAN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_trim, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_policies, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_cut_at_every_byte, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_every_bit_flipped, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_foreign_block, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_many_threads, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
