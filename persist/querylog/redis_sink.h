/* The sink: one thread that ships the spool's frames to Redis, in order, each exactly once.
 *
 * Keys (persist/QUERYLOG.md): one stream per server, hour and bucket; entry id SEQUENCE-INDEX of the frame, so
 * that sending a frame again is refused by Redis and harmless; value the frame; expiry absolute, at the
 * moment when the hour is over (frame_hour_over_at), set in the same transaction as the entry.
 * A frame leaves the spool only after Redis has confirmed it, and mostly a minute later: where a connection ends at another run of
 * Redis than the one before (it was restarted, or another took its place) that has not the frame that was confirmed last, what is
 * kept is sent again: the end of what was confirmed had not been on its disk, or at its replica. In a Redis Cluster all streams of a server
 * are in one slot (its id is the keys' hash tag), and so at one node, whichever that is (redis_route.h); one that takes another's place is
 * another run of Redis. The list of servers is in another slot: the log goes on without it.
 * The thread is nice. When Redis is away or refuses, the sink tries again after 0.2 s, 0.4 s ... 5 s and says so once. A Redis that may
 * evict what it has, or persists nothing, is warned of when it is connected, unless it was the same the time before. It knows nothing of
 * the workers: they never wait for it.
 * What it must give up (a damaged segment, a frame that Redis has no place for) it reports as a gap. */
#ifndef NUMBERD_PERSIST_QUERYLOG_REDIS_SINK_H
#define NUMBERD_PERSIST_QUERYLOG_REDIS_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/querylog/redis_policy.h"
#include "persist/querylog/spool.h"
#include "persist/querylog/tally.h"
#include "persist/redis/redis_link.h"
#include "ring/event.h"

struct redis_sink;

struct redis_sink_options {
    struct redis_target target;
    struct spool *spool;
    struct tally *tally; /* whose `stored` it counts */
    uint64_t server_id;
    uint64_t retention_ms;
    /* Events that it has to give up; false: not now, nor any more before the stop. */
    bool (*lost)(void *context, const struct query_gap *gap);
    void *context;
    notice_fn *notice; /* for the operator; called from the sink's thread */
};

struct redis_sink_figures {
    uint64_t failures; /* tries that Redis did not confirm */
    bool connected;
    struct redis_policy policy; /* when it was connected last */
};

struct redis_sink *redis_sink_start(const struct redis_sink_options *options, struct fault *fault);

/* Ships what is left for at most `patience_ms`, ends the thread, frees. The rest stays in the spool. */
struct redis_sink_figures redis_sink_stop(struct redis_sink *sink, unsigned patience_ms);

struct redis_sink_figures redis_sink_figures(const struct redis_sink *sink);

#endif
