/* Who holds what of a feed; see feed_map.h. */
#include "persist/registrations/feed_map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "persist/redis/redis_link.h"

/* Of a node's line, all but its address and what it holds. */
#define LINE_BYTES 128

static bool has_space(const char *text)
{
    return strpbrk(text, " \n") != NULL;
}

/* False: it is none. */
static bool read_node(struct feed_node *node, const char *id, const json_t *said, uint64_t now_ms)
{
    const char *lookups = json_string_value(json_object_get(said, "lookups"));
    const char *state = json_string_value(json_object_get(said, "state"));
    const char *holds = json_string_value(json_object_get(said, "holds"));
    json_int_t said_ms = json_integer_value(json_object_get(said, "said_at_ms"));
    if (lookups == NULL || state == NULL || holds == NULL || strlen(id) >= sizeof node->id ||
        strlen(lookups) >= sizeof node->lookups || has_space(id) || has_space(lookups) ||
        !partition_set_parse(holds, &node->holds))
        return false;
    memcpy(node->id, id, strlen(id) + 1);
    memcpy(node->lookups, lookups, strlen(lookups) + 1);
    node->said_ms = said_ms > 0 ? (uint64_t)said_ms : 0;
    node->is_ready = strcmp(state, FEED_STATE_FOLLOWED) == 0 && node->said_ms + FEED_SILENT_MS >= now_ms;
    return true;
}

/* Of several at one address the one that spoke last. */
static void put_node(struct feed_map *map, const struct feed_node *node)
{
    for (size_t i = 0; i < map->count; i++) {
        struct feed_node *there = &map->nodes[i];
        if (strcmp(there->lookups, node->lookups) != 0 || strcmp(node->lookups, FEED_NOWHERE) == 0)
            continue;
        if (there->said_ms < node->said_ms)
            *there = *node;
        return;
    }
    map->nodes[map->count++] = *node;
}

struct feed_map *feed_map_create(const redisReply *nodes, uint64_t feed, unsigned partitions,
                                 uint64_t version, uint64_t now_ms)
{
    size_t room = nodes->type == REDIS_REPLY_ARRAY ? nodes->elements / 2 : 0;
    struct feed_map *map = calloc(1, sizeof *map + room * sizeof *map->nodes);
    if (map == NULL)
        return NULL;
    map->feed = feed;
    map->version = version;
    map->partitions = partitions;
    for (size_t i = 0; i < room; i++) {
        const char *id = redis_link_text(nodes->element[2 * i]);
        const char *text = redis_link_text(nodes->element[2 * i + 1]);
        json_t *said = id == NULL || text == NULL ? NULL : json_loads(text, 0, NULL);
        struct feed_node node = {0};
        if (said != NULL && read_node(&node, id, said, now_ms))
            put_node(map, &node);
        json_decref(said);
    }
    return map;
}

void feed_map_distrust(struct feed_map *map, const struct feed_map *before)
{
    for (size_t i = 0; i < map->count; i++)
        for (size_t j = 0; j < before->count; j++)
            if (strcmp(map->nodes[i].id, before->nodes[j].id) == 0 &&
                map->nodes[i].said_ms <= before->nodes[j].said_ms)
                map->nodes[i].is_ready = false;
}

char *feed_map_text(const struct feed_map *map)
{
    size_t room = LINE_BYTES + map->count * (LINE_BYTES + FEED_NODE_ADDRESS_BYTES + PARTITION_SET_TEXT_BYTES);
    char holds[PARTITION_SET_TEXT_BYTES];
    char *text = malloc(room);
    if (text == NULL)
        return NULL;
    size_t length = (size_t)snprintf(text, room, "feed %016" PRIx64 "\nversion %" PRIu64 "\npartitions %u\n",
                                     map->feed, map->version, map->partitions);
    for (size_t i = 0; i < map->count; i++) {
        const struct feed_node *node = &map->nodes[i];
        if (strcmp(node->lookups, FEED_NOWHERE) == 0)
            continue;
        partition_set_format(holds, &node->holds, map->partitions);
        length += (size_t)snprintf(text + length, room - length, "node %s %s %s %s\n", node->id,
                                   node->lookups, node->is_ready ? "ready" : "away", holds);
    }
    return text;
}

bool feed_map_serves(const struct feed_map *map, const char *id, unsigned partition)
{
    for (size_t i = 0; i < map->count; i++)
        if (strcmp(map->nodes[i].id, id) == 0)
            return map->nodes[i].is_ready && map->nodes[i].holds.has[partition];
    return false;
}
