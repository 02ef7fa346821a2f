/* Epochs: when may memory that readers could still be looking at be freed?
 *
 * Readers enter and leave; between the two they may follow pointers that writers replace. A writer first
 * replaces the pointer, then calls epoch_synchronize, then frees: every reader that could have seen the old
 * pointer has left by then. Readers never wait; the writer waits as long as the longest read section.
 * Source of the idea: Fraser, "Practical lock-freedom" (2004), 5.2.3, cut down to one waiting writer.
 *
 * Why it is right. enter is { store active; load pointer }, the writer does { store pointer; load active }. Each
 * side must have its store seen before it loads; otherwise both could miss the other. Readers are many and
 * writers rare, so the cost of that lies with the writer: between its store and its load it calls membarrier(2),
 * which returns after every running thread of the process has passed a full barrier. A reader's store came before
 * that barrier, then the writer sees it and waits; or it comes after, then the reader's load of the pointer does,
 * too, and it has the new one. Where the kernel has no such call, the reader's store and the writer's load are
 * sequentially consistent instead, which orders all four, and costs the reader a full barrier a section.
 * leave is a release that the writer's load acquires, so the reader's last access happens before the free.
 *
 * Threads: register, unregister and synchronize from any thread; enter and leave only from the thread that
 * owns the reader, not nested, and never synchronize inside a section (it would wait for itself).
 * Memory: 64 bytes a possible reader. */
#ifndef NUMBERD_HASHING_EPOCH_H
#define NUMBERD_HASHING_EPOCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define EPOCH_READERS_MAX 256

struct epoch_reader {
    _Alignas(64) _Atomic uint64_t active; /* epoch at entry, 0 outside of a section */
    atomic_bool taken;
};

struct epoch {
    _Alignas(64) _Atomic uint64_t current;
    bool has_membarrier; /* constant after epoch_init */
    struct epoch_reader readers[EPOCH_READERS_MAX];
};

void epoch_init(struct epoch *epoch);

/* A reader's place, or NULL when EPOCH_READERS_MAX are registered. Give it back with epoch_unregister. */
struct epoch_reader *epoch_register(struct epoch *epoch);
void epoch_unregister(struct epoch_reader *reader);

static inline void epoch_enter(const struct epoch *epoch, struct epoch_reader *reader)
{
    /* Acquire: who enters in the writer's new epoch is not waited for, so must see what was replaced before it. */
    uint64_t now = atomic_load_explicit(&epoch->current, memory_order_acquire);
    if (epoch->has_membarrier) {
        atomic_store_explicit(&reader->active, now, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst); /* the processor's order is the writer's business */
    } else {
        atomic_store(&reader->active, now);
    }
}

static inline void epoch_leave(struct epoch_reader *reader)
{
    atomic_store_explicit(&reader->active, 0, memory_order_release);
}

/* Returns when every section that was open at the call is closed. Blocks (yielding) meanwhile. */
void epoch_synchronize(struct epoch *epoch);

#endif
