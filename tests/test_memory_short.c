/* Memory that runs out: each allocation of a directory's life fails in turn, once alone and once with all that come
 * after it. A registration may then be refused; what was acknowledged before stays readable, and once there is memory
 * again all goes on. Linked with --wrap, so that hashing's own calls come here. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "hashing/directory.h"
#include "unit.h"

enum { NUMBERS = 4000 };
#define BASE UINT64_C(447400000000)

/* Which call fails; a test has one thread. */
static struct {
    bool active;
    unsigned calls;
    unsigned fail_at;
    bool lasting;
} fault;

static bool fails(void)
{
    if (!fault.active)
        return false;
    fault.calls++;
    return fault.lasting ? fault.calls >= fault.fail_at : fault.calls == fault.fail_at;
}

void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
int __real_mprotect(void *address, size_t length, int protection);

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset);
int __wrap_mprotect(void *address, size_t length, int protection);

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : __real_mmap(address, length, protection, flags, file, offset);
}

int __wrap_mprotect(void *address, size_t length, int protection)
{
    return fails() ? -1 : __real_mprotect(address, length, protection);
}

static void check_all(struct directory *directory, struct epoch_reader *reader, const bool *registered)
{
    uint64_t numbers[NUMBERS];
    uint8_t answers[NUMBERS];
    for (uint64_t i = 0; i < NUMBERS; i++)
        numbers[i] = BASE + i;
    directory_lookup(directory, reader, numbers, NUMBERS, answers);
    for (size_t i = 0; i < NUMBERS; i++)
        assert_int_equal(answers[i] == DIRECTORY_REGISTERED, registered[i]);
}

/* Registers all, checks, removes every third, registers all again without faults. Returns how many registrations were
 * refused. */
static unsigned live(struct directory *directory, struct epoch_reader *reader)
{
    bool registered[NUMBERS] = {false};
    unsigned refused = 0;
    for (uint64_t i = 0; i < NUMBERS; i++) {
        enum directory_result result = directory_register(directory, &(struct record){BASE + i, i, 0});
        assert_true(result == DIRECTORY_ADDED || result == DIRECTORY_NO_MEMORY);
        registered[i] = result == DIRECTORY_ADDED;
        refused += result == DIRECTORY_NO_MEMORY;
    }
    check_all(directory, reader, registered);
    for (uint64_t i = 0; i < NUMBERS; i += 3) {
        assert_int_equal(directory_deregister(directory, BASE + i) == DIRECTORY_REMOVED, registered[i]);
        registered[i] = false;
    }
    check_all(directory, reader, registered);
    fault.active = false;
    for (uint64_t i = 0; i < NUMBERS; i++) {
        enum directory_result result = directory_register(directory, &(struct record){BASE + i, i, 0});
        assert_int_equal(result, registered[i] ? DIRECTORY_REPLACED : DIRECTORY_ADDED);
        registered[i] = true;
    }
    check_all(directory, reader, registered);
    return refused;
}

/* One life with the fault at call `at`. True when the fault was reached. */
static bool live_with_fault(unsigned at, bool lasting, unsigned *refused)
{
    fault.calls = 0;
    fault.fail_at = at;
    fault.lasting = lasting;
    fault.active = true;
    struct directory *directory =
        directory_create(&(struct directory_options){.seed = 7, .shard_bits = 1, .accounts = true});
    if (directory == NULL) {
        fault.active = false;
        assert_true(fault.calls >= at);
        return true;
    }
    struct epoch_reader *reader = directory_join(directory);
    *refused += live(directory, reader);
    directory_leave(directory, reader);
    directory_destroy(directory);
    return fault.calls >= at;
}

static void test_each_allocation(void **state)
{
    (void)state;
    for (int lasting = 0; lasting <= 1; lasting++) {
        unsigned refused = 0;
        unsigned at = 1;
        while (live_with_fault(at, lasting, &refused))
            at++;
        print_message("%s: %u allocations failed in turn, %u registrations refused\n",
                      lasting ? "lasting" : "once", at - 1, refused);
        assert_true(at > 50);
        /* One failure alone refuses at most the number that met it in a full shard. */
        assert_true(lasting ? refused > NUMBERS : refused < NUMBERS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_allocation)};
    return cmocka_run_group_tests_name("memory_short", tests, NULL, NULL);
}
