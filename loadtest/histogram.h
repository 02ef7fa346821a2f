/* Latencies in nanoseconds, counted in log-linear buckets: 64 to each power of two, so that a percentile is right
 * within 1.6 %. Source of the idea: Gil Tene's HdrHistogram.
 *
 * Threads: one adds; others may read meanwhile (merge from it), and see each bucket as it was at some moment then: relaxed atomics, which
 * cost nothing here. All else: one thread at a time. */
#ifndef NUMBERD_LOADTEST_HISTOGRAM_H
#define NUMBERD_LOADTEST_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t total;
    _Atomic uint64_t max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* What has come since `before`, which is an earlier state of `from`. The largest value is known as its bucket's upper end. */
void histogram_since(struct histogram *into, const struct histogram *from, const struct histogram *before);
void histogram_clear(struct histogram *histogram);

/* Walks the buckets that hold something: their upper end, and how many lie in them and below. */
void histogram_each(const struct histogram *histogram,
                    void (*visit)(void *context, uint64_t end_ns, uint64_t up_to), void *context);

/* The value below or at which `percent` of all lie (its bucket's upper end); 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
