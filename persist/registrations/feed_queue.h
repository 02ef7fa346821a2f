/* What is to be appended to one partition of the feed (feed.h), and has not been read back: entries in their order, with whose steps they have.
 *
 * A queue is one writer (feed_state.h). When it has been idle for so long that others may forget it, it becomes another one; and what could not
 * be sent for that long is given up, while they still know it. One thread at a time. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_QUEUE_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "persist/registrations/feed_jobs.h"
#include "persist/registrations/feed_state.h"
#include "persist/registrations/feed_wire.h"

struct feed_outgoing;

struct feed_queue {
    TAILQ_HEAD(feed_outgoings, feed_outgoing) entries;
    uint64_t writer;
    uint64_t sequence; /* of the last one */
    uint64_t used_ms;  /* when that was begun */
};

void feed_queue_init(struct feed_queue *queue);
void feed_queue_deinit(struct feed_queue *queue);

/* Puts the step behind all others. False when memory is short. */
bool feed_queue_append(struct feed_queue *queue, struct feed_job *job, size_t index, const struct step *step);

/* Has the lane append what was not sent yet, as far as it goes and there is memory. Entries that must come after others are given what `state`
 * has. `scratch` is written over. */
void feed_queue_load(struct feed_queue *queue, struct feed_lane *lane, const struct feed_state *state,
                     struct feed_entry *scratch);
/* What the lane has appended was sent. */
void feed_queue_note_sent(struct feed_queue *queue, const struct feed_lane *lane);
/* Of what was on its way nobody knows. */
void feed_queue_send_again(struct feed_queue *queue);

/* An entry was read back and carried out, with these results: settles its steps, if it is this queue's. Returns how many. */
size_t feed_queue_settle(struct feed_queue *queue, const struct feed_entry *entry, const uint8_t *results);
/* Gives all up if the first one has waited for too long. Returns how many steps, which are settled. */
size_t feed_queue_give_up_old(struct feed_queue *queue);

#endif
