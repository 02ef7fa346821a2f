/* What all benchmarks share; see bench.h. */
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

static void list_rows(const struct bench_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%-28s %s\n", rows[i].name, rows[i].about);
}

static int mistake(const char *program, const char *what)
{
    fprintf(stderr, "%s: %s; --help lists the options\n", program, what);
    return EX_USAGE;
}

static bool parse_size(const char *text, uint64_t *n)
{
    char *end;
    errno = 0;
    *n = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *n > 0;
}

int bench_init(struct bench *bench, const char *about, const struct bench_row *rows, size_t row_count,
               int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"list", no_argument, NULL, 'l'},
                                            {"only", required_argument, NULL, 'o'},
                                            {"n", required_argument, NULL, 'n'},
                                            {"quick", no_argument, NULL, 'q'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    *bench = (struct bench){.rows = rows, .row_count = row_count};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'j':
            bench->json = true;
            break;
        case 'q':
            bench->quick = true;
            break;
        case 'l':
            list_rows(rows, row_count);
            return EX_OK;
        case 'o':
            bench->only = optarg;
            break;
        case 'n':
            if (!parse_size(optarg, &bench->n))
                return mistake(argv[0], "--n must be a positive integer");
            break;
        case 'h':
            printf("%s\n\nusage: %s [--json] [--list] [--only NAME] [--n N] [--quick]\n\n", about, argv[0]);
            list_rows(rows, row_count);
            return EX_OK;
        default:
            return EX_USAGE;
        }
    }
    if (optind < argc)
        return mistake(argv[0], "no arguments are taken");
    bool known = false;
    for (size_t i = 0; !known && i < row_count; i++)
        known = bench_wants(bench, rows[i].name);
    return known ? -1 : mistake(argv[0], "--only: there is no such row");
}

bool bench_wants(const struct bench *bench, const char *name)
{
    if (bench->only == NULL)
        return true;
    size_t length = strlen(bench->only);
    return strncmp(bench->only, name, length) == 0 && (name[length] == '\0' || name[length] == '_');
}

void bench_report(struct bench *bench, const char *name, uint64_t n, double value)
{
    const struct bench_row *row = bench->rows;
    while (strcmp(row->name, name) != 0)
        row++;
    if (!bench_wants(bench, name))
        return;
    bool ok =
        row->kind == BENCH_NO_BAR || (row->kind == BENCH_AT_MOST ? value <= row->bar : value >= row->bar);
    bench->failed += !ok;
    if (bench->json) {
        char bar[32] = "null";
        if (row->kind != BENCH_NO_BAR)
            snprintf(bar, sizeof bar, "%g", row->bar);
        printf("{\"name\":\"%s\",\"n\":%" PRIu64 ",\"value\":%.6g,\"unit\":\"%s\",\"bar\":%s,\"ok\":%s}\n",
               name, n, value, row->unit, bar, ok ? "true" : "false");
    } else {
        printf("%-28s %14.4g %-18s", name, value, row->unit);
        if (row->kind != BENCH_NO_BAR)
            printf(" %s %-6g %s", row->kind == BENCH_AT_MOST ? "<=" : ">=", row->bar,
                   bench->quick ? "(not at this size)"
                   : ok         ? "ok"
                                : "MISSED");
        printf("   n=%" PRIu64 "\n", n);
    }
    fflush(stdout);
}

int bench_status(const struct bench *bench)
{
    return bench->failed > 0 && !bench->quick ? 1 : 0;
}

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return left < right ? -1 : left > right;
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
    return values[count / 2];
}

_Noreturn void bench_fail(const char *what)
{
    fprintf(stderr, "benchmark: %s\n", what);
    exit(EX_SOFTWARE);
}
