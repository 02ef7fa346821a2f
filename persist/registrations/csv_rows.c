/* Registrations from CSV; see csv_rows.h. */
#include "persist/registrations/csv_rows.h"

#include <csv.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"

#define FIELDS_MAX 3
#define FIELD_BYTES 64
#define ROW_BYTES 256

struct csv_rows {
    struct csv_parser parser;
    struct csv_rows_handlers handlers;
    char fields[FIELDS_MAX][FIELD_BYTES]; /* cut to FIELD_BYTES - 1: no good field is longer */
    char row[ROW_BYTES];                  /* for a reject; cut */
    size_t row_length;
    unsigned field_count;
    uint64_t line;
    bool first_row;
    bool field_too_long;
    bool has_nul;
    unsigned bom_bytes; /* bytes of the byte order mark seen, or 3 when past it */
};

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

/* An unsigned integer up to `max` written in decimal digits alone; an empty field is 0. */
static bool parse_unsigned(const char *text, uint64_t max, uint64_t *value)
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

/* The reason why the row is bad, or NULL and the record. */
static const char *parse_row(const struct csv_rows *rows, struct record *record)
{
    uint64_t flags;
    if (rows->field_count > FIELDS_MAX)
        return "more than three fields: write number,account,flags";
    if (rows->has_nul)
        return "a field has a NUL byte";
    if (rows->field_too_long)
        return "a field is longer than any valid one";
    enum phone_error error = phone_parse(rows->fields[0], strlen(rows->fields[0]), &record->number);
    if (error != PHONE_OK)
        return phone_error_text(error);
    if (!parse_unsigned(rows->fields[1], UINT64_MAX, &record->account))
        return "account is not an unsigned 64-bit integer";
    if (!parse_unsigned(rows->fields[2], UINT8_MAX, &flags))
        return "flags is not an integer from 0 to 255";
    record->flags = (uint8_t)flags;
    return NULL;
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
    memset(rows->fields, 0, sizeof rows->fields);
    rows->field_count = 0;
    rows->row_length = 0;
    rows->row[0] = '\0';
    rows->first_row = false;
    rows->field_too_long = false;
    rows->has_nul = false;
}

struct csv_rows *csv_rows_create(const struct csv_rows_handlers *handlers)
{
    struct csv_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return NULL;
    if (csv_init(&rows->parser, 0) != 0) {
        free(rows);
        return NULL;
    }
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
            return csv_parse(&rows->parser, bom, seen, take_field, end_row, rows) == seen;
        }
        rows->bom_bytes++;
        ++*skipped;
    }
    return true;
}

bool csv_rows_feed(struct csv_rows *rows, const char *bytes, size_t length)
{
    size_t start;
    if (!skip_bom(rows, bytes, length, &start))
        return false;
    /* Line by line, since libcsv does not say where a row ends. */
    while (start < length) {
        const char *end = memchr(bytes + start, '\n', length - start);
        size_t piece = end == NULL ? length - start : (size_t)(end - (bytes + start)) + 1;
        if (csv_parse(&rows->parser, bytes + start, piece, take_field, end_row, rows) != piece)
            return false;
        start += piece;
        rows->line += end != NULL;
    }
    return true;
}

bool csv_rows_finish(struct csv_rows *rows)
{
    return csv_fini(&rows->parser, take_field, end_row, rows) == 0;
}
