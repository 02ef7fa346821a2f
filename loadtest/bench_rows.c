/* bench_rows: rows a second out of CSV in memory, by the reader of rows.h and by libcsv alone (csv_rows.h).
 *
 * The rows are as `+4915112345678,1234567,0`. The two take turns, each figure is the median of the rounds,
 * and both must find the same records. One thread; nothing is done with the records but summing them up. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "loadtest/population.h"
#include "persist/registrations/csv_rows.h"
#include "persist/registrations/rows.h"

#define DEFAULT_N UINT64_C(10000000)
#define QUICK_N UINT64_C(200000)
#define ROUNDS 5
/* As the importer feeds them. */
#define PIECE_BYTES (UINT32_C(1) << 20)
#define ROW_BYTES_MAX 32

static const struct bench_row bench_rows[] = {
    {"rows", "M/s", BENCH_AT_LEAST, 12, "rows a second of one thread, in pieces of 1 MiB"},
    {"libcsv", "M/s", BENCH_NO_BAR, 0, "the same rows by libcsv alone"},
    {"rows_over_libcsv", "ratio", BENCH_AT_LEAST, 2, "the first over the second"},
};

struct input {
    uint64_t n;
    char *text;
    size_t length;
};

struct sum {
    uint64_t records;
    uint64_t rejects;
    uint64_t mix;
};

static struct input generate(uint64_t n)
{
    struct input input = {.n = n, .text = malloc(n * ROW_BYTES_MAX)};
    struct population population;
    bench_assert(input.text != NULL, "out of memory for the rows");
    population_init(&population, 7);
    for (uint64_t i = 0; i < n; i++)
        input.length += (size_t)snprintf(input.text + input.length, ROW_BYTES_MAX,
                                         "+%" PRIu64 ",%" PRIu64 ",0\n", population_number(&population, i),
                                         population_account(&population, i) % 10000000);
    return input;
}

static void take_record(void *context, const struct record *record)
{
    struct sum *sum = context;
    sum->records++;
    sum->mix += record->number ^ record->account;
}

static void take_records(void *context, const struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++)
        take_record(context, &records[i]);
}

static void take_reject(void *context, uint64_t line, const char *reason, const char *row)
{
    (void)line;
    (void)reason;
    (void)row;
    ((struct sum *)context)->rejects++;
}

static double read_by_rows(const struct input *input, struct sum *sum)
{
    *sum = (struct sum){0};
    uint64_t started = bench_now_ns();
    struct rows *rows = rows_create(&(struct rows_options){.handlers = {take_records, take_reject, sum}});
    bench_assert(rows != NULL, "out of memory");
    for (size_t at = 0; at < input->length; at += PIECE_BYTES) {
        size_t left = input->length - at;
        bench_assert(rows_feed(rows, input->text + at, left < PIECE_BYTES ? left : PIECE_BYTES),
                     "out of memory");
    }
    bench_assert(rows_finish(rows), "out of memory");
    rows_destroy(rows);
    return (double)input->n * 1e3 / (double)(bench_now_ns() - started);
}

static double read_by_libcsv(const struct input *input, struct sum *sum)
{
    *sum = (struct sum){0};
    uint64_t started = bench_now_ns();
    struct csv_rows *rows = csv_rows_create(&(struct csv_rows_handlers){take_record, take_reject, sum});
    bench_assert(rows != NULL, "out of memory");
    for (size_t at = 0; at < input->length; at += PIECE_BYTES) {
        size_t left = input->length - at;
        bench_assert(csv_rows_feed(rows, input->text + at, left < PIECE_BYTES ? left : PIECE_BYTES),
                     "out of memory");
    }
    bench_assert(csv_rows_finish(rows), "out of memory");
    csv_rows_destroy(rows);
    return (double)input->n * 1e3 / (double)(bench_now_ns() - started);
}

int main(int argc, char **argv)
{
    struct bench bench;
    int status = bench_init(&bench, "Rows a second out of CSV, by the fast path and by libcsv.", bench_rows,
                            sizeof bench_rows / sizeof bench_rows[0], argc, argv);
    if (status >= 0)
        return status;
    struct input input = generate(bench.n > 0 ? bench.n : bench.quick ? QUICK_N : DEFAULT_N);
    double fast[ROUNDS];
    double slow[ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct sum by_rows;
        struct sum by_libcsv;
        fast[round] = read_by_rows(&input, &by_rows);
        slow[round] = read_by_libcsv(&input, &by_libcsv);
        bench_assert(by_rows.records == input.n && by_rows.rejects == 0, "a row was not read");
        bench_assert(by_rows.records == by_libcsv.records && by_rows.rejects == by_libcsv.rejects &&
                         by_rows.mix == by_libcsv.mix,
                     "the two read different records");
    }
    free(input.text);
    double fast_median = bench_median(fast, ROUNDS);
    double slow_median = bench_median(slow, ROUNDS);
    bench_report(&bench, "rows", input.n, fast_median);
    bench_report(&bench, "libcsv", input.n, slow_median);
    bench_report(&bench, "rows_over_libcsv", input.n, fast_median / slow_median);
    return bench_status(&bench);
}
