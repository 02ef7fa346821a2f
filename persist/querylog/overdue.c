/* What is overdue; see overdue.h. */
#include "persist/querylog/overdue.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/querylog/frame.h"
#include "persist/querylog/hour_key.h"
#include "persist/querylog/querylog.h"
#include "persist/querylog/redis_shipment.h"
#include "persist/querylog/segment.h"
#include "persist/redis/redis_route.h"

#define RETENTION_MAX_MS (QUERYLOG_RETENTION_HOURS_MAX * FRAME_HOUR_MS)

static void report(FILE *out, uint64_t *found, const char *what, uint64_t over_at, uint64_t now_ms)
{
    fprintf(out, "BAD   %s: should have been erased %" PRIu64 " seconds ago\n", what,
            (now_ms - over_at) / 1000);
    ++*found;
}

/* --- the disk --- */

bool overdue_in_folder(const char *folder, uint64_t now_ms, FILE *out, uint64_t *found, struct fault *fault)
{
    DIR *entries = segment_open_folder(folder);
    if (entries == NULL)
        return fault_set(fault, EX_NOINPUT, "cannot read the folder %s: %s", folder, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        uint64_t seconds;
        char kind[16] = "";
        if (sscanf(entry->d_name, "%*16[0-9a-f]-%" SCNu64 ".%15s", &seconds, kind) != 2)
            continue;
        bool is_key = strncmp(kind, "key", 3) == 0;
        bool is_hold = strncmp(kind, "hold", 4) == 0; /* its name has its end */
        if (is_hold && seconds * 1000 <= now_ms)
            report(out, found, entry->d_name, seconds * 1000, now_ms);
        if (!is_key && strncmp(kind, "segment", 7) != 0)
            continue;
        uint64_t retention_ms = RETENTION_MAX_MS;
        if (is_key)
            (void)hour_key_read_retention(dirfd(entries), entry->d_name,
                                          &retention_ms); /* else the longest */
        uint64_t over_at = frame_hour_over_at(seconds * 1000, retention_ms);
        if (over_at <= now_ms)
            report(out, found, entry->d_name, over_at, now_ms);
    }
    closedir(entries);
    return true;
}

/* --- Redis --- */

/* -2: there is no such key; -1: it never expires; else when, in ms. What another node of a cluster has is asked there, once all replies are
 * in. */
static bool read_expiry(struct redis_route *route, const char *key, redisReply *reply, long long *expires_ms,
                        struct fault *fault)
{
    redisReply *asked = NULL;
    if (reply->type == REDIS_REPLY_ERROR && redis_route_redirect(reply->str) != REDIS_NO_REDIRECT) {
        asked = redis_route_command(route, key, REDIS_ROUTE_PATIENCE_MS, 2,
                                    (const char *[]){"PEXPIRETIME", key}, fault);
        if (asked == NULL)
            return false;
        reply = asked;
    }
    bool good = reply->type == REDIS_REPLY_INTEGER ||
                fault_set(fault, EX_UNAVAILABLE, "Redis gave an unexpected answer: %s",
                          reply->type == REDIS_REPLY_ERROR ? reply->str : "no number");
    *expires_ms = reply->integer;
    freeReplyObject(asked);
    return good;
}

/* All of the hour's keys in one pipeline; they are in one slot. */
static bool ask_expiries(struct redis_route *route, char keys[FRAME_BUCKETS][REDIS_SHIPMENT_KEY_BYTES],
                         redisReply *replies[FRAME_BUCKETS], struct fault *fault)
{
    struct redis_path path;
    if (!redis_route_path(route, keys[0], &path, fault))
        return false;
    for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++)
        if (redisAppendCommand(path.link, "PEXPIRETIME %s", keys[bucket]) != REDIS_OK)
            return fault_set(fault, EX_OSERR, "out of memory");
    for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++)
        if (redisGetReply(path.link, (void **)&replies[bucket]) != REDIS_OK)
            return fault_set(fault, EX_UNAVAILABLE, "Redis is away (%s)", path.link->errstr);
    return true;
}

static void judge(FILE *out, uint64_t *found, const char *key, long long expires_ms, uint64_t over_at,
                  uint64_t now_ms)
{
    if (expires_ms == -2)
        return;
    if (over_at <= now_ms) {
        report(out, found, key, over_at, now_ms);
    } else if (expires_ms < 0 || (uint64_t)expires_ms > over_at) {
        fprintf(out, "BAD   %s: expires %s\n", key, expires_ms < 0 ? "never" : "later than it must");
        ++*found;
    }
}

static bool check_hour(struct redis_route *route, uint64_t server_id, uint64_t hour_ms, uint64_t now_ms,
                       FILE *out, uint64_t *found, struct fault *fault)
{
    char keys[FRAME_BUCKETS][REDIS_SHIPMENT_KEY_BYTES];
    redisReply *replies[FRAME_BUCKETS] = {NULL};
    uint64_t over_at = frame_hour_over_at(hour_ms, RETENTION_MAX_MS);
    for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++)
        redis_shipment_key(server_id, hour_ms, bucket, keys[bucket]);
    bool good = ask_expiries(route, keys, replies, fault);
    for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++) {
        long long expires_ms = -2;
        good = good && read_expiry(route, keys[bucket], replies[bucket], &expires_ms, fault);
        if (good)
            judge(out, found, keys[bucket], expires_ms, over_at, now_ms);
        freeReplyObject(replies[bucket]);
    }
    return good;
}

bool overdue_in_redis(const char *url, uint64_t now_ms, FILE *out, uint64_t *found, struct fault *fault)
{
    struct redis_target target;
    if (!redis_target_parse(url, &target, fault))
        return false;
    struct redis_route *route = redis_route_create(&target);
    if (route == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for Redis");
    redisReply *servers =
        redis_route_command(route, REDIS_SHIPMENT_SERVERS_KEY, REDIS_ROUTE_PATIENCE_MS, 4,
                            (const char *[]){"ZRANGE", REDIS_SHIPMENT_SERVERS_KEY, "0", "-1"}, fault);
    bool good = servers != NULL;
    for (size_t i = 0; good && i < servers->elements; i++) {
        const char *name = redis_link_text(servers->element[i]);
        if (name == NULL) {
            good = fault_set(fault, EX_UNAVAILABLE, "Redis gave an unexpected answer: a server without name");
            break;
        }
        uint64_t server_id = strtoull(name, NULL, 16);
        for (uint64_t hour = frame_hour_of(now_ms - 2 * RETENTION_MAX_MS); good && hour <= now_ms;
             hour += FRAME_HOUR_MS)
            good = check_hour(route, server_id, hour, now_ms, out, found, fault);
    }
    freeReplyObject(servers);
    redis_route_destroy(route);
    return good;
}
