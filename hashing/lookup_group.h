/* The body of the lookup variants that work on a group at a time; see lookup.h. A variant's source defines
 *   LOOKUP_MANY, LOOKUP_ONE, LOOKUP_ALIKE   the functions
 *   match_line      static inline uint32_t (const struct line *, uint64_t number): bit i for slot i that holds the
 *                   number of an account that is not hidden
 * and includes this file once. */
#include <stdbool.h>

#include "hashing/directory.h"
#include "hashing/hash.h"
#include "hashing/layout.h"
#include "hashing/lookup.h"
#include "hashing/lookup_one.h"

/* In a prototype at 100 M numbers groups of 64 and of 128 took 18.5 and 18.2 ns a number. */
#define GROUP 128

struct query {
    const struct line *line;
    uint64_t hash;
    uint64_t placement;
};

/* Step 1. */
static inline void start_queries(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                                 struct query *queries)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = hash_flipped(numbers[i], view->flip);
        uint64_t placement = lookup_placement(view, hash);
        const struct line *home = lookup_home(view, placement, hash);
        __builtin_prefetch(home);
        queries[i] = (struct query){.line = home, .hash = hash, .placement = placement};
    }
}

static_assert(DIRECTORY_NOT_REGISTERED == false && DIRECTORY_REGISTERED == true, "\"found\" is the answer");

/* Step 2. Returns how many have to be looked for in their alternate; `spilled` holds their indices. */
static inline size_t probe_homes(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                                 uint8_t *answers, const struct query *queries, uint8_t *spilled)
{
    size_t spilled_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct query *query = &queries[i];
        bool found = match_line(query->line, numbers[i]) != 0;
        bool may_have_spilled = look_at_mark(query->line, query->hash);
        bool valid = phone_is_valid(numbers[i], &view->phones);
        /* In this order: an invalid number's bits may look like a valid one's, or like an empty slot. */
        answers[i] = (uint8_t)(valid ? found : DIRECTORY_INVALID);
        spilled[spilled_count] = (uint8_t)i;
        spilled_count += !found & valid & may_have_spilled;
    }
    return spilled_count;
}

/* Step 3. */
static inline void probe_alternates(const struct lookup_view *view, const uint64_t *numbers, uint8_t *answers,
                                    struct query *queries, const uint8_t *spilled, size_t count)
{
    for (size_t j = 0; j < count; j++) {
        struct query *query = &queries[spilled[j]];
        query->line = lookup_alternate(view, query->placement, query->hash);
        __builtin_prefetch(query->line);
    }
    for (size_t j = 0; j < count; j++)
        answers[spilled[j]] = match_line(queries[spilled[j]].line, numbers[spilled[j]]) != 0;
}

static inline void look_up_group(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                                 uint8_t *answers)
{
    struct query queries[GROUP];
    uint8_t spilled[GROUP];
    uint64_t moves = atomic_load_explicit(view->moves, memory_order_acquire);
    start_queries(view, numbers, count, queries);
    size_t spilled_count = probe_homes(view, numbers, count, answers, queries, spilled);
    probe_alternates(view, numbers, answers, queries, spilled, spilled_count);
    if (atomic_load_explicit(view->moves, memory_order_relaxed) != moves)
        lookup_again(view, numbers, count, answers);
}

void LOOKUP_MANY(const struct lookup_view *view, const uint64_t *numbers, size_t count, uint8_t *answers)
{
    for (size_t start = 0; start < count; start += GROUP)
        look_up_group(view, numbers + start, count - start < GROUP ? count - start : GROUP, answers + start);
}

void LOOKUP_ONE(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number, uint8_t *answer)
{
    answer_one(view, reader, number, answer);
}

void LOOKUP_ALIKE(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                  uint8_t *answer)
{
    answer_alike(view, reader, number, answer);
}
