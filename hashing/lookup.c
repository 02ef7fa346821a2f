/* Choosing a lookup variant, and what they share; see lookup.h. */
#include "hashing/lookup.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/directory.h"
#include "hashing/hash.h"

/* The variants of this build, the fastest first; the last one runs everywhere. */
static const struct lookup_variant variants[] = {
#ifdef LOOKUP_HAS_X86
    {"avx512", lookup_many_avx512, lookup_one_avx512, lookup_alike_avx512, lookup_look_avx512},
    {"avx2", lookup_many_avx2, lookup_one_avx2, lookup_alike_avx2, lookup_look_scalar},
#endif
#ifdef LOOKUP_HAS_NEON
    {"neon", lookup_many_neon, lookup_one_neon, lookup_alike_neon, lookup_look_scalar},
#endif
    {"scalar", lookup_many_scalar, lookup_one_scalar, lookup_alike_scalar, lookup_look_scalar},
};

#define VARIANT_COUNT (sizeof variants / sizeof variants[0])

static bool can_run(const char *name)
{
#ifdef LOOKUP_HAS_X86
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512cd");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") != 0;
#endif
    (void)name;
    return true;
}

const struct lookup_variant *lookup_choose(void)
{
    const char *wanted = getenv("NUMBERD_LOOKUP");
    const struct lookup_variant *chosen = &variants[VARIANT_COUNT - 1];
    for (size_t i = VARIANT_COUNT; i-- > 0;)
        if (can_run(variants[i].name))
            chosen = &variants[i];
    for (size_t i = 0; wanted != NULL && i < VARIANT_COUNT; i++)
        if (strcmp(variants[i].name, wanted) == 0 && can_run(wanted))
            chosen = &variants[i];
    return chosen;
}

uint8_t lookup_one_again(const struct lookup_view *view, uint64_t number)
{
    uint64_t hash = hash_number(number, view->seed);
    uint8_t flags;
    bool found = table_find(atomic_load(&view->tables[lookup_shard(view, hash)]), hash, number, &flags);
    return found && (flags & RECORD_FLAG_HIDDEN) == 0 ? DIRECTORY_REGISTERED : DIRECTORY_NOT_REGISTERED;
}

uint8_t lookup_one_unsure(const struct lookup_view *view, uint64_t number)
{
    return phone_is_valid(number, &view->phones) ? lookup_one_again(view, number) : DIRECTORY_INVALID;
}

void lookup_again(const struct lookup_view *view, const uint64_t *numbers, size_t count, uint8_t *answers)
{
    for (size_t i = 0; i < count; i++)
        if (answers[i] == DIRECTORY_NOT_REGISTERED)
            answers[i] = lookup_one_again(view, numbers[i]);
}
