/* One blocking connection to Redis; see redis_link.h. */
#include "persist/redis/redis_link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define CONNECT_SECONDS 2
#define COMMAND_SECONDS 5
#define DEFAULT_PORT 6379

static bool copy_part(char *to, size_t size, const char *from, size_t length)
{
    if (length >= size)
        return false;
    memcpy(to, from, length);
    to[length] = '\0';
    return true;
}

static bool parse_number(const char *text, int max, int *value)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || number < 0 || number > max)
        return false;
    *value = (int)number;
    return true;
}

/* Takes "user:password@" off the front of `*rest`. */
static bool parse_credentials(const char **rest, struct redis_target *target)
{
    const char *at = strrchr(*rest, '@');
    if (at == NULL)
        return true;
    const char *colon = memchr(*rest, ':', (size_t)(at - *rest));
    if (colon == NULL || !copy_part(target->user, sizeof target->user, *rest, (size_t)(colon - *rest)) ||
        !copy_part(target->password, sizeof target->password, colon + 1, (size_t)(at - colon - 1)))
        return false;
    *rest = at + 1;
    return true;
}

/* HOST[:PORT], the host in brackets if it has colons. */
static bool parse_address(const char *text, size_t length, struct redis_target *target)
{
    char copy[300];
    if (target->count == REDIS_ADDRESSES_MAX || !copy_part(copy, sizeof copy, text, length))
        return false;
    struct redis_address *address = &target->addresses[target->count++];
    address->port = DEFAULT_PORT;
    char *bracket = copy[0] == '[' ? strchr(copy, ']') : NULL;
    char *colon = strchr(bracket == NULL ? copy : bracket, ':');
    if (colon != NULL) {
        *colon = '\0';
        if (!parse_number(colon + 1, 65535, &address->port) || address->port == 0)
            return false;
    }
    if (bracket != NULL)
        *bracket = '\0';
    const char *host = bracket == NULL ? copy : copy + 1;
    return host[0] != '\0' && copy_part(address->host, sizeof address->host, host, strlen(host));
}

static bool parse_tcp(const char *rest, struct redis_target *target)
{
    const char *end = rest + strcspn(rest, "/");
    for (const char *at = rest;; at++) {
        size_t length = strcspn(at, ",/");
        if (!parse_address(at, length, target))
            return false;
        at += length;
        if (at == end)
            break;
    }
    return end[0] == '\0' || end[1] == '\0' || parse_number(end + 1, 65535, &target->database);
}

static bool parse_unix(const char *rest, struct redis_target *target)
{
    const char *query = strstr(rest, "?db=");
    size_t length = query == NULL ? strlen(rest) : (size_t)(query - rest);
    target->count = 1;
    return rest[0] == '/' &&
           copy_part(target->addresses[0].host, sizeof target->addresses[0].host, rest, length) &&
           (query == NULL || parse_number(query + 4, 65535, &target->database));
}

bool redis_target_parse(const char *url, struct redis_target *target, struct fault *fault)
{
    *target = (struct redis_target){0};
    bool tcp = strncmp(url, "redis://", 8) == 0;
    const char *rest = url + (tcp ? 8 : 7);
    if ((tcp || strncmp(url, "unix://", 7) == 0) && parse_credentials(&rest, target) &&
        (tcp ? parse_tcp(rest, target) : parse_unix(rest, target)))
        return true;
    return fault_set(fault, EX_USAGE,
                     "the Redis URL is not understood; write redis://HOST:PORT/DB, "
                     "redis://HOST:PORT,HOST:PORT for a cluster, or "
                     "unix:///PATH, with USER:PASSWORD@ before the host if needed");
}

bool redis_link_lost(const redisContext *link, const struct redis_address *address, struct fault *fault)
{
    const char *what = link == NULL ? "out of memory" : link->errstr;
    if (strcmp(what, strerror(EAGAIN)) == 0)
        what = "does not answer in time";
    return fault_set(fault, EX_UNAVAILABLE, "Redis at %s port %d: %s; check that it runs and is reachable",
                     address->host, address->port, what);
}

bool redis_link_refused(const redisReply *reply, const struct redis_address *address, const char *command,
                        struct fault *fault)
{
    return fault_set(fault, EX_UNAVAILABLE, "Redis at %s port %d refuses %s: %s", address->host,
                     address->port, command, reply->str);
}

redisReply *redis_link_command(redisContext *link, const struct redis_address *address, int argc,
                               const char **argv, struct fault *fault)
{
    redisReply *reply = redisCommandArgv(link, argc, argv, NULL);
    if (reply == NULL) {
        redis_link_lost(link, address, fault);
        return NULL;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_link_refused(reply, address, argv[0], fault);
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

const char *redis_link_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING ? reply->str : NULL;
}

static bool run(redisContext *link, const struct redis_address *address, int argc, const char **argv,
                struct fault *fault)
{
    redisReply *reply = redis_link_command(link, address, argc, argv, fault);
    freeReplyObject(reply);
    return reply != NULL;
}

static bool log_in(redisContext *link, const struct redis_address *address, const struct redis_target *target,
                   struct fault *fault)
{
    char database[16];
    snprintf(database, sizeof database, "%d", target->database);
    const char *auth[3] = {"AUTH", target->user, target->password};
    const char *auth_default[2] = {"AUTH", target->password};
    if (target->password[0] != '\0' &&
        !(target->user[0] != '\0' ? run(link, address, 3, auth, fault)
                                  : run(link, address, 2, auth_default, fault)))
        return false;
    return run(link, address, 2, (const char *[]){"SELECT", database}, fault);
}

redisContext *redis_link_connect(const struct redis_address *address, const struct redis_target *target,
                                 struct fault *fault)
{
    struct timeval connect_timeout = {.tv_sec = CONNECT_SECONDS};
    struct timeval command_timeout = {.tv_sec = COMMAND_SECONDS};
    redisContext *link = address->port == 0
                             ? redisConnectUnixWithTimeout(address->host, connect_timeout)
                             : redisConnectWithTimeout(address->host, address->port, connect_timeout);
    if (link == NULL || link->err != 0 || redisSetTimeout(link, command_timeout) != REDIS_OK) {
        redis_link_lost(link, address, fault);
        redisFree(link);
        return NULL;
    }
    if (!log_in(link, address, target, fault)) {
        redisFree(link);
        return NULL;
    }
    return link;
}
