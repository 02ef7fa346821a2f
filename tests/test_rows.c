/* persist/registrations/rows: what good and bad rows become, by the fast path as by libcsv alone, in any pieces. */
#include "persist/registrations/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"
#include "persist/registrations/csv_rows.h"
#include "unit.h"

#define RECORDS_MAX 20000
#define REJECTS_BYTES 2000000

/* All that came out of an input. */
struct outcome {
    size_t record_count;
    size_t batches;
    struct record records[RECORDS_MAX];
    size_t reject_count;
    size_t rejects_length;
    char rejects[REJECTS_BYTES]; /* each as "line: reason [row]\n" */
    uint64_t line;
};

/* Two, for comparison. */
static struct outcome one;
static struct outcome other;

static void take_record(void *context, const struct record *record)
{
    struct outcome *outcome = context;
    assert_true(outcome->record_count < RECORDS_MAX);
    outcome->records[outcome->record_count++] = *record;
}

static void take_records(void *context, const struct record *records, size_t count)
{
    struct outcome *outcome = context;
    assert_in_range(count, 1, ROWS_BATCH);
    outcome->batches++;
    for (size_t i = 0; i < count; i++)
        take_record(context, &records[i]);
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    struct outcome *outcome = context;
    size_t room = REJECTS_BYTES - outcome->rejects_length;
    int length = snprintf(outcome->rejects + outcome->rejects_length, room, "%" PRIu64 ": %s [%s]\n", line,
                          reason, row);
    assert_true(length > 0 && (size_t)length < room);
    outcome->rejects_length += (size_t)length;
    outcome->reject_count++;
}

static void clear(struct outcome *outcome)
{
    outcome->record_count = outcome->batches = outcome->reject_count = outcome->rejects_length = 0;
    outcome->rejects[0] = '\0';
}

/* Reads by rows; the input comes in pieces that end at the cuts and, from the last cut on, all at once. */
static void read_cut(struct outcome *outcome, const char *text, size_t length, bool tolerant,
                     const size_t *cuts, size_t cut_count)
{
    clear(outcome);
    struct rows *rows = rows_create(
        &(struct rows_options){.tolerant = tolerant, .handlers = {take_records, take_reject, outcome}});
    size_t at = 0;
    for (size_t i = 0; i <= cut_count; i++) {
        size_t end = i < cut_count ? cuts[i] : length;
        /* From its own allocation, so that a sanitizer sees each byte read behind the piece. */
        char *piece = malloc(end - at);
        memcpy(piece, text + at, end - at);
        assert_true(rows_feed(rows, piece, end - at));
        free(piece);
        at = end;
    }
    assert_true(rows_finish(rows));
    outcome->line = rows_line(rows);
    rows_destroy(rows);
}

static void read_whole(struct outcome *outcome, const char *text, size_t length)
{
    read_cut(outcome, text, length, false, NULL, 0);
}

/* Reads by libcsv alone. */
static void read_slowly(struct outcome *outcome, const char *text, size_t length, bool tolerant)
{
    clear(outcome);
    struct csv_rows *rows = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, outcome});
    if (tolerant)
        csv_rows_set_tolerant(rows);
    assert_true(csv_rows_feed(rows, text, length));
    assert_true(csv_rows_finish(rows));
    outcome->line = csv_rows_line(rows);
    csv_rows_destroy(rows);
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
    assert_int_equal(a->record_count, b->record_count);
    for (size_t i = 0; i < a->record_count; i++) {
        assert_int_equal(a->records[i].number, b->records[i].number);
        assert_int_equal(a->records[i].account, b->records[i].account);
        assert_int_equal(a->records[i].flags, b->records[i].flags);
    }
    assert_string_equal(a->rejects, b->rejects);
    assert_int_equal(a->line, b->line);
}

static void assert_record(size_t index, uint64_t number, uint64_t account, uint8_t flags)
{
    assert_true(index < one.record_count);
    assert_int_equal(one.records[index].number, number);
    assert_int_equal(one.records[index].account, account);
    assert_int_equal(one.records[index].flags, flags);
}

/* --- CSV --- */

static const char csv_text[] = "\xef\xbb\xbfnumber,account,flags\r\n"
                               "+4915112345678,7,1\r\n"
                               "\"447700900123\",18446744073709551615,255\n"
                               "\n"
                               "+12025550123\n"
                               "+12025550124,,\n"
                               "12a45678,1,1\n"
                               "+12025550125,18446744073709551616,0\n"
                               "+12025550125,1,256\n"
                               "+12025550125,1,1,1\n"
                               "  +12025550127 ,\t5, 6 \n"
                               "+12025550128,1,\"two\nlines\"\r\n"
                               "+12025550126,3,4"; /* no line end */

/* Header, byte order mark, quotes, CRLF, blanks, missing fields and kinds of bad rows. */
static void test_csv(void **state)
{
    (void)state;
    read_whole(&one, csv_text, sizeof csv_text - 1);
    assert_int_equal(one.record_count, 6);
    assert_record(0, 4915112345678, 7, 1);
    assert_record(1, 447700900123, UINT64_MAX, 255);
    assert_record(2, 12025550123, 0, 0);
    assert_record(3, 12025550124, 0, 0);
    assert_record(4, 12025550127, 5, 6);
    assert_record(5, 12025550126, 3, 4);
    assert_string_equal(one.rejects,
                        "7: has a letter: only + and digits are allowed [12a45678,1,1]\n"
                        "8: " CSV_ROWS_BAD_ACCOUNT " [+12025550125,18446744073709551616,0]\n"
                        "9: " CSV_ROWS_BAD_FLAGS " [+12025550125,1,256]\n"
                        "10: more than three fields: write number,account,flags [+12025550125,1,1,1]\n"
                        "13: " CSV_ROWS_BAD_FLAGS " [+12025550128,1,two\nlines]\n");
    assert_int_equal(one.line, 14);
}

/* An empty input, one of blank lines, and one of a byte order mark have no rows; a part of a mark is a bad
 * one. */
static void test_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "\r\n \t\n", "\xef\xbb\xbf", "\xef\xbb\xbf\n\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        read_whole(&one, texts[i], strlen(texts[i]));
        assert_int_equal(one.record_count + one.reject_count, 0);
    }
    read_whole(&one, "\xef\xbb", 2);
    assert_int_equal(one.reject_count, 1);
}

/* In two pieces, cut anywhere, and in pieces of any one size, the same comes out. */
static void test_every_cut(void **state)
{
    (void)state;
    static const char json_text[] = "\xef\xbb\xbf \r\n\t{\"number\":\"+4915112345678\",\"account\":7}\r\n"
                                    "\n{\"number\":\"x\"}\n[1]\n{\"number\":\"+12025550123\",\"flags\":3}";
    static const struct {
        const char *text;
        size_t length;
    } inputs[] = {
        {csv_text, sizeof csv_text - 1}, {json_text, sizeof json_text - 1}, {"\xef\xbb+1\r\n+2", 9}};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        size_t length = inputs[i].length;
        read_whole(&one, inputs[i].text, length);
        for (size_t cut = 0; cut <= length; cut++) {
            read_cut(&other, inputs[i].text, length, false, &cut, 1);
            assert_same(&one, &other);
        }
        for (size_t size = 1; size < length; size++) {
            size_t cuts[512];
            size_t count = 0;
            for (size_t at = size; at < length; at += size)
                cuts[count++] = at;
            read_cut(&other, inputs[i].text, length, false, cuts, count);
            assert_same(&one, &other);
        }
    }
}

/* What random inputs are made of: bytes that mean something, and parts of rows. */
#define PART(text)                                                                                           \
    {                                                                                                        \
        text, sizeof text - 1                                                                                \
    }
static const struct part {
    const char *text;
    size_t length;
} parts[] = {
    PART("0"),
    PART("1"),
    PART("4"),
    PART("9"),
    PART("+"),
    PART(","),
    PART(","),
    PART(","),
    PART("\""),
    PART("\""),
    PART("\r"),
    PART("\n"),
    PART("\n"),
    PART("\n"),
    PART("\r\n"),
    PART(" "),
    PART("\t"),
    PART("a"),
    PART("Z"),
    PART("\0"),
    PART("\xef"),
    PART("\xbb"),
    PART("\xbf"),
    PART("\xef\xbb\xbf"),
    PART("\xc2\xa0"),
    PART("("),
    PART(")"),
    PART("-"),
    PART("."),
    PART("/"),
    PART(":"),
    PART("\x80"),
    PART("\xff"),
    PART("number"),
    PART("number,account,flags\n"),
    PART("+4915112345678,1234567,0\n"),
    PART("+447700900123,18446744073709551615,255\r\n"),
    PART("+12025550123\n"),
    PART("+4915112345678"),
    PART("255"),
    PART("256"),
    PART("18446744073709551616"),
    PART("00000000"),
    PART("000000000000000000000000"),
    PART("99999999"),
    PART("\n+999999999999999,"),
    PART("\n1000000000000000,"),
};

/* Parts in any order; in every second input, most of them are whole rows. */
static size_t random_input(uint64_t *random, char *text, size_t room)
{
    static const struct part rows[] = {
        PART("+4915112345678,1234567,0\n"), PART("447700900123,18446744073709551615,255\r\n"),
        PART("+12025550123\n"), PART("+9647001234567,,\n"), PART("123456,99999999\n")};
    size_t length = 0;
    size_t count = unit_random(random) % 40;
    bool in_rows = unit_random(random) % 2;
    for (size_t i = 0; i < count; i++) {
        bool whole = in_rows && unit_random(random) % 8 != 0;
        const struct part *part = whole ? &rows[unit_random(random) % (sizeof rows / sizeof rows[0])]
                                        : &parts[unit_random(random) % (sizeof parts / sizeof parts[0])];
        if (length + part->length > room)
            break;
        memcpy(text + length, part->text, part->length);
        length += part->length;
    }
    return length;
}

static int by_size(const void *a, const void *b)
{
    size_t left = *(const size_t *)a;
    size_t right = *(const size_t *)b;
    return left < right ? -1 : left > right;
}

/* The fast path in random pieces and libcsv alone agree about random inputs, the tolerant way and the
 * other. */
static void test_same_as_libcsv(void **state)
{
    (void)state;
    uint64_t random = 17;
    size_t records = 0;
    size_t rejects = 0;
    for (unsigned round = 0; round < 200000; round++) {
        char text[1024];
        size_t cuts[8];
        size_t length = random_input(&random, text, sizeof text);
        size_t cut_count = unit_random(&random) % 8;
        bool tolerant = unit_random(&random) % 2;
        for (size_t i = 0; i < cut_count; i++)
            cuts[i] = unit_random(&random) % (length + 1);
        qsort(cuts, cut_count, sizeof *cuts, by_size);
        read_slowly(&one, text, length, tolerant);
        read_cut(&other, text, length, tolerant, cuts, cut_count);
        assert_same(&one, &other);
        records += one.record_count;
        rejects += one.reject_count;
    }
    /* The inputs are worth it: many of both. */
    assert_true(records > 500000 && rejects > 500000);
}

/* Any text of digits is a number exactly when phone_parse says so, with its reason; and an account and flags
 * exactly up to their limits. */
static void test_fields(void **state)
{
    (void)state;
    uint64_t random = 3;
    for (unsigned round = 0; round < 200000; round++) {
        char text[128];
        size_t length = unit_random(&random) % 26;
        size_t plus = unit_random(&random) % 2;
        text[0] = '+';
        for (size_t i = 0; i < length; i++)
            text[plus + i] = (char)('0' + unit_random(&random) % 10);
        if (unit_random(&random) % 16 == 0 && length > 0)
            text[plus + unit_random(&random) % length] = (char)(unit_random(&random) % 256);
        length += plus;
        if (memchr(text, '{', length) || memchr(text, '"', length) || memchr(text, '\n', length) ||
            memchr(text, '\r', length) || memchr(text, ',', length) || memchr(text, ' ', length) ||
            memchr(text, '\t', length) || memchr(text, 0, length))
            continue; /* not one field of these bytes */
        uint64_t key = 0;
        enum phone_error error = phone_parse(text, length, &key);
        memcpy(text + length, ",12\n", 4);
        read_whole(&one, text, length + 4);
        if (error == PHONE_OK)
            assert_record(0, key, 12, 0);
        else
            assert_non_null(strstr(one.rejects, phone_error_text(error)));
    }
    static const struct {
        const char *row;
        const char *reason; /* NULL: a good one */
    } rows[] = {
        {"+12025550123,18446744073709551615,255\n", NULL},
        {"+12025550123,18446744073709551616,255\n", CSV_ROWS_BAD_ACCOUNT},
        {"+12025550123,99999999999999999999,255\n", CSV_ROWS_BAD_ACCOUNT},
        {"+12025550123,99999999999999999999999999999999,255\n", CSV_ROWS_BAD_ACCOUNT},
        {"+12025550123,000000000000000018446744073709551615,000000000000000000000000255\n", NULL},
        {"+12025550123,-1,0\n", CSV_ROWS_BAD_ACCOUNT},
        {"+12025550123,1,256\n", CSV_ROWS_BAD_FLAGS},
        {"+12025550123,1,-1\n", CSV_ROWS_BAD_FLAGS},
        {"+12025550123,1,18446744073709551616\n", CSV_ROWS_BAD_FLAGS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        read_whole(&one, rows[i].row, strlen(rows[i].row));
        if (rows[i].reason == NULL)
            assert_record(0, 12025550123, UINT64_MAX, 255);
        else
            assert_non_null(strstr(one.rejects, rows[i].reason));
    }
}

/* Lines that end with CR alone, CRLF and LF are counted alike, inside quotes, too. */
static void test_line_ends(void **state)
{
    (void)state;
    static const char *const texts[] = {"+12025550123\r+12025550124\r\rx\r\"a\rb\"\r",
                                        "+12025550123\n+12025550124\n\nx\n\"a\nb\"\n",
                                        "+12025550123\r\n+12025550124\r\n\r\nx\r\n\"a\r\nb\"\r\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        read_whole(&one, texts[i], strlen(texts[i]));
        assert_int_equal(one.record_count, 2);
        assert_int_equal(one.reject_count, 2);
        assert_non_null(strstr(one.rejects, "4: has a letter"));
        assert_non_null(strstr(one.rejects, "\n6: has a letter"));
        assert_int_equal(one.line, 7);
    }
}

/* Records come in full batches, in order, the last one what is left. */
static void test_batches(void **state)
{
    (void)state;
    char *text = malloc(10000 * 32);
    size_t length = 0;
    for (uint64_t i = 0; i < 10000; i++)
        length += (size_t)sprintf(
            text + length, i % 100 == 7 ? "\"%" PRIu64 "\",%" PRIu64 "\n" : "+%" PRIu64 ",%" PRIu64 ",1\n",
            4915110000000 + i, i);
    read_whole(&one, text, length);
    assert_int_equal(one.record_count, 10000);
    assert_int_equal(one.batches, 3);
    for (uint64_t i = 0; i < 10000; i++)
        assert_record(i, 4915110000000 + i, i, i % 100 != 7);
    free(text);
}

/* The signs that people write, when they are allowed; "00" and a 0 in parentheses never are. */
static void test_tolerant(void **state)
{
    (void)state;
    static const char *const good[] = {
        "+49 151 1234-5678",       "49.151.12345678",        "(+49) 151 12345678",
        "+49 (151) 12345678",      "+49\302\24015112345678", /* a no-break space; octal, since hexadecimal would go on */
        "\" + 4 9-15112345678 \"", "+4915112345678"};
    static const struct {
        const char *text;
        const char *reason;
    } bad[] = {{"0049 151 12345678", "begins with 0"},
               {"+49 (0) 151 12345678", "has (0)"},
               {"+49 ( 0 )151 12345678", "has (0)"},
               {"49+15112345678", "has a space or sign"},
               {"+49 151/12345678", "has a space or sign"},
               {"- -", "empty"},
               {"+49\xc2"
                "15112345678",
                "has a space or sign"},
               {"+49\xa0"
                "15112345678",
                "has a space or sign"},
               {"+49 (o) 151", "has a letter"}};
    char row[64];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t length = (size_t)snprintf(row, sizeof row, "%s,5,6\n", good[i]);
        read_cut(&one, row, length, true, NULL, 0);
        assert_record(0, 4915112345678, 5, 6);
        read_whole(&one, row, length);
        assert_int_equal(one.record_count, strpbrk(good[i], " -.(\xc2") == NULL);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        read_cut(&one, row, (size_t)snprintf(row, sizeof row, "%s,5,6\n", bad[i].text), true, NULL, 0);
        assert_int_equal(one.record_count, 0);
        assert_non_null(strstr(one.rejects, bad[i].reason));
    }
    static const char json[] = "{\"number\":\"+49 (151) 1234\\u00a05678\"}";
    read_cut(&one, json, sizeof json - 1, true, NULL, 0);
    assert_record(0, 4915112345678, 0, 0);
}

/* --- quotes left open, and long lines --- */

/* Reads the text in pieces of several sizes and by libcsv alone; all the same. */
static void read_in_pieces(const char *text, size_t length)
{
    static const size_t sizes[] = {1, 7, 4096, 65535, 65536, 65537};
    read_whole(&one, text, length);
    read_slowly(&other, text, length, false);
    if (text[0] != '{')
        assert_same(&one, &other);
    size_t *cuts = malloc((length + 1) * sizeof *cuts);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t count = 0;
        for (size_t at = sizes[i]; at < length; at += sizes[i])
            cuts[count++] = at;
        read_cut(&other, text, length, false, cuts, count);
        assert_same(&one, &other);
    }
    free(cuts);
}

/* Appends good rows with the accounts first .. first + count - 1. */
static size_t append_rows(char *text, size_t length, uint64_t first, uint64_t count, const char *line_end)
{
    for (uint64_t i = first; i < first + count; i++)
        length +=
            (size_t)sprintf(text + length, "+%" PRIu64 ",%" PRIu64 ",0%s", 4915110000000 + i, i, line_end);
    return length;
}

/* A quote that is not closed costs its own line and no other, early in a long file, late in it, and often. */
static void test_open_quote(void **state)
{
    (void)state;
    static const char *const line_ends[] = {"\n", "\r\n"};
    char *text = malloc(1 << 20);
    for (size_t i = 0; i < 4; i++) {
        const char *line_end = line_ends[i % 2];
        size_t length = append_rows(text, 0, 0, 100, line_end);
        length += (size_t)sprintf(text + length, "\"+4915119999999,1,0%s", line_end);
        length = append_rows(text, length, 100, i < 2 ? 9000 : 50, line_end);
        length += (size_t)sprintf(text + length, "+4915119999999,1,\"0%s", line_end);
        length = append_rows(text, length, i < 2 ? 9100 : 150, 10, line_end);
        read_in_pieces(text, length);
        assert_int_equal(one.record_count, i < 2 ? 9110 : 160);
        for (size_t r = 0; r < one.record_count; r++)
            assert_int_equal(one.records[r].account, r);
        assert_int_equal(one.reject_count, 2);
        static const char *const first[] = {
            "101: a row longer than 64 KiB: is a quote left open? [\"+4915119999999,1,0]\n",
            "101: a quote is left open [\"+4915119999999,1,0]\n"};
        assert_memory_equal(one.rejects, first[i / 2], strlen(first[i / 2]));
        assert_non_null(
            strstr(one.rejects, i < 2 ? "\n9102: a quote is left open" : "\n152: " CSV_ROWS_BAD_FLAGS));
        assert_int_equal(one.line, i < 2 ? 9113 : 163);
    }
    /* Each line opens one. */
    size_t length = 0;
    for (unsigned i = 0; i < 10000; i++)
        length += (size_t)sprintf(text + length, "\"+491511%07u,1,0\n", i);
    read_in_pieces(text, length);
    assert_int_equal(one.record_count, 0);
    assert_int_equal(one.reject_count, 10000);
    free(text);
}

/* A row of 64 KiB with its line end is read as any other, one byte more is too much; then the rest of its
 * line is skipped. */
static void test_long_row(void **state)
{
    (void)state;
    char *text = malloc(1 << 20);
    for (size_t extra = 0; extra < 3; extra++) {
        size_t length = append_rows(text, 0, 0, 1, "\n") + 4; /* behind blanks, which do not count */
        memset(text + length - 4, ' ', 4);
        memset(text + length, '1', 65535 + extra);
        length += 65535 + extra;
        text[length++] = '\n';
        length = append_rows(text, length, 1, 2, "\n");
        read_in_pieces(text, length);
        assert_int_equal(one.record_count, 3);
        assert_int_equal(one.reject_count, 1);
        assert_non_null(
            strstr(one.rejects, extra == 0 ? "2: a field is longer" : "2: a row longer than 64 KiB"));
        assert_int_equal(one.line, 5);
    }
    /* A quote inside what is skipped opens nothing; inside of quotes a CR and the line end count as well. */
    size_t length = (size_t)sprintf(text, "\"a\r");
    memset(text + length, 'b', 200000);
    length += 200000;
    length += (size_t)sprintf(text + length, "\"c\n");
    length = append_rows(text, length, 0, 2, "\n");
    read_in_pieces(text, length);
    assert_int_equal(one.record_count, 2);
    assert_int_equal(one.reject_count, 2);
    assert_int_equal(one.line, 5);
    free(text);
}

/* --- JSON lines --- */

/* One line each: the record that it becomes, or a part of the reason why it does not. */
static void test_json(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        const char *reason; /* NULL: account and flags */
        uint64_t account;
        uint8_t flags;
    } lines[] = {
        {"{\"number\":\"+4915112345678\",\"account\":\"123\",\"flags\":3}", NULL, 123, 3},
        {" { \"flags\" : 255 , \"number\" : \"4915112345678\" } \r", NULL, 0, 255},
        {"{\"number\":\"+4915112345678\",\"account\":123}", NULL, 123, 0},
        {"{\"number\":\"+4915\\u003112345678\",\"account\":0}", NULL, 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":9223372036854775807}", NULL, INT64_MAX, 0},
        {"{\"number\":\"+4915112345678\",\"account\":\"18446744073709551615\"}", NULL, UINT64_MAX, 0},
        {"{\"number\":\"+4915112345678\",\"account\":\"18446744073709551616\"}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":9223372036854775808}", "too big", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":-1}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":\"-1\"}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":\"\"}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":1.0}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":null}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"account\":{\"a\":1}}", "account is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"flags\":256}", "flags is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"flags\":-1}", "flags is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"flags\":1e0}", "flags is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"flags\":\"1\"}", "flags is not", 0, 0},
        {"{\"number\":\"+4915112345678\",\"flags\":[1]}", "flags is not", 0, 0},
        {"{\"number\":4915112345678}", "number is not a string", 0, 0},
        {"{\"number\":[\"+4915112345678\"]}", "number is not a string", 0, 0},
        {"{\"number\":null}", "number is not a string", 0, 0},
        {"{\"number\":\"\"}", "empty", 0, 0},
        {"{\"number\":\"+49 15112345678\"}", "space or sign", 0, 0},
        {"{\"number\":\"+4915112345678000000000000000000000000000000000000000000000000000000\"}",
         "longer than any", 0, 0},
        {"{\"account\":1}", "has no number", 0, 0},
        {"{}", "has no number", 0, 0},
        {"{\"number\":\"+4915112345678\",\"name\":1}", "other than", 0, 0},
        {"{\"number\":\"+4915112345678\",\"Number\":\"+4915112345678\"}", "other than", 0, 0},
        {"{\"number\":\"+4915112345678\",\"number\":\"+4915112345678\"}", "twice", 0, 0},
        {"{\"number\":\"+4915112345678\",}", "not valid JSON", 0, 0},
        {"{\"number\":\"+4915112345678\"", "not valid JSON", 0, 0},
        {"{\"number\":\"+4915112345678\"} x", "not valid JSON", 0, 0},
        {"{\"number\":\"+4915112345678\"}{\"number\":\"+4915112345678\"}", "not valid JSON", 0, 0},
        {"{'number':'+4915112345678'}", "not valid JSON", 0, 0},
        {"{\"number\":\"+49151\\u000012345678\"}", "not valid JSON", 0, 0},
        {"{\"number\":\"+49151\xff\"}", "not UTF-8", 0, 0},
        {"[\"+4915112345678\"]", "not a JSON object", 0, 0},
        {"\"+4915112345678\"", "not valid JSON", 0, 0},
        {"+4915112345678,1,2", "not valid JSON", 0, 0},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char text[256];
        size_t length = (size_t)snprintf(text, sizeof text, "{}\n%s\n", lines[i].line);
        read_whole(&one, text, length);
        if (lines[i].reason == NULL) {
            assert_int_equal(one.reject_count, 1); /* the first line's */
            assert_record(0, 4915112345678, lines[i].account, lines[i].flags);
            continue;
        }
        const char *reject = strstr(one.rejects, "\n2: ");
        assert_int_equal(one.record_count, 0);
        assert_non_null(reject);
        if (strstr(reject, lines[i].reason) == NULL)
            fail_msg("%s: %s", lines[i].line, reject);
        /* The reason itself has no digits of the number. */
        char *end = strchr(reject, '[');
        *end = '\0';
        assert_null(strstr(reject, "4915"));
    }
}

/* A line of 64 KiB is read, a longer one is one reject; very deep nesting is bad JSON, and no crash. */
static void test_json_long_line(void **state)
{
    (void)state;
    char *text = malloc(1 << 20);
    for (size_t extra = 0; extra < 3; extra++) {
        size_t length =
            (size_t)sprintf(text, "{\"number\":\"+4915112345678\"}\n{\"number\":\"+4915112345679\"}");
        size_t begin = 28;
        memset(text + length, ' ', begin + 65536 + extra - length);
        length = begin + 65536 + extra;
        length += (size_t)sprintf(text + length, "\n{\"number\":\"+4915112345670\"}\n");
        read_in_pieces(text, length);
        assert_int_equal(one.record_count, extra == 0 ? 3 : 2);
        assert_int_equal(one.reject_count, extra == 0 ? 0 : 1);
        if (extra > 0)
            assert_memory_equal(one.rejects, "2: a line longer than 64 KiB [{", 31);
        assert_int_equal(one.line, 4);
    }
    size_t length = (size_t)sprintf(text, "{\"number\":");
    memset(text + length, '[', 60000);
    read_in_pieces(text, length + 60000);
    assert_int_equal(one.reject_count, 1);
    free(text);
}

/* JSON lines are known behind a byte order mark and blanks; a '{' later in CSV is a bad row. */
static void test_detection(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"number\":\"+4915112345678\"}", "\xef\xbb\xbf{\"number\":\"+4915112345678\"}",
        "\n\r\n \t{\"number\":\"+4915112345678\"}\n", "\xef\xbb\xbf\r\n\r\n{\"number\":\"+4915112345678\"}"};
    for (size_t i = 0; i < sizeof json / sizeof json[0]; i++) {
        read_whole(&one, json[i], strlen(json[i]));
        assert_int_equal(one.reject_count, 0);
        assert_record(0, 4915112345678, 0, 0);
    }
    static const char *const csv[] = {"+4915112345678\n{}\n", "\xef\xbb\n+4915112345678\n",
                                      "\n\xef\xbb\xbf{}\n+4915112345678\n", "\"{\"\n+4915112345678\n"};
    for (size_t i = 0; i < sizeof csv / sizeof csv[0]; i++) {
        read_whole(&one, csv[i], strlen(csv[i]));
        assert_int_equal(one.reject_count, 1);
        assert_record(0, 4915112345678, 0, 0);
    }
    read_whole(&one, "\xef\xbb\xbf\r\n\n{\"number\":\"x\"}\n", 22);
    assert_memory_equal(one.rejects, "3: ", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv),        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_every_cut),  cmocka_unit_test(test_same_as_libcsv),
        cmocka_unit_test(test_fields),     cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_batches),    cmocka_unit_test(test_tolerant),
        cmocka_unit_test(test_open_quote), cmocka_unit_test(test_long_row),
        cmocka_unit_test(test_json),       cmocka_unit_test(test_json_long_line),
        cmocka_unit_test(test_detection),
    };
    return cmocka_run_group_tests_name("rows", tests, NULL, NULL);
}
