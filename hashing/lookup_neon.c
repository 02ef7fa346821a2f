/* The lookup with NEON: a line is four registers. */
#include <arm_neon.h>
#include <stdint.h>

#include "hashing/layout.h"

#define LOOKUP_MANY lookup_many_neon
#define LOOKUP_ONE lookup_one_neon
#define LOOKUP_ALIKE lookup_alike_neon

static inline uint32_t match_line(const struct line *line, uint64_t number)
{
    const uint64_t *words = (const uint64_t *)(const void *)line;
    uint64x2_t wanted = vdupq_n_u64(number << LAYOUT_NUMBER_SHIFT);
    uint64x2_t shown = vdupq_n_u64(LAYOUT_SHOWN_MASK);
    uint32_t mask = 0;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i += 2) {
        uint64x2_t equal = vceqq_u64(vandq_u64(vld1q_u64(words + i), shown), wanted);
        mask |= (uint32_t)(vgetq_lane_u64(equal, 0) & 1) << i | (uint32_t)(vgetq_lane_u64(equal, 1) & 2) << i;
    }
    /* Later loads, of the mark and of `moves`, must not be done before these. */
    __asm__ volatile("dmb ishld" ::: "memory");
    return mask;
}

#include "hashing/lookup_group.h"
