/* How far a directory has come in the feed (feed.h), and what it must know of its writers to go on: of each partition the position of the
 * last entry that was carried out, and the sequence of the last one of each writer.
 *
 * It lives in the journal, as marks (hashing/record.h) that are appended together with the changes of the entry, so that directory and
 * state are never read back from different moments; and as a whole behind the position of each snapshot, since what is before that is not
 * read any more. A mark's 50 bits are its kind, in the upper two, and a value of 48; the 8 bits are the partition (of the feed: how many
 * there are, less one):
 *     0  position: value = its sequence, 64 bits = its milliseconds; from then on the partition is followed
 *     1  writer:   value = its last sequence, 64 bits = the writer
 *     2  feed:     64 bits = the feed; it is the first of a whole state. If it is of another feed than what
 *                was known, all that is forgotten; else the rest says what was known already, however much of it is there
 *     3  leaving:  value 1 = this directory is to hold nothing of the partition any more, and what it had of it goes; 0 = it has gone.
 *                  Position and writers are forgotten with the former: who holds the partition again reads it from its beginning
 *
 * Of each writer's entries the next one counts and no other: not one that was there before, nor one that comes ahead of what was refused or
 * lost before it; the writer sends both again, in order. A writer that has appended nothing for a day, by the clock of Redis, is forgotten: by
 * then nobody sends its entries any more.
 *
 * One thread at a time. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_STATE_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"
#include "persist/registrations/feed_entry.h"

#define FEED_WRITER_FORGOTTEN_MS (UINT64_C(24) * 3600 * 1000)
/* Marks that carrying out one entry takes. */
#define FEED_ENTRY_MARKS 2

struct feed_writer {
    uint64_t id;
    uint64_t sequence;
    uint64_t last_ms;
};

struct feed_progress {
    struct feed_position position;
    struct feed_writer *writers;
    size_t count;
    bool is_followed; /* from that position on; else there is nothing of the partition */
    bool is_leaving;
};

struct feed_state {
    uint64_t feed; /* which one; 0: none yet */
    unsigned partitions;
    bool has_failed; /* memory was short while it was read, or the marks are none */
    struct feed_progress progress[FEED_PARTITIONS_MAX];
};

void feed_state_deinit(struct feed_state *state); /* empty, and can be used again */

/* Takes a mark of the journal. */
void feed_state_take(struct feed_state *state, const struct change *mark);

/* The whole state as marks, to be freed with free(); NULL when memory is short. */
struct change *feed_state_marks(const struct feed_state *state, size_t *count);

/* Follows the partition from its beginning, unless it does so already. */
void feed_state_follow(struct feed_state *state, unsigned partition);
/* Whether all of the set are followed. */
bool feed_state_follows(const struct feed_state *state, const struct partition_set *set);
/* The mark that the partition is left, or has been; and the same here. */
struct change feed_state_leave(struct feed_state *state, unsigned partition, bool is_done);

/* Whether it is the writer's next one. */
bool feed_state_is_new(const struct feed_state *state, unsigned partition, const struct feed_entry *entry);

/* Makes sure that the next feed_state_advance finds memory. */
bool feed_state_reserve(struct feed_state *state, unsigned partition);
/* Marks for an entry that is about to be carried out or, if it is not new, passed over; and the same here, once that is done. */
size_t feed_state_entry_marks(struct change marks[static FEED_ENTRY_MARKS], unsigned partition,
                              const struct feed_entry *entry, const struct feed_position *position,
                              bool is_new);
void feed_state_advance(struct feed_state *state, unsigned partition, const struct feed_entry *entry,
                        const struct feed_position *position, bool is_new);

#endif
