/* persist/registrations/inflow: the bytes that rows come from, plain, compressed and broken. */
#include "persist/registrations/inflow.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "unit.h"

#define PLAIN_BYTES 3000000

/* Text that compresses well, but not to nothing. */
static char *plain_text(size_t length)
{
    char *text = malloc(length);
    uint64_t random = 5;
    for (size_t i = 0; i < length; i++)
        text[i] = i % 20 == 19 ? '\n' : (char)('0' + unit_random(&random) % 10);
    return text;
}

static size_t compress_zstd(char *to, size_t room, const char *text, size_t length)
{
    size_t written = ZSTD_compress(to, room, text, length, 1);
    assert_false(ZSTD_isError(written));
    return written;
}

static size_t compress_gzip(char *to, size_t room, char *text, size_t length)
{
    z_stream stream = {
        .next_in = (Bytef *)text, .avail_in = (uInt)length, .next_out = (Bytef *)to, .avail_out = (uInt)room};
    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t written = stream.total_out;
    deflateEnd(&stream);
    return written;
}

static size_t compress_text(const char *format, char *to, size_t room, char *text, size_t length)
{
    if (strcmp(format, "zstd") == 0)
        return compress_zstd(to, room, text, length);
    if (strcmp(format, "gzip") == 0)
        return compress_gzip(to, room, text, length);
    memcpy(to, text, length);
    return length;
}

/* Compresses in two frames or members. */
static size_t compress_twice(const char *format, char *to, size_t room, char *text, size_t length)
{
    size_t half = length / 2;
    size_t written = compress_text(format, to, room, text, half);
    return written + compress_text(format, to + written, room - written, text + half, length - half);
}

static int file_of(const char *bytes, size_t length)
{
    int fd = memfd_create("inflow", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, length), length);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* Reads all, in pieces of `room` bytes at most; returns the length read before the end or a fault, whose
 * status is in fault->status, else 0. */
static size_t drain(int fd, char *to, size_t room, const char *format, struct fault *fault)
{
    size_t length = 0;
    ssize_t got;
    *fault = (struct fault){0};
    struct inflow *inflow = inflow_open(fd, fault);
    assert_non_null(inflow);
    assert_string_equal(inflow_format(inflow), format);
    while ((got = inflow_read(inflow, to + length, room, fault)) > 0) {
        assert_true((size_t)got <= room);
        length += (size_t)got;
    }
    /* The end and a fault stay. */
    struct fault again = {0};
    assert_int_equal(inflow_read(inflow, to + length, room, &again), got);
    assert_int_equal(again.status, fault->status);
    assert_int_equal(got, fault->status == 0 ? 0 : -1);
    inflow_close(inflow);
    return length;
}

static const char *const formats[] = {"plain", "zstd", "gzip"};

/* A large input comes out as it was, in one frame or two, whatever the room; all its bytes are counted. */
static void test_inflow(void **state)
{
    (void)state;
    static const size_t rooms[] = {1 << 20, 4097, 13};
    char *text = plain_text(PLAIN_BYTES);
    char *packed = malloc(PLAIN_BYTES + 1000);
    char *result = malloc(PLAIN_BYTES + (1 << 20));
    for (size_t f = 0; f < 3; f++) {
        size_t length = compress_twice(formats[f], packed, PLAIN_BYTES + 1000, text, PLAIN_BYTES);
        for (size_t r = 0; r < 3; r++) {
            struct fault fault;
            int fd = file_of(packed, length);
            assert_int_equal(drain(fd, result, rooms[r], formats[f], &fault), PLAIN_BYTES);
            assert_int_equal(fault.status, 0);
            assert_memory_equal(result, text, PLAIN_BYTES);
            assert_int_equal(lseek(fd, 0, SEEK_CUR), length);
            close(fd);
        }
        struct fault fault;
        int fd = file_of(packed, length);
        struct inflow *inflow = inflow_open(fd, &fault);
        assert_in_range(inflow_consumed(inflow), 1, length);
        while (inflow_read(inflow, result, 1 << 20, &fault) > 0)
            assert_in_range(inflow_consumed(inflow), 1, length);
        assert_int_equal(inflow_consumed(inflow), length);
        inflow_close(inflow);
        close(fd);
    }
    free(result);
    free(packed);
    free(text);
}

/* A pipe that gives one byte a read, whatever is asked for, since in this mode each write is a message of its
 * own. */
static int pipe_of(const char *bytes, size_t length)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_DIRECT | O_CLOEXEC), 0);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 1 << 20) > 0);
    assert_true(length < 256); /* a page each */
    for (size_t i = 0; i < length; i++)
        assert_int_equal(write(ends[1], bytes + i, 1), 1);
    close(ends[1]);
    return ends[0];
}

/* From single bytes, formats are known and nothing is lost; nor of inputs that only begin like a format. */
static void test_inflow_single_bytes(void **state)
{
    (void)state;
    struct fault fault;
    char result[512];
    char *text = plain_text(100);
    for (size_t f = 0; f < 3; f++) {
        char packed[512];
        int fd = pipe_of(packed, compress_twice(formats[f], packed, sizeof packed, text, 100));
        assert_int_equal(drain(fd, result, 64, formats[f], &fault), 100);
        assert_int_equal(fault.status, 0);
        assert_memory_equal(result, text, 100);
        close(fd);
    }
    free(text);
    static const char *const beginnings[] = {"",    "\x1f", "\x1f,", "\x28", "\x28\xb5\x2f", "\x28\xb5\x2f.",
                                             "P*M", "P*M,1"};
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++) {
        size_t length = strlen(beginnings[i]);
        int fd = pipe_of(beginnings[i], length);
        assert_int_equal(drain(fd, result, 64, "plain", &fault), length);
        assert_int_equal(fault.status, 0);
        assert_memory_equal(result, beginnings[i], length);
        close(fd);
    }
}

/* Cut anywhere but between its frames, a compressed input gives a beginning of the text and then a fault. */
static void test_inflow_truncated(void **state)
{
    (void)state;
    char *text = plain_text(2000);
    for (size_t f = 1; f < 3; f++) {
        char packed[4096];
        char result[4096];
        unsigned whole = 0;
        size_t length = compress_twice(formats[f], packed, sizeof packed, text, 2000);
        for (size_t cut = 4; cut < length; cut++) {
            struct fault fault;
            int fd = file_of(packed, cut);
            size_t got = drain(fd, result, 500, formats[f], &fault);
            assert_memory_equal(result, text, got);
            whole += fault.status == 0;
            assert_true(fault.status == EX_DATAERR || got == 1000);
            if (fault.status != 0)
                assert_non_null(strstr(fault.text, "ends too early"));
            close(fd);
        }
        assert_int_equal(whole, 1);
    }
    free(text);
}

/* A flipped bit is seen, or changes nothing; what is not of the format behind the end is, too. */
static void test_inflow_corrupt(void **state)
{
    (void)state;
    char *text = plain_text(2000);
    for (size_t f = 1; f < 3; f++) {
        char packed[4096];
        char result[200000];
        size_t length = compress_twice(formats[f], packed, sizeof packed, text, 2000);
        unsigned seen = 0;
        for (size_t at = 4; at < length; at++) {
            struct fault fault;
            packed[at] = (char)(packed[at] ^ 4);
            int fd = file_of(packed, length);
            drain(fd, result, 500, formats[f], &fault);
            assert_true(fault.status == 0 || fault.status == EX_DATAERR);
            seen += fault.status == EX_DATAERR;
            close(fd);
            packed[at] = (char)(packed[at] ^ 4);
        }
        /* gzip has a checksum; of these zstd frames, which have none, most of the bits are the text's own. */
        assert_true(seen > (f == 2 ? length - 30 : 10));
        struct fault fault;
        memcpy(packed + length, "+4915112345678\n", 15);
        int fd = file_of(packed, length + 15);
        assert_int_equal(drain(fd, result, 500, formats[f], &fault), 2000);
        assert_int_equal(fault.status, EX_DATAERR);
        assert_non_null(strstr(fault.text, "corrupt"));
        close(fd);
    }
    free(text);
}

/* A frame to be skipped at the beginning (pzstd), and one whose window is too large. */
static void test_inflow_zstd_frames(void **state)
{
    (void)state;
    struct fault fault;
    char result[4096];
    char packed[4096] = "\x50\x2a\x4d\x18\x04\x00\x00\x00....";
    size_t length = 12 + compress_zstd(packed + 12, sizeof packed - 12, "abc", 3);
    int fd = file_of(packed, length);
    assert_int_equal(drain(fd, result, 500, "zstd", &fault), 3);
    assert_int_equal(fault.status, 0);
    close(fd);
    /* Magic; a header with a window of 2^(10 + 18) and nothing else. */
    fd = file_of("\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00", 9);
    assert_int_equal(drain(fd, result, 500, "zstd", &fault), 0);
    assert_int_equal(fault.status, EX_DATAERR);
    assert_non_null(strstr(fault.text, "128 MiB"));
    close(fd);
}

/* What cannot be read is a fault of its own, at the beginning and later. */
static void test_inflow_unreadable(void **state)
{
    (void)state;
    struct fault fault = {0};
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_null(inflow_open(fd, &fault));
    assert_int_equal(fault.status, EX_IOERR);
    int file = file_of("abc", 3);
    char result[16];
    struct inflow *inflow = inflow_open(file, &fault);
    assert_int_equal(inflow_read(inflow, result, sizeof result, &fault), 3);
    assert_int_equal(dup2(fd, file), file);
    assert_int_equal(inflow_read(inflow, result, sizeof result, &fault), -1);
    assert_int_equal(fault.status, EX_IOERR);
    inflow_close(inflow);
    close(file);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inflow),
        cmocka_unit_test(test_inflow_single_bytes),
        cmocka_unit_test(test_inflow_truncated),
        cmocka_unit_test(test_inflow_corrupt),
        cmocka_unit_test(test_inflow_zstd_frames),
        cmocka_unit_test(test_inflow_unreadable),
    };
    return cmocka_run_group_tests_name("inflow", tests, NULL, NULL);
}
