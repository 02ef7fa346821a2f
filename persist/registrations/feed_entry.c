/* An entry of the feed; see feed_entry.h. */
#include "persist/registrations/feed_entry.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#define VERSION 1
#define NUMBER_MASK ((UINT64_C(1) << 50) - 1)
#define KIND_SHIFT 50
#define KIND_MASK 7u
#define FLAGS_SHIFT 56
#define UNUSED_MASK (UINT64_C(7) << 53)

static uint8_t *put(uint8_t *at, uint64_t value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (uint8_t)(value >> 8 * i);
    return at + size;
}

static uint64_t get(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static uint8_t *put_step(uint8_t *at, const struct step *step)
{
    const struct record *record = &step->record;
    at = put(at,
             (record->number & NUMBER_MASK) | (uint64_t)step->kind << KIND_SHIFT |
                 (uint64_t)record->flags << FLAGS_SHIFT,
             8);
    return step->kind == STEP_REMOVE ? at : put(at, record->account, 8);
}

size_t feed_entry_encode(uint8_t bytes[static FEED_ENTRY_BYTES_MAX], const struct feed_entry *entry)
{
    uint8_t *at = bytes;
    at = put(at, VERSION, 2);
    at = put(at, entry->count, 2);
    at = put(at, entry->dependencies, 4);
    at = put(at, entry->writer, 8);
    at = put(at, entry->sequence, 8);
    for (unsigned i = 0; i < entry->dependencies; i++)
        at = put(put(at, entry->after[i].ms, 8), entry->after[i].sequence, 8);
    for (size_t i = 0; i < entry->count; i++)
        at = put_step(at, &entry->steps[i]);
    at = put(at, XXH3_64bits(bytes, (size_t)(at - bytes)), 8);
    return (size_t)(at - bytes);
}

/* Returns where it ends; NULL: it does not, or is none. */
static const uint8_t *get_step(struct step *step, const uint8_t *at, const uint8_t *end)
{
    if (end - at < 8)
        return NULL;
    uint64_t word = get(at, 8);
    unsigned kind = word >> KIND_SHIFT & KIND_MASK;
    at += 8;
    *step = (struct step){.kind = (enum step_kind)kind,
                          .record = {.number = word & NUMBER_MASK, .flags = (uint8_t)(word >> FLAGS_SHIFT)}};
    if (kind < STEP_SET || kind > STEP_RELEASE || (word & UNUSED_MASK) != 0)
        return NULL;
    if (kind == STEP_REMOVE)
        return at;
    if (end - at < 8)
        return NULL;
    step->record.account = get(at, 8);
    return at + 8;
}

bool feed_entry_decode(struct feed_entry *entry, const uint8_t *bytes, size_t length, unsigned partitions)
{
    if (length < FEED_HEAD_BYTES + 8 || length > FEED_ENTRY_BYTES_MAX || get(bytes, 2) != VERSION ||
        get(bytes + length - 8, 8) != XXH3_64bits(bytes, length - 8))
        return false;
    const uint8_t *at = bytes + FEED_HEAD_BYTES;
    const uint8_t *end = bytes + length - 8;
    entry->count = get(bytes + 2, 2);
    entry->dependencies = (unsigned)get(bytes + 4, 4);
    entry->writer = get(bytes + 8, 8);
    entry->sequence = get(bytes + 16, 8);
    if (entry->count == 0 || entry->count > FEED_STEPS_MAX || entry->sequence == 0 ||
        (entry->dependencies != 0 && entry->dependencies != partitions) ||
        (size_t)(end - at) < (size_t)entry->dependencies * FEED_POSITION_BYTES)
        return false;
    for (unsigned i = 0; i < entry->dependencies; i++, at += FEED_POSITION_BYTES)
        entry->after[i] = (struct feed_position){get(at, 8), get(at + 8, 8)};
    for (size_t i = 0; i < entry->count && at != NULL; i++)
        at = get_step(&entry->steps[i], at, end);
    return at == end;
}

int feed_position_compare(const struct feed_position *a, const struct feed_position *b)
{
    if (a->ms != b->ms)
        return a->ms < b->ms ? -1 : 1;
    return a->sequence < b->sequence ? -1 : a->sequence > b->sequence;
}

void feed_position_format(char text[static FEED_POSITION_TEXT_BYTES], const struct feed_position *position)
{
    snprintf(text, FEED_POSITION_TEXT_BYTES, "%" PRIu64 "-%" PRIu64, position->ms, position->sequence);
}

bool feed_position_parse(const char *text, struct feed_position *position)
{
    int used = 0;
    return sscanf(text, "%20" SCNu64 "-%20" SCNu64 "%n", &position->ms, &position->sequence, &used) == 2 &&
           (text[used] == '\0' || text[used] == ' ');
}
