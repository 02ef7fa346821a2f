/* What a node held of a feed (feed.h) and is to hold no more: it leaves those partitions' streams, and removes what the directory has of them.
 *
 * The last copy stays: a node leaves its place in the stream first, and then looks whether another one is there that is ready (feed_map.h) and
 * holds the partition. Of two that leave at the same time neither relies on the other, since each is gone before it looks.
 * What is left is marked in the journal before it is removed, and when it has been (feed_state.h), so that a start after a crash goes on.
 *
 * From the feed's thread. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_LEAVING_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_LEAVING_H

#include <pthread.h>
#include <stdbool.h>

#include "persist/registrations/feed.h"
#include "persist/registrations/feed_wire.h"

/* Has the directory without what options->holds does not have. False with the fault, and to be tried again: EX_UNAVAILABLE when a partition would
 * be on no node that is ready. */
bool feed_leave(struct feed_wire *wire, struct feed_state *state, pthread_mutex_t *state_lock,
                const struct feed_options *options, struct fault *fault);

#endif
