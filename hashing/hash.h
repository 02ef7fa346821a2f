/* The seeded hash that tables and directory place numbers by: XXH3, 64 bits, inline since it is most of a
 * lookup's arithmetic. Private to hashing/ and to benchmarks that compare with the same hash. The topmost
 * 12 bits at most choose the shard, the others the place in it (table.c). */
#ifndef NUMBERD_HASHING_HASH_H
#define NUMBERD_HASHING_HASH_H

#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t hash_number(uint64_t number, uint64_t seed)
{
    return XXH3_64bits_withSeed(&number, sizeof number, seed);
}

/* What hash_flipped needs of the seed. */
static inline uint64_t hash_flip(uint64_t seed)
{
    /* Bytes 8 to 23 of XXH3's secret. */
    uint64_t secret = UINT64_C(0x1cad21f72c81017c) ^ UINT64_C(0xdb979083e96dd4de);
    return secret - (seed ^ (uint64_t)__builtin_bswap32((uint32_t)seed) << 32);
}

#define HASH_MULTIPLIER UINT64_C(0x9fb21c651e98df25)

/* hash_number with the seed's part of the work done once: XXH3 for eight bytes, as the library defines it (xxhash.h,
 * XXH3_len_4to8_64b and XXH3_rrmxmx). For the lookup's inner loops, where it saves six instructions of about 75, and
 * as the pattern of the one for eight numbers in lookup_avx512.c. test_hash holds it to the library. */
static inline uint64_t hash_flipped(uint64_t number, uint64_t flip)
{
    uint64_t hash = (number << 32 | number >> 32) ^ flip;
    hash ^= (hash << 49 | hash >> 15) ^ (hash << 24 | hash >> 40);
    hash *= HASH_MULTIPLIER;
    hash ^= (hash >> 35) + sizeof number;
    hash *= HASH_MULTIPLIER;
    return hash ^ hash >> 28;
}

#endif
