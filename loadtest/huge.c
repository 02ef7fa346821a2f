/* Large memory on huge pages; see huge.h. */
#include "huge.h"

#include <stdint.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

static size_t rounded(size_t bytes)
{
    return (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

void *huge_allocate(size_t bytes)
{
    size_t used = rounded(bytes);
    unsigned char *start =
        mmap(NULL, used + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    size_t head = -(uintptr_t)start & (HUGE_PAGE - 1);
    unsigned char *memory = start + head;
    if (head > 0)
        munmap(start, head);
    if (head < HUGE_PAGE)
        munmap(memory + used, HUGE_PAGE - head);
    (void)madvise(memory, used, MADV_HUGEPAGE);
    return memory;
}

void huge_free(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, rounded(bytes));
}
