/* Partitions; see partition.h. */
#include "hashing/partition.h"

#include <stdio.h>
#include <stdlib.h>

/* A number of the set at `*text`, which is moved behind it; PARTITIONS_MAX: none. */
static unsigned take_number(const char **text)
{
    unsigned value = 0;
    const char *start = *text;
    for (; **text >= '0' && **text <= '9' && value < PARTITIONS_MAX; ++*text)
        value = 10 * value + (unsigned)(**text - '0');
    return *text == start || value > PARTITIONS_MAX ? PARTITIONS_MAX : value;
}

bool partition_set_parse(const char *text, struct partition_set *set)
{
    *set = (struct partition_set){{false}};
    for (;; text++) {
        unsigned first = take_number(&text);
        unsigned last = first;
        if (*text == '-') {
            text++;
            last = take_number(&text);
        }
        if (last >= PARTITIONS_MAX || first > last)
            return false;
        for (unsigned i = first; i <= last; i++)
            set->has[i] = true;
        if (*text != ',')
            return *text == '\0';
    }
}

void partition_set_format(char text[static PARTITION_SET_TEXT_BYTES], const struct partition_set *set,
                          unsigned partitions)
{
    size_t length = 0;
    snprintf(text, PARTITION_SET_TEXT_BYTES, "-");
    for (unsigned i = 0, last; i < partitions; i = last + 1) {
        last = i;
        if (!set->has[i])
            continue;
        while (last + 1 < partitions && set->has[last + 1])
            last++;
        const char *comma = length == 0 ? "" : ",";
        int more =
            last == i ? snprintf(text + length, PARTITION_SET_TEXT_BYTES - length, "%s%u", comma, i)
                      : snprintf(text + length, PARTITION_SET_TEXT_BYTES - length, "%s%u-%u", comma, i, last);
        length += (size_t)more;
    }
}

unsigned partition_set_count(const struct partition_set *set, unsigned partitions)
{
    unsigned count = 0;
    for (unsigned i = 0; i < partitions; i++)
        count += set->has[i];
    return count;
}
