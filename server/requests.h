/* What each request does: one function a type, from the decoded frame to the reply in `out`.
 *
 * Called by session.c with frames that wire_decode_request found right. False: memory is short, the session
 * should close. */
#ifndef NUMBERD_SERVER_REQUESTS_H
#define NUMBERD_SERVER_REQUESTS_H

#include <stdbool.h>

#include "server/session.h"

bool requests_lookup(const struct session *session, struct service *service,
                     const struct wire_request *request, struct buffer *out);
bool requests_update(struct service *service, const struct wire_request *request, struct buffer *out);
void requests_retract(struct buffer *out, size_t from);
bool requests_stats(const struct service *service, const struct wire_request *request, struct buffer *out);
/* Snapshot and replace all. */
bool requests_snapshot(const struct service *service, const struct wire_request *request, struct buffer *out);

/* A reply without entries: a code, and for people a text (NULL: none). */
bool requests_reply(const struct wire_request *request, enum wire_code code, const char *text,
                    struct buffer *out);

#endif
