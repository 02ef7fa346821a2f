/* Memory for the tables; see arena.h. */
#include "hashing/arena.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NO_ROOM SIZE_MAX
#define RESERVED_MIN (16 * ARENA_GRANULE)
#define PAGE ((size_t)4096)
/* A table that is rebuilt in its turn (directory.c) is 20 % larger than the one before it: of two neighbours that went a new one has room,
 * and so five of six need nothing of the system. Of a small arena more is kept than the last two: there most tables are rebuilt out of turn,
 * and a MiB is little. */
#define KEPT_EXTENTS 2
#define KEPT_BYTES_SMALL ((size_t)1 << 20)
#define SMALL_BYTES ((size_t)8 << 20)
#define RUNS_MAX 64

/* Given back, still accounted for, not zeroed. */
struct run {
    size_t offset;
    size_t bytes;
};

struct granule {
    uint32_t used;  /* bytes taken */
    bool committed; /* readable and writable */
};

struct arena {
    unsigned char *base;
    size_t granule_count;
    pthread_mutex_t lock;
    /* All below under the lock. An offset counts from `base`. */
    size_t front;                  /* behind the extent taken last */
    size_t taken;                  /* bytes, with what is kept */
    size_t expected;               /* bytes; constant */
    struct run kept[RUNS_MAX + 1]; /* no two of them neighbours; the one that has changed last at the end */
    unsigned kept_count;
    size_t kept_bytes;
    struct granule *granules;
    uint16_t *edges; /* bytes of each page that extents have taken which do not fill it */
};

/* --- life --- */

/* Twice the machine's memory, since an extent must lie in one piece and the front moves on. */
static size_t reservation(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    size_t bytes = pages > 0 ? 2 * (size_t)pages * PAGE : RESERVED_MIN;
    bytes = bytes < ARENA_BYTES_MAX ? bytes : ARENA_BYTES_MAX;
    return bytes < RESERVED_MIN ? RESERVED_MIN : bytes & ~(ARENA_GRANULE - 1);
}

/* Reserves address space that begins at a granule, as much as can be had, and says how much. Nothing can be read
 * or written there yet, so the system need not account for it. */
static unsigned char *reserve(size_t *bytes)
{
    for (; *bytes >= RESERVED_MIN; *bytes = (*bytes / 2) & ~(ARENA_GRANULE - 1)) {
        size_t padded = *bytes + ARENA_GRANULE;
        unsigned char *start =
            mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start == MAP_FAILED)
            continue;
        size_t head = -(uintptr_t)start & (ARENA_GRANULE - 1);
        if (head > 0)
            munmap(start, head);
        if (head < ARENA_GRANULE)
            munmap(start + head + *bytes, ARENA_GRANULE - head);
        (void)madvise(start + head, *bytes, MADV_DONTDUMP); /* no registered number in a core */
        return start + head;
    }
    return NULL;
}

/* Zeroed; what is never touched takes no memory, and what is touched takes small pages even with THP `always`. */
static void *allocate_sparse(size_t bytes)
{
    void *memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, bytes, MADV_NOHUGEPAGE);
    return memory;
}

static void free_sparse(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

static size_t granules_bytes(const struct arena *arena)
{
    return arena->granule_count * sizeof *arena->granules;
}

static size_t edges_bytes(const struct arena *arena)
{
    return arena->granule_count * (ARENA_GRANULE / PAGE) * sizeof *arena->edges;
}

struct arena *arena_create(size_t expected_bytes)
{
    struct arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL)
        return NULL;
    size_t bytes = reservation();
    arena->base = reserve(&bytes);
    arena->granule_count = bytes / ARENA_GRANULE;
    arena->expected = expected_bytes;
    pthread_mutex_init(&arena->lock, NULL);
    if (arena->base != NULL) {
        arena->granules = allocate_sparse(granules_bytes(arena));
        arena->edges = allocate_sparse(edges_bytes(arena));
    }
    if (arena->base == NULL || arena->granules == NULL || arena->edges == NULL) {
        arena_destroy(arena);
        return NULL;
    }
    return arena;
}

void arena_destroy(struct arena *arena)
{
    if (arena == NULL)
        return;
    if (arena->base != NULL)
        munmap(arena->base, arena->granule_count * ARENA_GRANULE);
    pthread_mutex_destroy(&arena->lock);
    free_sparse(arena->granules, granules_bytes(arena));
    free_sparse(arena->edges, edges_bytes(arena));
    free(arena);
}

void *arena_base(const struct arena *arena)
{
    return arena->base;
}

/* --- taking --- */

static size_t rounded(size_t bytes)
{
    return (bytes + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
}

/* The first granule at or behind `from` that is in use, below `end`; `end` if none is. */
static size_t next_used(const struct arena *arena, size_t from, size_t end)
{
    while (from < end && arena->granules[from].used == 0)
        from++;
    return from;
}

/* An offset with `bytes` free behind it: at the front, else in the next run of empty granules, once around. */
static size_t find_room(const struct arena *arena, size_t bytes)
{
    size_t fresh = (arena->front + ARENA_GRANULE - 1) / ARENA_GRANULE;
    size_t end = (arena->front + bytes + ARENA_GRANULE - 1) / ARENA_GRANULE;
    if (end <= arena->granule_count && next_used(arena, fresh, end) >= end)
        return arena->front;
    size_t needed = (bytes + ARENA_GRANULE - 1) / ARENA_GRANULE;
    size_t start = fresh;
    for (size_t tried = 0; tried < arena->granule_count;) {
        if (start + needed > arena->granule_count) {
            tried += arena->granule_count - start + 1;
            start = 0;
        }
        size_t obstacle = next_used(arena, start, start + needed);
        if (obstacle == start + needed)
            return start * ARENA_GRANULE;
        tried += obstacle + 1 - start;
        start = obstacle + 1;
    }
    return NO_ROOM;
}

static bool wants_huge_pages(const struct arena *arena)
{
    return arena->taken >= ARENA_HUGE_FROM || arena->expected >= ARENA_HUGE_EXPECTED;
}

/* Makes the granules readable and writable. Only now does the system have to account for them. */
static bool commit(struct arena *arena, size_t first, size_t end)
{
    bool huge = wants_huge_pages(arena);
    for (size_t i = first; i < end; i++) {
        if (arena->granules[i].committed)
            continue;
        unsigned char *granule = arena->base + i * ARENA_GRANULE;
        if (mprotect(granule, ARENA_GRANULE, PROT_READ | PROT_WRITE) != 0)
            return false; /* those before stay committed, empty, for the next who asks */
        /* Advice: where it is not taken, small pages serve. */
        (void)madvise(granule, ARENA_GRANULE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        arena->granules[i].committed = true;
    }
    return true;
}

/* Adds to (or takes from) the edges of the extent's first and last pages. */
static void account_edges(struct arena *arena, size_t offset, size_t bytes, bool taking)
{
    size_t end = offset + bytes;
    size_t first = offset / PAGE;
    size_t last = (end - 1) / PAGE;
    size_t head = (first + 1) * PAGE < end ? (first + 1) * PAGE - offset : bytes;
    size_t tail = first == last ? 0 : end - last * PAGE;
    arena->edges[first] = (uint16_t)(taking ? arena->edges[first] + head : arena->edges[first] - head);
    arena->edges[last] = (uint16_t)(taking ? arena->edges[last] + tail : arena->edges[last] - tail);
}

/* Adds to (or takes from) the used bytes of each granule that the extent touches. */
static void account(struct arena *arena, size_t offset, size_t bytes, bool taking)
{
    size_t end = offset + bytes;
    account_edges(arena, offset, bytes, taking);
    while (offset < end) {
        size_t granule = offset / ARENA_GRANULE;
        size_t border = (granule + 1) * ARENA_GRANULE;
        uint32_t part = (uint32_t)((border < end ? border : end) - offset);
        arena->granules[granule].used =
            taking ? arena->granules[granule].used + part : arena->granules[granule].used - part;
        offset += part;
    }
    arena->taken = taking ? arena->taken + bytes : arena->taken - bytes;
}

/* Of what is new, which is zero; NULL when there is none. */
static void *take_fresh(struct arena *arena, size_t bytes)
{
    size_t offset = find_room(arena, bytes);
    if (offset == NO_ROOM ||
        !commit(arena, offset / ARENA_GRANULE, (offset + bytes + ARENA_GRANULE - 1) / ARENA_GRANULE))
        return NULL;
    account(arena, offset, bytes, true);
    arena->front = offset + bytes;
    return arena->base + offset;
}

/* Takes a run off the list; it stays accounted for. */
static struct run remove_kept(struct arena *arena, unsigned place)
{
    struct run run = arena->kept[place];
    arena->kept_bytes -= run.bytes;
    arena->kept_count--;
    memmove(&arena->kept[place], &arena->kept[place + 1], (arena->kept_count - place) * sizeof run);
    return run;
}

static void append_kept(struct arena *arena, struct run run)
{
    account(arena, run.offset, run.bytes, true);
    arena->kept[arena->kept_count++] = run;
    arena->kept_bytes += run.bytes;
}

/* Of what is kept, which is not; NULL when there is too little in one piece. */
static void *take_kept(struct arena *arena, size_t bytes)
{
    unsigned place = arena->kept_count;
    while (place > 0 && arena->kept[place - 1].bytes < bytes)
        place--;
    if (place == 0)
        return NULL;
    struct run run = remove_kept(arena, place - 1);
    account(arena, run.offset, run.bytes, false);
    account(arena, run.offset, bytes, true);
    if (run.bytes > bytes)
        append_kept(arena, (struct run){run.offset + bytes, run.bytes - bytes});
    return arena->base + run.offset;
}

void *arena_take(struct arena *arena, size_t bytes)
{
    bytes = rounded(bytes);
    if (bytes == 0 || bytes > arena->granule_count * ARENA_GRANULE)
        return NULL;
    pthread_mutex_lock(&arena->lock);
    void *used = take_kept(arena, bytes);
    void *extent = used == NULL ? take_fresh(arena, bytes) : used;
    pthread_mutex_unlock(&arena->lock);
    if (used != NULL)
        memset(used, 0, bytes);
    return extent;
}

bool arena_populate(void *extent, size_t bytes)
{
    size_t head = (uintptr_t)extent % PAGE;
    unsigned char *start = (unsigned char *)extent - head;
    size_t length = (head + bytes + PAGE - 1) & ~(PAGE - 1);
    return madvise(start, length, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
}

/* --- giving back --- */

/* Frees the extent's pages, its first and last if nobody else is on them any more. What remains of a granule in use
 * is never taken again before the granule is empty, so whatever is taken is zero. */
static void release(struct arena *arena, size_t offset, size_t bytes)
{
    size_t first = offset / ARENA_GRANULE;
    size_t last = (offset + bytes - 1) / ARENA_GRANULE;
    size_t start = offset / PAGE;
    size_t end = (offset + bytes - 1) / PAGE + 1;
    start = (start + (arena->edges[start] > 0)) * PAGE;
    end = (end - (arena->edges[end - 1] > 0)) * PAGE;
    if (start < end)
        (void)madvise(arena->base + start, end - start, MADV_DONTNEED);
    for (size_t i = first; i <= last; i++)
        if (arena->granules[i].used == 0 &&
            mprotect(arena->base + i * ARENA_GRANULE, ARENA_GRANULE, PROT_NONE) == 0)
            arena->granules[i].committed = false;
    if (arena->granules[last].used == 0 && arena->front > last * ARENA_GRANULE &&
        arena->front <= (last + 1) * ARENA_GRANULE)
        arena->front = last * ARENA_GRANULE;
}

static void drop_kept(struct arena *arena, unsigned place)
{
    struct run run = remove_kept(arena, place);
    account(arena, run.offset, run.bytes, false);
    release(arena, run.offset, run.bytes);
}

/* Takes the neighbours of the run off the list, and gives all in one. None is accounted for then. */
static struct run join_neighbours(struct arena *arena, struct run run)
{
    account(arena, run.offset, run.bytes, false);
    for (unsigned i = arena->kept_count; i > 0; i--) {
        const struct run *other = &arena->kept[i - 1];
        if (other->offset + other->bytes != run.offset && run.offset + run.bytes != other->offset)
            continue;
        struct run neighbour = remove_kept(arena, i - 1);
        account(arena, neighbour.offset, neighbour.bytes, false);
        run.offset = neighbour.offset < run.offset ? neighbour.offset : run.offset;
        run.bytes += neighbour.bytes;
    }
    return run;
}

/* Keeps what was just given back rather than what was before it. */
static void keep(struct arena *arena, size_t offset, size_t bytes)
{
    size_t limit = KEPT_EXTENTS * bytes;
    if (arena->taken < SMALL_BYTES && limit < KEPT_BYTES_SMALL)
        limit = KEPT_BYTES_SMALL;
    append_kept(arena, join_neighbours(arena, (struct run){offset, bytes}));
    while (arena->kept_count > RUNS_MAX || arena->kept_bytes > limit)
        drop_kept(arena, 0);
}

void arena_give(struct arena *arena, void *extent, size_t bytes)
{
    if (extent == NULL)
        return;
    bytes = rounded(bytes);
    size_t offset = (size_t)((unsigned char *)extent - arena->base);
    pthread_mutex_lock(&arena->lock);
    if (wants_huge_pages(arena)) {
        while (arena->kept_count > 0)
            drop_kept(arena, 0);
        account(arena, offset, bytes, false);
        release(arena, offset, bytes);
    } else {
        keep(arena, offset, bytes);
    }
    pthread_mutex_unlock(&arena->lock);
}

size_t arena_huge_bytes(void)
{
    char line[256];
    size_t kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "AnonHugePages: %zu kB", &kib) == 1)
            break;
    fclose(file);
    return kib * 1024;
}
