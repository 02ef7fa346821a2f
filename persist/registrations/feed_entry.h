/* An entry of the feed (feed.h): some steps of one writer, in their order, as the one field "c" of an entry of a Redis stream. Little-endian:
 *     0  1  version (1)              1  1  zero                 2  2  steps, 1 .. FEED_STEPS_MAX
 *     4  2  dependencies: 0, or as many as there are partitions                       6  2  zero
 *     8  8  writer                  16  8  sequence, from 1 on
 *    24 16  of each dependency: a position (milliseconds 8, sequence 8) that must be reached in that partition first
 *     .     steps: a word with the number in bits 0..49, the kind (enum step_kind) in bits 50..52 and the flags in bits 56..63, followed by
 *           the account but for STEP_REMOVE
 *     .  8  XXH3-64 of all before
 * A writer is one process that appends to one partition, by a number of its own, and counts its entries: the same entry may be in the
 * stream twice, since who had no answer sends it again, and counts once (feed_state.h).
 *
 * A position is the entry's id in its stream, milliseconds and sequence, and is written "MS-SEQ" as Redis does. Any thread. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_ENTRY_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/partition.h"
#include "hashing/record.h"

#define FEED_PARTITIONS_MAX PARTITIONS_MAX
#define FEED_STEPS_MAX 448u
#define FEED_POSITION_BYTES 16u
#define FEED_STEP_BYTES_MAX 16u
#define FEED_HEAD_BYTES 24u
#define FEED_ENTRY_BYTES_MAX                                                                                 \
    (FEED_HEAD_BYTES + FEED_PARTITIONS_MAX * FEED_POSITION_BYTES + FEED_STEPS_MAX * FEED_STEP_BYTES_MAX + 8)

struct feed_position {
    uint64_t ms;
    uint64_t sequence;
};

struct feed_entry {
    uint64_t writer;
    uint64_t sequence;
    unsigned dependencies;
    struct feed_position after[FEED_PARTITIONS_MAX];
    size_t count;
    struct step steps[FEED_STEPS_MAX];
};

/* Returns the bytes written. */
size_t feed_entry_encode(uint8_t bytes[static FEED_ENTRY_BYTES_MAX], const struct feed_entry *entry);

/* False when the bytes are no entry of a feed with so many partitions. Numbers are as they were written, be they valid or not. */
bool feed_entry_decode(struct feed_entry *entry, const uint8_t *bytes, size_t length, unsigned partitions);

/* Negative, 0, positive, as in qsort(3). */
int feed_position_compare(const struct feed_position *a, const struct feed_position *b);

#define FEED_POSITION_TEXT_BYTES 42
void feed_position_format(char text[static FEED_POSITION_TEXT_BYTES], const struct feed_position *position);
/* The whole text, or what stands before a space. */
bool feed_position_parse(const char *text, struct feed_position *position);

#endif
