/* What a Redis does with what it was given: whether it may evict the query log, and whether it keeps it over a restart; and which
 * one it is.
 * Asked of it with INFO and CONFIG GET; what it refuses to say is not held against it. One thread at a time. */
#ifndef NUMBERD_PERSIST_QUERYLOG_REDIS_POLICY_H
#define NUMBERD_PERSIST_QUERYLOG_REDIS_POLICY_H

#include <stdbool.h>

#include "persist/redis/redis_link.h"

struct redis_policy {
    bool may_evict;        /* maxmemory-policy is another than noeviction */
    bool persists_nothing; /* no append-only file, no snapshots */
    char run_id[96]; /* of this run of this server, and of its time as a master; empty: it does not say */
};

/* False and the fault only when the connection is lost. */
bool redis_policy_read(redisContext *link, const struct redis_address *address, struct redis_policy *policy,
                       struct fault *fault);

#endif
