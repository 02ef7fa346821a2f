/* A load from second to second; see load_watch.h. */
#include "load_watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEAR "\r\033[K"

void load_watch_init(struct load_watch *watch, uint64_t count_from_ns, uint64_t length_seconds)
{
    *watch = (struct load_watch){.is_shown = isatty(STDERR_FILENO) == 1,
                                 .count_from_ns = count_from_ns,
                                 .length_seconds = length_seconds,
                                 .last_ns = count_from_ns};
}

static void append(struct load_report *report, const struct load_second *second)
{
    if (report->timeline_length == report->timeline_capacity) {
        uint64_t capacity = report->timeline_capacity == 0 ? 64 : 2 * report->timeline_capacity;
        struct load_second *grown = realloc(report->timeline, capacity * sizeof *grown);
        if (grown == NULL)
            return; /* the sums are what counts */
        report->timeline = grown;
        report->timeline_capacity = capacity;
    }
    report->timeline[report->timeline_length++] = *second;
}

static void show(const struct load_watch *watch, const struct load_second *second,
                 const struct load_record *now)
{
    fprintf(stderr, CLEAR "%.0f", second->seconds);
    if (watch->length_seconds > 0)
        fprintf(stderr, " of %" PRIu64, watch->length_seconds);
    fprintf(stderr, " s: %.0f numbers/s; p50 %.3f ms, p99 %.3f ms, max %.3f ms; %" PRIu64 " wrong",
            second->numbers_per_second, (double)second->p50_ns / 1e6, (double)second->p99_ns / 1e6,
            (double)second->max_ns / 1e6, load_record_count(now, LOAD_WRONG));
}

void load_watch_look(struct load_watch *watch, const struct load_record *now, uint64_t now_ns,
                     struct load_report *report)
{
    if (now_ns <= watch->last_ns) {
        if (watch->is_shown)
            fprintf(stderr, CLEAR "warming up");
        return;
    }
    uint64_t numbers = load_record_count(now, LOAD_NUMBERS);
    histogram_since(&watch->second, &now->latency, &watch->last);
    struct load_second second = {.seconds = (double)(now_ns - watch->count_from_ns) / 1e9,
                                 .numbers_per_second = (double)(numbers - watch->last_numbers) /
                                                       ((double)(now_ns - watch->last_ns) / 1e9),
                                 .p50_ns = histogram_percentile(&watch->second, 50),
                                 .p99_ns = histogram_percentile(&watch->second, 99),
                                 .max_ns = histogram_percentile(&watch->second, 100)};
    append(report, &second);
    if (watch->is_shown)
        show(watch, &second, now);
    histogram_clear(&watch->last);
    histogram_merge(&watch->last, &now->latency);
    watch->last_ns = now_ns;
    watch->last_numbers = numbers;
}

void load_watch_end(const struct load_watch *watch)
{
    if (watch->is_shown)
        fprintf(stderr, CLEAR);
}
