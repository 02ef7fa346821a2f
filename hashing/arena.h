/* The arena: memory for the tables of one directory, on huge pages where the system gives them.
 *
 * Address space for much more than the machine's memory is reserved once; extents are taken from its front, one
 * right behind the other, and memory goes back to the system as soon as an extent is given back, or soon after that. Tables are
 * rebuilt in turn (directory.c), so what is given back is mostly the oldest: whole granules of 2 MiB empty from
 * behind, and at the end of the reservation the front goes on in the empty ones. Nothing is rounded up to huge
 * pages, so even shards far below 2 MiB lie on them, side by side.
 *
 * As long as pages are small, what was given back last is kept, as much as two extents, or a MiB of an arena below 8, and the next one is
 * taken of it if it has room: the system's part of taking and giving (to clear a page, and to have all processors forget it) is much of what a
 * small table costs. (Registrations from 0 to 3 million, in turn with an arena that keeps nothing: 0.94 M/s against 0.77 with two
 * neighbouring extents kept; as it is against that: 0.97 to 0.83 in another hour; medians of 5.)
 *
 * Huge pages are asked for (MADV_HUGEPAGE, which THP `always` and `madvise` heed) once the arena holds
 * ARENA_HUGE_FROM bytes, and from the beginning if its creator expects ARENA_HUGE_EXPECTED bytes.
 * Otherwise small pages: then they cost few translations, and the partly filled huge pages at both ends of what is in use
 * would be a notable share of the memory. With THP `never`, or when no huge page is to be had, all are small: slower,
 * never a failure. arena_huge_bytes tells what was really got.
 *
 * Any thread; take and give lock, and may wait for the kernel while it clears or frees pages.
 * Memory: 8 bytes for each 2 MiB of address space, 2 for each page that was ever in use. Where address space is limited
 * (RLIMIT_AS), as much as can be had is reserved.
 *
 *     struct arena *arena = arena_create(expected_bytes);
 *     void *extent = arena_take(arena, bytes);    zeroed
 *     arena_give(arena, extent, bytes);
 *     arena_destroy(arena);
 */
#ifndef NUMBERD_HASHING_ARENA_H
#define NUMBERD_HASHING_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#define ARENA_GRANULE ((size_t)2 << 20)
#define ARENA_ALIGNMENT ((size_t)64)
/* The reservation's limit, a power of two: layout.h counts its lines in 34 bits. */
#define ARENA_BYTES_MAX ((size_t)1 << 40)
#define ARENA_HUGE_FROM ((size_t)256 << 20)
#define ARENA_HUGE_EXPECTED ((size_t)32 << 20)

struct arena;

/* NULL when memory or address space is short. */
struct arena *arena_create(size_t expected_bytes);
/* Everything taken goes with it. */
void arena_destroy(struct arena *arena);

/* Zeroed, aligned to ARENA_ALIGNMENT; NULL when memory or room is short. Give it back with the same size. */
void *arena_take(struct arena *arena, size_t bytes);
void arena_give(struct arena *arena, void *extent, size_t bytes);

/* Has the system provide the extent's memory now rather than when it is first touched. False when there is not enough; the
 * extent stays as it was. Kernels before 5.14 cannot: true, and the memory comes as usual. */
bool arena_populate(void *extent, size_t bytes);

/* Where the reservation begins: constant. */
void *arena_base(const struct arena *arena);

/* Bytes of this process's memory that lie on huge pages now, from /proc/self/smaps_rollup; 0 if that is
 * unreadable. May take milliseconds: for benchmarks and the stats port. */
size_t arena_huge_bytes(void);

#endif
