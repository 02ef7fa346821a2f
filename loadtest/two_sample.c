/* Whether two samples come from one distribution; see two_sample.h. */
#include "two_sample.h"

#include <math.h>
#include <stdlib.h>

/* Equal values of both samples: `a` of `all` are of the first. */
struct tie {
    uint32_t value;
    uint32_t all;
    uint32_t a;
};

struct pool {
    struct tie *ties; /* by value */
    size_t tie_count;
    size_t a_count;
    size_t b_count;
    double ranks_deviation; /* of the sum of a's ranks by chance */
};

/* The longer half is the machine's: sleeps, interrupts, and who else had the processor. A mean with it in is many times
 * as uncertain. */
static size_t kept_of(size_t count)
{
    return count - count / 2;
}

double two_sample_trimmed_mean(const uint32_t *sorted, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < kept_of(count); i++)
        sum += sorted[i];
    return sum / (double)kept_of(count);
}

static int by_value(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* The ties of both, sorted, into pool->ties. */
static void merge(struct pool *pool, const uint32_t *a, const uint32_t *b)
{
    size_t i = 0;
    size_t j = 0;
    while (i < pool->a_count || j < pool->b_count) {
        uint32_t value = i < pool->a_count && (j == pool->b_count || a[i] <= b[j]) ? a[i] : b[j];
        size_t first_i = i;
        size_t first_j = j;
        while (i < pool->a_count && a[i] == value)
            i++;
        while (j < pool->b_count && b[j] == value)
            j++;
        pool->ties[pool->tie_count++] = (struct tie){
            .value = value, .all = (uint32_t)(i - first_i + j - first_j), .a = (uint32_t)(i - first_i)};
    }
}

/* The variance of a rank sum, with the correction for ties. */
static double ranks_deviation(const struct pool *pool)
{
    double n = (double)(pool->a_count + pool->b_count);
    double tied = 0;
    for (size_t i = 0; i < pool->tie_count; i++) {
        double all = pool->ties[i].all;
        tied += all * all * all - all;
    }
    return sqrt((double)pool->a_count * (double)pool->b_count / 12 * (n + 1 - tied / (n * (n - 1))));
}

/* What a walk through the ties, from the lowest value, gathers. */
struct walk {
    size_t a;
    size_t b;
    double distance;
    double ranks; /* sum of a's */
    double sum_a; /* of the lower half */
    double sum_b;
};

/* How many of the next `more` of a sample, behind `before`, are of its lower half. */
static size_t kept_now(size_t before, size_t more, size_t count)
{
    size_t room = before < kept_of(count) ? kept_of(count) - before : 0;
    return more < room ? more : room;
}

static void step(const struct pool *pool, struct walk *walk, uint32_t value, uint32_t all, uint32_t a)
{
    uint32_t b = all - a;
    walk->sum_a += (double)value * (double)kept_now(walk->a, a, pool->a_count);
    walk->sum_b += (double)value * (double)kept_now(walk->b, b, pool->b_count);
    walk->ranks += a * ((double)(walk->a + walk->b) + (all + 1) / 2.0);
    walk->a += a;
    walk->b += b;
    double distance = fabs((double)walk->a / (double)pool->a_count - (double)walk->b / (double)pool->b_count);
    walk->distance = fmax(walk->distance, distance);
}

static void conclude(const struct pool *pool, const struct walk *walk, double values[TWO_SAMPLE_STATISTICS])
{
    double expected = (double)pool->a_count * (double)(pool->a_count + pool->b_count + 1) / 2;
    values[TWO_SAMPLE_DISTANCE] = walk->distance;
    values[TWO_SAMPLE_RANKS] =
        pool->ranks_deviation > 0 ? (walk->ranks - expected) / pool->ranks_deviation : 0;
    values[TWO_SAMPLE_SHIFT] =
        walk->sum_a / (double)kept_of(pool->a_count) - walk->sum_b / (double)kept_of(pool->b_count);
}

/* Marsaglia's xorshift64; the upper half. */
static uint32_t draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

/* Deals the pooled values: of those left each is a's with the share that a still lacks. */
static void deal(const struct pool *pool, uint64_t *random, double values[TWO_SAMPLE_STATISTICS])
{
    struct walk walk = {0};
    uint64_t left = pool->a_count + pool->b_count;
    uint64_t lacking = pool->a_count;
    for (size_t i = 0; i < pool->tie_count; i++) {
        uint64_t before = lacking;
        for (uint32_t j = 0; j < pool->ties[i].all; j++, left--)
            lacking -= (draw(random) * left >> 32) < lacking;
        step(pool, &walk, pool->ties[i].value, pool->ties[i].all, (uint32_t)(before - lacking));
    }
    conclude(pool, &walk, values);
}

bool two_sample_compare(uint32_t *a, size_t a_count, uint32_t *b, size_t b_count, unsigned deals,
                        uint64_t seed, struct two_sample_result *result)
{
    struct pool pool = {.a_count = a_count, .b_count = b_count};
    struct walk walk = {0};
    uint64_t random = seed | 1;
    pool.ties = malloc((a_count + b_count) * sizeof *pool.ties);
    if (pool.ties == NULL)
        return false;
    qsort(a, a_count, sizeof *a, by_value);
    qsort(b, b_count, sizeof *b, by_value);
    merge(&pool, a, b);
    pool.ranks_deviation = ranks_deviation(&pool);
    *result = (struct two_sample_result){0};
    for (size_t i = 0; i < pool.tie_count; i++)
        step(&pool, &walk, pool.ties[i].value, pool.ties[i].all, pool.ties[i].a);
    conclude(&pool, &walk, result->values);
    for (unsigned i = 0; i < deals; i++) {
        double values[TWO_SAMPLE_STATISTICS];
        deal(&pool, &random, values);
        for (unsigned j = 0; j < TWO_SAMPLE_STATISTICS; j++)
            result->noise[j] = fmax(result->noise[j], fabs(values[j]));
    }
    free(pool.ties);
    return true;
}

double two_sample_over_noise(const struct two_sample_result *result)
{
    double most = 0;
    for (unsigned i = 0; i < TWO_SAMPLE_STATISTICS; i++)
        if (result->noise[i] > 0)
            most = fmax(most, fabs(result->values[i]) / result->noise[i]);
    return most;
}
