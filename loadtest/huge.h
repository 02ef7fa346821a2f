/* Large zeroed memory on huge pages, for the benchmarks' own arrays and for the peers they compare with.
 * Any thread. */
#ifndef NUMBERD_LOADTEST_HUGE_H
#define NUMBERD_LOADTEST_HUGE_H

#include <stddef.h>

/* Zeroed, aligned to 2 MiB; NULL when memory is short. Give it back with the same size. */
void *huge_allocate(size_t bytes);
void huge_free(void *memory, size_t bytes);

#endif
