/* persist/registrations: a snapshot brings back what was saved; every flipped bit and every cut is seen; the data
 * directory's lock and format. */
#include "persist/registrations/snapshot.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <xxhash.h>

#include "folder.h"
#include "persist/datadir.h"
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

static void visit_all(struct directory *directory, struct reading *reading)
{
    struct directory_stats stats;
    directory_stats(directory, &stats);
    for (unsigned shard = 0; shard < stats.shards; shard++) {
        assert_true(directory_check_shard(directory, shard));
        directory_visit_shard(directory, shard, check_record, reading);
    }
}

static struct directory *load(uint64_t position, unsigned threads, struct fault *fault)
{
    struct snapshot_info info;
    struct snapshot_progress progress = {0};
    if (!snapshot_read_info(folder, position, &info, fault))
        return NULL;
    struct directory_options options = {.seed = info.shape.seed,
                                        .shard_bits = info.shape.shard_bits,
                                        .accounts = info.shape.accounts,
                                        .expected_records = info.records,
                                        .images = true};
    struct directory *directory = directory_create(&options);
    if (snapshot_load(folder, position, directory, threads, &progress, fault)) {
        assert_int_equal(atomic_load(&progress.bytes_done), atomic_load(&progress.bytes_total));
        return directory;
    }
    directory_destroy(directory);
    return NULL;
}

/* What was written is read back, each record once, record by record and as a directory, which then grows on like the first. */
static void test_round_trip(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 4097, 300000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        struct fault fault;
        struct snapshot_info info;
        struct directory *directory = filled_directory(sizes[s]);
        struct reading reading = {.seen = calloc(sizes[s] + 1000, 1)};
        assert_true(snapshot_write(folder, directory, 17, 18, s % 2 == 1, NULL, NULL, &info, &fault));
        assert_int_equal(info.records, sizes[s]);
        directory_destroy(directory);
        assert_true(snapshot_read_info(folder, 17, &info, &fault));
        assert_int_equal(info.records, sizes[s]);
        assert_int_equal(info.position, 17);
        assert_int_equal(info.written_at_ms, 18);
        assert_true(snapshot_visit(folder, 17, check_record, &reading, &fault));
        assert_int_equal(reading.records, sizes[s]);
        for (unsigned threads = 1; threads <= 3; threads++) {
            directory = load(17, threads, &fault);
            assert_non_null(directory);
            uint64_t count = sizes[s];
            for (; count < sizes[s] + 1000; count++) {
                struct record record = {BASE + count, count * count, (uint8_t)count};
                assert_int_equal(directory_register(directory, &record), DIRECTORY_ADDED);
            }
            memset(reading.seen, 0, sizes[s] + 1000);
            reading.records = 0;
            visit_all(directory, &reading);
            assert_int_equal(reading.records, count);
            struct directory_stats stats;
            directory_stats(directory, &stats);
            assert_int_equal(stats.records, count);
            directory_destroy(directory);
        }
        free(reading.seen);
    }
}

static void set_path(char path[PATH_MAX], uint64_t position)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(position, name);
    assert_true((size_t)snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX);
}

static size_t load_file(unsigned char **bytes, const char *path)
{
    struct stat status;
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

static bool take_any(void *context, const struct record *record)
{
    (void)record;
    ++*(uint64_t *)context;
    return true;
}

/* Returns the records that were passed on before the damage. */
static uint64_t assert_refused(void)
{
    struct fault fault;
    uint64_t records = 0;
    assert_false(snapshot_visit(folder, 1, take_any, &records, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    assert_null(load(1, 1, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    return records;
}

/* Each single flipped bit of a small snapshot, each cut and each byte too many is a fault with a reason; none is read as
 * good. */
static void test_damage_is_seen(void **state)
{
    (void)state;
    struct fault fault;
    struct snapshot_info info;
    char path[PATH_MAX];
    unsigned char *bytes;
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = 4, .shard_bits = 0, .accounts = true});
    for (uint64_t i = 0; i < 20; i++)
        directory_register(directory, &(struct record){BASE + i, i, 0});
    assert_true(snapshot_write(folder, directory, 1, 2, false, NULL, NULL, &info, &fault));
    set_path(path, 1);
    size_t length = load_file(&bytes, path);
    for (size_t bit = 0; bit < length * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        store_file(path, bytes, length);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(assert_refused(), 0);
    }
    for (size_t cut = 0; cut < length; cut++) {
        store_file(path, bytes, cut);
        assert_int_equal(assert_refused(), 0);
    }
    bytes = realloc(bytes, length + 1);
    bytes[length] = 0;
    store_file(path, bytes, length + 1);
    assert_int_equal(assert_refused(), 0);
    free(bytes);
    directory_destroy(directory);
}

/* Not in the page cache any more, so that it is read past it where the file system does that (direct_reader.h). */
static void drop_from_page_cache(const char *path)
{
    int fd = open(path, O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

/* A large one comes from the disk as it was, or its damage is seen. */
static void test_from_the_disk(void **state)
{
    (void)state;
    static const uint64_t size = 300000;
    struct fault fault;
    struct snapshot_info info;
    char path[PATH_MAX];
    struct directory *directory = filled_directory(size);
    assert_true(snapshot_write(folder, directory, 1, 2, false, NULL, NULL, &info, &fault));
    directory_destroy(directory);
    set_path(path, 1);
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct reading reading = {.seen = calloc(size, 1)};
        drop_from_page_cache(path);
        directory = load(1, threads, &fault);
        assert_non_null(directory);
        visit_all(directory, &reading);
        assert_int_equal(reading.records, size);
        directory_destroy(directory);
        free(reading.seen);
    }
    int fd = open(path, O_RDWR);
    for (uint64_t offset = 5000; offset < info.bytes; offset += info.bytes / 7) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
        drop_from_page_cache(path);
        assert_refused();
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    }
    close(fd);
}

/* A snapshot under another's name is not taken for that; one of a version to come is refused with what to do. */
static void test_wrong_name_and_version(void **state)
{
    (void)state;
    struct fault fault;
    struct snapshot_info info;
    char from[PATH_MAX];
    char to[PATH_MAX];
    unsigned char *bytes;
    struct directory *directory = filled_directory(5);
    assert_true(snapshot_write(folder, directory, 1, 2, false, NULL, NULL, &info, &fault));
    directory_destroy(directory);
    assert_true(snprintf(from, PATH_MAX, "%s/0000000000000001.snapshot", folder) < PATH_MAX);
    assert_true(snprintf(to, PATH_MAX, "%s/0000000000000002.snapshot", folder) < PATH_MAX);
    size_t length = load_file(&bytes, from);
    assert_int_equal(rename(from, to), 0);
    assert_false(snapshot_read_info(folder, 2, &info, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    assert_int_equal(rename(to, from), 0);
    bytes[8] = 3;
    uint64_t checksum = XXH3_64bits(bytes, 120);
    memcpy(bytes + 120, &checksum, sizeof checksum);
    store_file(from, bytes, length);
    assert_false(snapshot_read_info(folder, 1, &info, &fault));
    assert_int_equal(fault.status, EX_CONFIG);
    assert_non_null(strstr(fault.text, "version 3"));
    free(bytes);
}

/* Puts the word at the offset, behind which lies the index, and makes the checksums right. */
static void forge(const char *path, unsigned char *bytes, size_t length, size_t offset, uint64_t word)
{
    uint64_t index_offset;
    memcpy(bytes + offset, &word, sizeof word);
    memcpy(&index_offset, bytes + 56, sizeof index_offset);
    uint64_t checksum = XXH3_64bits(bytes + index_offset, length - index_offset);
    memcpy(bytes + 72, &checksum, sizeof checksum);
    checksum = XXH3_64bits(bytes, 120);
    memcpy(bytes + 120, &checksum, sizeof checksum);
    store_file(path, bytes, length);
}

/* Numbers that a table cannot have are refused though their checksums are right: line counts whose bytes overflow to the right
 * sum, and more records than there is room for, by whose number memory would be taken. */
static void test_impossible_numbers(void **state)
{
    (void)state;
    struct fault fault;
    struct snapshot_info info;
    char path[PATH_MAX];
    unsigned char *bytes;
    uint64_t index_offset;
    uint64_t lines;
    struct directory *directory = filled_directory(50);
    assert_true(snapshot_write(folder, directory, 1, 2, false, NULL, NULL, &info, &fault));
    directory_destroy(directory);
    set_path(path, 1);
    size_t length = load_file(&bytes, path);
    memcpy(&index_offset, bytes + 56, sizeof index_offset);
    memcpy(&lines, bytes + index_offset, sizeof lines);
    forge(path, bytes, length, index_offset, lines + (UINT64_C(1) << 57)); /* of 128 bytes each */
    assert_int_equal(assert_refused(), 0);
    forge(path, bytes, length, index_offset, lines);
    forge(path, bytes, length, 32, 51); /* one more than in the images */
    assert_int_equal(assert_refused(), 0);
    forge(path, bytes, length, 32, UINT64_C(1) << 60);
    assert_false(snapshot_read_info(folder, 1, &info, &fault));
    assert_int_equal(fault.status, EX_DATAERR);
    forge(path, bytes, length, 32, 50);
    directory = load(1, 1, &fault);
    assert_non_null(directory);
    directory_destroy(directory);
    free(bytes);
}

/* A number that is twice in an image would be there still after its removal: the check of the shard sees it. */
static void test_number_twice(void **state)
{
    (void)state;
    struct table_image image;
    uint64_t words[2 * 64];
    struct directory *directory = directory_create(&(struct directory_options){.seed = 4, .accounts = true});
    directory_register(directory, &(struct record){BASE, 7, 0});
    size_t bytes = directory_copy_shard(directory, 0, &image, words, sizeof words);
    assert_true(bytes <= sizeof words);
    size_t slot = 0;
    while (words[slot] == 0)
        slot++;
    size_t twin = slot / 8 * 8 + (slot % 8 == 7 ? 0 : slot % 8 + 1); /* in the same line */
    for (unsigned copies = 1; copies <= 2; copies++) {
        image.records = copies;
        words[twin] = copies == 2 ? words[slot] : 0;
        words[64 + twin] = copies == 2 ? words[64 + slot] : 0;
        void *memory = directory_load_shard(directory, 0, &image);
        assert_non_null(memory);
        memcpy(memory, words, bytes);
        directory_loaded(directory);
        assert_int_equal(directory_check_shard(directory, 0), copies == 1);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_from_the_disk, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_damage_is_seen, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_wrong_name_and_version, make_folder, remove_folder),
        cmocka_unit_test(test_number_twice),
        cmocka_unit_test_setup_teardown(test_impossible_numbers, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_data_directory, make_folder, remove_folder),
    };
    return cmocka_run_group_tests_name("registrations", tests, NULL, NULL);
}
