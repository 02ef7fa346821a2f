/* Epochs; the argument is in epoch.h. */
#include "hashing/epoch.h"

#include <sched.h>
#include <stddef.h>

void epoch_init(struct epoch *epoch)
{
    atomic_init(&epoch->current, 1);
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        atomic_init(&epoch->readers[i].active, 0);
        atomic_init(&epoch->readers[i].taken, false);
    }
}

struct epoch_reader *epoch_register(struct epoch *epoch)
{
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        bool expected = false;
        if (atomic_compare_exchange_strong(&epoch->readers[i].taken, &expected, true))
            return &epoch->readers[i];
    }
    return NULL;
}

void epoch_unregister(struct epoch_reader *reader)
{
    atomic_store(&reader->taken, false);
}

void epoch_synchronize(struct epoch *epoch)
{
    uint64_t now = atomic_fetch_add(&epoch->current, 1) + 1;
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        for (;;) {
            uint64_t active = atomic_load(&epoch->readers[i].active);
            if (active == 0 || active >= now)
                break;
            sched_yield();
        }
    }
}
