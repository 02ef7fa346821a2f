/* A stream of bytes, decompressed by what it begins with; see inflow.h. */
#include "persist/registrations/inflow.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define INPUT_BYTES (UINT32_C(128) << 10)

enum inflow_kind { INFLOW_PLAIN, INFLOW_ZSTD, INFLOW_GZIP };

struct inflow {
    int fd;
    enum inflow_kind kind;
    bool at_end;  /* of the descriptor */
    bool is_open; /* a frame or member has begun and not ended */
    bool failed;  /* with the fault, for good */
    struct fault fault;
    uint64_t consumed;
    ZSTD_DStream *zstd;
    z_stream gzip;
    /* Bytes read and not yet given or decompressed: taken .. filled. */
    size_t taken;
    size_t filled;
    unsigned char input[INPUT_BYTES];
};

/* What the kinds begin with; of the first byte, the bits of the mask. pzstd begins with a frame to be
 * skipped. */
static const struct magic {
    enum inflow_kind kind;
    unsigned char mask;
    unsigned char bytes[4];
    size_t length;
} magics[] = {
    {INFLOW_GZIP, 0xff, {0x1f, 0x8b}, 2},
    {INFLOW_ZSTD, 0xff, {0x28, 0xb5, 0x2f, 0xfd}, 4},
    {INFLOW_ZSTD, 0xf0, {0x50, 0x2a, 0x4d, 0x18}, 4},
};

/* Whether the bytes that there are (at least one) agree with what the kind begins with. */
static bool agrees(const struct inflow *inflow, const struct magic *magic)
{
    size_t length = inflow->filled < magic->length ? inflow->filled : magic->length;
    return (inflow->input[0] & magic->mask) == magic->bytes[0] &&
           memcmp(inflow->input + 1, magic->bytes + 1, length - 1) == 0;
}

static bool fail(struct inflow *inflow)
{
    inflow->failed = true;
    return false;
}

/* Reads more input behind what is there. */
static bool fill(struct inflow *inflow)
{
    ssize_t got;
    do
        got = read(inflow->fd, inflow->input + inflow->filled, sizeof inflow->input - inflow->filled);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
        fault_set(&inflow->fault, EX_IOERR, "cannot read the input behind byte %" PRIu64 ": %s",
                  inflow->consumed, strerror(errno));
        return fail(inflow);
    }
    inflow->at_end = got == 0;
    inflow->filled += (size_t)got;
    inflow->consumed += (uint64_t)got;
    return true;
}

static bool fail_data(struct inflow *inflow, const char *what)
{
    fault_set(&inflow->fault, EX_DATAERR, "the input's %s data before byte %" PRIu64 " %s",
              inflow_format(inflow), inflow->consumed, what);
    return fail(inflow);
}

static bool fail_memory(struct inflow *inflow)
{
    fault_set(&inflow->fault, EX_OSERR, "out of memory for decompressing the input");
    return fail(inflow);
}

/* --- opening --- */

/* Reads until the bytes are surely of one kind: a pipe may give them one by one, and one that waits between
 * short plain lines is not to wait longer for us. */
static bool find_kind(struct inflow *inflow)
{
    for (bool undecided = true; undecided;) {
        if (!fill(inflow))
            return false;
        undecided = false;
        for (size_t i = 0; !inflow->at_end && i < sizeof magics / sizeof magics[0]; i++) {
            if (!agrees(inflow, &magics[i]))
                continue;
            undecided = inflow->filled < magics[i].length;
            if (!undecided)
                inflow->kind = magics[i].kind;
        }
    }
    return true;
}

static bool open_codec(struct inflow *inflow)
{
    if (inflow->kind == INFLOW_ZSTD) {
        inflow->zstd = ZSTD_createDStream();
        if (inflow->zstd == NULL)
            return fail_memory(inflow);
    }
    /* 15: the biggest window; + 16: gzip's header and no other. */
    if (inflow->kind == INFLOW_GZIP && inflateInit2(&inflow->gzip, 15 + 16) != Z_OK)
        return fail_memory(inflow);
    return true;
}

struct inflow *inflow_open(int fd, struct fault *fault)
{
    struct inflow *inflow = calloc(1, sizeof *inflow);
    if (inflow == NULL) {
        fault_set(fault, EX_OSERR, "out of memory for reading the input");
        return NULL;
    }
    inflow->fd = fd;
    if (!find_kind(inflow) || !open_codec(inflow)) {
        *fault = inflow->fault;
        inflow_close(inflow);
        return NULL;
    }
    return inflow;
}

void inflow_close(struct inflow *inflow)
{
    if (inflow == NULL)
        return;
    ZSTD_freeDStream(inflow->zstd);
    if (inflow->kind == INFLOW_GZIP)
        inflateEnd(&inflow->gzip);
    free(inflow);
}

/* --- decompressing: takes input, writes at most `room` bytes, says how many; false and the fault, nothing
 * written --- */

static bool run_plain(struct inflow *inflow, void *buffer, size_t room, size_t *written)
{
    size_t length = inflow->filled - inflow->taken;
    *written = length < room ? length : room;
    memcpy(buffer, inflow->input + inflow->taken, *written);
    inflow->taken += *written;
    return true;
}

static bool run_zstd(struct inflow *inflow, void *buffer, size_t room, size_t *written)
{
    ZSTD_inBuffer input = {inflow->input, inflow->filled, inflow->taken};
    ZSTD_outBuffer output = {buffer, room, 0};
    size_t result = ZSTD_decompressStream(inflow->zstd, &output, &input);
    if (ZSTD_isError(result)) {
        ZSTD_ErrorCode code = ZSTD_getErrorCode(result);
        if (code == ZSTD_error_memory_allocation)
            return fail_memory(inflow);
        if (code == ZSTD_error_frameParameter_windowTooLarge)
            return fail_data(inflow, "needs a window above 128 MiB: compress it without --long");
        return fail_data(inflow, "is corrupt: make the file again");
    }
    inflow->taken = input.pos;
    *written = output.pos;
    inflow->is_open = result != 0;
    return true;
}

static bool run_gzip(struct inflow *inflow, void *buffer, size_t room, size_t *written)
{
    z_stream *gzip = &inflow->gzip;
    if (!inflow->is_open && inflateReset(gzip) != Z_OK)
        return fail_data(inflow, "is corrupt: make the file again");
    inflow->is_open = true;
    gzip->next_in = inflow->input + inflow->taken;
    gzip->avail_in = (unsigned)(inflow->filled - inflow->taken);
    gzip->next_out = buffer;
    gzip->avail_out = room < INPUT_BYTES ? (unsigned)room : INPUT_BYTES;
    int result = inflate(gzip, Z_NO_FLUSH);
    if (result == Z_MEM_ERROR)
        return fail_memory(inflow);
    /* Z_BUF_ERROR: nothing could be done, so more input is needed. */
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return fail_data(inflow, "is corrupt: make the file again");
    inflow->taken = inflow->filled - gzip->avail_in;
    *written = (size_t)(gzip->next_out - (unsigned char *)buffer);
    inflow->is_open = result != Z_STREAM_END;
    return true;
}

static bool run(struct inflow *inflow, void *buffer, size_t room, size_t *written)
{
    switch (inflow->kind) {
    case INFLOW_ZSTD:
        return run_zstd(inflow, buffer, room, written);
    case INFLOW_GZIP:
        return run_gzip(inflow, buffer, room, written);
    case INFLOW_PLAIN:
        break;
    }
    return run_plain(inflow, buffer, room, written);
}

ssize_t inflow_read(struct inflow *inflow, void *buffer, size_t room, struct fault *fault)
{
    assert(room > 0);
    size_t written = 0;
    bool may_have_more = inflow->is_open; /* output for which there was no room before */
    while (written == 0 && !inflow->failed) {
        if (inflow->taken < inflow->filled || may_have_more) {
            may_have_more = false;
            run(inflow, buffer, room, &written);
        } else if (inflow->at_end) {
            if (!inflow->is_open)
                return 0;
            fail_data(inflow, "ends too early: is the file whole?");
        } else {
            inflow->taken = inflow->filled = 0;
            fill(inflow);
        }
    }
    if (written > 0)
        return (ssize_t)written;
    *fault = inflow->fault;
    return -1;
}

uint64_t inflow_consumed(const struct inflow *inflow)
{
    return inflow->consumed;
}

const char *inflow_format(const struct inflow *inflow)
{
    static const char *const names[] = {
        [INFLOW_PLAIN] = "plain", [INFLOW_ZSTD] = "zstd", [INFLOW_GZIP] = "gzip"};
    return names[inflow->kind];
}
