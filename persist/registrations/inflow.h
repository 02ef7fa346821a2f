/* A stream of bytes from a file descriptor, decompressed by what it begins with: zstd, gzip, or plain.
 *
 * Several zstd frames or gzip members one after another are read as one; nothing else may follow them. A zstd
 * frame with a window above 128 MiB (zstd --long=28 and up) is refused, so that an input cannot ask for any
 * amount of memory.
 *
 *     struct inflow *inflow = inflow_open(fd, &fault);
 *     ssize_t got;
 *     while ((got = inflow_read(inflow, bytes, sizeof bytes, &fault)) > 0)
 *         ...
 *     inflow_close(inflow);
 *
 * The descriptor stays the caller's, and must be a blocking one. One stream, one thread; 128 KiB and what the
 * format needs (gzip 40 KiB, zstd its window). */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_INFLOW_H
#define NUMBERD_PERSIST_REGISTRATIONS_INFLOW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "persist/fault.h"

struct inflow;

/* Reads the first bytes, as few as tell the format, and blocks until they are there. NULL and a fault:
 * EX_IOERR when they cannot be read, EX_OSERR when memory is short. */
struct inflow *inflow_open(int fd, struct fault *fault);
void inflow_close(struct inflow *inflow);

/* Blocks until there are bytes; returns how many, at most `room` (> 0) and maybe fewer; 0 at the end, again
 * and again. -1 and a fault: EX_DATAERR when the compressed stream is corrupt or ends too early, EX_IOERR
 * when it cannot be read, EX_OSERR when memory is short. Bytes from ahead of a fault have been given by
 * then, but for the last ones; the fault stays. */
ssize_t inflow_read(struct inflow *inflow, void *buffer, size_t room, struct fault *fault);

/* Bytes read from the descriptor so far. */
uint64_t inflow_consumed(const struct inflow *inflow);

/* "plain", "zstd" or "gzip". */
const char *inflow_format(const struct inflow *inflow);

#endif
