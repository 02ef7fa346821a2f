/* One blocking connection to Redis, from a URL.
 *
 *   redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]      port 6379, database 0 unless named; several nodes of a cluster
 *                                                                    (redis_route.h), of which one has to be there
 *   unix://[[USER]:PASSWORD@]/PATH[?db=DB]
 *
 * Connecting takes at most 2 s, a command 5 s. Errors never hold the password. One thread at a time. */
#ifndef NUMBERD_PERSIST_REDIS_REDIS_LINK_H
#define NUMBERD_PERSIST_REDIS_REDIS_LINK_H

#include <stdbool.h>

#include <hiredis/hiredis.h>

#include "persist/fault.h"

struct redis_address {
    char host[256]; /* or the socket's path */
    int port;       /* 0: a unix socket */
};

#define REDIS_ADDRESSES_MAX 8

struct redis_target {
    struct redis_address addresses[REDIS_ADDRESSES_MAX];
    unsigned count; /* of them */
    char user[64];
    char password[256];
    int database;
};

/* EX_USAGE when the URL is not of one of the forms above. */
bool redis_target_parse(const char *url, struct redis_target *target, struct fault *fault);

/* Connected to that address, authenticated, database chosen, all as the target says; NULL and the fault otherwise. Free with redisFree. */
redisContext *redis_link_connect(const struct redis_address *address, const struct redis_target *target,
                                 struct fault *fault);

/* Runs one command given as arguments; the reply, or NULL and the fault for a lost connection or an error
 * reply. Free with freeReplyObject. */
redisReply *redis_link_command(redisContext *link, const struct redis_address *address, int argc,
                               const char **argv, struct fault *fault);

/* Sets the fault of a connection that is lost (NULL: was never made), and returns false. */
bool redis_link_lost(const redisContext *link, const struct redis_address *address, struct fault *fault);

/* Sets the fault of an error reply, and returns false. */
bool redis_link_refused(const redisReply *reply, const struct redis_address *address, const char *command,
                        struct fault *fault);

/* The text of a string; NULL of any other reply, which has none. */
const char *redis_link_text(const redisReply *reply);

#endif
