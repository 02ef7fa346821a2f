/* Zeroed memory on huge pages; see pages.h. */
#include "hashing/pages.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static size_t round_to_page(size_t bytes)
{
    return (bytes + 4095) & ~(size_t)4095;
}

static void *allocate_small(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void *pages_allocate(size_t bytes)
{
    if (bytes < PAGES_HUGE_BYTES)
        return allocate_small(bytes);
    /* Reserved with room to align in, then cut to what is used. */
    size_t used = round_to_page(bytes);
    size_t reserved = used + PAGES_HUGE_BYTES;
    unsigned char *start = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    size_t head = -(uintptr_t)start & (PAGES_HUGE_BYTES - 1);
    unsigned char *memory = start + head;
    if (head > 0)
        munmap(start, head);
    if (reserved - head > used)
        munmap(memory + used, reserved - head - used);
    /* Advice: where it is not taken, small pages serve. */
    (void)madvise(memory, used & ~(PAGES_HUGE_BYTES - 1), MADV_HUGEPAGE);
    return memory;
}

void pages_free(void *memory, size_t bytes)
{
    if (bytes < PAGES_HUGE_BYTES)
        free(memory);
    else if (memory != NULL)
        munmap(memory, round_to_page(bytes));
}

size_t pages_huge_bytes(void)
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
