/* The feed's streams in Redis; see feed_wire.h. */
#include "persist/registrations/feed_wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "persist/clock.h"

/* A replica that follows has what was written within some milliseconds. */
#define WAIT_MS 200
/* For what is asked now and then: whoever asks comes again. */
#define NO_PATIENCE 0
#define NODE_BYTES 40
#define NEEDS ":needs"
#define TRIMMED "trimmed"

struct feed_wire {
    struct redis_route *route;
    unsigned min_replicas;
    bool is_checked;
    unsigned generation; /* of the connections that were */
    bool has_refusal;    /* in the last exchange; of an append */
    struct fault refusal;
    char node[NODE_BYTES];
    char needs[NODE_BYTES + sizeof NEEDS];
};

struct feed_wire *feed_wire_create(const struct redis_target *target, const char *node, unsigned min_replicas)
{
    struct feed_wire *wire = calloc(1, sizeof *wire);
    if (wire == NULL)
        return NULL;
    wire->min_replicas = min_replicas;
    snprintf(wire->node, sizeof wire->node, "%s", node);
    snprintf(wire->needs, sizeof wire->needs, "%s" NEEDS, wire->node);
    wire->route = redis_route_create(target);
    if (wire->route != NULL)
        return wire;
    free(wire);
    return NULL;
}

static void release_replies(struct feed_lane *lanes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        freeReplyObject(lanes[i].whole);
        lanes[i].whole = NULL;
        lanes[i].read = NULL;
    }
}

void feed_wire_destroy(struct feed_wire *wire, struct feed_lane *lanes, unsigned count)
{
    if (wire == NULL)
        return;
    release_replies(lanes, count);
    redis_route_destroy(wire->route);
    free(wire);
}

void feed_wire_init_lane(struct feed_lane *lane, unsigned partition)
{
    *lane = (struct feed_lane){.partition = partition, .read_most = FEED_READ_MAX};
    snprintf(lane->key, sizeof lane->key, "reg:{%u}", partition);
}

/* Nothing that is under way counts any more. Returns false. */
static bool give_up(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, const char *moved)
{
    for (unsigned i = 0; i < count; i++)
        lanes[i].ask[0] = '\0';
    redis_route_forget(wire->route, moved);
    return false;
}

/* --- now and then --- */

static redisReply *command(struct feed_wire *wire, const char *key, int argc, const char **argv,
                           struct fault *fault)
{
    return redis_route_command(wire->route, key, NO_PATIENCE, argc, argv, fault);
}

static bool run(struct feed_wire *wire, const char *key, int argc, const char **argv, struct fault *fault)
{
    redisReply *reply = command(wire, key, argc, argv, fault);
    freeReplyObject(reply);
    return reply != NULL;
}

bool feed_wire_parse_shape(const redisReply *reply, struct feed_shape *shape)
{
    unsigned accounts;
    const char *text = redis_link_text(reply);
    bool good = text != NULL &&
                sscanf(text, "%16" SCNx64 " %u %u", &shape->feed, &shape->partitions, &accounts) == 3 &&
                shape->feed != 0 && shape->partitions > 0 && shape->partitions <= FEED_PARTITIONS_MAX;
    if (good)
        shape->accounts = accounts != 0;
    return good;
}

bool feed_wire_learn_shape(struct feed_wire *wire, struct feed_shape *shape, struct fault *fault)
{
    char text[64];
    snprintf(text, sizeof text, "%016" PRIx64 " %u %u", shape->feed, shape->partitions, shape->accounts);
    if (!run(wire, FEED_SHAPE_KEY, 3, (const char *[]){"SETNX", FEED_SHAPE_KEY, text}, fault))
        return false;
    redisReply *reply = command(wire, FEED_SHAPE_KEY, 2, (const char *[]){"GET", FEED_SHAPE_KEY}, fault);
    if (reply == NULL)
        return false;
    bool good = feed_wire_parse_shape(reply, shape);
    if (!good)
        fault_set(fault, EX_DATAERR, "%s in Redis is no feed of registrations: name another database",
                  FEED_SHAPE_KEY);
    freeReplyObject(reply);
    return good;
}

/* Makes a consumer group, if it is not there. */
static bool make_group(struct feed_wire *wire, const struct feed_lane *lane, const char *group,
                       const char *position, struct fault *fault)
{
    return run(wire, lane->key, 6,
               (const char *[]){"XGROUP", "CREATE", lane->key, group, position, "MKSTREAM"}, fault) ||
           strstr(fault->text, "BUSYGROUP") != NULL;
}

/* The value of a map that comes as names and values; NULL: it has none. */
static const char *value_of(const redisReply *map, const char *name)
{
    for (size_t i = 0; map->type == REDIS_REPLY_ARRAY && i + 1 < map->elements; i += 2) {
        const char *found = redis_link_text(map->element[i]);
        if (found != NULL && strcmp(found, name) == 0)
            return redis_link_text(map->element[i + 1]);
    }
    return NULL;
}

/* All zero: it is none. */
struct feed_position feed_wire_position_of(const redisReply *map, const char *name)
{
    struct feed_position position;
    const char *text = value_of(map, name);
    return text != NULL && feed_position_parse(text, &position) ? position : (struct feed_position){0};
}

void feed_wire_each_group(const redisReply *groups,
                          void (*take)(const struct feed_wire_group *group, void *context), void *context)
{
    size_t suffix = strlen(NEEDS);
    for (size_t i = 0; groups->type == REDIS_REPLY_ARRAY && i < groups->elements; i++) {
        const char *name = value_of(groups->element[i], "name");
        struct feed_wire_group group = {.position =
                                            feed_wire_position_of(groups->element[i], "last-delivered-id")};
        size_t length = name == NULL ? 0 : strlen(name);
        if (length == 0 || length >= sizeof group.node)
            continue;
        memcpy(group.node, name, length);
        if (strcmp(name, TRIMMED) == 0) {
            group.kind = FEED_GROUP_TRIMMED;
        } else if (length > suffix && strcmp(name + length - suffix, NEEDS) == 0) {
            group.kind = FEED_GROUP_NEEDS;
            group.node[length - suffix] = '\0';
        }
        take(&group, context);
    }
}

struct bounds {
    struct feed_position trimmed; /* before it all is gone */
    struct feed_position needed;  /* the least that some node needs; great: none says so */
};

static void take_bounds(const struct feed_wire_group *group, void *context)
{
    struct bounds *bounds = context;
    if (group->kind == FEED_GROUP_TRIMMED)
        bounds->trimmed = group->position;
    if (group->kind == FEED_GROUP_NEEDS && feed_position_compare(&group->position, &bounds->needed) < 0)
        bounds->needed = group->position;
}

static bool read_bounds(struct feed_wire *wire, const struct feed_lane *lane, struct bounds *bounds,
                        struct fault *fault)
{
    *bounds = (struct bounds){.needed = {UINT64_MAX, UINT64_MAX}};
    return feed_wire_show_groups(wire, lane, take_bounds, bounds, fault);
}

static bool read_last(struct feed_wire *wire, const struct feed_lane *lane, struct feed_position *last,
                      struct fault *fault)
{
    redisReply *reply = command(wire, lane->key, 3, (const char *[]){"XINFO", "STREAM", lane->key}, fault);
    if (reply == NULL)
        return false;
    *last = feed_wire_position_of(reply, "last-generated-id");
    freeReplyObject(reply);
    return true;
}

static bool check_lane(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault)
{
    struct bounds bounds;
    struct feed_position last;
    /* First it is said what is needed: what is not gone by then stays. */
    if (!feed_wire_stay(wire, lane, fault) || !read_bounds(wire, lane, &bounds, fault) ||
        !read_last(wire, lane, &last, fault))
        return false;
    if (feed_position_compare(&lane->position, &bounds.trimmed) < 0)
        return fault_set(
            fault, EX_DATAERR,
            "%s in Redis has been trimmed beyond what this data directory has: start with a copy "
            "of another node's",
            lane->key);
    if (feed_position_compare(&lane->position, &last) > 0)
        return fault_set(fault, EX_DATAERR,
                         "%s in Redis has lost changes that this node has: see server/CLUSTER.md", lane->key);
    return true;
}

bool feed_wire_wants_check(const struct feed_wire *wire)
{
    return !wire->is_checked || wire->generation != redis_route_generation(wire->route);
}

bool feed_wire_check(struct feed_wire *wire, const struct feed_lane *lanes, unsigned count,
                     struct fault *fault)
{
    /* What closes connections in between makes it begin anew. */
    unsigned generation = redis_route_generation(wire->route);
    for (unsigned i = 0; i < count; i++)
        if (!check_lane(wire, &lanes[i], fault))
            return false;
    wire->generation = generation;
    wire->is_checked = true;
    return true;
}

bool feed_wire_trim(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault)
{
    char text[FEED_POSITION_TEXT_BYTES];
    struct bounds bounds;
    if (!read_bounds(wire, lane, &bounds, fault))
        return false;
    if (bounds.needed.ms == UINT64_MAX || feed_position_compare(&bounds.needed, &bounds.trimmed) <= 0)
        return true;
    feed_position_format(text, &bounds.needed);
    return make_group(wire, lane, TRIMMED, text, fault) &&
           run(wire, lane->key, 5, (const char *[]){"XGROUP", "SETID", lane->key, TRIMMED, text}, fault) &&
           run(wire, lane->key, 5, (const char *[]){"XTRIM", lane->key, "MINID", "~", text}, fault);
}

bool feed_wire_describe(struct feed_wire *wire, const char *text, bool is_news, uint64_t *version,
                        struct fault *fault)
{
    if (!run(wire, FEED_NODES_KEY, 4, (const char *[]){"HSET", FEED_NODES_KEY, wire->node, text}, fault))
        return false;
    redisReply *reply =
        command(wire, FEED_MAP_KEY, 3, (const char *[]){"INCRBY", FEED_MAP_KEY, is_news ? "1" : "0"}, fault);
    if (reply == NULL)
        return false;
    *version = reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;
    freeReplyObject(reply);
    return true;
}

struct feed_map *feed_wire_read_map(struct feed_wire *wire, uint64_t feed, unsigned partitions,
                                    uint64_t version, struct fault *fault)
{
    redisReply *nodes = command(wire, FEED_NODES_KEY, 2, (const char *[]){"HGETALL", FEED_NODES_KEY}, fault);
    if (nodes == NULL)
        return NULL;
    struct feed_map *map = feed_map_create(nodes, feed, partitions, version, clock_ms(CLOCK_REALTIME));
    freeReplyObject(nodes);
    if (map == NULL)
        fault_set(fault, EX_OSERR, "out of memory for the map of the feed's nodes");
    return map;
}

/* --- leaving a partition --- */

/* Of commands that want a stream: there is none. */
static bool has_no_key(const struct fault *fault)
{
    return strstr(fault->text, "no such key") != NULL || strstr(fault->text, "requires the key") != NULL;
}

bool feed_wire_retire(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault)
{
    const char *groups[] = {wire->node, wire->needs};
    for (unsigned i = 0; i < 2; i++)
        if (!run(wire, lane->key, 4, (const char *[]){"XGROUP", "DESTROY", lane->key, groups[i]}, fault) &&
            !has_no_key(fault))
            return false;
    return true;
}

bool feed_wire_stay(struct feed_wire *wire, const struct feed_lane *lane, struct fault *fault)
{
    return make_group(wire, lane, wire->needs, "0", fault) && make_group(wire, lane, wire->node, "0", fault);
}

bool feed_wire_show_groups(struct feed_wire *wire, const struct feed_lane *lane,
                           void (*take)(const struct feed_wire_group *group, void *context), void *context,
                           struct fault *fault)
{
    redisReply *reply = command(wire, lane->key, 3, (const char *[]){"XINFO", "GROUPS", lane->key}, fault);
    if (reply == NULL)
        return has_no_key(fault);
    feed_wire_each_group(reply, take, context);
    freeReplyObject(reply);
    return true;
}

/* --- an exchange --- */

static void append_command(const struct feed_lane *lane, int argc, const char **argv, const size_t *lengths)
{
    if (lane->path.asking)
        (void)redisAppendCommand(lane->path.link, "ASKING");
    /* Without memory there is no reply, which is a lost connection. */
    (void)redisAppendCommandArgv(lane->path.link, argc, argv, lengths);
}

static bool find_paths(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, struct fault *fault)
{
    for (unsigned i = 0; i < count; i++) {
        bool has_ask = lanes[i].ask[0] != '\0';
        if (has_ask && !redis_route_ask(wire->route, lanes[i].ask, &lanes[i].path, fault))
            return false;
        if (!has_ask && !redis_route_path(wire->route, lanes[i].key, &lanes[i].path, fault))
            return false;
    }
    return true;
}

static void append_lane(const struct feed_lane *lane)
{
    char text[FEED_POSITION_TEXT_BYTES];
    char most[16];
    for (unsigned i = 0; i < lane->append_count; i++) {
        const struct feed_blob *blob = &lane->appends[i];
        append_command(lane, 5, (const char *[]){"XADD", lane->key, "*", "c", (const char *)blob->bytes},
                       (const size_t[]){4, strlen(lane->key), 1, 1, blob->length});
    }
    feed_position_format(text, &lane->position);
    snprintf(most, sizeof most, "%u", lane->read_most);
    append_command(lane, 6, (const char *[]){"XREAD", "COUNT", most, "STREAMS", lane->key, text}, NULL);
}

/* All are sent before any answer is waited for. */
static bool flush(const struct feed_lane *lanes, unsigned count, struct fault *fault)
{
    for (unsigned i = 0; i < count; i++) {
        int is_done = 0;
        while (is_done == 0)
            if (redisBufferWrite(lanes[i].path.link, &is_done) != REDIS_OK)
                return redis_link_lost(lanes[i].path.link, &lanes[i].path.address, fault);
    }
    return true;
}

enum answer { ANSWER_GOOD, ANSWER_REDIRECTED, ANSWER_REFUSED, ANSWER_LOST };

/* The next reply on the lane's link; NULL if it was redirected. A command that is refused for what it is may be left, with the fault. */
static enum answer next_reply(struct feed_lane *lane, const char *what, redisReply **reply,
                              struct fault *fault)
{
    void *got = NULL;
    *reply = NULL;
    if (lane->path.asking) {
        if (redisGetReply(lane->path.link, &got) != REDIS_OK) {
            redis_link_lost(lane->path.link, &lane->path.address, fault);
            return ANSWER_LOST;
        }
        freeReplyObject(got);
    }
    if (redisGetReply(lane->path.link, &got) != REDIS_OK) {
        redis_link_lost(lane->path.link, &lane->path.address, fault);
        return ANSWER_LOST;
    }
    *reply = got;
    if ((*reply)->type != REDIS_REPLY_ERROR)
        return ANSWER_GOOD;
    bool is_ask = redis_route_redirect((*reply)->str) == REDIS_ASK;
    redis_link_refused(*reply, &lane->path.address, what, fault);
    if (is_ask && (*reply)->len < sizeof lane->ask) {
        memcpy(lane->ask, (*reply)->str, (*reply)->len + 1);
        freeReplyObject(*reply);
        *reply = NULL;
        return ANSWER_REDIRECTED;
    }
    /* The caller frees the reply, which may say where to go. */
    return redis_route_redirect((*reply)->str) == REDIS_NO_REDIRECT ? ANSWER_REFUSED : ANSWER_LOST;
}

/* NIL, or [[key, entries]]. */
static void take_read(struct feed_lane *lane, redisReply *reply)
{
    lane->whole = reply;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 1 ||
        reply->element[0]->type != REDIS_REPLY_ARRAY || reply->element[0]->elements != 2 ||
        reply->element[0]->element[1]->type != REDIS_REPLY_ARRAY)
        return;
    lane->read = reply->element[0]->element[1];
    lane->has_more = lane->read->elements >= lane->read_most;
}

static enum answer take_lane(struct feed_lane *lane, redisReply **reply, struct fault *fault)
{
    enum answer worst = ANSWER_GOOD;
    for (unsigned i = 0; i < lane->append_count + 1; i++) {
        bool is_append = i < lane->append_count;
        enum answer answer = next_reply(lane, is_append ? "XADD" : "XREAD", reply, fault);
        if (answer == ANSWER_LOST || (answer == ANSWER_REFUSED && !is_append))
            return ANSWER_LOST;
        if (answer != ANSWER_GOOD && worst != ANSWER_REDIRECTED)
            worst = answer;
        if (answer == ANSWER_REDIRECTED)
            continue;
        if (is_append)
            freeReplyObject(*reply);
        else
            take_read(lane, *reply);
    }
    lane->was_redirected = worst == ANSWER_REDIRECTED;
    lane->has_appended = worst == ANSWER_GOOD;
    if (lane->was_redirected) {
        freeReplyObject(lane->whole);
        lane->whole = lane->read = NULL;
        lane->has_more = true;
    }
    return worst == ANSWER_REFUSED ? ANSWER_REFUSED : ANSWER_GOOD;
}

bool feed_wire_exchange(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, struct fault *fault)
{
    release_replies(lanes, count);
    wire->has_refusal = false;
    for (unsigned i = 0; i < count; i++)
        lanes[i].has_appended = lanes[i].is_confirmed = lanes[i].has_more = lanes[i].was_redirected = false;
    if (!find_paths(wire, lanes, count, fault))
        return give_up(wire, lanes, count, NULL);
    for (unsigned i = 0; i < count; i++)
        append_lane(&lanes[i]);
    if (!flush(lanes, count, fault))
        return give_up(wire, lanes, count, NULL);
    for (unsigned i = 0; i < count; i++) {
        redisReply *reply = NULL;
        enum answer answer = take_lane(&lanes[i], &reply, fault);
        if (answer == ANSWER_REFUSED) {
            wire->has_refusal = true;
            wire->refusal = *fault;
        }
        if (answer != ANSWER_LOST)
            continue;
        give_up(wire, lanes, count, reply == NULL ? NULL : reply->str);
        freeReplyObject(reply);
        release_replies(lanes, count);
        return false;
    }
    return true;
}

bool feed_wire_was_refused(const struct feed_wire *wire, struct fault *fault)
{
    if (wire->has_refusal)
        *fault = wire->refusal;
    return wire->has_refusal;
}

/* --- confirming --- */

static void append_position(const struct feed_lane *lane, const char *group,
                            const struct feed_position *position)
{
    char text[FEED_POSITION_TEXT_BYTES];
    feed_position_format(text, position);
    append_command(lane, 5, (const char *[]){"XGROUP", "SETID", lane->key, group, text}, NULL);
}

/* Whether the lane's position is written: it was where it was asked for, and has read something, or its time has come. */
static bool is_concerned(const struct feed_lane *lane, bool all)
{
    return !lane->was_redirected && (all || lane->read != NULL);
}

static bool says_need(const struct feed_lane *lane, bool all)
{
    return all && lane->needed.ms > 0;
}

/* Whether the lane is the first of its link, which waits for all of them; its number, or that of the first. */
static unsigned first_of_link(const struct feed_lane *lanes, unsigned number, bool all)
{
    for (unsigned i = 0; i < number; i++)
        if (is_concerned(&lanes[i], all) && lanes[i].path.link == lanes[number].path.link)
            return i;
    return number;
}

/* One reply; an integer into `*value`. An error is one, but for ASK: the key has just moved, and `*value` is -1. */
static bool take_answer(struct feed_lane *lane, const char *what, long long *value, struct fault *fault)
{
    void *got = NULL;
    if (redisGetReply(lane->path.link, &got) != REDIS_OK)
        return redis_link_lost(lane->path.link, &lane->path.address, fault);
    const redisReply *reply = got;
    bool is_ask = reply->type == REDIS_REPLY_ERROR && redis_route_redirect(reply->str) == REDIS_ASK;
    bool good = reply->type != REDIS_REPLY_ERROR || is_ask ||
                redis_link_refused(reply, &lane->path.address, what, fault);
    *value = is_ask ? -1 : reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    freeReplyObject(got);
    return good;
}

/* `*is_written`: all of them were. */
static bool take_positions(struct feed_lane *lane, unsigned count, bool *is_written, struct fault *fault)
{
    *is_written = true;
    for (unsigned i = 0; i < (lane->path.asking ? 2 * count : count); i++) {
        long long value = 0;
        if (!take_answer(lane, "XGROUP", &value, fault))
            return false;
        *is_written = *is_written && value >= 0;
    }
    return true;
}

/* The replies to the positions, then those to WAIT, link by link. */
static bool take_confirmations(const struct feed_wire *wire, struct feed_lane *lanes, unsigned count,
                               bool all, struct fault *fault)
{
    bool is_written[FEED_PARTITIONS_MAX] = {false};
    bool is_replicated[FEED_PARTITIONS_MAX] = {false};
    long long value = 0;
    for (unsigned i = 0; i < count; i++)
        if (is_concerned(&lanes[i], all) &&
            !take_positions(&lanes[i], says_need(&lanes[i], all) ? 2 : 1, &is_written[i], fault))
            return false;
    for (unsigned i = 0; i < count && wire->min_replicas > 0; i++) {
        if (!is_concerned(&lanes[i], all))
            continue;
        unsigned first = first_of_link(lanes, i, all);
        if (first == i && !take_answer(&lanes[i], "WAIT", &value, fault))
            return false;
        is_replicated[i] = first == i ? value >= (long long)wire->min_replicas : is_replicated[first];
        lanes[i].is_confirmed = is_written[i] && is_replicated[i];
    }
    return true;
}

bool feed_wire_confirm(struct feed_wire *wire, struct feed_lane *lanes, unsigned count, bool all,
                       struct fault *fault)
{
    char replicas[16];
    char patience[16];
    for (unsigned i = 0; i < count && wire->min_replicas == 0; i++)
        lanes[i].is_confirmed = true;
    if (wire->min_replicas == 0 && !all)
        return true;
    snprintf(replicas, sizeof replicas, "%u", wire->min_replicas);
    snprintf(patience, sizeof patience, "%d", WAIT_MS);
    for (unsigned i = 0; i < count; i++) {
        if (!is_concerned(&lanes[i], all))
            continue;
        append_position(&lanes[i], wire->node, &lanes[i].position);
        if (says_need(&lanes[i], all))
            append_position(&lanes[i], wire->needs, &lanes[i].needed);
    }
    for (unsigned i = 0; i < count && wire->min_replicas > 0; i++)
        if (is_concerned(&lanes[i], all) && first_of_link(lanes, i, all) == i)
            (void)redisAppendCommandArgv(lanes[i].path.link, 3, (const char *[]){"WAIT", replicas, patience},
                                         NULL);
    if (!flush(lanes, count, fault) || !take_confirmations(wire, lanes, count, all, fault))
        return give_up(wire, lanes, count, NULL);
    return true;
}
