/* Frames on their way to Redis; see redis_shipment.h. */
#include "persist/querylog/redis_shipment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

/* Commands of one frame: XADD, PEXPIREAT. */
#define COMMANDS_PER_FRAME 2
#define REDIRECT_BYTES 128

void redis_shipment_key(uint64_t server_id, uint64_t hour_ms, uint32_t bucket,
                        char key[static REDIS_SHIPMENT_KEY_BYTES])
{
    char hour[16];
    struct tm utc;
    gmtime_r(&(time_t){(time_t)(hour_ms / 1000)}, &utc);
    strftime(hour, sizeof hour, "%Y%m%d%H", &utc);
    snprintf(key, REDIS_SHIPMENT_KEY_BYTES, "querylog:{%016" PRIx64 "}:%s:%02" PRIx32, server_id, hour,
             bucket);
}

static void append(redisContext *link, int argc, const char **argv, const size_t *lengths)
{
    /* Fails only without memory, which the missing reply will show. */
    (void)redisAppendCommandArgv(link, argc, argv, lengths);
}

void redis_shipment_names(const struct redis_shipment *shipment, const struct frame *frame,
                          char key[static REDIS_SHIPMENT_KEY_BYTES], char id[static REDIS_SHIPMENT_ID_BYTES])
{
    redis_shipment_key(shipment->server_id, frame->hour_ms, frame->bucket, key);
    snprintf(id, REDIS_SHIPMENT_ID_BYTES, "%" PRIu64 "-%" PRIu64, shipment->sequence, frame->index);
}

static void append_frame(redisContext *link, const struct redis_shipment *shipment, const struct frame *frame)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    char id[REDIS_SHIPMENT_ID_BYTES];
    char expiry[24];
    redis_shipment_names(shipment, frame, key, id);
    snprintf(expiry, sizeof expiry, "%" PRIu64, frame_hour_over_at(frame->hour_ms, shipment->retention_ms));
    size_t frame_bytes = sizeof *frame + frame->payload_bytes;
    append(link, 5, (const char *[]){"XADD", key, id, "f", (const char *)frame},
           (const size_t[]){4, strlen(key), strlen(id), 1, frame_bytes});
    append(link, 3, (const char *[]){"PEXPIREAT", key, expiry}, NULL);
}

/* XADD refuses an id that is not above the stream's last: mostly since the frame is there already. */
static bool is_refused_id(const redisReply *added)
{
    return added->type == REDIS_REPLY_ERROR && strstr(added->str, "equal or smaller") != NULL;
}

static bool is_stored(const redisReply *added, const redisReply *expiry_set)
{
    bool there =
        added->type == REDIS_REPLY_STRING || added->type == REDIS_REPLY_STATUS || is_refused_id(added);
    return there && expiry_set->type == REDIS_REPLY_INTEGER;
}

/* What was sent to one node, and what came back. */
struct exchange {
    const struct redis_path *path;
    struct fault *fault;
    char redirect[REDIRECT_BYTES]; /* the first error reply that names another node; empty: none did */
};

static struct exchange begin(const struct redis_path *path, struct fault *fault)
{
    *fault = (struct fault){0};
    if (path->asking)
        append(path->link, 1, (const char *[]){"ASKING"}, NULL);
    return (struct exchange){.path = path, .fault = fault};
}

/* Keeps the first error reply as the fault's reason. */
static void note_refusal(const redisReply *reply, struct exchange *exchange)
{
    if (reply->type != REDIS_REPLY_ERROR || exchange->fault->status != 0)
        return;
    fault_set(exchange->fault, EX_UNAVAILABLE, "Redis refuses the query log: %s", reply->str);
    enum redis_redirect redirect = redis_route_redirect(reply->str);
    if (redirect == REDIS_MOVED || redirect == REDIS_ASK)
        snprintf(exchange->redirect, sizeof exchange->redirect, "%s", reply->str);
}

/* The next reply, or NULL and the fault when the connection is lost. */
static redisReply *next_reply(struct exchange *exchange)
{
    void *reply;
    redisContext *link = exchange->path->link;
    if (redisGetReply(link, &reply) == REDIS_OK) {
        note_refusal(reply, exchange);
        return reply;
    }
    fault_set(exchange->fault, EX_UNAVAILABLE, "Redis is away (%s)", link->errstr);
    exchange->redirect[0] = '\0';
    return NULL;
}

/* Reads `replies` replies and forgets them; false when the connection is lost. */
static bool skip_replies(struct exchange *exchange, unsigned replies)
{
    for (unsigned i = 0; i < replies + exchange->path->asking; i++) {
        redisReply *reply = next_reply(exchange);
        if (reply == NULL)
            return false;
        freeReplyObject(reply);
    }
    return true;
}

/* --- the list of servers --- */

static bool announce_at(const struct redis_path *path, const struct redis_shipment *shipment,
                        char redirect[static REDIRECT_BYTES], struct fault *fault)
{
    char server[20];
    char hour[24];
    char expiry[24];
    char oldest[24];
    uint64_t hour_ms = shipment->announce_hour_ms;
    redisContext *link = path->link;
    struct exchange exchange = begin(path, fault);
    snprintf(server, sizeof server, "%016" PRIx64, shipment->server_id);
    snprintf(hour, sizeof hour, "%" PRIu64, hour_ms);
    snprintf(expiry, sizeof expiry, "%" PRIu64, frame_hour_over_at(hour_ms, shipment->retention_ms));
    snprintf(oldest, sizeof oldest, "(%" PRIu64, hour_ms - shipment->retention_ms);
    append(link, 1, (const char *[]){"MULTI"}, NULL);
    append(link, 5, (const char *[]){"ZADD", REDIS_SHIPMENT_SERVERS_KEY, "GT", hour, server}, NULL);
    append(link, 4, (const char *[]){"PEXPIREAT", REDIS_SHIPMENT_SERVERS_KEY, expiry, "NX"}, NULL);
    append(link, 4, (const char *[]){"PEXPIREAT", REDIS_SHIPMENT_SERVERS_KEY, expiry, "GT"}, NULL);
    append(link, 4, (const char *[]){"ZREMRANGEBYSCORE", REDIS_SHIPMENT_SERVERS_KEY, "-inf", oldest}, NULL);
    append(link, 1, (const char *[]){"EXEC"}, NULL);
    bool done = skip_replies(&exchange, 6) && fault->status == 0;
    memcpy(redirect, exchange.redirect, sizeof exchange.redirect);
    return done;
}

/* Lists this server among those who have query logs, so that a reader needs no scan. The list's expiry only
 * ever moves on with the newest hour; it holds no record. */
static bool announce(const struct redis_shipment *shipment, char redirect[static REDIRECT_BYTES],
                     struct fault *fault)
{
    struct redis_path path;
    if (!redis_route_path(shipment->route, REDIS_SHIPMENT_SERVERS_KEY, &path, fault))
        return false;
    if (announce_at(&path, shipment, redirect, fault))
        return true;
    return redis_route_redirect(redirect) == REDIS_ASK &&
           redis_route_ask(shipment->route, redirect, &path, fault) &&
           announce_at(&path, shipment, redirect, fault);
}

/* --- frames --- */

/* Some whole frames of a shipment, for one node. */
struct parcel {
    const struct redis_shipment *shipment;
    size_t from; /* of the shipment's bytes */
    size_t until;
    uint64_t events; /* confirmed now for the first time */
    uint64_t lost;   /* of them those that never can be there */
};

static const struct frame *frame_at(const struct redis_shipment *shipment, size_t at)
{
    return (const void *)((const char *)shipment->frames + at);
}

static size_t frame_end(const struct redis_shipment *shipment, size_t at)
{
    return at + sizeof(struct frame) + frame_at(shipment, at)->payload_bytes;
}

/* True when EXEC's answer says of each frame that it is stored with its expiry. */
static bool are_stored(const redisReply *exec, unsigned frames, struct exchange *exchange)
{
    struct fault *fault = exchange->fault;
    if (exec->type != REDIS_REPLY_ARRAY || exec->elements != (size_t)frames * COMMANDS_PER_FRAME)
        return fault_set(fault, EX_UNAVAILABLE, "Redis gave an unexpected answer");
    for (unsigned i = 0; i < frames; i++) {
        const redisReply *added = exec->element[(size_t)i * COMMANDS_PER_FRAME];
        const redisReply *expiry_set = exec->element[(size_t)i * COMMANDS_PER_FRAME + 1];
        if (is_stored(added, expiry_set))
            continue;
        note_refusal(added, exchange);
        note_refusal(expiry_set, exchange);
        return fault->status != 0 ? false
                                  : fault_set(fault, EX_UNAVAILABLE, "Redis gave an unexpected answer");
    }
    return true;
}

/* Asks whether the refused frame is really there. If not, somebody else writes under this server's id (a
 * copied data directory) or its clock and sequence went back: the frame cannot be added, and its events count
 * as lost. False: Redis is away, or does not say. */
static bool verify_refused(struct parcel *parcel, struct exchange *exchange, const struct frame *frame)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    char id[REDIS_SHIPMENT_ID_BYTES];
    redis_shipment_names(parcel->shipment, frame, key, id);
    if (exchange->path->asking)
        append(exchange->path->link, 1, (const char *[]){"ASKING"}, NULL);
    append(exchange->path->link, 4, (const char *[]){"XRANGE", key, id, id}, NULL);
    redisReply *found = skip_replies(exchange, 0) ? next_reply(exchange) : NULL;
    if (found == NULL)
        return false;
    bool is_answer =
        found->type == REDIS_REPLY_ARRAY ||
        fault_set(exchange->fault, EX_UNAVAILABLE, "Redis does not say whether it has a frame: %s",
                  found->type == REDIS_REPLY_ERROR ? found->str : "no array");
    if (is_answer && found->elements == 0) {
        parcel->lost += frame->events;
        parcel->shipment->notice(
            NOTICE_ERROR,
            "Redis has later query events under this server's id than this server wrote: is a copy of "
            "its data directory in use elsewhere? events are lost");
    }
    freeReplyObject(found);
    return is_answer;
}

/* Walks the answer beside the frames and verifies those that were refused. */
static bool verify_frames(struct parcel *parcel, struct exchange *exchange, const redisReply *exec)
{
    size_t at = parcel->from;
    for (size_t i = 0; at < parcel->until; i++, at = frame_end(parcel->shipment, at))
        if (at >= parcel->shipment->confirmed_bytes && is_refused_id(exec->element[i * COMMANDS_PER_FRAME]) &&
            !verify_refused(parcel, exchange, frame_at(parcel->shipment, at)))
            return false;
    return true;
}

/* One transaction. False: the fault, and the error that names another node, or none. */
static bool send_parcel(struct parcel *parcel, const struct redis_path *path,
                        char redirect[static REDIRECT_BYTES], struct fault *fault)
{
    const struct redis_shipment *shipment = parcel->shipment;
    struct exchange exchange = begin(path, fault);
    unsigned frames = 0;
    parcel->events = parcel->lost = 0;
    append(path->link, 1, (const char *[]){"MULTI"}, NULL);
    for (size_t at = parcel->from; at < parcel->until; frames++, at = frame_end(shipment, at)) {
        append_frame(path->link, shipment, frame_at(shipment, at));
        parcel->events += at >= shipment->confirmed_bytes ? frame_at(shipment, at)->events : 0;
    }
    append(path->link, 1, (const char *[]){"EXEC"}, NULL);
    redisReply *exec =
        skip_replies(&exchange, 1 + frames * COMMANDS_PER_FRAME) ? next_reply(&exchange) : NULL;
    bool stored = exec != NULL && fault->status == 0 && are_stored(exec, frames, &exchange) &&
                  verify_frames(parcel, &exchange, exec);
    freeReplyObject(exec);
    memcpy(redirect, exchange.redirect, sizeof exchange.redirect);
    return stored;
}

/* While the slot moves: a stream that has gone, or that is not there yet, is at the node that ASK names. */
static bool send_each(struct parcel *parcel, const struct redis_path *path,
                      char redirect[static REDIRECT_BYTES], struct fault *fault)
{
    uint64_t events = 0;
    uint64_t lost = 0;
    for (size_t at = parcel->from; at < parcel->until; at = frame_end(parcel->shipment, at)) {
        struct parcel one = {
            .shipment = parcel->shipment, .from = at, .until = frame_end(parcel->shipment, at)};
        struct redis_path asked;
        if (!send_parcel(&one, path, redirect, fault) &&
            (redis_route_redirect(redirect) != REDIS_ASK ||
             !redis_route_ask(parcel->shipment->route, redirect, &asked, fault) ||
             !send_parcel(&one, &asked, redirect, fault)))
            return false;
        events += one.events;
        lost += one.lost;
    }
    parcel->events = events;
    parcel->lost = lost;
    return true;
}

/* The frames. False: the fault, and the error that names another node, or none. */
static bool send_frames(struct parcel *parcel, char redirect[static REDIRECT_BYTES], struct fault *fault)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    struct redis_path path;
    redis_shipment_key(parcel->shipment->server_id, 0, 0, key);
    if (!redis_route_path(parcel->shipment->route, key, &path, fault))
        return false;
    return send_parcel(parcel, &path, redirect, fault) ||
           (redis_route_redirect(redirect) == REDIS_ASK && send_each(parcel, &path, redirect, fault));
}

/* The list is in a slot of its own: of a cluster, another node may have it. */
static bool may_go_unlisted(const struct redis_shipment *shipment, const char *redirect)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    redis_shipment_key(shipment->server_id, 0, 0, key);
    return redis_route_is_cluster(shipment->route) && redirect[0] == '\0' &&
           redis_route_slot(key) != redis_route_slot(REDIS_SHIPMENT_SERVERS_KEY);
}

enum redis_shipped redis_shipment_send(const struct redis_shipment *shipment, struct redis_delivery *delivery,
                                       struct fault *fault)
{
    char redirect[REDIRECT_BYTES] = "";
    struct fault of_frames;
    struct parcel parcel = {.shipment = shipment, .until = shipment->bytes};
    *fault = (struct fault){0};
    *delivery = (struct redis_delivery){0};
    bool is_listed = shipment->announce_hour_ms == 0 || announce(shipment, redirect, fault);
    bool sent = is_listed || may_go_unlisted(shipment, redirect);
    if (sent) {
        sent = send_frames(&parcel, redirect, &of_frames);
        if (is_listed || !sent)
            *fault = of_frames;
    }
    if (sent) {
        *delivery = (struct redis_delivery){parcel.events - parcel.lost, parcel.lost, !is_listed};
        return REDIS_SHIPPED;
    }
    if (redis_route_redirect(redirect) != REDIS_MOVED)
        return REDIS_NOT_SHIPPED;
    redis_route_forget(shipment->route, redirect);
    return REDIS_SHIPPING_MOVED;
}
