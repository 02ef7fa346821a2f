/* persist/querylog: the drain and the counters in shared memory; what went in comes out once, and what is missing is recorded
 * once. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log_folder.h"
#include "persist/querylog/drain.h"
#include "persist/querylog/tally.h"

static void ignore_notice(enum notice_level level, const char *line)
{
    (void)level;
    (void)line;
}

static void push_block(struct ring *ring, uint64_t requester, uint64_t sequence, uint32_t events)
{
    struct query_block *block;
    while ((block = ring_reserve(ring, query_block_bytes(events, false))) == NULL)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    *block = (struct query_block){
        .time_ms = now_ms(), .requester = requester, .sequence = sequence, .count = events};
    for (uint32_t i = 0; i < events; i++)
        block->events[i] = query_event(NUMBER, 0);
    ring_commit(ring);
}

static void *push_blocks(void *context)
{
    for (uint64_t sequence = 1; sequence <= 20000; sequence++)
        push_block(context, sequence % 50, sequence, 1 + (uint32_t)(sequence % 40));
    return NULL;
}

/* A drain over this folder's log; the tally says how the run before ended. */
struct run {
    struct tally *tally;
    enum tally_past past;
    struct spool *spool;
    struct drain *drain;
};

static struct run start_run(struct ring *const *rings, unsigned ring_count, uint64_t bytes_max,
                            const struct query_gap *past)
{
    struct fault fault;
    struct run run = {.spool = open_spool(bytes_max, false)};
    run.tally = tally_open(folder, &run.past, &fault);
    assert_non_null(run.tally);
    struct drain_options options = {.rings = rings,
                                    .ring_count = ring_count,
                                    .spool = run.spool,
                                    .tally = run.tally,
                                    .is_final = true,
                                    .notice = ignore_notice};
    if (past != NULL)
        options.past = *past;
    run.drain = drain_start(&options, &fault);
    assert_non_null(run.drain);
    return run;
}

static struct tally_figures end_run(struct run *run)
{
    drain_stop(run->drain);
    struct tally_figures figures = tally_figures(run->tally);
    drain_destroy(run->drain);
    tally_close(run->tally, true);
    spool_close(run->spool);
    return figures;
}

/* Two producers, one drain: every event arrives in the segments once. */
static void test_drain(void **state)
{
    (void)state;
    struct ring *rings[2] = {ring_create(1 << 16), ring_create(1 << 16)};
    struct run run = start_run(rings, 2, 1 << 30, NULL);
    assert_int_equal(run.past, TALLY_FIRST);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, push_blocks, rings[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    struct tally_figures figures = end_run(&run);
    uint64_t expected = 0;
    for (uint64_t sequence = 1; sequence <= 20000; sequence++)
        expected += 2 * (1 + sequence % 40);
    assert_int_equal(figures.appended, expected);
    assert_int_equal(figures.stored, expected);
    assert_int_equal(figures.lost + figures.missed, 0);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_NUMBER, .number = NUMBER}).records,
                     expected);
    for (int i = 0; i < 2; i++)
        ring_destroy(rings[i]);
}

/* A spool at its cap closes the gate; room opens it again, and nothing of what the ring held is lost. */
static void test_drain_at_the_cap(void **state)
{
    (void)state;
    struct ring *ring = ring_create(1 << 20);
    struct run run = start_run(&ring, 1, 60000, NULL);
    for (uint64_t sequence = 1; sequence <= 300; sequence++)
        push_block(ring, sequence, sequence, 40);
    for (int i = 0; i < 1000 && !atomic_load(drain_gate(run.drain)); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(atomic_load(drain_gate(run.drain)));
    uint64_t seen = 0;
    struct segment segment;
    bool open;
    uint64_t after = 0;
    for (int i = 0; i < 10000 && seen < 12000; i++) {
        while (spool_next(run.spool, after, &segment, &open) && !open) {
            drop_segment(run.spool, segment.sequence);
            after = segment.sequence;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        seen = tally_figures(run.tally).appended;
    }
    assert_int_equal(seen, 12000);
    assert_false(atomic_load(drain_gate(run.drain)));
    assert_int_equal(end_run(&run).appended, 12000);
    ring_destroy(ring);
}

/* --- what is missing --- */

/* A gap is passed on once, to whoever reads a part of it, whichever hour that is in; what a worker drops becomes one. */
static void test_gaps(void **state)
{
    (void)state;
    struct ring *ring = ring_create(1 << 16);
    uint64_t now = now_ms();
    uint64_t hour = frame_hour_of(now);
    struct query_gap past = {.from_ms = hour - 3 * HOUR_MS + 5,
                             .until_ms = hour - HOUR_MS + 7,
                             .events = 100,
                             .reason = QUERY_GAP_KILLED,
                             .worker = QUERY_GAP_ALL_WORKERS};
    struct run run = start_run(&ring, 1, 1 << 30, &past);
    struct query_counts *counts = tally_worker(run.tally, 0);
    atomic_store(&counts->logged, 100); /* those of the past */
    push_block(ring, 1, 1, 10);
    atomic_fetch_add(&counts->logged, 10);
    atomic_store(&counts->dropped, 33);
    struct tally_figures figures = end_run(&run);
    assert_int_equal(figures.missed, 100);
    assert_int_equal(figures.dropped, 33);
    assert_int_equal(figures.looked_up, figures.stored + figures.lost + figures.missed + figures.dropped);

    struct found found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 10);
    assert_int_equal(found.gaps, 2);
    assert_int_equal(found.warnings, 0);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_NUMBER, .number = NUMBER}).gaps, 2);
    found = disclose((struct disclose_query){
        .by = DISCLOSE_REQUESTER, .requester = 2, .from_ms = hour - HOUR_MS, .until_ms = hour});
    assert_int_equal(found.gaps, 1);
    assert_memory_equal(&found.last_gap, &past, sizeof past);
    found = disclose((struct disclose_query){
        .by = DISCLOSE_REQUESTER, .requester = 2, .from_ms = past.until_ms, .until_ms = hour});
    assert_int_equal(found.gaps, 0);
    found = disclose((struct disclose_query){
        .by = DISCLOSE_REQUESTER, .requester = 2, .from_ms = hour, .until_ms = now + HOUR_MS});
    assert_int_equal(found.gaps, 1);
    assert_int_equal(found.last_gap.reason, QUERY_GAP_DROPPED);
    assert_int_equal(found.last_gap.events, 33);
    assert_in_range(found.last_gap.until_ms, now, now_ms() + 1);

    /* Recorded once: the next run says nothing again. */
    run = start_run(&ring, 1, 1 << 30, NULL);
    assert_int_equal(run.past, TALLY_STOPPED);
    assert_int_equal(end_run(&run).dropped, 33);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1}).gaps, 2);
    ring_destroy(ring);
}

/* Opens, counts and dies. */
static void count_and_die(uint64_t logged, uint64_t appended)
{
    pid_t child = fork();
    if (child == 0) {
        struct fault fault;
        enum tally_past past;
        struct tally *tally = tally_open(folder, &past, &fault);
        if (tally == NULL)
            _exit(1);
        atomic_fetch_add(&tally_worker(tally, 5)->logged, logged);
        atomic_store(&tally_worker(tally, 5)->last_ms, 77);
        tally_appended(tally, 3, 640, appended);
        tally_passed(tally, 70);
        raise(SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static struct tally *reopen_tally(enum tally_past expected)
{
    struct fault fault;
    enum tally_past past;
    struct tally *tally = tally_open(folder, &past, &fault);
    assert_non_null(tally);
    assert_int_equal(past, expected);
    return tally;
}

/* The counters outlive a killed process to the event, and are not believed when they are another run's, when there are none
 * any more, or when the file is damaged. */
static void test_tally(void **state)
{
    (void)state;
    char path[PATH_MAX];
    char name[64];
    struct stat status;
    struct tally_figures figures;
    struct tally *tally = reopen_tally(TALLY_FIRST);
    tally_close(tally, true);
    count_and_die(1000, 900);
    count_and_die(10, 5);
    tally = reopen_tally(TALLY_KILLED);
    figures = tally_figures(tally);
    assert_int_equal(figures.looked_up, 1010);
    assert_int_equal(figures.appended, 905);
    assert_int_equal(tally_place(tally).offset, 640);
    assert_int_equal(tally_passed_ms(tally), 70);
    assert_int_equal(tally_last_ms(tally), 77);
    tally_missed(tally, 105);
    tally_close(tally, true);
    tally = reopen_tally(TALLY_STOPPED);
    figures = tally_figures(tally);
    assert_int_equal(figures.looked_up, figures.appended + figures.missed);
    tally_close(tally, true);

    /* The machine was restarted: the shared memory is gone. */
    count_and_die(10, 10);
    assert_int_equal(stat(folder, &status), 0);
    snprintf(name, sizeof name, "/numberd-%jx-%jx", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    assert_int_equal(shm_unlink(name), 0);
    tally = reopen_tally(TALLY_UNKNOWN);
    assert_int_equal(tally_figures(tally).looked_up, 1010);
    tally_close(tally, true);
    assert_int_not_equal(shm_unlink(name), 0); /* nothing is left behind */

    assert_true((size_t)snprintf(path, sizeof path, "%s/tally", folder) < sizeof path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "x", 1, 40), 1);
    close(fd);
    tally = reopen_tally(TALLY_UNKNOWN);
    assert_int_equal(tally_figures(tally).looked_up, 0);
    tally_appended(tally, 1, 64, 50); /* found in the segments */
    tally_level(tally);
    assert_int_equal(tally_figures(tally).looked_up, 50);
    tally_close(tally, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_drain, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_drain_at_the_cap, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_gaps, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_tally, make_log, remove_folder),
    };
    return cmocka_run_group_tests_name("drain", tests, NULL, NULL);
}
