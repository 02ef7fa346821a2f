/* Registrations from CSV or JSON lines; see rows.h. */
#include "persist/registrations/rows.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"
#include "persist/registrations/csv_rows.h"

#define LINE_BYTES_MAX (UINT32_C(64) << 10)

enum rows_format { FORMAT_UNKNOWN, FORMAT_CSV, FORMAT_JSON };

struct rows {
    struct rows_options options;
    enum rows_format format;
    struct csv_rows *csv; /* also counts the lines, of JSON too */
    size_t count;
    struct record batch[ROWS_BATCH];
    /* JSON: a line of which only the beginning has come; or its rest is skipped, since it is too long. */
    bool skipping;
    size_t held_length;
    char held[LINE_BYTES_MAX];
};

static void hand_over(struct rows *rows)
{
    if (rows->count > 0)
        rows->options.handlers.records(rows->options.handlers.context, rows->batch, rows->count);
    rows->count = 0;
}

static void take_record(void *context, const struct record *record)
{
    struct rows *rows = context;
    rows->batch[rows->count++] = *record;
    if (rows->count == ROWS_BATCH)
        hand_over(rows);
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    const struct rows *rows = context;
    rows->options.handlers.reject(rows->options.handlers.context, line, reason, row);
}

/* --- the fast path: a row of digits, commas and a line end that is a good one; any other row is left to
 * libcsv --- */

/* quick_row reads no byte beyond so many. Its three fields have at most 15, 23 and 23 digits when it goes on
 * to the next one, and each is read in three words of eight bytes. */
#define QUICK_BYTES 80
static_assert(1 + 15 + 1 + 23 + 1 + 24 <= QUICK_BYTES, "quick_row reads beyond its bytes");

/* The digits that the eight bytes begin with: their count, 0 to 8, and value. Eight bytes are handled as one
 * integer whose lowest byte is the first; pairs of digits, then of pairs, then of fours are joined by
 * multiplications (Daniel Lemire, "Quickly parsing eight digits", 2018). */
static inline unsigned quick_eight(const char *text, uint64_t *value)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    word ^= UINT64_C(0x3030303030303030); /* digits become 0 .. 9 */
    /* The top bit of each byte that is above 9. A carry spoils only bytes behind one of these. */
    uint64_t others = (word | (word + UINT64_C(0x7676767676767676))) & UINT64_C(0x8080808080808080);
    unsigned count = 8;
    if (others != 0) {
        count = (unsigned)__builtin_ctzll(others) / 8;
        word = word << (8 * (7 - count)) << 8; /* zeros ahead; two shifts, since one by 64 is undefined */
    }
    word = word * 10 + (word >> 8);
    *value = ((word & UINT64_C(0xff000000ff)) * UINT64_C(0xf424000000064) +
              (word >> 16 & UINT64_C(0xff000000ff)) * UINT64_C(0x271000000001)) >>
             32;
    return count;
}

/* Reads the digits at `text`, at most 23; none are 0. Returns where they end, or NULL when there are more or
 * their value does not fit. */
static inline const char *quick_unsigned(const char *text, uint64_t *value)
{
    static const uint64_t powers[9] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    unsigned count = quick_eight(text, value);
    for (unsigned word = 1; count == 8 && word < 3; word++) {
        uint64_t more;
        text += 8;
        count = quick_eight(text, &more);
        if (__builtin_mul_overflow(*value, powers[count], value) ||
            __builtin_add_overflow(*value, more, value))
            return NULL;
    }
    return count == 8 ? NULL : text + count;
}

/* Reads the row at `at`. Returns where the next one begins, or NULL when this one is not for the fast
 * path. */
static inline const char *quick_row(const char *at, struct record *record)
{
    uint64_t flags = 0;
    at += *at == '+';
    bool leading_zero = *at == '0';
    at = quick_unsigned(at, &record->number);
    if (at == NULL || leading_zero || phone_check(record->number) != PHONE_OK)
        return NULL;
    record->account = 0;
    if (*at == ',') {
        at = quick_unsigned(at + 1, &record->account);
        if (at != NULL && *at == ',')
            at = quick_unsigned(at + 1, &flags);
        if (at == NULL || flags > UINT8_MAX)
            return NULL;
    }
    record->flags = (uint8_t)flags;
    at += *at == '\r';
    return *at == '\n' ? at + 1 : NULL;
}

/* Reads rows that begin before `limit` until one is not for the fast path; returns where that is. */
static const char *quick_rows(struct rows *rows, const char *at, const char *limit)
{
    uint64_t count = 0;
    while (at < limit) {
        const char *next = quick_row(at, &rows->batch[rows->count]);
        if (next == NULL)
            break;
        at = next;
        count++;
        if (++rows->count == ROWS_BATCH)
            hand_over(rows);
    }
    csv_rows_pass(rows->csv, count);
    return at;
}

/* Returns how many of the bytes were rows for the fast path. */
static size_t feed_quick(struct rows *rows, const char *bytes, size_t length)
{
    const char *at = bytes;
    if (length >= QUICK_BYTES)
        at = quick_rows(rows, bytes, bytes + length - QUICK_BYTES + 1);
    size_t left = length - (size_t)(at - bytes);
    if (left >= QUICK_BYTES)
        return length - left;
    /* The last rows from a copy with bytes behind it that may be read. They are NUL, so no row ends there. */
    char copy[2 * QUICK_BYTES] = {0};
    memcpy(copy, at, left);
    return length - left + (size_t)(quick_rows(rows, copy, copy + left) - copy);
}

static bool feed_csv(struct rows *rows, const char *bytes, size_t length)
{
    for (size_t at = 0; at < length;) {
        if (csv_rows_is_between(rows->csv))
            at += feed_quick(rows, bytes + at, length - at);
        size_t taken = 0;
        if (at < length && !csv_rows_feed_line(rows->csv, bytes + at, length - at, &taken))
            return false;
        at += taken;
    }
    return true;
}

/* --- JSON lines --- */

/* In our words: jansson's may quote the line. NULL: memory is short. */
static const char *json_reason(enum json_error_code code)
{
    if (code == json_error_out_of_memory)
        return NULL;
    if (code == json_error_duplicate_key)
        return "has a member twice";
    if (code == json_error_numeric_overflow)
        return "has a number that is too big: write a big account as a string";
    if (code == json_error_invalid_utf8)
        return "is not UTF-8";
    return "is not valid JSON";
}

static bool read_account(const json_t *member, uint64_t *account)
{
    if (json_is_string(member))
        return json_string_length(member) > 0 &&
               csv_rows_parse_unsigned(json_string_value(member), UINT64_MAX, account);
    *account = (uint64_t)json_integer_value(member);
    return json_is_integer(member) && json_integer_value(member) >= 0;
}

/* The reason why the object is no row, or NULL and the record. */
static const char *read_object(const struct rows *rows, const json_t *object, struct record *record)
{
    const json_t *number = json_object_get(object, "number");
    const json_t *account = json_object_get(object, "account");
    const json_t *flags = json_object_get(object, "flags");
    size_t known = (size_t)(number != NULL) + (size_t)(account != NULL) + (size_t)(flags != NULL);
    *record = (struct record){0};
    if (!json_is_object(object))
        return "is not a JSON object";
    if (json_object_size(object) > known)
        return "has a member other than number, account and flags";
    if (!json_is_string(number))
        return number == NULL ? "has no number" : "number is not a string";
    const char *reason = csv_rows_parse_number(json_string_value(number), json_string_length(number),
                                               rows->options.tolerant, &record->number);
    if (reason != NULL)
        return reason;
    if (account != NULL && !read_account(account, &record->account))
        return CSV_ROWS_BAD_ACCOUNT;
    if (flags != NULL &&
        (!json_is_integer(flags) || json_integer_value(flags) < 0 || json_integer_value(flags) > UINT8_MAX))
        return CSV_ROWS_BAD_FLAGS;
    record->flags = (uint8_t)json_integer_value(flags);
    return NULL;
}

static void reject_json(struct rows *rows, const char *reason, const char *line, size_t length)
{
    char shown[CSV_ROWS_SHOWN_BYTES];
    if (length > 0 && line[length - 1] == '\r')
        length--;
    if (length > sizeof shown - 1)
        length = sizeof shown - 1;
    memcpy(shown, line, length);
    shown[length] = '\0';
    take_reject(rows, rows_line(rows), reason, shown);
}

/* A line without its LF. */
static bool take_json(struct rows *rows, const char *line, size_t length)
{
    size_t blanks = 0;
    while (blanks < length && (line[blanks] == ' ' || line[blanks] == '\t' || line[blanks] == '\r'))
        blanks++;
    if (blanks == length)
        return true;
    json_error_t error;
    struct record record;
    json_t *object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
    const char *reason =
        object == NULL ? json_reason(json_error_code(&error)) : read_object(rows, object, &record);
    bool good = object != NULL && reason == NULL;
    bool memory_is_short = object == NULL && reason == NULL;
    json_decref(object);
    if (good)
        take_record(rows, &record);
    else if (!memory_is_short)
        reject_json(rows, reason, line, length);
    return !memory_is_short;
}

/* Keeps a part of a line until its end comes. */
static void hold_json(struct rows *rows, const char *part, size_t length)
{
    if (rows->skipping)
        return;
    size_t room = sizeof rows->held - rows->held_length;
    size_t kept = length < room ? length : room;
    memcpy(rows->held + rows->held_length, part, kept);
    rows->held_length += kept;
    if (kept == length)
        return;
    reject_json(rows, "a line longer than 64 KiB", rows->held, rows->held_length);
    rows->held_length = 0;
    rows->skipping = true;
}

static bool end_held_json(struct rows *rows)
{
    size_t length = rows->held_length;
    rows->held_length = 0;
    rows->skipping = false;
    return take_json(rows, rows->held, length);
}

static bool feed_json(struct rows *rows, const char *bytes, size_t length)
{
    while (length > 0) {
        const char *end = memchr(bytes, '\n', length);
        size_t part = end == NULL ? length : (size_t)(end - bytes);
        bool is_whole = end != NULL && rows->held_length == 0 && !rows->skipping && part <= LINE_BYTES_MAX;
        bool ok = true;
        if (is_whole)
            ok = take_json(rows, bytes, part);
        else
            hold_json(rows, bytes, part);
        if (end != NULL && !is_whole)
            ok = end_held_json(rows);
        if (!ok)
            return false;
        if (end == NULL)
            break;
        csv_rows_pass(rows->csv, 1);
        bytes += part + 1;
        length -= part + 1;
    }
    return true;
}

/* --- the interface --- */

/* Finds out what the input is; returns how many of the bytes lie ahead of the first one that says it. Byte
 * order mark and blanks are nothing to libcsv, which reads them here to count the lines. */
static bool detect(struct rows *rows, const char *bytes, size_t length, size_t *taken)
{
    for (*taken = 0; rows->format == FORMAT_UNKNOWN && *taken < length; ++*taken) {
        if (bytes[*taken] == '{' && csv_rows_is_between(rows->csv)) {
            rows->format = FORMAT_JSON;
            return true;
        }
        if (!csv_rows_feed(rows->csv, bytes + *taken, 1))
            return false;
        if (csv_rows_has_begun(rows->csv))
            rows->format = FORMAT_CSV;
    }
    return true;
}

struct rows *rows_create(const struct rows_options *options)
{
    struct rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL)
        return NULL;
    rows->options = *options;
    rows->csv = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, rows});
    if (rows->csv == NULL) {
        free(rows);
        return NULL;
    }
    if (options->tolerant)
        csv_rows_set_tolerant(rows->csv);
    return rows;
}

void rows_destroy(struct rows *rows)
{
    if (rows == NULL)
        return;
    csv_rows_destroy(rows->csv);
    free(rows);
}

bool rows_feed(struct rows *rows, const char *bytes, size_t length)
{
    size_t taken;
    if (!detect(rows, bytes, length, &taken))
        return false;
    if (rows->format == FORMAT_JSON)
        return feed_json(rows, bytes + taken, length - taken);
    return feed_csv(rows, bytes + taken, length - taken);
}

bool rows_finish(struct rows *rows)
{
    bool ok = rows->format == FORMAT_JSON ? end_held_json(rows) : csv_rows_finish(rows->csv);
    hand_over(rows);
    return ok;
}

uint64_t rows_line(const struct rows *rows)
{
    return csv_rows_line(rows->csv);
}
