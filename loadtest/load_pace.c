/* When and how much is asked; see load_pace.h. */
#include "load_pace.h"

#include <math.h>

#include "load_random.h"

void load_pace_init(struct load_pace *pace, const struct load_options *options, unsigned number)
{
    *pace = (struct load_pace){.options = options, .random = options->seed * 1000 + number};
    if (options->rate > 0)
        pace->ns_per_number = 1e9 * (double)options->threads / (double)options->rate;
}

uint16_t load_pace_count(struct load_pace *pace)
{
    static const struct {
        double up_to; /* of the requests */
        double around;
    } books[] = {{0.7, 50}, {0.95, 500}, {0.995, 5000}, {1, 25000}};
    if (!pace->options->books)
        return (uint16_t)pace->options->batch;
    double which = load_random_real(&pace->random);
    unsigned i = 0;
    while (which >= books[i].up_to)
        i++;
    return (uint16_t)(books[i].around * (0.5 + load_random_real(&pace->random)));
}

bool load_pace_registers(struct load_pace *pace)
{
    return pace->options->register_ratio > 0 &&
           load_random_real(&pace->random) < pace->options->register_ratio;
}

void load_pace_advance(struct load_pace *pace, uint16_t count)
{
    double wait_ns = pace->ns_per_number * count;
    /* Poisson: the waits between two are exponential. */
    pace->due_ns += pace->options->poisson ? -log(1 - load_random_real(&pace->random)) * wait_ns : wait_ns;
}
