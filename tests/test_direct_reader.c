/* persist/direct_reader: the same bytes past the page cache as through it, for any offset and length. */
#include "persist/direct_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder.h"
#include "unit.h"

#define FILE_BYTES (((size_t)3 << 20) + 1234)

static uint8_t content[FILE_BYTES];
static char path[PATH_MAX];

static int make_file(void **state)
{
    uint64_t seed = 1;
    if (make_folder(state) != 0 || (size_t)snprintf(path, PATH_MAX, "%s/file", folder) >= PATH_MAX)
        return 1;
    for (size_t i = 0; i < FILE_BYTES; i++)
        content[i] = (uint8_t)unit_random(&seed);
    FILE *file = fopen(path, "w");
    bool good = file != NULL && fwrite(content, 1, FILE_BYTES, file) == FILE_BYTES && fclose(file) == 0;
    return good ? 0 : 1;
}

static void drop_from_page_cache(void)
{
    int fd = open(path, O_RDONLY);
    assert_int_equal(fsync(fd), 0);
    assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

static void read_one(struct direct_reader *reader, size_t offset, size_t length)
{
    static uint8_t bytes[DIRECT_READER_BYTES + 1];
    size_t rest = offset < FILE_BYTES ? FILE_BYTES - offset : 0;
    size_t expected = length < rest ? length : rest;
    memset(bytes, 0xa5, sizeof bytes);
    assert_int_equal(direct_reader_read(reader, bytes, length, offset), expected);
    assert_memory_equal(bytes, content + (expected == 0 ? 0 : offset), expected);
    for (size_t i = expected; i <= length; i++) /* nothing behind it is touched */
        assert_int_equal(bytes[i], 0xa5);
}

static void read_many(struct direct_reader *reader)
{
    uint64_t seed = 2;
    for (unsigned round = 0; round < 300; round++) {
        size_t offset = unit_random(&seed) % (FILE_BYTES + 5000);
        size_t length = unit_random(&seed) % (round % 2 == 0 ? 10000 : DIRECT_READER_BYTES) + 1;
        read_one(reader, offset, length);
    }
    for (size_t edge = 0; edge <= 2; edge++) {
        read_one(reader, DIRECT_READER_BLOCK - 1 + edge, DIRECT_READER_BYTES);
        read_one(reader, DIRECT_READER_BLOCK, DIRECT_READER_BLOCK - 1 + edge);
        read_one(reader, FILE_BYTES - 1 + edge, 5000);
    }
}

static void test_any_range(void **state)
{
    (void)state;
    struct direct_reader reader;
    assert_true(direct_reader_open(&reader, path));
    read_many(&reader); /* as it is when opened */
    direct_reader_expect(&reader, 0, FILE_BYTES);
    assert_false(reader.is_direct); /* the page cache has it since it was written */
    read_many(&reader);
    drop_from_page_cache();
    bool possible = reader.direct_fd >= 0 && !direct_reader_is_cached(&reader, 0, FILE_BYTES);
    direct_reader_expect(&reader, 0, FILE_BYTES);
    assert_int_equal(reader.is_direct, possible);
    if (!possible)
        print_message("this file system has no reading past the page cache: not tried\n");
    read_many(&reader);
    direct_reader_close(&reader);
}

/* What was read past the page cache is not in it afterwards, and part of a file that is in it is read from there. */
static void test_page_cache(void **state)
{
    (void)state;
    struct direct_reader reader;
    const size_t half = (size_t)1 << 20;
    drop_from_page_cache();
    assert_true(direct_reader_open(&reader, path));
    if (reader.direct_fd < 0 || direct_reader_is_cached(&reader, 0, FILE_BYTES))
        print_message("this file system has no reading past the page cache: not tried\n");
    else {
        direct_reader_expect(&reader, 0, half);
        read_one(&reader, 100, half - 100);
        assert_false(direct_reader_is_cached(&reader, 0, half));
        reader.is_direct = false;
        read_one(&reader, 2 * half, half);
        assert_true(direct_reader_is_cached(&reader, 2 * half, half));
        direct_reader_expect(&reader, 2 * half, half);
        assert_false(reader.is_direct);
        /* Short ranges are not worth it. */
        drop_from_page_cache();
        direct_reader_expect(&reader, 0, 10000);
        assert_false(reader.is_direct);
    }
    direct_reader_close(&reader);
}

static void test_no_file(void **state)
{
    (void)state;
    struct direct_reader reader;
    char missing[PATH_MAX];
    assert_true((size_t)snprintf(missing, PATH_MAX, "%s/none", folder) < PATH_MAX);
    assert_false(direct_reader_open(&reader, missing));
    assert_int_equal(errno, ENOENT);
}

/* A read that fails is a failure, both ways: a folder can be opened, not read. */
static void test_failed_read(void **state)
{
    (void)state;
    struct direct_reader reader;
    uint8_t byte;
    assert_true(direct_reader_open(&reader, folder));
    assert_int_equal(direct_reader_read(&reader, &byte, 1, 0), -1);
    assert_int_equal(errno, EISDIR);
    direct_reader_close(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_any_range, make_file, remove_folder),
        cmocka_unit_test_setup_teardown(test_page_cache, make_file, remove_folder),
        cmocka_unit_test_setup_teardown(test_no_file, make_file, remove_folder),
        cmocka_unit_test_setup_teardown(test_failed_read, make_file, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
