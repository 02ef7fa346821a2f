/* Connections by key; see redis_route.h. */
#include "persist/redis/redis_route.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "persist/clock.h"

#define NO_NODE UINT16_MAX
#define NODES_MAX 1024u
#define PAUSE_MS 100
/* For which those who may know the map are asked in one go, at least. */
#define LEARN_MS 2000u
/* MOVED and ASK that one command follows: each may be right, or come from a node that does not know it yet. */
#define REDIRECTS_MAX 16

struct node {
    struct redis_address address;
    redisContext *link; /* NULL: not connected */
};

struct redis_route {
    struct redis_target target;
    bool is_read; /* the map is there: below, or it is no cluster and node 0 serves all */
    bool is_cluster;
    unsigned generation;
    struct node *nodes;
    unsigned count;
    struct redis_address hint; /* to be asked for the map first; no host: nobody */
    unsigned first;            /* ... and then */
    uint16_t slots[REDIS_SLOTS];
};

/* --- slots --- */

static uint16_t crc16(const char *bytes, size_t length)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < length; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)((uint8_t)bytes[i] << 8));
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

unsigned redis_route_slot(const char *key)
{
    const char *open = strchr(key, '{');
    const char *close = open == NULL ? NULL : strchr(open + 1, '}');
    if (close != NULL && close > open + 1)
        return crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
    return crc16(key, strlen(key)) % REDIS_SLOTS;
}

/* --- nodes --- */

struct redis_route *redis_route_create(const struct redis_target *target)
{
    struct redis_route *route = calloc(1, sizeof *route);
    if (route != NULL)
        route->target = *target;
    return route;
}

static void disconnect(struct redis_route *route)
{
    for (unsigned i = 0; i < route->count; i++) {
        redisFree(route->nodes[i].link);
        route->nodes[i].link = NULL;
    }
}

void redis_route_destroy(struct redis_route *route)
{
    if (route == NULL)
        return;
    disconnect(route);
    free(route->nodes);
    free(route);
}

static bool is_same(const struct redis_address *a, const struct redis_address *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* The node's number, of a new one if need be; NO_NODE when memory is short. */
static unsigned node_of(struct redis_route *route, const struct redis_address *address)
{
    for (unsigned i = 0; i < route->count; i++)
        if (is_same(&route->nodes[i].address, address))
            return i;
    if (route->count == NODES_MAX)
        return NO_NODE;
    struct node *nodes = realloc(route->nodes, (route->count + 1) * sizeof *nodes);
    if (nodes == NULL)
        return NO_NODE;
    route->nodes = nodes;
    nodes[route->count] = (struct node){.address = *address};
    return route->count++;
}

static bool connect_node(struct redis_route *route, unsigned number, struct redis_path *path,
                         struct fault *fault)
{
    if (number >= route->count)
        return fault_set(fault, EX_OSERR, "out of memory for the nodes of Redis");
    struct node *node = &route->nodes[number];
    if (node->link == NULL)
        node->link = redis_link_connect(&node->address, &route->target, fault);
    *path = (struct redis_path){.link = node->link, .address = node->address};
    return node->link != NULL;
}

/* --- error replies --- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

enum redis_redirect redis_route_redirect(const char *error)
{
    if (begins(error, "MOVED "))
        return REDIS_MOVED;
    if (begins(error, "ASK "))
        return REDIS_ASK;
    bool passes = begins(error, "TRYAGAIN") || begins(error, "CLUSTERDOWN") || begins(error, "MASTERDOWN") ||
                  begins(error, "LOADING");
    return passes ? REDIS_LATER : REDIS_NO_REDIRECT;
}

/* --- the map --- */

/* Takes [HOST, PORT, ...]; a node that does not know its own host is reached where it was asked. */
static bool read_address(const redisReply *reply, const struct redis_address *asked,
                         struct redis_address *address)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2 ||
        reply->element[1]->type != REDIS_REPLY_INTEGER || reply->element[1]->integer <= 0 ||
        reply->element[1]->integer > 65535)
        return false;
    const char *host = redis_link_text(reply->element[0]);
    if (host == NULL || host[0] == '\0')
        host = asked->host;
    if (strlen(host) >= sizeof address->host)
        return false;
    *address = (struct redis_address){.port = (int)reply->element[1]->integer};
    memcpy(address->host, host, strlen(host) + 1);
    return true;
}

/* [FIRST, LAST, master, replica ...]: the master serves the slots; the replicas may be asked for the map. */
static void read_range(struct redis_route *route, const redisReply *range, const struct redis_address *asked)
{
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3 ||
        range->element[0]->type != REDIS_REPLY_INTEGER || range->element[1]->type != REDIS_REPLY_INTEGER)
        return;
    long long first = range->element[0]->integer;
    long long last = range->element[1]->integer;
    for (size_t i = 2; i < range->elements; i++) {
        struct redis_address address;
        unsigned node = read_address(range->element[i], asked, &address) ? node_of(route, &address) : NO_NODE;
        for (long long slot = first; i == 2 && first >= 0 && slot <= last && slot < REDIS_SLOTS; slot++)
            route->slots[slot] = (uint16_t)node;
    }
}

/* Asks that node. One that knows no CLUSTER, or may not tell, is taken for the only one. */
static bool read_map(struct redis_route *route, const struct redis_address *asked, struct fault *fault)
{
    struct redis_path path = {0};
    if (!connect_node(route, node_of(route, asked), &path, fault))
        return false;
    redisReply *reply = redisCommandArgv(path.link, 2, (const char *[]){"CLUSTER", "SLOTS"}, NULL);
    if (reply == NULL)
        return redis_link_lost(path.link, asked, fault);
    if (reply->type == REDIS_REPLY_ERROR && redis_route_redirect(reply->str) == REDIS_LATER) {
        redis_link_refused(reply, asked, "CLUSTER", fault);
        freeReplyObject(reply);
        return false;
    }
    route->is_cluster = reply->type == REDIS_REPLY_ARRAY;
    for (unsigned i = 0; i < REDIS_SLOTS; i++)
        route->slots[i] = route->is_cluster ? NO_NODE : (uint16_t)node_of(route, asked);
    for (size_t i = 0; route->is_cluster && i < reply->elements; i++)
        read_range(route, reply->element[i], asked);
    freeReplyObject(reply);
    route->is_read = true;
    return true;
}

/* Asks one after the other: the hint, those that are known, those of the URL. Where nothing comes back, each costs its time: the rest is asked by
 * the next call. */
static bool learn_map(struct redis_route *route, struct fault *fault)
{
    uint64_t end_ms = clock_ms(CLOCK_MONOTONIC) + LEARN_MS;
    struct redis_address asked = route->hint;
    route->hint = (struct redis_address){0};
    if (asked.host[0] != '\0' && read_map(route, &asked, fault))
        return true;
    unsigned known = route->is_cluster ? route->count : 0;
    unsigned all = known + route->target.count;
    for (unsigned i = 0; i < all; i++) {
        unsigned at = route->first++ % all;
        asked = at < known ? route->nodes[at].address : route->target.addresses[at - known];
        if (read_map(route, &asked, fault)) {
            route->first = at; /* it is the first again */
            return true;
        }
        if (clock_ms(CLOCK_MONOTONIC) >= end_ms)
            return false;
    }
    return false;
}

bool redis_route_path(struct redis_route *route, const char *key, struct redis_path *path,
                      struct fault *fault)
{
    if (!route->is_read && !learn_map(route, fault))
        return false;
    unsigned node = route->slots[redis_route_slot(key)];
    if (node == NO_NODE)
        return fault_set(fault, EX_UNAVAILABLE,
                         "no node of the Redis Cluster serves slot %u: see redis-cli --cluster check",
                         redis_route_slot(key));
    return connect_node(route, node, path, fault);
}

bool redis_route_is_cluster(const struct redis_route *route)
{
    return route->is_cluster;
}

unsigned redis_route_generation(const struct redis_route *route)
{
    return route->generation;
}

/* --- redirects --- */

/* "MOVED 3999 HOST:PORT", "ASK 3999 HOST:PORT"; without a host it is that of whoever answered, which is left to the map. */
static bool parse_redirect(const char *error, struct redis_address *address)
{
    const char *where = strrchr(error, ' ');
    const char *colon = where == NULL ? NULL : strrchr(where, ':');
    size_t length = colon == NULL ? 0 : (size_t)(colon - where - 1);
    if (length == 0 || length >= sizeof address->host)
        return false;
    char *end;
    long port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port <= 0 || port > 65535)
        return false;
    memcpy(address->host, where + 1, length);
    address->host[length] = '\0';
    address->port = (int)port;
    return true;
}

bool redis_route_ask(struct redis_route *route, const char *error, struct redis_path *path,
                     struct fault *fault)
{
    struct redis_address address;
    if (redis_route_redirect(error) != REDIS_ASK || !parse_redirect(error, &address))
        return fault_set(fault, EX_UNAVAILABLE, "Redis gave an unexpected answer: %s", error);
    if (!connect_node(route, node_of(route, &address), path, fault))
        return false;
    path->asking = true;
    return true;
}

void redis_route_forget(struct redis_route *route, const char *moved)
{
    disconnect(route);
    route->generation++;
    route->is_read = false;
    if (route->count > NODES_MAX / 2)
        route->count = 0; /* most of them are long gone; those of the URL name the others */
    if (moved == NULL || redis_route_redirect(moved) != REDIS_MOVED || !parse_redirect(moved, &route->hint))
        route->hint = (struct redis_address){0};
}

/* --- one command --- */

/* NULL: the connection is lost. */
static redisReply *run(const struct redis_path *path, int argc, const char **argv, struct fault *fault)
{
    void *asking = NULL;
    void *reply = NULL;
    if (path->asking)
        (void)redisAppendCommand(path->link, "ASKING");
    (void)redisAppendCommandArgv(path->link, argc, argv, NULL); /* without memory there is no reply */
    bool good = !path->asking || redisGetReply(path->link, &asking) == REDIS_OK;
    freeReplyObject(asking);
    if (good && redisGetReply(path->link, &reply) == REDIS_OK)
        return reply;
    redis_link_lost(path->link, &path->address, fault);
    return NULL;
}

/* Follows ASK at once; MOVED and what passes is left to the caller, with the reply. */
static redisReply *run_at(struct redis_route *route, struct redis_path path, int argc, const char **argv,
                          struct fault *fault)
{
    redisReply *reply = run(&path, argc, argv, fault);
    for (unsigned i = 0; i < REDIRECTS_MAX && reply != NULL && reply->type == REDIS_REPLY_ERROR &&
                         redis_route_redirect(reply->str) == REDIS_ASK;
         i++) {
        bool asked = redis_route_ask(route, reply->str, &path, fault);
        freeReplyObject(reply);
        reply = asked ? run(&path, argc, argv, fault) : NULL;
    }
    return reply;
}

/* One try; `*again`: another may help. */
static redisReply *try_command(struct redis_route *route, const char *key, int argc, const char **argv,
                               bool *again, struct fault *fault)
{
    struct redis_path path = {0};
    redisReply *reply =
        redis_route_path(route, key, &path, fault) ? run_at(route, path, argc, argv, fault) : NULL;
    *again = route->is_cluster;
    if (reply == NULL) {
        redis_route_forget(route, NULL);
        return NULL;
    }
    if (reply->type != REDIS_REPLY_ERROR)
        return reply;
    enum redis_redirect redirect = redis_route_redirect(reply->str);
    *again = route->is_cluster && redirect != REDIS_NO_REDIRECT;
    redis_link_refused(reply, &path.address, argv[0], fault);
    if (redirect != REDIS_NO_REDIRECT)
        redis_route_forget(route, reply->str);
    freeReplyObject(reply);
    return NULL;
}

redisReply *redis_route_command(struct redis_route *route, const char *key, unsigned patience_ms, int argc,
                                const char **argv, struct fault *fault)
{
    uint64_t end_ms = clock_ms(CLOCK_MONOTONIC) + patience_ms;
    bool again = true;
    redisReply *reply = try_command(route, key, argc, argv, &again, fault);
    for (unsigned tries = 0; reply == NULL && again && (tries == 0 || clock_ms(CLOCK_MONOTONIC) < end_ms);
         tries++) {
        if (tries > 0) /* the first time a node may just have named the right one */
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        reply = try_command(route, key, argc, argv, &again, fault);
    }
    return reply;
}
