/* Registrations from text: CSV or JSON lines, whichever the input turns out to be, as batches of records.
 *
 *     CSV:         +4915112345678,1234567,0          see csv_rows.h; header, quotes, CRLF are fine
 *     JSON lines:  {"number":"+4915112345678","account":"1234567","flags":0}
 *
 * It is JSON lines when the first byte behind a byte order mark and blanks is '{'. Then each line is an
 * object: number is a string; account an integer or a string of digits, as an account above 2^63 - 1 must be;
 * flags an integer from 0 to 255; account and flags are 0 when missing, and other members make the row a bad
 * one. Lines end with LF or CRLF; one of more than 64 KiB is a reject, and blank ones are no rows.
 *
 * CSV rows without quotes, blanks and mistakes are read here at 30 million a second or more, all else by
 * libcsv (csv_rows.h) with the same results as if it had read everything. This file decompresses nothing:
 * inflow.h does.
 *
 *     struct rows *rows = rows_create(&(struct rows_options){.handlers = {take_records, take_reject, &sum}});
 *     while ((got = inflow_read(inflow, bytes, sizeof bytes, &fault)) > 0)
 *         if (!rows_feed(rows, bytes, (size_t)got))
 *             ...memory is short...
 *     if (got < 0 || !rows_finish(rows))
 *         ...
 *     rows_destroy(rows);
 *
 * The results do not depend on how the input is cut into pieces. One reader, one thread; about 230 KiB
 * each. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_ROWS_H
#define NUMBERD_PERSIST_REGISTRATIONS_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"

/* The most records that are handed over at once. */
#define ROWS_BATCH 4096

struct rows;

/* The pointers are valid during the call. The handlers must not call the reader. */
struct rows_handlers {
    /* Good rows, 1 to ROWS_BATCH, in the input's order; the batch is full but for the last one. */
    void (*records)(void *context, const struct record *records, size_t count);
    /* A bad row, as soon as it is read, which may be before the good rows ahead of it: the line where it
     * ends, why, and its text, cut; control characters of the input are in it. The reason is a constant and
     * has no number. */
    void (*reject)(void *context, uint64_t line, const char *reason, const char *row);
    void *context;
};

struct rows_options {
    /* Numbers may hold the signs that people write: spaces, dashes, dots, parentheses
     * (csv_rows_parse_number). */
    bool tolerant;
    struct rows_handlers handlers;
};

/* NULL when memory is short. */
struct rows *rows_create(const struct rows_options *options);
void rows_destroy(struct rows *rows);

/* False when memory is short; the reader can then only be destroyed. Malformed rows are rejects, not
 * failures. */
bool rows_feed(struct rows *rows, const char *bytes, size_t length);

/* The end of the input: its last line needs no line end. Hands over what is left. Feed no more then. */
bool rows_finish(struct rows *rows);

/* The line that is being read, from 1. */
uint64_t rows_line(const struct rows *rows);

#endif
