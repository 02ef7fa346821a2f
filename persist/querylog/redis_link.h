/* One blocking connection to Redis, from a URL.
 *
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]      port 6379, database 0 unless named
 *   unix://[[USER]:PASSWORD@]/PATH[?db=DB]
 *
 * Connecting takes at most 2 s, a command 5 s. Errors never hold the password. One thread at a time. */
#ifndef NUMBERD_PERSIST_QUERYLOG_REDIS_LINK_H
#define NUMBERD_PERSIST_QUERYLOG_REDIS_LINK_H

#include <stdbool.h>

#include <hiredis/hiredis.h>

#include "persist/fault.h"

struct redis_target {
    char host[256]; /* or the socket's path */
    char user[64];
    char password[256];
    int port; /* 0: a unix socket */
    int database;
};

/* EX_USAGE when the URL is not of one of the forms above. */
bool redis_target_parse(const char *url, struct redis_target *target, struct fault *fault);

/* Connected, authenticated, database chosen; NULL and the fault otherwise. Free with redisFree. */
redisContext *redis_link_connect(const struct redis_target *target, struct fault *fault);

/* Runs one command given as arguments; the reply, or NULL and the fault for a lost connection or an error
 * reply. Free with freeReplyObject. */
redisReply *redis_link_command(redisContext *link, const struct redis_target *target, int argc,
                               const char **argv, struct fault *fault);

/* The text of a string; NULL of any other reply, which has none. */
const char *redis_link_text(const redisReply *reply);

#endif
