/* The lookup, and the look before an insert, without vector instructions: for every processor, and for ThreadSanitizer. */
#include <stdint.h>

#include "hashing/layout.h"

#define LOOKUP_MANY lookup_many_scalar
#define LOOKUP_ONE lookup_one_scalar
#define LOOKUP_ALIKE lookup_alike_scalar

static inline uint32_t match_line(const struct line *line, uint64_t number)
{
    uint32_t mask = 0;
    uint64_t wanted = number << LAYOUT_NUMBER_SHIFT;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t word = atomic_load_explicit(&line->words[i], memory_order_acquire);
        mask |= (uint32_t)((word & LAYOUT_SHOWN_MASK) == wanted) << i;
    }
    return mask;
}

#include "hashing/lookup_group.h"

/* Which of a line's slots hold the number (bits 0 to 7) or are empty (16 to 23). Acquire, so that what was stored before the word is
 * visible to whoever found it. */
static inline uint32_t look_at_line(const struct line *line, uint64_t number)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t found = layout_number(atomic_load_explicit(&line->words[i], memory_order_acquire));
        mask |= (uint32_t)(found == number) << i | (uint32_t)(found == 0) << (LAYOUT_EMPTY_SHIFT + i);
    }
    return mask;
}

uint32_t lookup_look_scalar(const struct line *home, const struct line *alternate, uint64_t number)
{
    return look_at_line(home, number) | look_at_line(alternate, number) << TABLE_SLOTS_PER_LINE;
}
