/* Records of a load; see load_record.h. */
#include "load_record.h"

#include <string.h>

void load_record_clear(struct load_record *record)
{
    memset(record, 0, sizeof *record);
}

void load_record_merge(struct load_record *into, const struct load_record *from)
{
    for (unsigned i = 0; i < LOAD_COUNTS; i++)
        load_record_add(into, (enum load_count)i, load_record_count(from, (enum load_count)i));
    histogram_merge(&into->latency, &from->latency);
    histogram_merge(&into->update_latency, &from->update_latency);
}
