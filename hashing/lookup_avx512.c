/* The lookup with AVX-512: a line is one register, the comparison one instruction. */
#include <immintrin.h>
#include <stdint.h>

#include "hashing/layout.h"

#define LOOKUP_NAME lookup_group_avx512

static inline uint32_t match_line(const struct line *line, uint64_t number)
{
    __m512i words = _mm512_load_si512((const void *)line);
    atomic_signal_fence(memory_order_acquire); /* x86 orders loads; the compiler must, too */
    __m512i numbers = _mm512_srli_epi64(words, LAYOUT_NUMBER_SHIFT);
    return _mm512_cmpeq_epi64_mask(numbers, _mm512_set1_epi64((long long)number));
}

#include "hashing/lookup_group.h"
