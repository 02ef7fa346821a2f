/* The batch lookup over shards, and the look at a number's two lines before an insert, in variants for the processors' vector units.
 * Private to hashing/.
 *
 * All variants give the same answers; lookup_choose picks the fastest that this processor has, or the one
 * named by the environment variable NUMBERD_LOOKUP (scalar, avx2, avx512, neon), for tests and comparisons.
 * Under ThreadSanitizer only the scalar one exists: it knows no vector loads of atomics.
 *
 * What each does with a number:
 *   1. check, hash, find the shard's placement, start the read of the home line (prefetch)
 *   2. look into the home line: one vector comparison; if the number is not there but may have spilled, it goes on
 *      a list
 *   3. start the reads of the alternate lines on the list, and look into them when all homes are done
 *   4. if any number moved meanwhile (lookup_view.moves), look up the misses again, one by one
 * lookup_group.h does steps 1 and 2 for a group at a time, lookup_avx512.c for eight numbers at a time, step 1 some
 * distance ahead of step 2. No step has a branch that depends on the data, but for what is rare.
 *
 * Reads of a line by vector loads: x86 and ARM load each aligned 8-byte lane whole; that a line as a whole is
 * not loaded at one moment does not matter, since a hit needs one word only and a miss is checked by `moves`.
 * On x86 every load is an acquire; on ARM the variant loads with a barrier behind it. */
#ifndef NUMBERD_HASHING_LOOKUP_H
#define NUMBERD_HASHING_LOOKUP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/epoch.h"
#include "hashing/layout.h"
#include "hashing/phone.h"
#include "hashing/table.h"

/* What a lookup has to know of the directory. Constant but for what the pointers lead to. */
struct lookup_view {
    const struct line *base;            /* of the arena */
    const _Atomic uint64_t *placements; /* a shard's table as one word; see layout.h */
    _Atomic(struct table *) *tables;    /* the same tables, for the looks that need more */
    const _Atomic uint64_t *moves;      /* table_family.moves */
    unsigned shard_shift; /* hash >> shard_shift is the shard; 63 with shard_mask 0 for one alone */
    uint64_t shard_mask;
    uint64_t seed;
    uint64_t flip; /* hash_flip(seed) */
    const struct epoch *epoch;
    struct phone_index phones;
};

/* Answers any count of numbers, as directory_lookup does, inside a reader's section. */
typedef void lookup_function(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                             uint8_t *answers);
/* Answers one, with nothing set up for more, in a reader's section of its own, so that the common path calls nothing (2 % of a
 * lookup). There are two: `one` reads the second line when it has to, `alike`
 * always: its time does not depend on the answer. */
typedef void lookup_one_function(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                                 uint8_t *answer);

struct lookup_variant {
    const char *name;
    lookup_function *many;
    lookup_one_function *one;
    lookup_one_function *alike;
    table_look_function *look;
};

lookup_function lookup_many_scalar;
lookup_function lookup_many_avx2;
lookup_function lookup_many_avx512;
lookup_function lookup_many_neon;
lookup_one_function lookup_one_scalar;
lookup_one_function lookup_one_avx2;
lookup_one_function lookup_one_avx512;
lookup_one_function lookup_one_neon;
lookup_one_function lookup_alike_scalar;
lookup_one_function lookup_alike_avx2;
lookup_one_function lookup_alike_avx512;
lookup_one_function lookup_alike_neon;

table_look_function lookup_look_scalar;
table_look_function lookup_look_avx512;

/* The variant for this processor. */
const struct lookup_variant *lookup_choose(void);

/* Step 4: looks up those again that are answered "not registered". */
void lookup_again(const struct lookup_view *view, const uint64_t *numbers, size_t count, uint8_t *answers);
uint8_t lookup_one_again(const struct lookup_view *view, uint64_t number);
/* For a number that phone_is_surely_valid leaves open. */
uint8_t lookup_one_unsure(const struct lookup_view *view, uint64_t number);

static inline uint64_t lookup_shard(const struct lookup_view *view, uint64_t hash)
{
    return hash >> view->shard_shift & view->shard_mask;
}

/* Sequentially consistent for epoch.h's sake. */
static inline uint64_t lookup_placement(const struct lookup_view *view, uint64_t hash)
{
    return atomic_load(&view->placements[lookup_shard(view, hash)]);
}

static inline const struct line *lookup_lines(const struct lookup_view *view, uint64_t placement)
{
    return view->base + (placement >> LAYOUT_COUNT_BITS);
}

static inline const struct line *lookup_home(const struct lookup_view *view, uint64_t placement,
                                             uint64_t hash)
{
    return lookup_lines(view, placement) + layout_home(hash, placement & LAYOUT_COUNT_MASK);
}

static inline const struct line *lookup_alternate(const struct lookup_view *view, uint64_t placement,
                                                  uint64_t hash)
{
    uint64_t line_count = placement & LAYOUT_COUNT_MASK;
    uint64_t home = layout_home(hash, line_count);
    return lookup_lines(view, placement) + layout_alternate(hash, home, line_count);
}

#endif
