/* Latencies in log-linear buckets; see histogram.h. */
#include "histogram.h"

#include <math.h>

#define SUB_COUNT (1u << HISTOGRAM_SUB_BITS)

/* Values below 64 have a bucket each; above, the six bits behind the leading one choose. */
static unsigned bucket_of(uint64_t value)
{
    if (value < SUB_COUNT)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return ((shift + 1) << HISTOGRAM_SUB_BITS) + (unsigned)((value >> shift) & (SUB_COUNT - 1));
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < SUB_COUNT)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t start = (uint64_t)(SUB_COUNT + (bucket & (SUB_COUNT - 1))) << shift;
    return start + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    histogram->counts[bucket_of(value_ns)]++;
    histogram->total++;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t rank = (uint64_t)ceil((double)histogram->total * percent / 100);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && rank > 0; i++) {
        seen += histogram->counts[i];
        if (seen >= rank)
            return bucket_end(i) < histogram->max_ns ? bucket_end(i) : histogram->max_ns;
    }
    return histogram->max_ns;
}
