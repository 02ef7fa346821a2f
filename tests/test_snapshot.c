/* persist/registrations: a snapshot brings back what was saved; every flipped bit and every cut is seen. */
#include "persist/registrations/snapshot.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "folder.h"
#include "persist/datadir.h"
#include "persist/registrations/csv_rows.h"
#include "unit.h"

#define BASE UINT64_C(491510000000)

static struct directory *filled_directory(uint64_t count)
{
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = 4, .shard_bits = 3, .accounts = true});
    for (uint64_t i = 0; i < count; i++) {
        struct record record = {BASE + i, i * i, (uint8_t)i};
        assert_int_equal(directory_register(directory, &record), DIRECTORY_ADDED);
    }
    return directory;
}

struct reading {
    uint64_t records;
    bool *seen;
};

static bool check_record(void *context, const struct record *record)
{
    struct reading *reading = context;
    uint64_t i = record->number - BASE;
    assert_int_equal(record->account, i * i);
    assert_int_equal(record->flags, (uint8_t)i);
    assert_false(reading->seen[i]);
    reading->seen[i] = true;
    reading->records++;
    return true;
}

/* What was written is read back, each record once, for sizes around the block's. */
static void test_round_trip(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 4095, 4096, 4097, 50000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct fault fault;
        struct snapshot_info info;
        struct directory *directory = filled_directory(sizes[s]);
        struct reading reading = {.seen = calloc(sizes[s] + 1, 1)};
        assert_true(snapshot_write(folder, directory, 17, 18, &info, &fault));
        assert_int_equal(info.records, sizes[s]);
        assert_true(snapshot_read_info(folder, &info, &fault));
        assert_int_equal(info.records, sizes[s]);
        assert_int_equal(info.position, 17);
        assert_int_equal(info.written_at_ms, 18);
        assert_true(snapshot_read(folder, check_record, &reading, &fault));
        assert_int_equal(reading.records, sizes[s]);
        free(reading.seen);
        directory_destroy(directory);
    }
}

static bool take_any(void *context, const struct record *record)
{
    (void)record;
    ++*(uint64_t *)context;
    return true;
}

static size_t load_file(unsigned char **bytes, char path[PATH_MAX])
{
    struct stat status;
    assert_true(snprintf(path, PATH_MAX, "%s/registrations.snapshot", folder) < PATH_MAX);
    int fd = open(path, O_RDONLY);
    assert_int_equal(fstat(fd, &status), 0);
    *bytes = malloc((size_t)status.st_size);
    assert_int_equal(read(fd, *bytes, (size_t)status.st_size), status.st_size);
    close(fd);
    return (size_t)status.st_size;
}

static void store_file(const char *path, const unsigned char *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, bytes, length), length);
    close(fd);
}

/* Each single flipped bit of a small snapshot, and each cut, is a fault with a reason; none is read as good.
 */
static void test_damage_is_seen(void **state)
{
    (void)state;
    struct fault fault;
    struct snapshot_info info;
    char path[PATH_MAX];
    unsigned char *bytes;
    struct directory *directory = filled_directory(20);
    assert_true(snapshot_write(folder, directory, 1, 2, &info, &fault));
    size_t length = load_file(&bytes, path);
    for (size_t bit = 0; bit < length * 8; bit++) {
        uint64_t records = 0;
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        store_file(path, bytes, length);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(snapshot_read(folder, take_any, &records, &fault));
        assert_int_equal(fault.status, EX_DATAERR);
        assert_int_equal(records, 0);
    }
    for (size_t cut = 0; cut < length; cut++) {
        uint64_t records = 0;
        store_file(path, bytes, cut);
        assert_false(snapshot_read(folder, take_any, &records, &fault));
    }
    free(bytes);
    directory_destroy(directory);
}

/* A data directory can be opened by one at a time; another format is refused with what to do. */
static void test_data_directory(void **state)
{
    (void)state;
    struct fault fault;
    struct datadir first;
    struct datadir second;
    uint64_t id;
    char path[PATH_MAX + 16];
    char name[PATH_MAX + 48];
    snprintf(path, sizeof path, "%s/data", folder);
    assert_true(datadir_open(&first, path, &fault));
    assert_false(datadir_open(&second, path, &fault));
    assert_int_equal(fault.status, EX_TEMPFAIL);
    assert_non_null(strstr(fault.text, "in use"));
    assert_true(datadir_is_in_use(path));
    assert_true(datadir_identify(path, &id, &fault));
    assert_int_equal(id, first.server_id);
    datadir_close(&first);
    assert_false(datadir_is_in_use(path));
    assert_true(datadir_open(&first, path, &fault));
    assert_int_equal(id, first.server_id);
    datadir_close(&first);

    snprintf(name, sizeof name, "%s/numberd.format", path);
    FILE *file = fopen(name, "w");
    fputs("numberd data directory, format 9, little-endian\nserver 0000000000000001\n", file);
    fclose(file);
    assert_false(datadir_open(&first, path, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    assert_non_null(strstr(fault.text, "format 9"));
}

struct rows {
    struct record records[16];
    size_t record_count;
    uint64_t reject_lines[16];
    char reject_reasons[16][80];
    size_t reject_count;
};

static void take_row(void *context, const struct record *record)
{
    struct rows *rows = context;
    rows->records[rows->record_count++] = *record;
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    (void)row;
    struct rows *rows = context;
    rows->reject_lines[rows->reject_count] = line;
    snprintf(rows->reject_reasons[rows->reject_count++], 80, "%s", reason);
}

/* Header, byte order mark, quotes, CRLF, missing fields and every kind of bad row; in pieces of every size.
 */
static void test_csv_rows(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb\xbfnumber,account,flags\r\n"
                               "+4915112345678,7,1\r\n"
                               "\"447700900123\",18446744073709551615,255\n"
                               "\n"
                               "+12025550123\n"
                               "+12025550124,,\n"
                               "12a45678,1,1\n"
                               "+12025550125,18446744073709551616,0\n"
                               "+12025550125,1,256\n"
                               "+12025550125,1,1,1\n"
                               "+12025550126,3,4"; /* no line end */
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct rows rows = {0};
        struct csv_rows *csv = csv_rows_create(&(struct csv_rows_handlers){take_row, take_reject, &rows});
        for (size_t at = 0; at < sizeof text - 1; at += piece) {
            size_t left = sizeof text - 1 - at;
            assert_true(csv_rows_feed(csv, text + at, left < piece ? left : piece));
        }
        assert_true(csv_rows_finish(csv));
        csv_rows_destroy(csv);
        assert_int_equal(rows.record_count, 5);
        assert_int_equal(rows.records[0].number, 4915112345678);
        assert_int_equal(rows.records[0].account, 7);
        assert_int_equal(rows.records[1].account, UINT64_MAX);
        assert_int_equal(rows.records[1].flags, 255);
        assert_int_equal(rows.records[2].account, 0);
        assert_int_equal(rows.records[4].flags, 4);
        assert_int_equal(rows.reject_count, 4);
        static const uint64_t lines[] = {7, 8, 9, 10};
        static const char *const reasons[] = {"letter", "account", "flags", "more than three"};
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(rows.reject_lines[i], lines[i]);
            assert_non_null(strstr(rows.reject_reasons[i], reasons[i]));
        }
    }
}

/* A NUL inside a field, and what only begins like a byte order mark, make a reject, never another number. */
static void test_csv_odd_bytes(void **state)
{
    (void)state;
    static const char text[] = "\xef\xbb+4915112345678,1,1\n+44770090\0"
                               "123,1,1\n+447700900123,1\0"
                               "2,1\n";
    struct rows rows = {0};
    struct csv_rows *csv = csv_rows_create(&(struct csv_rows_handlers){take_row, take_reject, &rows});
    assert_true(csv_rows_feed(csv, text, sizeof text - 1));
    assert_true(csv_rows_finish(csv));
    csv_rows_destroy(csv);
    assert_int_equal(rows.record_count, 0);
    assert_int_equal(rows.reject_count, 3);
    assert_non_null(strstr(rows.reject_reasons[1], "NUL"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damage_is_seen, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_data_directory, make_folder, remove_folder),
        cmocka_unit_test(test_csv_rows),
        cmocka_unit_test(test_csv_odd_bytes),
    };
    return cmocka_run_group_tests_name("registrations", tests, NULL, NULL);
}
