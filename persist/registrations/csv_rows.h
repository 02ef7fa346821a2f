/* Registrations from CSV: `number,account,flags`, one a row.
 *
 * The reader is libcsv (RFC 4180 quotes, CRLF, blank lines skipped); this file turns its fields into records and
 * each bad row into a reason. A first row whose first field is the word "number" is a header and skipped; a
 * UTF-8 byte order mark too. account is an unsigned 64-bit integer, 0 when empty or missing; flags is 0..255, 0
 * when empty or missing. Rows, not lines, are counted from 1: a quoted field may hold line ends, and blank
 * lines are no rows; `line` is the line where the row ends.
 *
 * Feed bytes in pieces of any size, then finish. One parser, one thread. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_CSV_ROWS_H
#define NUMBERD_PERSIST_REGISTRATIONS_CSV_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"

struct csv_rows;

struct csv_rows_handlers {
    /* A good row. */
    void (*record)(void *context, const struct record *record);
    /* A bad row: its line, why, and its fields joined by commas. */
    void (*reject)(void *context, uint64_t line, const char *reason, const char *row);
    void *context;
};

struct csv_rows *csv_rows_create(const struct csv_rows_handlers *handlers);
void csv_rows_destroy(struct csv_rows *rows);

/* False when memory is short. Malformed rows are rejects, not failures. */
bool csv_rows_feed(struct csv_rows *rows, const char *bytes, size_t length);
bool csv_rows_finish(struct csv_rows *rows);

#endif
