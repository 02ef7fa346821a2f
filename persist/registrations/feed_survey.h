/* What there is of a feed in Redis, for operators: its nodes, how far each is, and its streams. Reads, and changes nothing but in
 * feed_survey_forget. One thread at a time.
 */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_SURVEY_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_SURVEY_H

#include <stdbool.h>

#include "persist/fault.h"

/* JSON text, to be freed with free(); NULL and the fault when Redis cannot be reached or has no feed.
 *   {"feed": hex, "account_ids": bool,
 *    "nodes": {ID: {what the node says, "seconds_since": since it said so}},
 *    "partitions": [{"partition": 0, "redis": "HOST:PORT" of its master, "entries": in the stream, "last": position,
 *                    "trimmed": position, "nodes": {ID: {"position", "behind_seconds": by the ids' clock, "needs": position}}}]} */
char *feed_survey(const char *redis_url, struct fault *fault);

/* A node that is gone for good: what it needed may be trimmed. False with the fault when it is not known, too. */
bool feed_survey_forget(const char *redis_url, const char *node, struct fault *fault);

#endif
