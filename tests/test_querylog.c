/* persist/querylog: frames, keys, segments, spool and drain; what went in comes out once, for the officer alone, and
 * nothing outlives its time. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "folder.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/drain.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/hour_key.h"
#include "persist/querylog/ledger.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/redis_link.h"
#include "persist/querylog/segment.h"
#include "persist/querylog/spool.h"
#include "persist/querylog/tally.h"
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

#define SERVER_ID UINT64_C(0xabc)

static struct officer_pair officer;

/* A folder, and in it the officer's key pair. */
static int make_log(void **state)
{
    struct fault fault;
    char path[PATH_MAX];
    return make_folder(state) != 0 || !officer_make(folder, "test", false, &fault) ||
           (size_t)snprintf(path, sizeof path, "%s/test.private", folder) >= sizeof path ||
           !officer_read_private(path, NULL, &officer, &fault);
}

/* A batch of one block with `events` events. The caller frees it. */
static struct frame_batch *make_batch(uint64_t time_ms, uint64_t requester, uint32_t events)
{
    struct frame_batch *batch = calloc(1, sizeof *batch);
    struct query_block *block = (void *)batch->blocks;
    block->time_ms = time_ms;
    block->requester = requester;
    block->count = events;
    for (uint32_t i = 0; i < events; i++)
        block->events[i] = query_event(NUMBER + i, 1);
    batch->bytes = query_block_bytes(events);
    batch->hour_ms = frame_hour_of(time_ms);
    batch->bucket = frame_bucket_of(requester);
    batch->events = events;
    return batch;
}

static const uint8_t secret[FRAME_KEY_BYTES] = {1, 2, 3};
static const struct frame_place place = {SERVER_ID, 77};

static size_t seal(struct frame *frame, const struct frame_batch *batch)
{
    frame->index = 9;
    frame->key = 70;
    frame->nonce = 4;
    frame->ordinal = 2;
    return frame_seal(frame, batch, &place, secret);
}

static bool opens(const struct frame *frame)
{
    struct frame_batch *opened = malloc(sizeof *opened);
    bool good = frame_open(frame, &place, secret, opened);
    free(opened);
    return good;
}

/* Sets the checksum right: what who has no key can do. */
static void set_checksum(struct frame *frame)
{
    XXH64_hash_t head = XXH3_64bits(frame, offsetof(struct frame, checksum));
    frame->checksum = XXH3_64bits_withSeed(frame->payload, frame->payload_bytes, head);
}

/* A sealed frame is whole and opens; every cut is incomplete, every flipped bit is never whole, and does not open though
 * the checksum was set right. */
static void test_frame(void **state)
{
    (void)state;
    struct frame_batch *batch = make_batch(now_ms(), 5, 3);
    struct frame_batch *opened = calloc(1, sizeof *opened);
    struct frame *frame = malloc(FRAME_BYTES_MAX);
    size_t length = seal(frame, batch);
    size_t bytes;
    assert_int_equal(length, frame_sealed_bytes(batch));
    assert_int_equal(frame_examine(frame, length, &bytes), FRAME_WHOLE);
    assert_int_equal(bytes, length);
    assert_true(frame_open(frame, &place, secret, opened));
    assert_int_equal(opened->events, 3);
    assert_int_equal(opened->hour_ms, batch->hour_ms);
    assert_int_equal(opened->bucket, batch->bucket);
    assert_int_equal(opened->bytes, batch->bytes);
    assert_memory_equal(opened->blocks, batch->blocks, batch->bytes);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_equal(frame_examine(frame, cut, &bytes), FRAME_INCOMPLETE);
    unsigned char *raw = (void *)frame;
    for (size_t bit = 0; bit < length * 8; bit++) {
        uint64_t checksum = frame->checksum;
        raw[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_not_equal(frame_examine(frame, length, &bytes), FRAME_WHOLE);
        if (bit / 8 < offsetof(struct frame, checksum) || bit / 8 >= sizeof *frame) {
            uint32_t payload_bytes = frame->payload_bytes;
            if (payload_bytes <= length - sizeof *frame) {
                set_checksum(frame);
                assert_true(frame_examine(frame, length, &bytes) != FRAME_WHOLE || !opens(frame));
                frame->checksum = checksum;
            }
        }
        raw[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(opens(frame));
    free(frame);
    free(opened);
    free(batch);
}

/* A frame opens only where it was written, and with its key; a number is nowhere in it; the same batch twice gives other
 * bytes. What was sealed and does not hold whole blocks does not open. */
static void test_frame_is_bound(void **state)
{
    (void)state;
    struct frame_batch *batch = make_batch(now_ms(), 5, 3);
    struct frame_batch *opened = calloc(1, sizeof *opened);
    struct frame *frame = malloc(FRAME_BYTES_MAX);
    struct frame *again = malloc(FRAME_BYTES_MAX);
    uint8_t other[FRAME_KEY_BYTES] = {1, 2, 4};
    size_t length = seal(frame, batch);
    assert_false(frame_open(frame, &(struct frame_place){SERVER_ID, 78}, secret, opened));
    assert_false(frame_open(frame, &(struct frame_place){SERVER_ID + 1, 77}, secret, opened));
    assert_false(frame_open(frame, &place, other, opened));
    uint64_t number = NUMBER;
    assert_null(memmem(frame, length, &number, 6));
    assert_non_null(memmem(batch->blocks, batch->bytes, &number, 6));
    seal(again, batch);
    again->nonce++;
    frame_seal(again, batch, &place, secret);
    assert_memory_not_equal(frame->payload, again->payload, batch->bytes);
    ((struct query_block *)(void *)batch->blocks)->count = 2;
    seal(frame, batch);
    assert_false(opens(frame));
    free(again);
    free(frame);
    free(opened);
    free(batch);
}

static struct spool *open_spool(uint64_t bytes_max, bool is_queue)
{
    struct fault fault;
    struct spool *spool = spool_open(&(struct spool_options){.folder = folder,
                                                             .officer = officer.public_key,
                                                             .server_id = SERVER_ID,
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
    struct frame_batch *batch = make_batch(time_ms, requester, events);
    bool good = spool_append(spool, batch, false, fault);
    free(batch);
    return good;
}

/* As if shipped and no longer kept. */
static void drop_segment(struct spool *spool, uint64_t sequence)
{
    spool_keep(spool, sequence, 1);
    spool_confirm(spool, sequence, UINT64_MAX, UINT64_MAX);
    spool_release(spool, 1, UINT64_MAX);
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

/* --- reading back --- */

struct found {
    uint64_t records;
    uint64_t warnings;
    uint64_t gaps;
    struct disclose_record last;
    struct query_gap last_gap;
};

static bool take_record(void *context, const struct disclose_record *record)
{
    struct found *found = context;
    found->records++;
    found->last = *record;
    return true;
}

static void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    struct found *found = context;
    assert_int_equal(server_id, SERVER_ID);
    found->gaps++;
    found->last_gap = *gap;
}

static void ignore_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total);
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
    query.keys = key_ring_open(folder, &officer, query.from_ms, query.until_ms, &fault);
    assert_non_null(query.keys);
    assert_true(disclose_segments(
        folder, &query,
        &(struct disclose_target){take_record, take_gap, take_warning, ignore_progress, &found}, &fault));
    key_ring_close(query.keys);
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

/* --- keys --- */

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

/* The path of the folder's only file with this suffix. */
static void find_file(const char *suffix, char path[PATH_MAX])
{
    DIR *entries = opendir(folder);
    path[0] = '\0';
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');
        if (end == NULL || strcmp(end, suffix) != 0)
            continue;
        assert_int_equal(path[0], 0);
        assert_true((size_t)snprintf(path, PATH_MAX, "%s/%s", folder, entry->d_name) < PATH_MAX);
    }
    closedir(entries);
    assert_int_not_equal(path[0], 0);
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

/* Each flipped bit of a wrapped key is seen: no record comes out. Another officer's private key opens nothing. */
static void test_wrapped_key(void **state)
{
    (void)state;
    struct fault fault;
    char path[PATH_MAX];
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, now_ms(), 1, 10, &fault));
    spool_close(spool);
    find_file(".key", path);
    unsigned char bytes[192];
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), sizeof bytes);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        unsigned char flipped = (unsigned char)(bytes[bit / 8] ^ 1u << bit % 8);
        assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
        assert_null(key_ring_open(folder, &officer, 0, UINT64_MAX, &fault));
        /* Within the officer's key it looks like another officer's. */
        assert_int_equal(fault.status, bit / 8 >= 48 && bit / 8 < 80 ? EX_NOPERM : EX_DATAERR);
        assert_int_equal(pwrite(fd, &bytes[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    assert_int_equal(ftruncate(fd, 100), 0);
    assert_null(key_ring_open(folder, &officer, 0, UINT64_MAX, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
    close(fd);
    assert_int_equal(disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1}).records, 10);
    struct officer_pair other;
    assert_true(officer_make(folder, "other", false, &fault));
    assert_true((size_t)snprintf(path, sizeof path, "%s/other.private", folder) < sizeof path);
    assert_true(officer_read_private(path, NULL, &other, &fault));
    assert_null(key_ring_open(folder, &other, 0, UINT64_MAX, &fault));
    assert_int_equal(fault.status, EX_NOPERM);
    /* The other's public key with the right private one is no pair. */
    memcpy(other.public_key, officer.public_key, sizeof other.public_key);
    assert_null(key_ring_open(folder, &other, 0, UINT64_MAX, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
}

/* Frames that somebody took out of the middle, or put elsewhere, are missed. */
static void test_holes(void **state)
{
    (void)state;
    struct fault fault;
    char path[PATH_MAX];
    const off_t frame_bytes = 64 + 48 + 80 + 16;
    char bytes[1024];
    struct spool *spool = open_spool(1 << 30, false);
    for (int i = 0; i < 3; i++)
        assert_true(append(spool, now_ms(), 1, 10, &fault));
    spool_close(spool);
    find_file(".segment", path);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, bytes, sizeof bytes, 64), 3 * frame_bytes);
    /* Without the second. */
    assert_int_equal(pwrite(fd, bytes + 2 * frame_bytes, (size_t)frame_bytes, 64 + frame_bytes), frame_bytes);
    assert_int_equal(ftruncate(fd, 64 + 2 * frame_bytes), 0);
    struct found found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 20);
    assert_int_equal(found.warnings, 1);
    /* The first twice. */
    assert_int_equal(pwrite(fd, bytes, (size_t)frame_bytes, 64 + frame_bytes), frame_bytes);
    found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 10);
    assert_int_equal(found.warnings, 1);
    /* Without the first. */
    assert_int_equal(pwrite(fd, bytes + frame_bytes, (size_t)(2 * frame_bytes), 64), 2 * frame_bytes);
    found = disclose((struct disclose_query){.by = DISCLOSE_REQUESTER, .requester = 1});
    assert_int_equal(found.records, 20);
    assert_int_equal(found.warnings, 1);
    close(fd);
}

/* A pair is made once, is read back, and is never overwritten; what is none is refused. */
static void test_officer(void **state)
{
    (void)state;
    struct fault fault;
    uint8_t key[OFFICER_KEY_BYTES];
    uint8_t again[OFFICER_KEY_BYTES];
    char path[PATH_MAX];
    struct stat status;
    bool is_exposed;
    assert_false(officer_make(folder, "test", false, &fault));
    assert_int_equal(fault.status, EX_CANTCREAT);
    assert_true((size_t)snprintf(path, sizeof path, "%s/test.public", folder) < sizeof path);
    assert_true(officer_read_public(path, key, &fault));
    assert_memory_equal(key, officer.public_key, sizeof key);
    struct officer_pair pair;
    assert_false(officer_read_private(path, NULL, &pair, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    assert_int_equal(unlink(path), 0); /* the private half is there: still nothing is overwritten */
    assert_false(officer_make(folder, "test", false, &fault));
    assert_false(officer_read_public(path, key, &fault));
    assert_int_equal(fault.status, EX_NOINPUT);

    assert_true(officer_of(folder, key, &is_exposed, &fault));
    assert_true(is_exposed);
    assert_true((size_t)snprintf(path, sizeof path, "%s/officer.private", folder) < sizeof path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_true((size_t)snprintf(path, sizeof path, "%s/officer.public", folder) < sizeof path);
    assert_int_equal(unlink(path), 0); /* as after a start that was cut off */
    assert_true(officer_of(folder, again, &is_exposed, &fault));
    assert_memory_equal(key, again, sizeof key);
    assert_true((size_t)snprintf(path, sizeof path, "%s/officer.private", folder) < sizeof path);
    assert_int_equal(unlink(path), 0); /* moved away */
    assert_true(officer_of(folder, again, &is_exposed, &fault));
    assert_false(is_exposed);
    assert_memory_equal(key, again, sizeof key);
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
        cmocka_unit_test(test_frame_is_bound),
        cmocka_unit_test_setup_teardown(test_spool_rotation_and_recovery, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_spool_cap, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_expiry, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_disclosure, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_short_retention, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_torn_segment, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_keys, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_wrapped_key, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_holes, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_officer, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_drain, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_drain_at_the_cap, make_log, remove_folder),
        cmocka_unit_test(test_erasure_clock),
        cmocka_unit_test_setup_teardown(test_receipts, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_gaps, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_tally, make_log, remove_folder),
        cmocka_unit_test(test_redis_url),
    };
    return cmocka_run_group_tests_name("querylog", tests, NULL, NULL);
}
