/* The reading half of numberctl import: a file or standard input, compressed or not, as records; bad rows to a file; the
 * progress on standard error. One reader at a time, one thread. */
#ifndef NUMBERD_SERVER_CTL_ROWS_H
#define NUMBERD_SERVER_CTL_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"

struct ctl_rows_options {
    const char *input;   /* a path, or - */
    const char *rejects; /* the file, made with the first reject */
    bool tolerant;
    bool quiet; /* no progress */
    /* Takes the records of good rows in their order; a sysexits status other than 0 ends the reading with it. */
    int (*take)(void *context, const struct record *records, size_t count);
    void *context;
};

struct ctl_rows_figures {
    uint64_t rows;
    uint64_t rejected;
    uint64_t started_ms;
};

/* About how many rows the input has, from its beginning and its size; 0 when that cannot be told (a pipe). */
uint64_t ctl_rows_estimate(const char *input);

/* Prints why the input cannot be read, from errno; the status. */
int ctl_rows_unreadable(const char *input);

/* Reads it all; EX_OK, or the status of what was printed. Rejects are counted, no failure. */
int ctl_rows_read(const struct ctl_rows_options *options, struct ctl_rows_figures *figures);

#endif
