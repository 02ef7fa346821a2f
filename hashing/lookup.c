/* Choosing a lookup variant; see lookup.h. */
#include "hashing/lookup.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct variant {
    const char *name;
    lookup_group_function *function;
};

/* The variants of this build, the fastest first; the last one runs everywhere. */
static const struct variant variants[] = {
#ifdef LOOKUP_HAS_X86
    {"avx512", lookup_group_avx512},
    {"avx2", lookup_group_avx2},
#endif
#ifdef LOOKUP_HAS_NEON
    {"neon", lookup_group_neon},
#endif
    {"scalar", lookup_group_scalar},
};

#define VARIANT_COUNT (sizeof variants / sizeof variants[0])

static bool can_run(const char *name)
{
#ifdef LOOKUP_HAS_X86
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") != 0;
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") != 0;
#endif
    (void)name;
    return true;
}

lookup_group_function *lookup_choose(const char **name)
{
    const char *wanted = getenv("NUMBERD_LOOKUP");
    const struct variant *chosen = &variants[VARIANT_COUNT - 1];
    for (size_t i = VARIANT_COUNT; i-- > 0;)
        if (can_run(variants[i].name))
            chosen = &variants[i];
    for (size_t i = 0; wanted != NULL && i < VARIANT_COUNT; i++)
        if (strcmp(variants[i].name, wanted) == 0 && can_run(wanted))
            chosen = &variants[i];
    if (name != NULL)
        *name = chosen->name;
    return chosen->function;
}
