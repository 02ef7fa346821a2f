/* The numbers that are asked for; see load_pool.h. */
#include "load_pool.h"

#include <stdlib.h>

#include "load_random.h"
#include "load_zipf.h"
#include "server/wire.h"

#define LOOKUPS (UINT64_C(4) << 20)

static bool allocate(struct load_pool *pool, uint64_t size, bool registers)
{
    size_t length = size + WIRE_COUNT_MAX;
    *pool = (struct load_pool){.size = size,
                               .numbers = malloc(length * sizeof *pool->numbers),
                               .accounts = registers ? malloc(length * sizeof *pool->accounts) : NULL,
                               .expected = registers ? NULL : malloc(length)};
    if (pool->numbers != NULL && (registers ? pool->accounts != NULL : pool->expected != NULL))
        return true;
    load_pool_deinit(pool);
    return false;
}

static int compare(const void *left, const void *right)
{
    const uint64_t *a = left;
    const uint64_t *b = right;
    return (*a > *b) - (*a < *b);
}

/* In ascending order. A registered number of the population is even and its neighbour odd. */
static void sort(const struct load_pool *pool)
{
    qsort(pool->numbers, pool->size, sizeof *pool->numbers, compare);
    for (uint64_t i = 0; i < pool->size; i++)
        pool->expected[i] = pool->numbers[i] % 2 == 0 ? WIRE_REGISTERED : WIRE_NOT_REGISTERED;
}

bool load_pool_draw(struct load_pool *pool, const struct load_options *options,
                    const struct population *population)
{
    struct load_zipf zipf;
    uint64_t random = options->seed + 1;
    if (!allocate(pool, LOOKUPS, false))
        return false;
    load_zipf_init(&zipf, options->count, options->zipf_exponent);
    for (uint64_t i = 0; i < pool->size; i++) {
        uint64_t index = options->draw == LOAD_ZIPF ? load_zipf_draw(&zipf, &random)
                                                    : load_random(&random) % options->count;
        bool hit = load_random_real(&random) < options->hit_ratio;
        pool->numbers[i] =
            hit ? population_number(population, index) : population_neighbour(population, index);
        pool->expected[i] = hit ? WIRE_REGISTERED : WIRE_NOT_REGISTERED;
    }
    if (options->draw == LOAD_SEQUENTIAL)
        sort(pool);
    for (uint64_t i = 0; i < WIRE_COUNT_MAX; i++) {
        pool->numbers[pool->size + i] = pool->numbers[i % pool->size];
        pool->expected[pool->size + i] = pool->expected[i % pool->size];
    }
    return true;
}

bool load_pool_list(struct load_pool *pool, uint64_t size, const struct population *population)
{
    if (!allocate(pool, size, true))
        return false;
    for (uint64_t i = 0; i < size + WIRE_COUNT_MAX; i++) {
        pool->numbers[i] = population_number(population, i % size);
        pool->accounts[i] = population_account(population, i % size);
    }
    return true;
}

void load_pool_deinit(struct load_pool *pool)
{
    free(pool->numbers);
    free(pool->accounts);
    free(pool->expected);
    *pool = (struct load_pool){0};
}
