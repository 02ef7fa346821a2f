/* Zipf's ranks; see load_zipf.h. */
#include "load_zipf.h"

#include <math.h>

#include "load_random.h"

/* The integral of x^-exponent from 1, in a form that also holds where the exponent is 1. */
static double area(const struct load_zipf *zipf, double x)
{
    double log_x = log(x);
    double scaled = (1 - zipf->exponent) * log_x;
    return fabs(scaled) < 1e-8 ? log_x * (1 + scaled / 2) : log_x * expm1(scaled) / scaled;
}

static double area_inverse(const struct load_zipf *zipf, double value)
{
    double scaled = value * (1 - zipf->exponent);
    if (scaled < -1)
        scaled = -1; /* rounding, at the far end */
    return fabs(scaled) < 1e-8 ? exp(value * (1 - scaled / 2)) : exp(value * log1p(scaled) / scaled);
}

static double height(const struct load_zipf *zipf, double x)
{
    return exp(-zipf->exponent * log(x));
}

void load_zipf_init(struct load_zipf *zipf, uint64_t count, double exponent)
{
    *zipf = (struct load_zipf){.exponent = exponent, .count = (double)count};
    zipf->area_first = area(zipf, 1.5) - 1;
    zipf->area_all = area(zipf, (double)count + 0.5);
    zipf->shortcut = 2 - area_inverse(zipf, area(zipf, 2.5) - height(zipf, 2));
}

uint64_t load_zipf_draw(const struct load_zipf *zipf, uint64_t *random)
{
    for (;;) { /* ends with probability 1, and as a rule at once: a try is taken with more than 0.8 */
        double at = zipf->area_all + load_random_real(random) * (zipf->area_first - zipf->area_all);
        double x = area_inverse(zipf, at);
        double rank = floor(x + 0.5);
        rank = rank < 1 ? 1 : rank > zipf->count ? zipf->count : rank;
        if (rank - x <= zipf->shortcut || at >= area(zipf, rank + 0.5) - height(zipf, rank))
            return (uint64_t)rank - 1;
    }
}
