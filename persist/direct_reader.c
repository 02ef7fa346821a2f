/* Reading past the page cache; see direct_reader.h. */
#include "persist/direct_reader.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Shorter ranges are read faster through the page cache, which reads ahead over many of them: measured at 270 KiB each;
 * at 820 KiB both were even. */
#define DIRECT_FROM_BYTES ((size_t)512 << 10)
/* A huge page: a read and the parts of blocks at both of its ends. */
#define BUFFER_BYTES ((size_t)2 << 20)
#define MAPPED_PAGE_BYTES                                                                                    \
    ((size_t)64 << 10) /* the largest that Linux has; offsets of mappings are multiples */

/* On a huge page, if there is one: a read is one command for the disk only where the memory behind it is in one piece. */
static uint8_t *make_buffer(void)
{
    uint8_t *buffer = aligned_alloc(BUFFER_BYTES, BUFFER_BYTES);
    if (buffer != NULL)
        (void)madvise(buffer, BUFFER_BYTES, MADV_HUGEPAGE);
    return buffer;
}

bool direct_reader_open(struct direct_reader *reader, const char *path)
{
    *reader = (struct direct_reader){.direct_fd = -1};
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0)
        return false;
    reader->direct_fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    return true;
}

void direct_reader_close(struct direct_reader *reader)
{
    close(reader->fd);
    if (reader->direct_fd >= 0)
        close(reader->direct_fd);
    free(reader->buffer);
}

bool direct_reader_is_cached(const struct direct_reader *reader, uint64_t offset, size_t length)
{
    uint64_t begin = offset / MAPPED_PAGE_BYTES * MAPPED_PAGE_BYTES;
    size_t mapped = (size_t)(offset + length - begin);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (mapped + page - 1) / page;
    size_t resident = 0;
    unsigned char *states = malloc(pages);
    void *memory = mmap(NULL, mapped, PROT_READ, MAP_SHARED, reader->fd, (off_t)begin);
    bool known = states != NULL && memory != MAP_FAILED && mincore(memory, mapped, states) == 0;
    for (size_t i = 0; known && i < pages; i++)
        resident += states[i] & 1;
    if (memory != MAP_FAILED)
        munmap(memory, mapped);
    free(states);
    return !known || resident > pages / 2;
}

void direct_reader_expect(struct direct_reader *reader, uint64_t offset, size_t length)
{
    reader->is_direct = reader->direct_fd >= 0 && length >= DIRECT_FROM_BYTES &&
                        !direct_reader_is_cached(reader, offset, length);
    if (reader->is_direct && reader->buffer == NULL)
        reader->buffer = make_buffer(); /* not before: who reads a header alone needs none */
    reader->is_direct = reader->is_direct && reader->buffer != NULL;
    if (!reader->is_direct)
        (void)posix_fadvise(reader->fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

/* pread(2) until all is read, the file ends, or it fails. */
static ssize_t read_all(int fd, uint8_t *bytes, size_t length, uint64_t offset)
{
    size_t done = 0;
    while (done < length) {
        ssize_t got = pread(fd, bytes + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static ssize_t read_direct(const struct direct_reader *reader, uint8_t *bytes, size_t length, uint64_t offset)
{
    size_t before = offset % DIRECT_READER_BLOCK;
    size_t blocks = (before + length + DIRECT_READER_BLOCK - 1) / DIRECT_READER_BLOCK;
    ssize_t got;
    do
        got =
            pread(reader->direct_fd, reader->buffer, blocks * DIRECT_READER_BLOCK, (off_t)(offset - before));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    size_t useful = (size_t)got > before ? (size_t)got - before : 0;
    useful = useful < length ? useful : length;
    memcpy(bytes, reader->buffer + before, useful);
    return (ssize_t)useful;
}

static_assert(DIRECT_READER_BYTES + 2 * DIRECT_READER_BLOCK <= BUFFER_BYTES, "every read fits");

ssize_t direct_reader_read(struct direct_reader *reader, void *bytes, size_t length, uint64_t offset)
{
    assert(length <= DIRECT_READER_BYTES);
    ssize_t got = reader->is_direct ? read_direct(reader, bytes, length, offset) : 0;
    if (got < 0 && errno != EINVAL) /* that: a block size above ours, or no such reading after all */
        return -1;
    if (got < 0)
        reader->is_direct = false;
    size_t done = got > 0 ? (size_t)got : 0;
    if (done == length)
        return got;
    /* Nothing more comes at the end of the file, whose last block may be a part of one. */
    ssize_t rest = read_all(reader->fd, (uint8_t *)bytes + done, length - done, offset + done);
    return rest < 0 ? -1 : (ssize_t)done + rest;
}
