/* The seeded hash that tables and directory place numbers by: XXH3, 64 bits, inline since it is most of a
 * lookup's arithmetic. Private to hashing/ and to benchmarks that compare with the same hash. The top 16 bits
 * choose the shard, the others the place in it (table.c). */
#ifndef NUMBERD_HASHING_HASH_H
#define NUMBERD_HASHING_HASH_H

#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t hash_number(uint64_t number, uint64_t seed)
{
    return XXH3_64bits_withSeed(&number, sizeof number, seed);
}

#endif
