/* persist/querylog: the spool and what the officer reads in it; what went in comes out once, and nothing outlives its time. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "log_folder.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/hour_key.h"
#include "persist/querylog/ledger.h"
#include "persist/querylog/segment.h"
#include "persist/redis/redis_route.h"

static uint64_t events_of(struct spool *spool)
{
    struct spool_figures figures;
    spool_figures(spool, &figures);
    return figures.events;
}

/* Segments rotate by size and by hour, sequences never repeat over a reopening, and the events left are
 * counted. */
static void test_spool_rotation_and_recovery(void **state)
{
    (void)state;
    struct fault fault;
    struct segment segment;
    bool open;
    uint64_t hour = frame_hour_of(now_ms());
    struct spool *spool = open_spool(1 << 30, true);
    for (int i = 0; i < 100; i++)
        assert_true(append(spool, hour + 5, 1, 10, &fault));
    assert_true(append(spool, hour - 1, 1, 10, &fault)); /* the hour before: a segment of its own */
    assert_int_equal(events_of(spool), 1010);
    assert_true(spool_next(spool, 0, &segment, &open));
    uint64_t first = segment.sequence;
    assert_false(open);
    spool_confirm(spool, first, 30, 64);
    assert_int_equal(events_of(spool), 980);
    uint64_t last = 0;
    while (spool_next(spool, last, &segment, &open))
        last = segment.sequence;
    assert_true(open);
    assert_true(last > first + 3);
    assert_int_equal(segment.hour_ms, hour - HOUR_MS);
    spool_close(spool);

    spool = open_spool(1 << 30, true);
    assert_int_equal(events_of(spool),
                     1010); /* what was confirmed is not remembered, only removed segments are */
    for (uint64_t sequence = first; sequence <= last; sequence++)
        drop_segment(spool, sequence);
    assert_int_equal(events_of(spool), 0);
    assert_false(spool_next(spool, 0, &segment, &open));
    spool_close(spool);

    spool = open_spool(1 << 30, true);
    assert_true(append(spool, hour, 1, 1, &fault));
    assert_true(spool_next(spool, 0, &segment, &open));
    assert_true(segment.sequence > last); /* though no segment was left to tell */
    spool_close(spool);
}

/* Beyond the cap an append is refused, and goes through when room was made. */
static void test_spool_cap(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t now = now_ms();
    struct spool *spool = open_spool(20000, false);
    int appended = 0;
    while (append(spool, now, 1, 100, &fault))
        appended++;
    assert_true(appended > 10 && appended < 25);
    assert_int_equal(fault.status, EX_UNAVAILABLE);
    assert_non_null(strstr(fault.text, "--query-log-bytes"));
    struct segment segment;
    bool open;
    assert_true(spool_next(spool, 0, &segment, &open));
    drop_segment(spool, segment.sequence);
    assert_true(append(spool, now, 1, 100, &fault));
    /* At the stop what was answered goes beyond the cap. */
    struct frame_batch *batch = make_batch(now, 1, 4000);
    assert_false(spool_append(spool, batch, false, &fault));
    assert_true(spool_append(spool, batch, true, &fault));
    free(batch);
    spool_close(spool);
    /* A queue at its cap closes its segment, so that all of it can be shipped. */
    spool = open_spool(1000, true);
    assert_false(append(spool, now, 1, 100, &fault));
    uint64_t last = 0;
    while (spool_next(spool, last, &segment, &open))
        last = segment.sequence;
    assert_false(open);
    spool_close(spool);
}

/* --- reading back --- */

/* By number, by requester, by window; and never a record that is 30 days old, though its file is there. */
static void test_disclosure(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t now = now_ms();
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, now - 5000, 1, 10, &fault));
    assert_true(append(spool, now - 3000, 2, 10, &fault));
    assert_true(append(spool, now - 1000, 2, 1, &fault));
    spool_close(spool);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_NUMBER, .number = NUMBER}).records, 3);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_NUMBER, .number = NUMBER + 9}).records,
                     2);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_NUMBER, .number = NUMBER - 1}).records,
                     0);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 2}).records, 11);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 3}).records, 0);
    struct found found =
        disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 2, .from_ms = now - 1000});
    assert_int_equal(found.records, 1);
    assert_int_equal(found.last.time_ms, now - 1000);
    assert_int_equal(found.last.answer, 1);
    assert_int_equal(found.last.server_id, SERVER_ID);
    assert_int_equal(
        disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 2, .until_ms = now - 1000})
            .records,
        10);
    /* One millisecond before 30 days it is there, at 30 days it is not. */
    struct disclose_query late = {
        .by = DISCLOSE_NUMBER, .number = NUMBER, .now_ms = now - 5000 + RETENTION_MS - 1};
    assert_int_equal(disclose(late).records, 3);
    late.now_ms++;
    assert_int_equal(disclose(late).records, 2);
}

/* A server whose retention is shorter said so in its keys: the reader keeps to that, to the millisecond. */
static void test_short_retention(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t now = now_ms();
    struct spool *spool = spool_open(&(struct spool_options){.folder = folder,
                                                             .officer = officer.public_key,
                                                             .server_id = SERVER_ID,
                                                             .retention_ms = 2 * HOUR_MS,
                                                             .bytes_max = 1 << 30,
                                                             .segment_bytes = 4096},
                                     &fault);
    assert_non_null(spool);
    assert_true(append(spool, now - 2 * HOUR_MS, 1, 10, &fault));
    assert_true(append(spool, now - 2 * HOUR_MS + 1, 1, 1, &fault));
    assert_true(append(spool, now, 1, 100, &fault));
    spool_close(spool);
    assert_int_equal(
        disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1, .now_ms = now}).records,
        101);
    assert_int_equal(
        disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1, .now_ms = now - 1})
            .records,
        111);
    assert_int_equal(
        disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1, .now_ms = now + 1})
            .records,
        100);
}

/* A torn tail costs only the frame that was torn, and is reported. */
static void test_torn_segment(void **state)
{
    (void)state;
    struct fault fault;
    char name[SEGMENT_NAME_BYTES];
    char path[PATH_MAX + SEGMENT_NAME_BYTES + 16];
    struct segment *segments;
    size_t count;
    uint64_t now = now_ms();
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, now, 1, 10, &fault));
    assert_true(append(spool, now, 1, 10, &fault));
    spool_close(spool);
    assert_true(segment_list(folder, &segments, &count, &fault));
    assert_int_equal(count, 1);
    segment_name(segments[0].sequence, segments[0].hour_ms, name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(truncate(path, 64 + 208 + 100), 0);
    struct found found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 10);
    assert_int_equal(found.warnings, 1);

    /* What is set aside is no segment any more, and goes when its time is over. */
    assert_true(segment_set_aside(folder, &segments[0]));
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1}).records, 0);
    strcat(path, ".damaged");
    segment_expire_set_aside(folder, RETENTION_MS, segments[0].hour_ms + HOUR_MS + RETENTION_MS - 1);
    assert_int_equal(access(path, F_OK), 0);
    segment_expire_set_aside(folder, RETENTION_MS, segments[0].hour_ms + HOUR_MS + RETENTION_MS);
    assert_int_not_equal(access(path, F_OK), 0);
    free(segments);
}

/* --- what is over --- */

static uint64_t expire(struct spool *spool, uint64_t time_ms)
{
    struct erasures erased = {0};
    uint64_t events = spool_expire(spool, time_ms, &erased);
    free(erased.list);
    return events;
}

static uint64_t expire_keys(uint64_t time_ms)
{
    struct erasures erased = {0};
    uint64_t oldest_ms = hour_keys_expire(folder, RETENTION_MS, time_ms, &erased);
    free(erased.list);
    return oldest_ms;
}

static size_t count_segments(void)
{
    struct fault fault;
    struct segment *segments;
    size_t count;
    assert_true(segment_list(folder, &segments, &count, &fault));
    free(segments);
    return count;
}

/* A segment goes when its hour's last moment is 30 days ago, to the millisecond, and not before. */
static void test_expiry(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t hour = frame_hour_of(now_ms());
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, hour - RETENTION_MS, 1, 10, &fault));
    assert_true(append(spool, hour, 1, 10, &fault));
    assert_int_equal(count_segments(), 2);
    assert_int_equal(expire(spool, hour + HOUR_MS - 1), 0);
    assert_int_equal(count_segments(), 2);
    /* Stored where it belonged: not lost, but over. */
    assert_int_equal(expire(spool, hour + HOUR_MS), 0);
    assert_int_equal(count_segments(), 1);
    expire(spool, hour + HOUR_MS + RETENTION_MS);
    assert_int_equal(count_segments(), 0);
    assert_true(append(spool, hour, 1, 10, &fault)); /* the open segment was closed, too */
    spool_close(spool);
}

static size_t count_files(const char *suffix)
{
    DIR *entries = opendir(folder);
    size_t count = 0;
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');
        count += end != NULL && strcmp(end, suffix) == 0;
    }
    closedir(entries);
    return count;
}

/* One key an hour and opening of the spool; it goes with its hour, and what it sealed is then closed for ever, though it is
 * still there. */
static void test_keys(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t hour = frame_hour_of(now_ms()) - HOUR_MS;
    struct spool *spool = open_spool(1 << 30, false);
    for (int i = 0; i < 100; i++)
        assert_true(append(spool, hour + 5, 1, 10, &fault)); /* several segments */
    assert_int_equal(count_files(".key"), 1);
    assert_true(append(spool, hour + HOUR_MS, 1, 10, &fault));
    assert_int_equal(count_files(".key"), 2);
    spool_close(spool);
    spool = open_spool(1 << 30, false);
    assert_true(append(spool, hour + HOUR_MS, 1, 10, &fault));
    assert_int_equal(count_files(".key"), 3);
    struct found found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 1020);
    assert_int_equal(found.warnings, 0);
    /* One that was being written when the server died is no key, and goes, too. */
    char unfinished[PATH_MAX];
    assert_true((size_t)snprintf(unfinished, PATH_MAX, "%s/%016x-%" PRIu64 ".key.new", folder, 7,
                                 hour / 1000) < PATH_MAX);
    close(open(unfinished, O_WRONLY | O_CREAT, 0600));
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1}).records,
                     1020);
    expire_keys(hour + HOUR_MS + RETENTION_MS - 1);
    assert_int_equal(count_files(".key"), 3);
    assert_int_equal(count_files(".new"), 1);
    expire_keys(hour + HOUR_MS + RETENTION_MS);
    assert_int_equal(count_files(".key"), 2);
    assert_int_equal(count_files(".new"), 0);
    found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 20);
    assert_int_equal(found.warnings, 1);
    /* The key in memory goes, too: what comes for its hour after that has a key of its own. */
    expire(spool, hour + 2 * HOUR_MS + RETENTION_MS);
    assert_int_equal(count_files(".key"), 0);
    assert_true(append(spool, hour + HOUR_MS, 1, 10, &fault));
    assert_int_equal(count_files(".key"), 1);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1}).records, 10);
    spool_close(spool);
}

/* The erasure's clock follows the wall clock's small steps at once and its jumps after an hour; and goes on meanwhile. */
static void test_erasure_clock(void **state)
{
    (void)state;
    const uint64_t start = UINT64_C(1790000000000);
    const uint64_t day = 24 * HOUR_MS;
    struct erasure_clock clock;
    erasure_clock_begin(&clock, start, 5, 0);
    assert_int_equal(erasure_clock_tick(&clock, start + 10000, 10005), start + 10000);
    assert_int_equal(erasure_clock_tick(&clock, start + 10000 + ERASURE_DRIFT_MS, 10005),
                     start + 10000 + ERASURE_DRIFT_MS);
    assert_int_equal(erasure_clock_tick(&clock, start + 20000, 20005), start + 20000);
    for (int back = 0; back < 2; back++) {
        uint64_t jump = back ? UINT64_MAX - 31 * day + 1 : 31 * day; /* as a number that is added */
        uint64_t monotonic = 20005;
        erasure_clock_begin(&clock, start, monotonic, start - HOUR_MS);
        /* For a moment: nothing happens. */
        assert_int_equal(erasure_clock_tick(&clock, start + jump, monotonic += 10000), start + 10000);
        assert_int_equal(erasure_clock_tick(&clock, start + 20000, monotonic += 10000), start + 20000);
        /* For an hour: it is followed then, and not before. */
        for (uint64_t passed = 30000; passed < 20000 + HOUR_MS; passed += 10000)
            assert_int_equal(erasure_clock_tick(&clock, start + jump + passed, monotonic += 10000),
                             start + passed);
        assert_int_equal(erasure_clock_tick(&clock, start + jump + HOUR_MS + 20000, monotonic += 10000),
                         start + jump + HOUR_MS + 20000);
        assert_int_equal(erasure_clock_tick(&clock, start + jump + HOUR_MS + 30000, monotonic += 10000),
                         start + jump + HOUR_MS + 30000);
    }
    /* Over a restart: a week may pass, more is a jump. */
    erasure_clock_begin(&clock, start + 7 * day, 0, start);
    assert_int_equal(erasure_clock_tick(&clock, start + 7 * day, 0), start + 7 * day);
    erasure_clock_begin(&clock, start + 8 * day, 0, start);
    assert_int_equal(erasure_clock_tick(&clock, start + 8 * day, 1000), start + 1000);
    erasure_clock_begin(&clock, start - 8 * day, 0, start);
    assert_int_equal(erasure_clock_tick(&clock, start - 8 * day, 0), start - 8 * day);
}

/* One receipt an hour, chained, with what was sealed in it though nothing tells any more; one that cannot be written waits. */
static void test_receipts(void **state)
{
    (void)state;
    struct fault fault;
    struct ledger_state ledger;
    struct erasures erased = {0};
    char path[PATH_MAX];
    char line[1024];
    uint64_t hour = frame_hour_of(now_ms());
    struct spool *spool = open_spool(1 << 30, false);
    for (int i = 0; i < 30; i++)
        assert_true(append(spool, hour - HOUR_MS, 1, 10, &fault)); /* several segments */
    assert_true(append(spool, hour, 1, 10, &fault));
    spool_expire(spool, hour + HOUR_MS + RETENTION_MS, &erased);
    assert_int_equal(erased.count, 2);
    assert_int_equal(erased.list[0].keys, 1);
    uint64_t bytes = erased.list[0].bytes + erased.list[1].bytes;
    assert_int_equal(bytes, (erased.list[0].segments + erased.list[1].segments) * 64 + 31 * 208);
    assert_false(erasures_write_first(&erased, "/nonexistent", 300, hour, &fault));
    assert_int_equal(erased.count, 2);
    while (erased.count > 0)
        assert_true(erasures_write_first(&erased, folder, 300, hour, &fault));
    assert_true((size_t)snprintf(path, sizeof path, "%s/" ERASURE_LEDGER_NAME, folder) < sizeof path);
    assert_true(ledger_check(path, NULL, &ledger, &fault));
    assert_int_equal(ledger.entries, 2);
    FILE *file = fopen(path, "re");
    assert_non_null(fgets(line, sizeof line, file));
    fclose(file);
    assert_non_null(strstr(line, "\"events\":300,\"keys\":1,\"segments\":"));
    free(erased.list);
    spool_close(spool);
}

/* --- where Redis is --- */

/* Redis URLs of every form, and what is none. */
static void test_redis_url(void **state)
{
    (void)state;
    struct redis_target target;
    struct fault fault;
    assert_true(redis_target_parse("redis://127.0.0.1:7000/3", &target, &fault));
    assert_int_equal(target.count, 1);
    assert_string_equal(target.addresses[0].host, "127.0.0.1");
    assert_int_equal(target.addresses[0].port, 7000);
    assert_int_equal(target.database, 3);
    assert_true(redis_target_parse("redis://user:p@ss:word@[::1]", &target, &fault));
    assert_string_equal(target.addresses[0].host, "::1");
    assert_string_equal(target.user, "user");
    assert_string_equal(target.password, "p@ss:word");
    assert_int_equal(target.addresses[0].port, 6379);
    assert_true(redis_target_parse("redis://:secret@a:7001,[::2]:7002,c", &target, &fault));
    assert_int_equal(target.count, 3);
    assert_string_equal(target.addresses[1].host, "::2");
    assert_int_equal(target.addresses[1].port, 7002);
    assert_string_equal(target.addresses[2].host, "c");
    assert_int_equal(target.addresses[2].port, 6379);
    assert_string_equal(target.password, "secret");
    assert_true(redis_target_parse("unix:///run/redis.sock?db=2", &target, &fault));
    assert_string_equal(target.addresses[0].host, "/run/redis.sock");
    assert_int_equal(target.addresses[0].port, 0);
    assert_int_equal(target.database, 2);
    static const char *const bad[] = {"",
                                      "redis:",
                                      "redis://",
                                      "redis://:99999",
                                      "redis://h:0",
                                      "redis://h:x",
                                      "redis://h/y",
                                      "redis://h,",
                                      "redis://h,,i",
                                      "redis://,h/0",
                                      "redis://a,b,c,d,e,f,g,h,i",
                                      "http://h",
                                      "unix://run",
                                      "redis://password@h"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(redis_target_parse(bad[i], &target, &fault));
        assert_int_equal(fault.status, EX_USAGE);
    }
}

/* Slots as the cluster specification has them, and what error replies want. (A real cluster's own slots: test_cluster.py.) */
static void test_redis_slots(void **state)
{
    (void)state;
    assert_int_equal(redis_route_slot("123456789"), 0x31c3);
    assert_int_equal(redis_route_slot("foo"), 12182);
    assert_int_equal(redis_route_slot("{foo}bar"), redis_route_slot("foo"));
    assert_int_equal(redis_route_slot("a{foo}{bar}"), redis_route_slot("foo"));
    assert_int_equal(redis_route_slot("a{{foo}}"), redis_route_slot("{foo"));
    assert_int_not_equal(redis_route_slot("{}foo"), redis_route_slot("{}bar"));
    assert_int_not_equal(redis_route_slot("{foo"), redis_route_slot("foo"));
    assert_int_equal(redis_route_redirect("MOVED 3999 127.0.0.1:6381"), REDIS_MOVED);
    assert_int_equal(redis_route_redirect("ASK 3999 127.0.0.1:6381"), REDIS_ASK);
    assert_int_equal(redis_route_redirect("TRYAGAIN Multiple keys request during rehashing of slot"),
                     REDIS_LATER);
    assert_int_equal(redis_route_redirect("CLUSTERDOWN The cluster is down"), REDIS_LATER);
    assert_int_equal(redis_route_redirect("LOADING Redis is loading the dataset in memory"), REDIS_LATER);
    assert_int_equal(redis_route_redirect("ERR MOVED"), REDIS_NO_REDIRECT);
    assert_int_equal(redis_route_redirect(""), REDIS_NO_REDIRECT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redis_slots),
        cmocka_unit_test_setup_teardown(test_spool_rotation_and_recovery, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_spool_cap, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_disclosure, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_short_retention, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_torn_segment, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_expiry, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_keys, make_log, remove_folder),
        cmocka_unit_test(test_erasure_clock),
        cmocka_unit_test_setup_teardown(test_receipts, make_log, remove_folder),
        cmocka_unit_test(test_redis_url),
    };
    return cmocka_run_group_tests_name("querylog", tests, NULL, NULL);
}
