/* persist/querylog: frames, hour keys and the officer's pair; what was sealed opens for the officer alone, and whatever was
 * changed, dropped or moved is seen. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <xxhash.h>

#include "log_folder.h"
#include "persist/querylog/hour_key.h"

static const uint8_t secret[FRAME_KEY_BYTES] = {1, 2, 3};
static const struct frame_place place = {SERVER_ID, 77};

static size_t seal(struct frame *frame, const struct frame_batch *batch)
{
    frame->index = 9;
    frame->key = 70;
    frame->nonce = 4;
    frame->ordinal = 2;
    return frame_seal(frame, batch, &place, secret, NULL);
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
    frame_seal(again, batch, &place, secret, NULL);
    assert_memory_not_equal(frame->payload, again->payload, batch->bytes);
    ((struct query_block *)(void *)batch->blocks)->count = 2;
    seal(frame, batch);
    assert_false(opens(frame));
    free(again);
    free(frame);
    free(opened);
    free(batch);
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

/* Of an hour that began after the keys were read nothing was asked; of one before, that a key is missing is said. */
static void test_next_hour(void **state)
{
    (void)state;
    struct fault fault;
    uint64_t first_ms = frame_hour_of(now_ms()) + 1000;
    struct spool *spool = open_spool(1 << 30, false);
    assert_true(append(spool, first_ms, 1, 10, &fault));
    struct disclose_query query = {.by = DISCLOSE_REQUESTER,
                                   .requester = 1,
                                   .until_ms = UINT64_MAX,
                                   .now_ms = first_ms + 1,
                                   .retention_ms = RETENTION_MS,
                                   .keys = key_ring_open(folder, &officer, 0, UINT64_MAX, &fault)};
    assert_non_null(query.keys);
    assert_true(append(spool, first_ms + HOUR_MS, 1, 10, &fault));
    spool_close(spool);
    for (uint64_t expected = 0; expected < 2; expected++) {
        struct found found = {0};
        assert_true(disclose_segments(
            folder, &query,
            &(struct disclose_target){take_record, take_gap, take_warning, ignore_progress, &found}, &fault));
        /* The second time there is also one for the first frame, which the ring has seen already. */
        assert_int_equal(found.warnings, 2 * expected);
        assert_int_equal(found.records, expected == 0 ? 10 : 0);
        query.now_ms += HOUR_MS;
    }
    key_ring_close(query.keys);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_frame_is_bound),
        cmocka_unit_test_setup_teardown(test_wrapped_key, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_holes, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_next_hour, make_log, remove_folder),
        cmocka_unit_test_setup_teardown(test_officer, make_log, remove_folder),
    };
    return cmocka_run_group_tests_name("sealing", tests, NULL, NULL);
}
