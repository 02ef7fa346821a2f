/* jemalloc's figures; see allocator.h. */
#include "server/allocator.h"

#ifdef HAVE_JEMALLOC
#include <jemalloc/jemalloc.h>

static uint64_t figure(const char *name)
{
    size_t value = 0;
    size_t length = sizeof value;
    return mallctl(name, &value, &length, NULL, 0) == 0 ? value : 0;
}

void allocator_read(struct stats_allocator *figures)
{
    uint64_t epoch = 1;
    size_t length = sizeof epoch;
    /* The figures are those of the last epoch; this begins one. */
    figures->is_known = mallctl("epoch", &epoch, &length, &epoch, sizeof epoch) == 0;
    figures->allocated_bytes = figure("stats.allocated");
    figures->active_bytes = figure("stats.active");
    figures->resident_bytes = figure("stats.resident");
    figures->retained_bytes = figure("stats.retained");
}
#else
void allocator_read(struct stats_allocator *figures)
{
    *figures = (struct stats_allocator){0};
}
#endif
