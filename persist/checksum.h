/* XXH3-64 of whole blocks, by the vector instructions that the processor has: on x86 the library chooses them at run time, but only if it is
 * asked by its other names. (64 KiB in the cache: 5 GB/s by XXH3_64bits, which has to do with SSE2.) */
#ifndef NUMBERD_PERSIST_CHECKSUM_H
#define NUMBERD_PERSIST_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

static inline uint64_t checksum_of(const void *bytes, size_t length)
{
    return XXH3_64bits(bytes, length); /* a macro for the other name */
}

static inline uint64_t checksum_of_with(const void *bytes, size_t length, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, length, seed);
}

#endif
