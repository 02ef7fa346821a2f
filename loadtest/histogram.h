/* Latencies in nanoseconds, counted in log-linear buckets: 64 to each power of two, so that a percentile is right
 * within 1.6 %. Source of the idea: Gil Tene's HdrHistogram. Plain data, one thread at a time; merge to sum up. */
#ifndef NUMBERD_LOADTEST_HISTOGRAM_H
#define NUMBERD_LOADTEST_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The value below or at which `percent` of all lie (its bucket's upper end); 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
