/* Ranks whose frequency falls with a power of them (Zipf): rank k comes with a probability in proportion to 1 / k^exponent.
 *
 * Source: rejection-inversion, Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", 1996. No table; 1.1 tries a rank or so. Plain data; any thread may draw with a state of its own. */
#ifndef NUMBERD_LOADTEST_LOAD_ZIPF_H
#define NUMBERD_LOADTEST_LOAD_ZIPF_H

#include <stdint.h>

struct load_zipf {
    double exponent;
    double count;
    double area_first; /* of the curve, up to the first rank's right edge, less its bar */
    double area_all;
    double shortcut;
};

/* `count` at least 1, `exponent` above 0. */
void load_zipf_init(struct load_zipf *zipf, uint64_t count, double exponent);

/* From 0 to count - 1, the most frequent first. */
uint64_t load_zipf_draw(const struct load_zipf *zipf, uint64_t *random);

#endif
