/* Epochs; the argument is in epoch.h. */
#include "hashing/epoch.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc has no wrapper. */
static bool membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0) == 0;
}

void epoch_init(struct epoch *epoch)
{
    atomic_init(&epoch->current, 1);
    epoch->has_membarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
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
    /* It was registered, so it cannot fail; if it ever did, waiting on could miss a reader. */
    if (epoch->has_membarrier && !membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        abort();
    for (size_t i = 0; i < EPOCH_READERS_MAX; i++) {
        for (;;) {
            uint64_t active = atomic_load(&epoch->readers[i].active);
            if (active == 0 || active >= now)
                break;
            sched_yield();
        }
    }
}
