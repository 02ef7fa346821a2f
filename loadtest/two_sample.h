/* Whether two samples of times come from one distribution, as somebody would ask who wants to tell their classes apart.
 *
 * Three statistics: Kolmogorov-Smirnov's (the largest distance of the two distributions), Mann-Whitney's (the sum of
 * ranks, in standard deviations) and the difference of the means of the lower half of each, in the values'
 * unit. Each comes with its noise: the most that it was when the pooled values were dealt to two samples of the same
 * sizes by chance. That is the comparison of like with like; it assumes nothing about how the values are spread, or how
 * they depend on each other, if it was chance, too, that chose the class of each measurement. With P deals a statistic
 * of like samples is above its noise with probability 1 / (P + 1).
 *
 * Pure but for its memory, 12 bytes for each value; the time is that of sorting and some
 * 3 ns for each value and deal. */
#ifndef NUMBERD_LOADTEST_TWO_SAMPLE_H
#define NUMBERD_LOADTEST_TWO_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum two_sample_statistic {
    TWO_SAMPLE_DISTANCE, /* Kolmogorov-Smirnov */
    TWO_SAMPLE_RANKS,    /* Mann-Whitney */
    TWO_SAMPLE_SHIFT,    /* of the means of the lower halves */
    TWO_SAMPLE_STATISTICS
};

struct two_sample_result {
    double values[TWO_SAMPLE_STATISTICS]; /* ranks and shift have the sign of a - b */
    double noise[TWO_SAMPLE_STATISTICS];  /* the most of their absolute values by chance */
};

/* Compares a with b; sorts both. False when memory is short. */
bool two_sample_compare(uint32_t *a, size_t a_count, uint32_t *b, size_t b_count, unsigned deals,
                        uint64_t seed, struct two_sample_result *result);

/* The most that any of the statistics is, over its noise: above 1 there is a difference. */
double two_sample_over_noise(const struct two_sample_result *result);

/* Mean of the lower half of sorted values. */
double two_sample_trimmed_mean(const uint32_t *sorted, size_t count);

#endif
