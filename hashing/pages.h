/* Zeroed memory for tables: own mappings, on huge pages where the system gives them.
 *
 * From 2 MiB on, a mapping starts at a multiple of 2 MiB and asks for transparent huge pages (THP `always`
 * and `madvise` both heed that); its last part below 2 MiB stays on small pages, so nothing is rounded up.
 * Smaller requests come from the C library. With THP `never` or on a kernel without it all are small pages:
 * slower, never a failure. pages_huge_bytes tells what was really got.
 *
 * Any thread. Allocation may block in the kernel while it clears pages; touching is what takes the time. */
#ifndef NUMBERD_HASHING_PAGES_H
#define NUMBERD_HASHING_PAGES_H

#include <stddef.h>

#define PAGES_HUGE_BYTES ((size_t)2 << 20)

/* Zeroed, 64-byte aligned; NULL when memory is short. Give it back with the same size. */
void *pages_allocate(size_t bytes);
void pages_free(void *memory, size_t bytes);

/* Bytes of this process's memory that lie on huge pages now, from /proc/self/smaps_rollup; 0 if that is
 * unreadable. Takes milliseconds: for benchmarks and rare reports. */
size_t pages_huge_bytes(void);

#endif
