/* Connections to Redis by key: to the one that there is, or to the node of a Redis Cluster that serves the key's slot.
 *
 * Whether it is a cluster the first node that answers says (CLUSTER SLOTS). Rules are those of the cluster specification
 * (redis.io, "Redis cluster specification"):
 *   slot     CRC16 (CCITT, XMODEM) of the key modulo 16,384; of what is between the first { and the next } only, if there is anything
 *   MOVED    the slot is another node's from now on: the map is read again, from that node first
 *   ASK      this key is at another node while its slot moves: this command alone goes there, behind ASKING
 *   TRYAGAIN, CLUSTERDOWN, MASTERDOWN, LOADING   the same again a little later
 * A node that is away may have a successor: the map is read again from whichever node answers, those of the map before first, then those
 * of the URL. A cluster has database 0 alone.
 *
 * One thread at a time. Links stay the route's, and good until redis_route_forget or the next redis_route_command. */
#ifndef NUMBERD_PERSIST_REDIS_REDIS_ROUTE_H
#define NUMBERD_PERSIST_REDIS_REDIS_ROUTE_H

#include <stdbool.h>

#include "persist/redis/redis_link.h"

#define REDIS_SLOTS 16384

struct redis_route;

/* Where what concerns a key is sent. */
struct redis_path {
    redisContext *link;
    struct redis_address address;
    bool asking; /* ASKING goes before each command, or before a transaction's MULTI */
};

/* Connects to nobody yet; NULL when memory is short. */
struct redis_route *redis_route_create(const struct redis_target *target);
void redis_route_destroy(struct redis_route *route); /* NULL is fine */

/* Connects if need be. False and the fault: nobody serves the key's slot, or nobody answers. */
bool redis_route_path(struct redis_route *route, const char *key, struct redis_path *path,
                      struct fault *fault);

/* Of the last node that answered: false until one has. */
bool redis_route_is_cluster(const struct redis_route *route);

/* What an error reply wants. */
enum redis_redirect { REDIS_NO_REDIRECT, REDIS_MOVED, REDIS_ASK, REDIS_LATER };
enum redis_redirect redis_route_redirect(const char *error);

/* The way that an error reply with ASK names. False and the fault: there is none. */
bool redis_route_ask(struct redis_route *route, const char *error, struct redis_path *path,
                     struct fault *fault);

/* Closes all connections; the map is read again before the next. An error reply with MOVED says whom to ask first; may be NULL. */
void redis_route_forget(struct redis_route *route, const char *moved);

/* Rises whenever connections are closed: what was asked of a node before may not hold for who answers next. */
unsigned redis_route_generation(const struct redis_route *route);

/* For who reads: as long as a failover may take. */
#define REDIS_ROUTE_PATIENCE_MS 15000

/* Runs one command about the key wherever it is served; of a cluster it waits so long for somebody to serve it. The reply, or
 * NULL and the fault for an error reply and when nobody answers. Free with freeReplyObject. Harmless commands only: after a lost
 * connection it is run again. */
redisReply *redis_route_command(struct redis_route *route, const char *key, unsigned patience_ms, int argc,
                                const char **argv, struct fault *fault);

/* 0 .. REDIS_SLOTS-1. */
unsigned redis_route_slot(const char *key);

#endif
