/* What each request does: one function a type, from the decoded frame to the reply in `out`.
 *
 * Called by session.c with frames that wire_decode_request found right. False: memory is short, the session
 * should close.
 *
 * A long request is carried out in parts, so that others have their turns in between: after a part that is not the last,
 * `session->work` holds what there is of the reply, the frame is still to be kept, and requests_go_on does the next part. Only a whole reply
 * gets into `out`. Parts of other requests come between, so a long lookup may see one number before a change of somebody else and the
 * next one after it, as two requests would. A lookup for which the ring of the query log has no room half-way (the disk has hung for
 * millions of events) is UNAVAILABLE as a whole, though it was charged and its first parts are in the log; an update whose journal has
 * failed half-way is READ_ONLY as a whole, as always when some of its changes may have been carried out.
 *
 * Where registrations come from a feed, an update is handed over as a whole, is under way until the feed has decided it, and holds
 * nothing back that other connections want. */
#ifndef NUMBERD_SERVER_REQUESTS_H
#define NUMBERD_SERVER_REQUESTS_H

#include <stdbool.h>

#include "server/session.h"

/* What numberd takes for a lookup's and an update's part_numbers and part_changes: a part takes 0.1 ms, lookups among 100 million
 * numbers 0.4. */
#define REQUESTS_PART_NUMBERS 8192u
#define REQUESTS_PART_CHANGES 256u

bool requests_lookup(struct session *session, struct service *service, const struct wire_request *request,
                     struct buffer *out);
bool requests_update(struct session *session, struct service *service, const struct wire_request *request,
                     struct buffer *out);
/* The next part of the request that `session->work` is about. */
bool requests_go_on(struct session *session, struct service *service, const struct wire_request *request,
                    struct buffer *out);
/* Frees what is under way. */
void requests_give_up(struct session *session, const struct registrations *registrations);
/* It waits for the feed: until the ticket is decided there is nothing to do. */
bool requests_wait(const struct session *session);
/* The memory that it holds. */
size_t requests_work_bytes(const struct session *session);

void requests_retract(struct buffer *out, size_t from);
/* Whether the request names a number of which nothing can be known here (registrations_hold): then nothing of it is done. */
bool requests_are_elsewhere(const struct service *service, const struct wire_request *request);
bool requests_elsewhere(const struct service *service, const struct wire_request *request,
                        struct buffer *out);
bool requests_map(const struct service *service, const struct wire_request *request, struct buffer *out);
bool requests_stats(const struct service *service, const struct wire_request *request, struct buffer *out);
/* Snapshot and replace all. */
bool requests_snapshot(const struct service *service, const struct wire_request *request, struct buffer *out);

/* A reply without entries: a code, and for people a text (NULL: none). */
bool requests_reply(const struct wire_request *request, enum wire_code code, const char *text,
                    struct buffer *out);

#endif
