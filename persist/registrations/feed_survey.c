/* What there is of a feed in Redis; see feed_survey.h. */
#include "persist/registrations/feed_survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include <jansson.h>

#include "persist/redis/redis_route.h"
#include "persist/registrations/feed_wire.h"

struct survey {
    struct redis_route *route;
    struct fault *fault;
    struct feed_shape shape;
};

static redisReply *ask(const struct survey *survey, const char *key, int argc, const char **argv)
{
    return redis_route_command(survey->route, key, REDIS_ROUTE_PATIENCE_MS, argc, argv, survey->fault);
}

static bool begin(struct survey *survey, const char *redis_url, struct fault *fault)
{
    struct redis_target target;
    *survey = (struct survey){.fault = fault};
    if (!redis_target_parse(redis_url, &target, fault))
        return false;
    survey->route = redis_route_create(&target);
    if (survey->route == NULL)
        return fault_set(fault, EX_OSERR, "out of memory");
    redisReply *reply = ask(survey, FEED_SHAPE_KEY, 2, (const char *[]){"GET", FEED_SHAPE_KEY});
    if (reply == NULL)
        return false;
    bool good = feed_wire_parse_shape(reply, &survey->shape);
    freeReplyObject(reply);
    return good || fault_set(fault, EX_NOINPUT, "this Redis has no feed of registrations");
}

/* --- nodes --- */

static json_t *survey_nodes(const struct survey *survey)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    redisReply *reply = ask(survey, FEED_NODES_KEY, 2, (const char *[]){"HGETALL", FEED_NODES_KEY});
    if (reply == NULL)
        return NULL;
    json_t *nodes = json_object();
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i + 1 < reply->elements; i += 2) {
        const char *id = redis_link_text(reply->element[i]);
        const char *text = redis_link_text(reply->element[i + 1]);
        json_t *node = text == NULL ? NULL : json_loads(text, 0, NULL);
        if (id == NULL || node == NULL)
            continue;
        double said = json_number_value(json_object_get(node, "said_at_ms")) / 1e3;
        double since = (double)now.tv_sec + (double)now.tv_nsec / 1e9 - said;
        json_object_set_new(node, "seconds_since", json_real(since > 0 ? since : 0));
        json_object_set_new(nodes, id, node);
    }
    freeReplyObject(reply);
    return nodes;
}

/* --- streams --- */

static json_t *position_json(const struct feed_position *position)
{
    char text[FEED_POSITION_TEXT_BYTES];
    feed_position_format(text, position);
    return json_string(text);
}

static double seconds_behind(const struct feed_position *position, const struct feed_position *last)
{
    return feed_position_compare(position, last) >= 0 || last->ms < position->ms
               ? 0
               : (double)(last->ms - position->ms) / 1e3;
}

/* Each group is where a node is, what it needs, or where the stream begins. */
static void take_group(const struct feed_wire_group *group, void *context)
{
    json_t *partition = context;
    json_t *nodes = json_object_get(partition, "nodes");
    struct feed_position last;
    char id[sizeof group->node];
    memcpy(id, group->node, sizeof id);
    if (group->kind == FEED_GROUP_TRIMMED) {
        json_object_set_new(partition, "trimmed", position_json(&group->position));
        return;
    }
    json_t *node = json_object_get(nodes, id);
    if (node == NULL) {
        node = json_object();
        json_object_set_new(nodes, id, node);
    }
    if (group->kind == FEED_GROUP_NEEDS) {
        json_object_set_new(node, "needs", position_json(&group->position));
        return;
    }
    const char *text = json_string_value(json_object_get(partition, "last"));
    if (text == NULL || !feed_position_parse(text, &last))
        last = group->position;
    json_object_set_new(node, "position", position_json(&group->position));
    if (group->position.ms > 0) /* it has begun */
        json_object_set_new(node, "behind_seconds", json_real(seconds_behind(&group->position, &last)));
}

/* One that nobody has ever held is not in Redis. */
static bool is_there(const struct survey *survey, const char *key)
{
    redisReply *reply = ask(survey, key, 2, (const char *[]){"EXISTS", key});
    bool is_there = reply == NULL || reply->integer != 0; /* what is wrong shows then */
    freeReplyObject(reply);
    return is_there;
}

static json_t *survey_partition(const struct survey *survey, unsigned number)
{
    struct feed_lane lane;
    struct redis_path path;
    char address[sizeof path.address.host + 8];
    feed_wire_init_lane(&lane, number);
    if (!is_there(survey, lane.key))
        return json_pack("{s:i, s:i, s:{}}", "partition", (int)number, "entries", 0, "nodes");
    redisReply *length = ask(survey, lane.key, 2, (const char *[]){"XLEN", lane.key});
    redisReply *stream =
        length == NULL ? NULL : ask(survey, lane.key, 3, (const char *[]){"XINFO", "STREAM", lane.key});
    redisReply *groups =
        stream == NULL ? NULL : ask(survey, lane.key, 3, (const char *[]){"XINFO", "GROUPS", lane.key});
    json_t *partition = NULL;
    if (groups != NULL && redis_route_path(survey->route, lane.key, &path, survey->fault)) {
        struct feed_position last = feed_wire_position_of(stream, "last-generated-id");
        snprintf(address, sizeof address, "%s:%d", path.address.host, path.address.port);
        partition = json_pack("{s:i, s:s, s:I, s:o, s:o, s:n}", "partition", (int)number, "redis", address,
                              "entries", (json_int_t)length->integer, "last", position_json(&last), "nodes",
                              json_object(), "trimmed");
        feed_wire_each_group(groups, take_group, partition);
    }
    freeReplyObject(length);
    freeReplyObject(stream);
    freeReplyObject(groups);
    return partition;
}

static json_t *survey_partitions(const struct survey *survey)
{
    json_t *partitions = json_array();
    for (unsigned i = 0; i < survey->shape.partitions; i++) {
        json_t *partition = survey_partition(survey, i);
        if (partition == NULL) {
            json_decref(partitions);
            return NULL;
        }
        json_array_append_new(partitions, partition);
    }
    return partitions;
}

char *feed_survey(const char *redis_url, struct fault *fault)
{
    struct survey survey;
    char *text = NULL;
    char feed[20];
    bool good = begin(&survey, redis_url, fault);
    json_t *nodes = good ? survey_nodes(&survey) : NULL;
    json_t *partitions = nodes != NULL ? survey_partitions(&survey) : NULL;
    snprintf(feed, sizeof feed, "%016" PRIx64, survey.shape.feed);
    if (partitions != NULL) {
        json_t *all = json_pack("{s:s, s:b, s:O, s:O}", "feed", feed, "account_ids",
                                (int)survey.shape.accounts, "nodes", nodes, "partitions", partitions);
        text = json_dumps(all, JSON_COMPACT);
        json_decref(all);
    }
    json_decref(nodes);
    json_decref(partitions);
    redis_route_destroy(survey.route);
    if (partitions != NULL && text == NULL)
        fault_set(fault, EX_OSERR, "out of memory");
    return text;
}

/* --- forgetting --- */

/* Counts what was there. */
static bool destroy_group(const struct survey *survey, const char *key, const char *group, long long *count)
{
    redisReply *reply = ask(survey, key, 4, (const char *[]){"XGROUP", "DESTROY", key, group});
    if (reply == NULL)
        return false;
    *count += reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    freeReplyObject(reply);
    return true;
}

static bool forget(const struct survey *survey, const char *node)
{
    char needs[64];
    long long count = 0;
    snprintf(needs, sizeof needs, "%s:needs", node);
    for (unsigned i = 0; i < survey->shape.partitions; i++) {
        struct feed_lane lane;
        feed_wire_init_lane(&lane, i);
        if (!is_there(survey, lane.key))
            continue;
        if (!destroy_group(survey, lane.key, node, &count) || !destroy_group(survey, lane.key, needs, &count))
            return false;
    }
    redisReply *reply = ask(survey, FEED_NODES_KEY, 3, (const char *[]){"HDEL", FEED_NODES_KEY, node});
    if (reply == NULL)
        return false;
    freeReplyObject(reply);
    return count > 0 || fault_set(survey->fault, EX_NOINPUT, "the feed knows no node %s", node);
}

bool feed_survey_forget(const char *redis_url, const char *node, struct fault *fault)
{
    struct survey survey;
    bool good = begin(&survey, redis_url, fault) && forget(&survey, node);
    redis_route_destroy(survey.route);
    return good;
}
