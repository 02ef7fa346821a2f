/* A batch of one number; see lookup.h. Included by each variant behind its match_line. */
#ifndef NUMBERD_HASHING_LOOKUP_ONE_H
#define NUMBERD_HASHING_LOOKUP_ONE_H

#include <stdbool.h>

#include "hashing/directory.h"
#include "hashing/hash.h"
#include "hashing/lookup.h"

/* True when a number of this hash may have left its home line. Read after the comparison: who has seen a number's
 * place emptied sees the mark that was set before. */
static inline bool look_at_mark(const struct line *home, uint64_t hash)
{
    uint64_t word = atomic_load_explicit(&home->words[layout_mark_word(hash)], memory_order_acquire);
    return word >> layout_mark_bit(hash) & 1;
}

/* The rare paths stand apart and end the reader's section themselves, so that the common one is short and calls nothing. */
__attribute__((noinline)) static void
answer_unsure(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number, uint8_t *answer)
{
    *answer = lookup_one_unsure(view, number);
    epoch_leave(reader);
}

/* `placement` and `moves` as they were for the home. */
__attribute__((noinline)) static void answer_spilled(const struct lookup_view *view,
                                                     struct epoch_reader *reader, uint64_t number,
                                                     uint8_t *answer, uint64_t placement, uint64_t moves)
{
    uint64_t hash = hash_flipped(number, view->flip);
    if (match_line(lookup_alternate(view, placement, hash), number) != 0)
        *answer = DIRECTORY_REGISTERED;
    else if (atomic_load_explicit(view->moves, memory_order_relaxed) != moves)
        *answer = lookup_one_again(view, number);
    else
        *answer = DIRECTORY_NOT_REGISTERED;
    epoch_leave(reader);
}

static inline void answer_one(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                              uint8_t *answer)
{
    epoch_enter(view->epoch, reader);
    uint64_t moves = atomic_load_explicit(view->moves, memory_order_acquire);
    uint64_t hash = hash_flipped(number, view->flip);
    uint64_t placement = lookup_placement(view, hash);
    const struct line *home = lookup_home(view, placement, hash);
    /* Whatever else is wrong with a number of this range, it is not registered. */
    bool found = match_line(home, number) != 0 && number - PHONE_KEY_MIN <= PHONE_KEY_MAX - PHONE_KEY_MIN;
    if (!found) {
        if (!phone_is_surely_valid(number, &view->phones)) {
            answer_unsure(view, reader, number, answer);
            return;
        }
        if (look_at_mark(home, hash) || atomic_load_explicit(view->moves, memory_order_relaxed) != moves) {
            answer_spilled(view, reader, number, answer, placement, moves);
            return;
        }
    }
    *answer = found;
    epoch_leave(reader);
}

/* Looks into both lines, whatever the first one says and without a branch on it. The second read is under way beside the
 * first, and mostly in the same page. Where the answer is not sure a lookup goes the other way for reasons that the
 * asker knows, the number's digits, or that do not depend on it. */
static inline uint8_t look_up_alike(const struct lookup_view *view, uint64_t number)
{
    uint64_t moves = atomic_load_explicit(view->moves, memory_order_acquire);
    uint64_t hash = hash_flipped(number, view->flip);
    uint64_t placement = lookup_placement(view, hash);
    const struct line *home = lookup_home(view, placement, hash);
    const struct line *alternate = lookup_alternate(view, placement, hash);
    bool found = (match_line(home, number) | match_line(alternate, number)) != 0;
    if (!phone_is_surely_valid(number, &view->phones))
        return lookup_one_unsure(view, number);
    if (atomic_load_explicit(view->moves, memory_order_relaxed) != moves)
        return lookup_one_again(view, number);
    return (uint8_t)found;
}

static inline void answer_alike(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                                uint8_t *answer)
{
    epoch_enter(view->epoch, reader);
    *answer = look_up_alike(view, number);
    epoch_leave(reader);
}

#endif
