/* The lookup with AVX2: a line is two registers. */
#include <immintrin.h>
#include <stdint.h>

#include "hashing/layout.h"

#define LOOKUP_MANY lookup_many_avx2
#define LOOKUP_ONE lookup_one_avx2
#define LOOKUP_ALIKE lookup_alike_avx2

static inline uint32_t match_half(const void *half, __m256i wanted)
{
    __m256i shown =
        _mm256_and_si256(_mm256_load_si256(half), _mm256_set1_epi64x((long long)LAYOUT_SHOWN_MASK));
    return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(shown, wanted)));
}

static inline uint32_t match_line(const struct line *line, uint64_t number)
{
    uint64_t shifted = number << LAYOUT_NUMBER_SHIFT;
    __m256i wanted = _mm256_set1_epi64x((long long)shifted);
    uint32_t mask = match_half(&line->words[0], wanted) | match_half(&line->words[4], wanted) << 4;
    atomic_signal_fence(memory_order_acquire); /* x86 orders loads; the compiler must, too */
    return mask;
}

#include "hashing/lookup_group.h"
