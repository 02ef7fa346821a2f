/* Registrations from CSV by libcsv; see csv_rows.h. */
#include "persist/registrations/csv_rows.h"

#include <csv.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"

#define FIELDS_MAX 3
#define FIELD_BYTES 64

static const char too_long_reason[] = "a row longer than 64 KiB: is a quote left open?";
static const char open_quote_reason[] = "a quote is left open";
static const char field_reason[] = "a field is longer than any valid one";

struct csv_rows {
    struct csv_parser parser;
    int state_between; /* the parser's state between two rows; libcsv keeps its names for itself */
    struct csv_rows_handlers handlers;
    bool tolerant;
    char fields[FIELDS_MAX][FIELD_BYTES]; /* cut to FIELD_BYTES - 1: no good field is longer */
    char row[CSV_ROWS_SHOWN_BYTES];       /* for a reject; cut */
    size_t row_length;
    unsigned field_count;
    uint64_t line;
    bool after_cr; /* the last byte was a CR: an LF now is the same line end */
    bool first_row;
    bool field_too_long;
    bool has_nul;
    bool skipping;      /* the rest of the line belongs to a row that was too long */
    unsigned bom_bytes; /* bytes of the byte order mark seen, or 3 when past it */
    /* The row so far, as it came, and the line where it begins. Empty between rows. */
    uint64_t held_line;
    size_t held_length;
    char held[CSV_ROWS_ROW_BYTES_MAX];
};

/* --- fields and rows --- */

static void append_to_row(struct csv_rows *rows, const char *text, size_t length)
{
    size_t room = sizeof rows->row - 1 - rows->row_length;
    if (length > room)
        length = room;
    memcpy(rows->row + rows->row_length, text, length);
    rows->row_length += length;
    rows->row[rows->row_length] = '\0';
}

static void take_field(void *text, size_t length, void *context)
{
    struct csv_rows *rows = context;
    if (rows->field_count > 0)
        append_to_row(rows, ",", 1);
    append_to_row(rows, text, length);
    if (rows->field_count < FIELDS_MAX) {
        char *field = rows->fields[rows->field_count];
        rows->field_too_long = rows->field_too_long || length >= FIELD_BYTES;
        rows->has_nul = rows->has_nul || memchr(text, 0, length) != NULL;
        size_t kept = length < FIELD_BYTES ? length : FIELD_BYTES - 1;
        memcpy(field, text, kept);
        field[kept] = '\0';
    }
    rows->field_count++;
}

bool csv_rows_parse_unsigned(const char *text, uint64_t max, uint64_t *value)
{
    uint64_t result = 0;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (result > (max - digit) / 10)
            return false;
        result = result * 10 + digit;
    }
    *value = result;
    return true;
}

/* Copies the text without the signs that a tolerant reading leaves out; returns the copy's length.
 * `*trunk_zero` says that parentheses held a 0 and nothing else. */
static size_t leave_out_signs(const char *text, size_t length, char *kept, bool *trunk_zero)
{
    size_t count = 0;
    size_t opened = SIZE_MAX; /* where in the copy the last parenthesis was opened */
    *trunk_zero = false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\xc2' && i + 1 < length && text[i + 1] == '\xa0') {
            i++;
        } else if (text[i] == '(') {
            opened = count;
        } else if (text[i] == ')') {
            *trunk_zero = *trunk_zero || (count > 0 && opened == count - 1 && kept[opened] == '0');
        } else if (text[i] != ' ' && text[i] != '-' && text[i] != '.') {
            kept[count++] = text[i];
        }
    }
    return count;
}

const char *csv_rows_parse_number(const char *text, size_t length, bool tolerant, uint64_t *number)
{
    char kept[FIELD_BYTES];
    if (length >= FIELD_BYTES)
        return field_reason;
    if (tolerant) {
        bool trunk_zero;
        length = leave_out_signs(text, length, kept, &trunk_zero);
        if (trunk_zero)
            return "has (0): leave it out, it is not dialled behind the country code";
        text = kept;
    }
    enum phone_error error = phone_parse(text, length, number);
    return error == PHONE_OK ? NULL : phone_error_text(error);
}

/* The reason why the row is bad, or NULL and the record. */
static const char *parse_row(const struct csv_rows *rows, struct record *record)
{
    uint64_t flags;
    if (rows->field_count > FIELDS_MAX)
        return "more than three fields: write number,account,flags";
    if (rows->has_nul)
        return "a field has a NUL byte";
    if (rows->field_too_long)
        return field_reason;
    const char *reason =
        csv_rows_parse_number(rows->fields[0], strlen(rows->fields[0]), rows->tolerant, &record->number);
    if (reason != NULL)
        return reason;
    if (!csv_rows_parse_unsigned(rows->fields[1], UINT64_MAX, &record->account))
        return CSV_ROWS_BAD_ACCOUNT;
    if (!csv_rows_parse_unsigned(rows->fields[2], UINT8_MAX, &flags))
        return CSV_ROWS_BAD_FLAGS;
    record->flags = (uint8_t)flags;
    return NULL;
}

static void forget_row(struct csv_rows *rows)
{
    memset(rows->fields, 0, sizeof rows->fields);
    rows->field_count = 0;
    rows->row_length = 0;
    rows->row[0] = '\0';
    rows->first_row = false;
    rows->field_too_long = false;
    rows->has_nul = false;
}

static void end_row(int terminator, void *context)
{
    (void)terminator;
    struct csv_rows *rows = context;
    bool header = rows->first_row && strcmp(rows->fields[0], "number") == 0;
    struct record record;
    const char *reason = header ? NULL : parse_row(rows, &record);
    if (reason != NULL)
        rows->handlers.reject(rows->handlers.context, rows->line, reason, rows->row);
    else if (!header)
        rows->handlers.record(rows->handlers.context, &record);
    forget_row(rows);
}

/* --- bytes --- */

static bool is_line_end(char byte)
{
    return byte == '\n' || byte == '\r';
}

static bool is_idle(const struct csv_rows *rows)
{
    return rows->parser.pstate == rows->state_between && !rows->skipping;
}

/* The length of the bytes' beginning that ends behind the first line end. Since line ends are looked for in
 * so many bytes only as are then taken, a file without LF costs no more. */
static size_t piece_length(const char *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && !is_line_end(bytes[at]))
        at++;
    return at < length ? at + 1 : length;
}

/* Counts the line end that a piece may have at its end. */
static void count_line(struct csv_rows *rows, const char *piece, size_t length)
{
    char last = piece[length - 1];
    bool ends_crlf = last == '\n' && length == 1 && rows->after_cr;
    rows->line += is_line_end(last) && !ends_crlf;
    rows->after_cr = last == '\r';
}

/* Takes a piece for which there is room. The bytes may lie further behind in `held`. */
static bool take_piece(struct csv_rows *rows, const char *bytes, size_t length)
{
    while (length > 0 && is_idle(rows) && (*bytes == ' ' || *bytes == '\t')) {
        rows->after_cr = false;
        bytes++;
        length--;
    }
    if (length == 0)
        return true;
    if (rows->held_length == 0)
        rows->held_line = rows->line;
    if (csv_parse(&rows->parser, bytes, length, take_field, end_row, rows) != length)
        return false;
    count_line(rows, bytes, length);
    if (is_idle(rows)) {
        rows->held_length = 0;
    } else {
        memmove(rows->held + rows->held_length, bytes, length);
        rows->held_length += length;
    }
    return true;
}

/* Gives up the row that is held and reads again what it has swallowed (see the header). */
static bool give_up_row(struct csv_rows *rows, const char *reason)
{
    size_t length = rows->held_length;
    size_t at = piece_length(rows->held, length);
    bool has_end = is_line_end(rows->held[at - 1]);
    csv_set_opts(&rows->parser, 0);
    csv_fini(&rows->parser, NULL, NULL, NULL);
    forget_row(rows);
    append_to_row(rows, rows->held, has_end ? at - 1 : at);
    rows->handlers.reject(rows->handlers.context, rows->held_line, reason, rows->row);
    forget_row(rows);
    rows->held_length = 0;
    rows->skipping = !has_end;
    rows->line = rows->held_line;
    rows->after_cr = false;
    count_line(rows, rows->held, at);
    while (at < length) {
        const char *piece = rows->held + at;
        size_t taken = piece_length(piece, length - at);
        at += taken;
        if (!is_line_end(piece[taken - 1]))
            return take_piece(rows, piece, taken); /* the line goes on in bytes to come */
        /* With its line end, so that a field whose quote is still open is no good one. */
        if (csv_parse(&rows->parser, piece, taken, take_field, end_row, rows) != taken)
            return false;
        csv_fini(&rows->parser, take_field, end_row, rows);
        count_line(rows, piece, taken);
    }
    return true;
}

static const char bom[3] = {'\xef', '\xbb', '\xbf'};

/* Skips a byte order mark at the very beginning; returns how many of the bytes belong to it. What only began
 * like one is input like any other. False when memory is short. */
static bool skip_bom(struct csv_rows *rows, const char *bytes, size_t length, size_t *skipped)
{
    *skipped = 0;
    while (rows->bom_bytes < sizeof bom && *skipped < length) {
        if (bytes[*skipped] != bom[rows->bom_bytes]) {
            size_t seen = rows->bom_bytes;
            rows->bom_bytes = sizeof bom;
            return take_piece(rows, bom, seen);
        }
        rows->bom_bytes++;
        ++*skipped;
    }
    return true;
}

bool csv_rows_feed_line(struct csv_rows *rows, const char *bytes, size_t length, size_t *taken)
{
    if (!skip_bom(rows, bytes, length, taken))
        return false;
    if (*taken > 0)
        return true;
    if (rows->held_length == sizeof rows->held && !give_up_row(rows, too_long_reason))
        return false;
    size_t room = sizeof rows->held - rows->held_length;
    *taken = piece_length(bytes, length < room ? length : room);
    if (!rows->skipping)
        return take_piece(rows, bytes, *taken);
    rows->skipping = !is_line_end(bytes[*taken - 1]);
    count_line(rows, bytes, *taken);
    return true;
}

/* --- the interface --- */

struct csv_rows *csv_rows_create(const struct csv_rows_handlers *handlers)
{
    struct csv_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return NULL;
    if (csv_init(&rows->parser, 0) != 0) {
        free(rows);
        return NULL;
    }
    rows->state_between = rows->parser.pstate;
    rows->handlers = *handlers;
    rows->line = 1;
    rows->first_row = true;
    return rows;
}

void csv_rows_destroy(struct csv_rows *rows)
{
    if (rows == NULL)
        return;
    csv_free(&rows->parser);
    free(rows);
}

void csv_rows_set_tolerant(struct csv_rows *rows)
{
    rows->tolerant = true;
}

bool csv_rows_feed(struct csv_rows *rows, const char *bytes, size_t length)
{
    size_t taken;
    for (size_t at = 0; at < length; at += taken)
        if (!csv_rows_feed_line(rows, bytes + at, length - at, &taken))
            return false;
    return true;
}

bool csv_rows_finish(struct csv_rows *rows)
{
    if (rows->bom_bytes < sizeof bom && !take_piece(rows, bom, rows->bom_bytes))
        return false;
    /* Strict, libcsv's end fails when a quote is open, and leaves all as it was. */
    csv_set_opts(&rows->parser, CSV_STRICT | CSV_STRICT_FINI);
    while (csv_fini(&rows->parser, take_field, end_row, rows) != 0) {
        if (!give_up_row(rows, open_quote_reason))
            return false;
        csv_set_opts(&rows->parser, CSV_STRICT | CSV_STRICT_FINI);
    }
    return true;
}

bool csv_rows_is_between(const struct csv_rows *rows)
{
    return is_idle(rows) && (rows->bom_bytes == 0 || rows->bom_bytes == sizeof bom);
}

bool csv_rows_has_begun(const struct csv_rows *rows)
{
    return !rows->first_row || !is_idle(rows);
}

void csv_rows_pass(struct csv_rows *rows, uint64_t count)
{
    if (count == 0)
        return;
    rows->line += count;
    rows->after_cr = false;
    rows->first_row = false;
    rows->bom_bytes = sizeof bom;
}

uint64_t csv_rows_line(const struct csv_rows *rows)
{
    return rows->line;
}
