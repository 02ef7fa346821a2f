/* For tests of what stands before the journal: one that keeps counts alone and acknowledges when told. One thread. */
#ifndef NUMBERD_TESTS_JOURNAL_IN_MEMORY_H
#define NUMBERD_TESTS_JOURNAL_IN_MEMORY_H

#include "server/registrations.h"

struct journal_in_memory {
    uint64_t position;
    uint64_t acknowledged;
    bool failed;
    bool short_of_memory;
    struct change last;
};

static inline bool journal_in_memory_reserve(void *context, size_t count)
{
    (void)count;
    return !((struct journal_in_memory *)context)->short_of_memory;
}

static inline uint64_t journal_in_memory_append(void *context, const struct change *changes, size_t count)
{
    struct journal_in_memory *journal = context;
    if (count > 0)
        journal->last = changes[count - 1];
    return journal->position += count;
}

static inline uint64_t journal_in_memory_acknowledged(const void *context)
{
    return ((const struct journal_in_memory *)context)->acknowledged;
}

static inline bool journal_in_memory_has_failed(const void *context)
{
    return ((const struct journal_in_memory *)context)->failed;
}

static inline struct registrations_journal journal_in_memory(struct journal_in_memory *journal)
{
    return (struct registrations_journal){
        .reserve = journal_in_memory_reserve,
        .append = journal_in_memory_append,
        .acknowledged = journal_in_memory_acknowledged,
        .has_failed = journal_in_memory_has_failed,
        .context = journal,
    };
}

#endif
