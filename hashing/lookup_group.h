/* The body of a lookup variant; see lookup.h. A variant's source defines
 *   LOOKUP_NAME     the function
 *   match_line      static inline uint32_t (const struct line *, uint64_t number): bit i for slot i
 * and includes this file once. */
#include "hashing/directory.h"
#include "hashing/hash.h"
#include "hashing/layout.h"
#include "hashing/lookup.h"
#include "hashing/record.h"

struct lookup_query {
    const struct table *table;
    const struct line *home;
    uint64_t hash;
    uint64_t sequence;
};

/* Step 1. Invalid numbers are answered here and get a query that finds nothing: an all-zero line. */
static inline void start_queries(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                                 uint8_t *answers, struct lookup_query *queries)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = hash_number(numbers[i], view->seed);
        struct shard *shard = &view->shards[hash >> view->shard_shift & view->shard_mask];
        /* Sequentially consistent: see epoch.h. */
        const struct table *table = atomic_load(&shard->table);
        const struct line *home = &table->lines[layout_home(table, hash)];
        __builtin_prefetch(home);
        queries[i] = (struct lookup_query){
            .table = table,
            .home = home,
            .hash = hash,
            /* Before the line is read: an unchanged sequence then proves a miss. */
            .sequence = atomic_load_explicit(&table->sequence, memory_order_acquire),
        };
        answers[i] = phone_check(numbers[i]) == PHONE_OK ? DIRECTORY_NOT_REGISTERED : DIRECTORY_INVALID;
    }
}

static inline uint8_t answer_for(uint8_t flags)
{
    return flags & RECORD_FLAG_HIDDEN ? DIRECTORY_NOT_REGISTERED : DIRECTORY_REGISTERED;
}

/* Step 2. Returns how many have to be looked at again; `again` holds their indices. */
static inline size_t probe_homes(const uint64_t *numbers, size_t count, uint8_t *answers,
                                 const struct lookup_query *queries, uint8_t *again)
{
    size_t again_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct lookup_query *query = &queries[i];
        uint32_t mask = match_line(query->home, numbers[i]);
        unsigned slot = (unsigned)__builtin_ctz(mask | 0x80);
        uint64_t word = atomic_load_explicit(&query->home->words[slot], memory_order_acquire);
        unsigned bit = layout_filter_bit(query->hash);
        uint64_t mark =
            atomic_load_explicit(&query->home->words[bit / LAYOUT_MARK_BITS], memory_order_acquire);
        uint32_t changed =
            atomic_load_explicit(&query->table->sequence, memory_order_relaxed) != query->sequence;
        uint32_t is_valid = answers[i] == DIRECTORY_NOT_REGISTERED;
        /* The slot may have been emptied or refilled since the comparison: only its own word counts. */
        uint32_t is_sure = is_valid & (mask != 0) & (layout_number(word) == numbers[i]);
        uint32_t is_shown = (layout_flags(word) & RECORD_FLAG_HIDDEN) == 0;
        uint32_t may_be_elsewhere = ((uint32_t)(mark >> (bit % LAYOUT_MARK_BITS)) & 1) | changed;
        answers[i] = (uint8_t)(answers[i] | (is_sure & is_shown));
        again[again_count] = (uint8_t)i;
        again_count += is_valid & (is_sure ^ 1) & may_be_elsewhere;
    }
    return again_count;
}

/* Step 3. */
static inline void finish_queries(const uint64_t *numbers, uint8_t *answers,
                                  const struct lookup_query *queries, const uint8_t *again,
                                  size_t again_count)
{
    for (size_t j = 0; j < again_count; j++) {
        const struct lookup_query *query = &queries[again[j]];
        uint64_t home = (uint64_t)(query->home - query->table->lines);
        __builtin_prefetch(&query->table->lines[layout_alternate(query->table, query->hash, home)]);
    }
    for (size_t j = 0; j < again_count; j++) {
        size_t i = again[j];
        const struct lookup_query *query = &queries[i];
        uint64_t home = (uint64_t)(query->home - query->table->lines);
        const struct line *line = &query->table->lines[layout_alternate(query->table, query->hash, home)];
        uint32_t mask = match_line(line, numbers[i]);
        unsigned slot = (unsigned)__builtin_ctz(mask | 0x80);
        uint64_t word = atomic_load_explicit(&line->words[slot], memory_order_acquire);
        if (mask != 0 && layout_number(word) == numbers[i]) {
            answers[i] = answer_for(layout_flags(word));
            continue;
        }
        uint8_t flags;
        if (atomic_load_explicit(&query->table->sequence, memory_order_relaxed) != query->sequence &&
            table_find(query->table, query->hash, numbers[i], &flags))
            answers[i] = answer_for(flags);
    }
}

void LOOKUP_NAME(const struct lookup_view *view, const uint64_t *numbers, size_t count, uint8_t *answers)
{
    struct lookup_query queries[LOOKUP_GROUP];
    uint8_t again[LOOKUP_GROUP];
    start_queries(view, numbers, count, answers, queries);
    size_t again_count = probe_homes(numbers, count, answers, queries, again);
    finish_queries(numbers, answers, queries, again, again_count);
}
