/* The layout of a table in memory, and where a number belongs in it. Private to hashing/: table.c writes it,
 * the lookup variants read it. What it all means, and why the reads are right, stands at the head of table.c.
 */
#ifndef NUMBERD_HASHING_LAYOUT_H
#define NUMBERD_HASHING_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/phone.h"
#include "hashing/table.h"

#define LAYOUT_MARK_BITS 6
#define LAYOUT_FLAG_BITS 8
#define LAYOUT_NUMBER_SHIFT (LAYOUT_MARK_BITS + LAYOUT_FLAG_BITS)
#define LAYOUT_MARK_MASK ((UINT64_C(1) << LAYOUT_MARK_BITS) - 1)
#define LAYOUT_FILTER_BITS UINT64_C(48)
#define LAYOUT_BLOCK_LINES (UINT64_C(1) << 15)

struct line {
    _Atomic uint64_t words[TABLE_SLOTS_PER_LINE];
};

static_assert(PHONE_KEY_BITS + LAYOUT_FLAG_BITS + LAYOUT_MARK_BITS == 64, "a word is full");
static_assert(LAYOUT_FILTER_BITS / LAYOUT_MARK_BITS == TABLE_SLOTS_PER_LINE,
              "the marks of a line are the filter");
static_assert(sizeof(struct line) == 64, "a line is one cache line");
static_assert(LAYOUT_BLOCK_LINES * sizeof(struct line) == 2u << 20, "a block is one huge page");

struct table {
    /* Constant after table_create. */
    struct line *lines;
    _Atomic uint64_t *accounts; /* NULL: a table without accounts */
    uint64_t line_count;
    uint64_t block_count; /* line_count = block_count * block_lines */
    uint64_t block_lines; /* at most LAYOUT_BLOCK_LINES */
    uint64_t seed;
    /* The writer's, read by readers; apart from the constants, which readers need all the time. */
    _Alignas(64) _Atomic uint64_t sequence;
    /* The writer's own. */
    size_t count;
    size_t stale_marks;
};

/* Maps 32 random bits to 0 .. n-1 by multiplication (Lemire, "A fast alternative to the modulo reduction").
 */
static inline uint64_t layout_reduce(uint64_t bits, uint64_t n)
{
    return (bits & UINT32_MAX) * n >> 32;
}

static inline uint64_t layout_home(const struct table *table, uint64_t hash)
{
    return layout_reduce(hash, table->line_count);
}

/* The alternate is in the home's block and differs from it, if the block has more than one line. */
static inline uint64_t layout_alternate(const struct table *table, uint64_t hash, uint64_t home)
{
    /* The home's block: the same 32 bits, reduced to fewer places. */
    uint64_t start = layout_reduce(hash, table->block_count) * table->block_lines;
    uint64_t place = layout_reduce(hash >> 20, table->block_lines);
    if (start + place == home)
        place = place + 1 == table->block_lines ? 0 : place + 1;
    return start + place;
}

/* The bit in the home line's filter that a number sets when it leaves: word bit / 6, mark bit bit % 6. */
static inline unsigned layout_filter_bit(uint64_t hash)
{
    return (unsigned)((hash >> 36 & 0xfff) * LAYOUT_FILTER_BITS >> 12);
}

static inline uint64_t layout_number(uint64_t word)
{
    return word >> LAYOUT_NUMBER_SHIFT;
}

static inline uint8_t layout_flags(uint64_t word)
{
    return (uint8_t)(word >> LAYOUT_MARK_BITS);
}

static inline uint64_t layout_word(uint64_t number, uint8_t flags, uint64_t mark)
{
    return number << LAYOUT_NUMBER_SHIFT | (uint64_t)flags << LAYOUT_MARK_BITS | mark;
}

#endif
