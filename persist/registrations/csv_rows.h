/* Registrations from CSV by libcsv: `number,account,flags`, one a row. The slow path behind rows.h, and what
 * its fast path is compared with.
 *
 * The reader is libcsv (RFC 4180 quotes, CRLF, blank lines skipped); this file turns its fields into records
 * and each bad row into a reason. A first row whose first field is the word "number" is a header and skipped;
 * a UTF-8 byte order mark too. account is an unsigned 64-bit integer, 0 when empty or missing; flags is
 * 0..255, 0 when empty or missing.
 *
 * Lines are counted from 1 and end with LF, CR or CRLF, those inside quotes too; a reject's line is the one
 * where its row ends.
 *
 * A quote that is left open does not swallow the file. A row of more than 64 KiB (its line end counts, blanks
 * before it do not) is one reject, with the line where it begins and that line's text, and so is the last row
 * when its quote is still open at the end. The first line of such a row is lost, to its end if that is yet to
 * come; the lines behind it are read again, each to its end and no further. No good row has a line end inside
 * quotes, so none is lost.
 *
 * Feed bytes in pieces of any size, then finish; the results do not depend on the pieces. The handlers'
 * pointers are valid during the call. One parser, one thread; about 66 KiB each. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_CSV_ROWS_H
#define NUMBERD_PERSIST_REGISTRATIONS_CSV_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"

/* The longest row. */
#define CSV_ROWS_ROW_BYTES_MAX (UINT32_C(64) << 10)
/* Bytes of a reject's row that are shown, and a NUL. */
#define CSV_ROWS_SHOWN_BYTES 256

struct csv_rows;

struct csv_rows_handlers {
    /* A good row. */
    void (*record)(void *context, const struct record *record);
    /* A bad row: its line, why, and its fields joined by commas, cut. The reason is a constant and has no
     * number. */
    void (*reject)(void *context, uint64_t line, const char *reason, const char *row);
    void *context;
};

/* NULL when memory is short. */
struct csv_rows *csv_rows_create(const struct csv_rows_handlers *handlers);
void csv_rows_destroy(struct csv_rows *rows);

/* From here on numbers may hold the signs of csv_rows_parse_number. */
void csv_rows_set_tolerant(struct csv_rows *rows);

/* False when memory is short; the parser can then only be destroyed. Malformed rows are rejects, not
 * failures. */
bool csv_rows_feed(struct csv_rows *rows, const char *bytes, size_t length);
bool csv_rows_finish(struct csv_rows *rows);

/* --- for who reads the simple rows of the same input faster --- */

/* Feeds the beginning of `length` > 0 bytes, at most to the end of a line; `*taken` says how many. */
bool csv_rows_feed_line(struct csv_rows *rows, const char *bytes, size_t length, size_t *taken);

/* True when the next byte begins a row, but for blanks. */
bool csv_rows_is_between(const struct csv_rows *rows);

/* True when a row has begun, ever: more came than blanks, blank lines and a (beginning of a) byte order
 * mark. */
bool csv_rows_has_begun(const struct csv_rows *rows);

/* Between rows: so many rows of one line each have been read elsewhere, all of which ended with LF. */
void csv_rows_pass(struct csv_rows *rows, uint64_t count);

/* The line that is being read. */
uint64_t csv_rows_line(const struct csv_rows *rows);

/* --- a row's fields, for other formats --- */

/* Reads a number of `length` bytes. NULL and the key, or the reason why it is none. A tolerant reading leaves
 * out spaces, no-break spaces (U+00A0), dashes, dots and parentheses; but a 0 alone in parentheses is
 * refused, since it is dialled only inside the country and the number with it would be another one. */
const char *csv_rows_parse_number(const char *text, size_t length, bool tolerant, uint64_t *number);

/* An unsigned integer up to `max` written in decimal digits alone; an empty text is 0. */
bool csv_rows_parse_unsigned(const char *text, uint64_t max, uint64_t *value);

#define CSV_ROWS_BAD_ACCOUNT "account is not an unsigned 64-bit integer"
#define CSV_ROWS_BAD_FLAGS "flags is not an integer from 0 to 255"

#endif
