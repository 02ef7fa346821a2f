/* hashing/arena: what is taken is zero and nobody else's, what is given back goes, and a limit is an answer. */
#include "hashing/arena.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define MIB ((size_t)1 << 20)

static bool is_filled(const unsigned char *extent, size_t bytes, unsigned char value)
{
    for (size_t i = 0; i < bytes; i++)
        if (extent[i] != value)
            return false;
    return true;
}

enum { EXTENTS = 64 };

struct extent {
    unsigned char *start;
    size_t bytes;
};

/* Random takes and gives of all sizes, each extent filled with its own value: always zero at first, never another's. */
static void test_random_takes(void **state)
{
    (void)state;
    struct arena *arena = arena_create(0);
    struct extent extents[EXTENTS] = {{0}};
    uint64_t random = 11;
    for (int step = 0; step < 3000; step++) {
        size_t i = unit_random(&random) % EXTENTS;
        struct extent *extent = &extents[i];
        if (extent->start != NULL) {
            assert_true(is_filled(extent->start, extent->bytes, (unsigned char)(i + 1)));
            arena_give(arena, extent->start, extent->bytes);
        }
        extent->bytes = 1 + unit_random(&random) % (step % 10 == 0 ? 5 * MIB : 40000);
        extent->start = arena_take(arena, extent->bytes);
        assert_non_null(extent->start);
        assert_int_equal((uintptr_t)extent->start % ARENA_ALIGNMENT, 0);
        assert_true(is_filled(extent->start, extent->bytes, 0));
        memset(extent->start, (int)i + 1, extent->bytes);
    }
    arena_destroy(arena);
}

/* What was given back last is taken again, zeroed: the one that has room in two neighbours lies where they lay; what is no neighbour of what
 * is kept takes its place. */
static void test_kept(void **state)
{
    (void)state;
    enum { BYTES = 100032, LARGER = 112000 };
    struct arena *arena = arena_create(0);
    unsigned char *extents[6];
    for (int i = 0; i < 6; i++) {
        extents[i] = arena_take(arena, BYTES);
        memset(extents[i], i + 1, BYTES);
    }
    arena_give(arena, extents[0], BYTES);
    unsigned char *fresh = arena_take(arena, LARGER);
    assert_ptr_equal(fresh, extents[5] + BYTES);
    arena_give(arena, extents[1], BYTES);
    unsigned char *used = arena_take(arena, LARGER);
    assert_ptr_equal(used, extents[0]);
    assert_true(is_filled(used, LARGER, 0));
    memset(used, 7, LARGER);
    arena_give(arena, extents[4], BYTES); /* no neighbour */
    unsigned char *other = arena_take(arena, BYTES);
    assert_ptr_equal(other, extents[4]);
    assert_true(is_filled(other, BYTES, 0));
    assert_true(is_filled(used, LARGER, 7) && is_filled(extents[2], BYTES, 3) &&
                is_filled(extents[3], BYTES, 4) && is_filled(extents[5], BYTES, 6) &&
                is_filled(fresh, LARGER, 0));
    arena_destroy(arena);
}

/* The front comes round: far more is taken than the reservation has room for, beside extents that stay. */
static void test_front_comes_round(void **state)
{
    (void)state;
    size_t bytes = 64 * MIB;
    size_t reserved = 2 * (size_t)sysconf(_SC_PHYS_PAGES) * 4096;
    struct arena *arena = arena_create(0);
    unsigned char *base = arena_base(arena);
    unsigned char *staying = arena_take(arena, 100);
    memset(staying, 7, 100);
    unsigned char *previous = NULL;
    size_t lowest = SIZE_MAX;
    for (size_t taken = 0; taken < 3 * reserved; taken += bytes) {
        unsigned char *extent = arena_take(arena, bytes);
        assert_non_null(extent);
        assert_true(is_filled(extent, 64, 0) && is_filled(extent + bytes - 64, 64, 0));
        extent[0] = extent[bytes - 1] = 1;
        arena_give(arena, previous, bytes);
        previous = extent;
        if (taken > reserved && (size_t)(extent - base) < lowest)
            lowest = (size_t)(extent - base);
    }
    assert_true(lowest <= 2 * bytes);
    assert_true(is_filled(staying, 100, 7));
    /* What cannot fit is refused. */
    assert_null(arena_take(arena, ARENA_BYTES_MAX));
    assert_null(arena_take(arena, 0));
    arena_destroy(arena);
}

/* Sanitizers have memory of their own, and want no limit. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static size_t resident(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
    fclose(file);
    return pages * 4096;
}

/* In the order of a directory that grows, hardly more than what is in use is resident: here 40 extents of 100 KB, given
 * back in the order in which they were taken. */
static void test_memory_goes(void **state)
{
    (void)state;
    enum { COUNT = 40, BYTES = 100000 };
    struct arena *arena = arena_create(0);
    void *extents[COUNT] = {0};
    size_t before = resident();
    size_t most = 0;
    for (int step = 0; step < 50 * COUNT; step++) {
        void *old = extents[step % COUNT];
        extents[step % COUNT] = arena_take(arena, BYTES);
        memset(extents[step % COUNT], 1, BYTES);
        arena_give(arena, old, BYTES);
        size_t now = resident() - before;
        most = step > COUNT && now > most ? now : most;
    }
    assert_true(most >= (size_t)(COUNT - 1) * BYTES);
    assert_true(most < (size_t)(COUNT + 4) * BYTES);
    arena_destroy(arena);
}

#define NO_LIMITS_HERE 77

/* In a child, with this limit on address space or on writable memory: an arena is got, and a take that exceeds the limit
 * is refused, after which smaller ones still are served. */
static int try_under_limit(__rlimit_resource_t resource, size_t limit)
{
    struct rlimit rlimit = {limit, limit};
    if (setrlimit(resource, &rlimit) != 0)
        return 2;
    /* An emulator takes the limit and does not keep to it. */
    if (mmap(NULL, limit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        return NO_LIMITS_HERE;
    struct arena *arena = arena_create(0);
    if (arena == NULL)
        return 3;
    if (arena_take(arena, limit) != NULL)
        return 4;
    unsigned char *extent = arena_take(arena, MIB);
    if (extent == NULL)
        return 5;
    memset(extent, 1, MIB);
    arena_destroy(arena);
    return 0;
}

static void test_limits(void **state)
{
    (void)state;
    static const __rlimit_resource_t resources[] = {RLIMIT_AS, RLIMIT_DATA};
    for (size_t i = 0; i < 2; i++) {
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(try_under_limit(resources[i], 512 * MIB));
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == NO_LIMITS_HERE)
            skip();
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}
#endif

/* With huge pages forbidden to the process, as by THP "never", all works; with them allowed and expected, they are there
 * wherever the system gives any (if it gives none there is nothing to see). */
static void test_huge_pages(void **state)
{
    (void)state;
    size_t bytes = 64 * MIB;
    size_t got[2];
    for (int forbidden = 0; forbidden <= 1; forbidden++) {
        if (prctl(PR_SET_THP_DISABLE, forbidden, 0, 0, 0) != 0)
            skip(); /* an emulator */
        struct arena *arena = arena_create(bytes);
        size_t before = arena_huge_bytes();
        unsigned char *extent = arena_take(arena, bytes);
        assert_non_null(extent);
        memset(extent, 1, bytes);
        size_t now = arena_huge_bytes();
        got[forbidden] = now > before ? now - before : 0;
        assert_true(is_filled(extent, bytes, 1));
        arena_destroy(arena);
    }
    print_message("huge pages: %zu MiB of 64 when asked for, %zu when forbidden\n", got[0] / MIB,
                  got[1] / MIB);
    assert_int_equal(got[1], 0);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
}

/* The huge bytes that came with touching a new extent. */
static size_t huge_bytes_of_touching(struct arena *arena, size_t bytes)
{
    size_t before = arena_huge_bytes();
    unsigned char *extent = arena_take(arena, bytes);
    assert_non_null(extent);
    memset(extent, 1, bytes);
    size_t now = arena_huge_bytes();
    return now > before ? now - before : 0;
}

/* What is taken beyond what was expected, as tables are when they are rebuilt, lies on huge pages like the rest. */
static void test_huge_pages_beyond_the_expected(void **state)
{
    (void)state;
    size_t bytes = 64 * MIB;
    struct arena *arena = arena_create(bytes);
    size_t expected = huge_bytes_of_touching(arena, bytes);
    size_t beyond = huge_bytes_of_touching(arena, bytes);
    arena_destroy(arena);
    if (expected < bytes - ARENA_GRANULE)
        skip(); /* the system gives none, or not enough */
    assert_true(beyond > bytes / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_takes),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_front_comes_round),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_memory_goes),
        cmocka_unit_test(test_limits),
#endif
        cmocka_unit_test(test_huge_pages),
        cmocka_unit_test(test_huge_pages_beyond_the_expected),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
