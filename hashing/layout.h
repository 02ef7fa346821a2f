/* The layout of a table in memory, and where a number belongs in it. Private to hashing/: table.c writes it,
 * the lookup variants read it. What it all means, and why the reads are right, stands at the head of table.c.
 */
#ifndef NUMBERD_HASHING_LAYOUT_H
#define NUMBERD_HASHING_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/arena.h"
#include "hashing/phone.h"
#include "hashing/table.h"

#define LAYOUT_MARK_BITS 6
#define LAYOUT_FLAG_BITS 8
#define LAYOUT_NUMBER_SHIFT (LAYOUT_MARK_BITS + LAYOUT_FLAG_BITS)
#define LAYOUT_MARK_MASK ((UINT64_C(1) << LAYOUT_MARK_BITS) - 1)
/* What a lookup compares: the number, and that its account is not hidden. */
#define LAYOUT_SHOWN_MASK                                                                                    \
    (UINT64_MAX << LAYOUT_NUMBER_SHIFT | (uint64_t)RECORD_FLAG_HIDDEN << LAYOUT_MARK_BITS)
#define LAYOUT_BLOCK_LINES (UINT64_C(1) << 15)
/* A placement: the arena's line where the table begins, and how many lines it has. */
#define LAYOUT_COUNT_BITS 30
#define LAYOUT_COUNT_MASK ((UINT64_C(1) << LAYOUT_COUNT_BITS) - 1)

/* Where a hash names its mark: three bits for the word, ten for the bit in it. */
#define LAYOUT_MARK_WORD_SHIFT 36
#define LAYOUT_MARK_BIT_SHIFT 39
#define LAYOUT_MARK_BIT_BITS 10
#define LAYOUT_MARK_BIT_MASK ((UINT64_C(1) << LAYOUT_MARK_BIT_BITS) - 1)

/* Of table_look_function: 16 bits for found, 16 for empty. */
#define LAYOUT_FOUND_MASK UINT32_C(0xffff)
#define LAYOUT_EMPTY_SHIFT 16

struct line {
    _Atomic uint64_t words[TABLE_SLOTS_PER_LINE];
};

static_assert(PHONE_KEY_BITS + LAYOUT_FLAG_BITS + LAYOUT_MARK_BITS == 64, "a word is full");
static_assert(LAYOUT_MARK_BITS * TABLE_SLOTS_PER_LINE == 48, "the marks of a line are a filter of 48 bits");
static_assert(sizeof(struct line) == ARENA_ALIGNMENT, "a line is one cache line");
static_assert(LAYOUT_BLOCK_LINES * sizeof(struct line) == ARENA_GRANULE, "a block is one huge page");
static_assert(ARENA_BYTES_MAX / sizeof(struct line) <= UINT64_C(1) << (64 - LAYOUT_COUNT_BITS),
              "a placement can name each of the arena's lines");
static_assert(TABLE_SLOTS_MAX / TABLE_SLOTS_PER_LINE <= LAYOUT_COUNT_MASK, "and each size of a table");

struct table {
    /* Constant after table_create. */
    struct arena *arena;
    struct line *lines;         /* the extent; behind the lines lie the accounts */
    _Atomic uint64_t *accounts; /* NULL: a table without accounts */
    uint64_t line_count;
    uint64_t flip; /* hash_flip of the seed */
    table_look_function *look;
    /* The writer's, read by readers; apart from the constants. */
    _Alignas(64) _Atomic uint64_t sequence;
    /* The writer's own. */
    _Atomic uint64_t *moves;
    struct table_stats stats;
    size_t stale_marks;
    bool full_counted;
    /* Bit i of word j: line 64 j + i has no empty slot. */
    _Atomic uint64_t *full;
};

/* Maps 32 random bits to 0 .. n-1 by multiplication (Lemire, "A fast alternative to the modulo reduction").
 */
static inline uint64_t layout_reduce(uint64_t bits, uint64_t n)
{
    return (bits & UINT32_MAX) * n >> 32;
}

static inline uint64_t layout_home(uint64_t hash, uint64_t line_count)
{
    return layout_reduce(hash, line_count);
}

/* The alternate is in the home's block and differs from it, if the block has more than one line. Blocks have
 * LAYOUT_BLOCK_LINES, but for the last, which has up to twice as many rather than be a short one behind it. */
static inline uint64_t layout_alternate(uint64_t hash, uint64_t home, uint64_t line_count)
{
    uint64_t start = home & ~(LAYOUT_BLOCK_LINES - 1);
    if (line_count - start < LAYOUT_BLOCK_LINES && start > 0)
        start -= LAYOUT_BLOCK_LINES;
    uint64_t size = line_count - start;
    if (size >= 2 * LAYOUT_BLOCK_LINES)
        size = LAYOUT_BLOCK_LINES;
    uint64_t place = layout_reduce(hash >> 20, size);
    if (start + place == home)
        place = place + 1 == size ? 0 : place + 1;
    return start + place;
}

/* The mark in the home line that a number that is not hidden sets when it leaves: bit `layout_mark_bit` of word
 * `layout_mark_word`. */
static inline unsigned layout_mark_word(uint64_t hash)
{
    return (unsigned)(hash >> LAYOUT_MARK_WORD_SHIFT & (TABLE_SLOTS_PER_LINE - 1));
}

static inline unsigned layout_mark_bit(uint64_t hash)
{
    return (unsigned)((hash >> LAYOUT_MARK_BIT_SHIFT & LAYOUT_MARK_BIT_MASK) * LAYOUT_MARK_BITS >>
                      LAYOUT_MARK_BIT_BITS);
}

static inline uint64_t layout_placement(uint64_t first_line, uint64_t line_count)
{
    return first_line << LAYOUT_COUNT_BITS | line_count;
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
