/* What jemalloc says of the process's memory. For the mains alone, which are linked with it, but for the builds whose allocator is
 * a sanitizer's or the C library's: there it says nothing. */
#ifndef NUMBERD_SERVER_ALLOCATOR_H
#define NUMBERD_SERVER_ALLOCATOR_H

#include "server/stats.h"

/* From any thread; some tens of microseconds. */
void allocator_read(struct stats_allocator *figures);

#endif
