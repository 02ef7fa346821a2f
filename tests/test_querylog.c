/* persist/querylog: frames, segments, spool and drain; what went in comes out once, and nothing outlives its
 * time. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "folder.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/drain.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/redis_link.h"
#include "persist/querylog/segment.h"
#include "persist/querylog/spool.h"
#include "ring/event.h"
#include "unit.h"

#define HOUR_MS FRAME_HOUR_MS
#define RETENTION_MS (720 * HOUR_MS)
#define NUMBER UINT64_C(4915112345678)

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* A frame of one block with `events` events. The caller frees it. */
static struct frame *make_frame(uint64_t time_ms, uint64_t requester, uint32_t events)
{
    struct frame *frame = calloc(1, sizeof *frame + FRAME_PAYLOAD_MAX);
    struct query_block *block = (void *)frame->payload;
    block->time_ms = time_ms;
    block->requester = requester;
    block->count = events;
    for (uint32_t i = 0; i < events; i++)
        block->events[i] = query_event(NUMBER + i, 1);
    frame->payload_bytes = (uint32_t)query_block_bytes(events);
    frame->hour_ms = frame_hour_of(time_ms);
    frame->bucket = frame_bucket_of(requester);
    frame->events = events;
    return frame;
}

/* A sealed frame is whole; every cut is incomplete, every flipped bit is never whole. */
static void test_frame(void **state)
{
    (void)state;
    struct frame *frame = make_frame(now_ms(), 5, 3);
    size_t length = sizeof *frame + frame->payload_bytes;
    size_t bytes;
    frame->index = 9;
    frame_seal(frame);
    assert_int_equal(frame_examine(frame, length, &bytes), FRAME_WHOLE);
    assert_int_equal(bytes, length);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(frame_examine(frame, cut, &bytes), FRAME_INCOMPLETE);
    unsigned char *raw = (void *)frame;
    for (size_t bit = 0; bit < length * 8; bit++) {
        raw[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_not_equal(frame_examine(frame, length, &bytes), FRAME_WHOLE);
        raw[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    /* A good checksum does not make blocks whole that are not. */
    ((struct query_block *)(void *)frame->payload)->count = 2;
    frame_seal(frame);
    assert_int_equal(frame_examine(frame, length, &bytes), FRAME_INVALID);
    free(frame);
}

static struct spool *open_spool(uint64_t bytes_max, bool is_queue)
{
    struct fault fault;
    struct spool *spool = spool_open(&(struct spool_options){.folder = folder,
                                                             .server_id = 0xabc,
                                                             .retention_ms = RETENTION_MS,
                                                             .bytes_max = bytes_max,
                                                             .segment_bytes = 4096,
                                                             .is_queue = is_queue},
                                     &fault);
    assert_non_null(spool);
    return spool;
}

static bool append(struct spool *spool, uint64_t time_ms, uint64_t requester, uint32_t events,
                   struct fault *fault)
{
    struct frame *frame = make_frame(time_ms, requester, events);
    bool good = spool_append(spool, frame, false, fault);
    free(frame);
    return good;
}

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
    spool_confirm(spool, first, 30);
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
    uint64_t unconfirmed = 0;
    for (uint64_t sequence = first; sequence <= last; sequence++)
        unconfirmed += spool_remove(spool, sequence);
    assert_int_equal(unconfirmed, 1010);
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
    spool_remove(spool, segment.sequence);
    assert_true(append(spool, now, 1, 100, &fault));
    /* At the stop what was answered goes beyond the cap. */
    struct frame *frame = make_frame(now, 1, 4000);
    assert_false(spool_append(spool, frame, false, &fault));
    assert_true(spool_append(spool, frame, true, &fault));
    free(frame);
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

static size_t count_segments(void)
{
    struct fault fault;
    struct segment *segments;
    size_t count;
    assert_true(segment_list(folder, &segments, &count, &fault));
    free(segments);
    return count;
}

/* A segment goes when its hour's first moment is 30 days old, to the millisecond, and not before. */
static void test_expiry(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t hour = frame_hour_of(now_ms());
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, hour - RETENTION_MS, 1, 10, &fault));
    assert_true(append(spool, hour, 1, 10, &fault));
    assert_int_equal(count_segments(), 2);
    assert_int_equal(spool_expire(spool, hour - 1), 0);
    assert_int_equal(count_segments(), 2);
    assert_int_equal(spool_expire(spool, hour), 0); /* stored where it belonged: not lost, but over */
    assert_int_equal(count_segments(), 1);
    spool_expire(spool, hour + RETENTION_MS);
    assert_int_equal(count_segments(), 0);
    assert_true(append(spool, hour, 1, 10, &fault)); /* the open segment was closed, too */
    spool_close(spool);
}

/* --- reading back --- */

struct found {
    uint64_t records;
    uint64_t warnings;
    struct disclose_record last;
};

static bool take_record(void *context, const struct disclose_record *record)
{
    struct found *found = context;
    found->records++;
    found->last = *record;
    return true;
}

static void take_warning(void *context, const char *line)
{
    (void)line;
    ((struct found *)context)->warnings++;
}

static struct found disclose(struct disclose_query query)
{
    struct fault fault;
    struct found found = {0};
    query.retention_ms = RETENTION_MS;
    query.until_ms = query.until_ms == 0 ? UINT64_MAX : query.until_ms;
    query.now_ms = query.now_ms == 0 ? now_ms() : query.now_ms;
    assert_true(disclose_segments(folder, &query,
                                  &(struct disclose_target){take_record, take_warning, &found}, &fault));
    return found;
}

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
    assert_int_equal(disclose((struct disclose_query){.by_number = true, .number = NUMBER}).records, 3);
    assert_int_equal(disclose((struct disclose_query){.by_number = true, .number = NUMBER + 9}).records, 2);
    assert_int_equal(disclose((struct disclose_query){.by_number = true, .number = NUMBER - 1}).records, 0);
    assert_int_equal(disclose((struct disclose_query){.requester = 2}).records, 11);
    assert_int_equal(disclose((struct disclose_query){.requester = 3}).records, 0);
    struct found found = disclose((struct disclose_query){.requester = 2, .from_ms = now - 1000});
    assert_int_equal(found.records, 1);
    assert_int_equal(found.last.time_ms, now - 1000);
    assert_int_equal(found.last.answer, 1);
    assert_int_equal(found.last.server_id, 0xabc);
    assert_int_equal(disclose((struct disclose_query){.requester = 2, .until_ms = now - 1000}).records, 10);
    /* One millisecond before 30 days it is there, at 30 days it is not. */
    struct disclose_query late = {
        .by_number = true, .number = NUMBER, .now_ms = now - 5000 + RETENTION_MS - 1};
    assert_int_equal(disclose(late).records, 3);
    late.now_ms++;
    assert_int_equal(disclose(late).records, 2);
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
    assert_int_equal(truncate(path, 64 + 168 + 100), 0);
    struct found found = disclose((struct disclose_query){.requester = 1});
    assert_int_equal(found.records, 10);
    assert_int_equal(found.warnings, 1);

    /* What is set aside is no segment any more, and goes when its time is over. */
    assert_true(segment_set_aside(folder, &segments[0]));
    assert_int_equal(disclose((struct disclose_query){.requester = 1}).records, 0);
    strcat(path, ".damaged");
    segment_expire_set_aside(folder, RETENTION_MS, segments[0].hour_ms + RETENTION_MS - 1);
    assert_int_equal(access(path, F_OK), 0);
    segment_expire_set_aside(folder, RETENTION_MS, segments[0].hour_ms + RETENTION_MS);
    assert_int_not_equal(access(path, F_OK), 0);
    free(segments);
}

/* --- the drain --- */

static void ignore_notice(const char *line)
{
    (void)line;
}

static void push_block(struct ring *ring, uint64_t requester, uint64_t sequence, uint32_t events)
{
    struct query_block *block;
    while ((block = ring_reserve(ring, query_block_bytes(events))) == NULL)
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

/* Two producers, one drain: every event arrives in the segments once. */
static void test_drain(void **state)
{
    (void)state;
    struct fault fault;
    struct ring *rings[2] = {ring_create(1 << 16), ring_create(1 << 16)};
    struct spool *spool = open_spool(1 << 30, false);
    struct drain *drain = drain_start(
        &(struct drain_options){.rings = rings, .ring_count = 2, .spool = spool, .notice = ignore_notice},
        &fault);
    assert_non_null(drain);
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, push_blocks, rings[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    struct drain_figures figures = drain_stop(drain);
    uint64_t expected = 0;
    for (uint64_t sequence = 1; sequence <= 20000; sequence++)
        expected += 2 * (1 + sequence % 40);
    assert_int_equal(figures.appended, expected);
    assert_int_equal(figures.lost, 0);
    spool_close(spool);
    assert_int_equal(disclose((struct disclose_query){.by_number = true, .number = NUMBER}).records,
                     expected);
    for (int i = 0; i < 2; i++)
        ring_destroy(rings[i]);
}

/* A spool at its cap closes the gate; room opens it again, and nothing of what the ring held is lost. */
static void test_drain_at_the_cap(void **state)
{
    (void)state;
    struct fault fault;
    struct ring *ring = ring_create(1 << 20);
    struct spool *spool = open_spool(60000, false);
    struct drain *drain = drain_start(
        &(struct drain_options){.rings = &ring, .ring_count = 1, .spool = spool, .notice = ignore_notice},
        &fault);
    for (uint64_t sequence = 1; sequence <= 300; sequence++)
        push_block(ring, sequence, sequence, 40);
    for (int i = 0; i < 1000 && !atomic_load(drain_gate(drain)); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(atomic_load(drain_gate(drain)));
    uint64_t seen = 0;
    struct segment segment;
    bool open;
    uint64_t after = 0;
    for (int i = 0; i < 10000 && seen < 12000; i++) {
        while (spool_next(spool, after, &segment, &open) && !open) {
            spool_remove(spool, segment.sequence);
            after = segment.sequence;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        seen = drain_figures(drain).appended;
    }
    assert_int_equal(seen, 12000);
    assert_false(atomic_load(drain_gate(drain)));
    assert_int_equal(drain_stop(drain).lost, 0);
    spool_close(spool);
    ring_destroy(ring);
}

/* Redis URLs of every form, and what is none. */
static void test_redis_url(void **state)
{
    (void)state;
    struct redis_target target;
    struct fault fault;
    assert_true(redis_target_parse("redis://127.0.0.1:7000/3", &target, &fault));
    assert_string_equal(target.host, "127.0.0.1");
    assert_int_equal(target.port, 7000);
    assert_int_equal(target.database, 3);
    assert_true(redis_target_parse("redis://user:p@ss:word@[::1]", &target, &fault));
    assert_string_equal(target.host, "::1");
    assert_string_equal(target.user, "user");
    assert_string_equal(target.password, "p@ss:word");
    assert_int_equal(target.port, 6379);
    assert_true(redis_target_parse("unix:///run/redis.sock?db=2", &target, &fault));
    assert_string_equal(target.host, "/run/redis.sock");
    assert_int_equal(target.port, 0);
    assert_int_equal(target.database, 2);
    static const char *const bad[] = {"",
                                      "redis:",
                                      "redis://",
                                      "redis://:99999",
                                      "redis://h:0",
                                      "redis://h:x",
                                      "redis://h/y",
                                      "http://h",
                                      "unix://run",
                                      "redis://password@h"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(redis_target_parse(bad[i], &target, &fault));
        assert_int_equal(fault.status, EX_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame),
        cmocka_unit_test_setup_teardown(test_spool_rotation_and_recovery, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_spool_cap, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_expiry, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_disclosure, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_torn_segment, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_drain, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_drain_at_the_cap, make_folder, remove_folder),
        cmocka_unit_test(test_redis_url),
    };
    return cmocka_run_group_tests_name("querylog", tests, NULL, NULL);
}
