/* Reads a large file that is needed once, past the page cache (O_DIRECT): what the kernel would keep of it is memory that
 * the reader is just filling, and getting that memory costs more than reading does. Where the file system does not do it, or
 * the page cache has the file anyway, reads go through the page cache.
 *
 * One thread a reader; a reader holds two descriptors and, once it reads past the page cache, a buffer of 2 MiB. Offsets and lengths need no
 * alignment: a read goes into the buffer, in whole blocks of the disk, and what was asked for is copied from there. */
#ifndef NUMBERD_PERSIST_DIRECT_READER_H
#define NUMBERD_PERSIST_DIRECT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The most in one read; and what a read is rounded to, a multiple of the block size of every disk. */
#define DIRECT_READER_BYTES ((size_t)1 << 20)
#define DIRECT_READER_BLOCK ((size_t)4096)

struct direct_reader {
    int fd;        /* through the page cache */
    int direct_fd; /* past it; -1 where that cannot be done */
    uint8_t
        *buffer;    /* NULL until it is needed, or when there is none: then all goes through the page cache */
    bool is_direct; /* how the next reads go */
};

/* False with errno. */
bool direct_reader_open(struct direct_reader *reader, const char *path);
void direct_reader_close(struct direct_reader *reader);

/* Before a range of bytes is read in order: decides how, and has the kernel begin if it is through the page cache. */
void direct_reader_expect(struct direct_reader *reader, uint64_t offset, size_t length);

/* As pread(2), for up to DIRECT_READER_BYTES: the bytes got, fewer only where the file ends; -1 with errno. */
ssize_t direct_reader_read(struct direct_reader *reader, void *bytes, size_t length, uint64_t offset);

/* Whether the page cache has more than half of the range, as far as the kernel says; on doubt true. */
bool direct_reader_is_cached(const struct direct_reader *reader, uint64_t offset, size_t length);

#endif
