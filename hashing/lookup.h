/* The batch lookup over shards, in variants for the processors' vector units. Private to hashing/.
 *
 * All variants give the same answers; lookup_choose picks the fastest that this processor has, or the one
 * named by the environment variable NUMBERD_LOOKUP (scalar, avx2, avx512, neon), for tests and comparisons.
 * Under ThreadSanitizer only the scalar one exists: it knows no vector loads of atomics.
 *
 * Steps for a group of up to LOOKUP_GROUP numbers:
 *   1. check, hash, find the shard's table, start the read of the home line (prefetch)
 *   2. look into each home line: one vector comparison; those whose number may have spilled, or whose shard
 * was changed meanwhile, go on a list, and the read of their alternate line is started
 *   3. look at the list again, both lines now near
 * Steps 1 and 2 have no branch that depends on the data, but for invalid numbers.
 *
 * Reads of a line by vector loads: x86 and ARM load each aligned 8-byte lane whole; that a line as a whole is
 * not loaded at one moment does not matter, since a hit needs one word only and a miss is checked by the
 * sequence. On x86 every load is an acquire; on ARM the variant loads with a barrier behind it. */
#ifndef NUMBERD_HASHING_LOOKUP_H
#define NUMBERD_HASHING_LOOKUP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/table.h"

/* In the range that a prototype of this layout found best (64 to 128); not yet tuned for this code. */
#define LOOKUP_GROUP 128

struct shard {
    _Alignas(64) _Atomic(struct table *) table;
    /* For the statistics; written under the lock. */
    _Atomic uint64_t records;
    _Atomic uint64_t slots;
    _Atomic uint64_t bytes;
    _Atomic uint64_t rebuilds;
    _Alignas(64) pthread_mutex_t writer;
};

/* What a lookup has to know of the directory. */
struct lookup_view {
    struct shard *shards;
    unsigned shard_shift; /* hash >> shard_shift is the shard; 63 with shard_mask 0 for a single one */
    uint64_t shard_mask;
    uint64_t seed;
};

/* Answers up to LOOKUP_GROUP numbers, inside a reader's section. */
typedef void lookup_group_function(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                                   uint8_t *answers);

lookup_group_function lookup_group_scalar;
lookup_group_function lookup_group_avx2;
lookup_group_function lookup_group_avx512;
lookup_group_function lookup_group_neon;

/* The variant for this processor; `*name` (may be NULL) says which. */
lookup_group_function *lookup_choose(const char **name);

#endif
