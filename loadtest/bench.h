/* What all benchmarks share: their command line, their rows, their clock.
 *
 *   --list names the rows; --only NAME runs one, or all that begin with NAME_; --n N sets the size; --quick a size that ends within 30 s;
 *   --json one object a line: name, n, value, unit, bar (the figure to reach, or null), ok.
 *
 * A benchmark is a table of rows and a function that produces them; it asks bench_wants before it measures a
 * row and calls bench_report with the figure. Not thread-safe. */
#ifndef NUMBERD_LOADTEST_BENCH_H
#define NUMBERD_LOADTEST_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_bar { BENCH_NO_BAR, BENCH_AT_MOST, BENCH_AT_LEAST };

struct bench_row {
    const char *name;
    const char *unit;
    enum bench_bar kind;
    double bar;
    const char *about;
};

struct bench {
    const struct bench_row *rows;
    size_t row_count;
    const char *only; /* NULL: all */
    uint64_t n;       /* the size; 0: the benchmark's default */
    bool quick;
    bool json;
    unsigned failed;
};

/* -1 to go on, or the status with which to end. */
int bench_init(struct bench *bench, const char *about, const struct bench_row *rows, size_t row_count,
               int argc, char **argv);

bool bench_wants(const struct bench *bench, const char *name);

/* Prints the figure beside its bar. `n` is the size it was measured at. */
void bench_report(struct bench *bench, const char *name, uint64_t n, double value);

/* 0, or 1 when a figure missed its bar and the size was not the quick one, whose figures mean nothing. */
int bench_status(const struct bench *bench);

uint64_t bench_now_ns(void);

/* Sorts the values. */
double bench_median(double *values, size_t count);

_Noreturn void bench_fail(const char *what);

/* Ends the program with a line: a benchmark whose answers are wrong must not print figures. */
static inline void bench_assert(bool truth, const char *what)
{
    if (!truth)
        bench_fail(what);
}

#endif
