/* Latencies in log-linear buckets; see histogram.h. */
#include "histogram.h"

#include <math.h>
#include <string.h>

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

static uint64_t read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* One thread writes: no need for an atomic addition. */
static void add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, read(counter) + more, memory_order_relaxed);
}

static void raise(_Atomic uint64_t *counter, uint64_t value)
{
    if (value > read(counter))
        atomic_store_explicit(counter, value, memory_order_relaxed);
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    add(&histogram->counts[bucket_of(value_ns)], 1);
    add(&histogram->total, 1);
    raise(&histogram->max_ns, value_ns);
}

/* The total is summed anew: while another thread adds, a count read from it may be another moment's. */
void histogram_merge(struct histogram *into, const struct histogram *from)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t more = read(&from->counts[i]);
        add(&into->counts[i], more);
        total += more;
    }
    add(&into->total, total);
    raise(&into->max_ns, read(&from->max_ns));
}

void histogram_since(struct histogram *into, const struct histogram *from, const struct histogram *before)
{
    histogram_clear(into);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t more = read(&from->counts[i]) - read(&before->counts[i]);
        add(&into->counts[i], more);
        add(&into->total, more);
        if (more > 0)
            raise(&into->max_ns, bucket_end(i) < read(&from->max_ns) ? bucket_end(i) : read(&from->max_ns));
    }
}

void histogram_clear(struct histogram *histogram)
{
    memset(histogram, 0, sizeof *histogram);
}

void histogram_each(const struct histogram *histogram,
                    void (*visit)(void *context, uint64_t end_ns, uint64_t up_to), void *context)
{
    uint64_t up_to = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t here = read(&histogram->counts[i]);
        up_to += here;
        if (here > 0)
            visit(context,
                  bucket_end(i) < read(&histogram->max_ns) ? bucket_end(i) : read(&histogram->max_ns), up_to);
    }
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t rank = (uint64_t)ceil((double)read(&histogram->total) * percent / 100);
    uint64_t seen = 0;
    uint64_t max_ns = read(&histogram->max_ns);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && rank > 0; i++) {
        seen += read(&histogram->counts[i]);
        if (seen >= rank)
            return bucket_end(i) < max_ns ? bucket_end(i) : max_ns;
    }
    return max_ns;
}
