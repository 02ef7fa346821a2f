/* Reading the query log back; see disclose.h. */
#include "persist/querylog/disclose.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <sodium.h>

#include "persist/querylog/frame.h"
#include "persist/querylog/redis_shipment.h"
#include "persist/querylog/segment.h"
#include "persist/redis/redis_route.h"

#define CHUNK_BYTES (1u << 20)
#define ENTRIES_PER_CALL "64"

/* --- what both sources share --- */

/* The part of the window that may still be read. */
static struct disclose_query readable(const struct disclose_query *query)
{
    struct disclose_query cut = *query;
    if (cut.now_ms >= cut.retention_ms && cut.from_ms <= cut.now_ms - cut.retention_ms)
        cut.from_ms = cut.now_ms - cut.retention_ms + 1;
    return cut;
}

static bool overlaps_hour(const struct disclose_query *query, uint64_t hour_ms)
{
    return hour_ms < query->until_ms && hour_ms + FRAME_HOUR_MS > query->from_ms;
}

static bool pass_block(const struct disclose_query *query, const struct query_block *block,
                       uint64_t server_id, const struct disclose_target *target)
{
    if (block->time_ms < query->from_ms || block->time_ms >= query->until_ms)
        return true;
    if ((query->by == DISCLOSE_REQUESTER && block->requester != query->requester) ||
        (query->by == DISCLOSE_IP &&
         (block->ip_kept != query->ip_kept || memcmp(block->ip, query->ip, sizeof block->ip) != 0)))
        return true;
    for (uint32_t i = 0; i < block->count; i++) {
        struct disclose_record record = {.server_id = server_id,
                                         .time_ms = block->time_ms,
                                         .requester = block->requester,
                                         .ip = block->ip,
                                         .ip_kept = (enum query_ip)block->ip_kept,
                                         .via = query_block_via(block),
                                         .number = query_event_number(block->events[i]),
                                         .answer = query_event_answer(block->events[i])};
        if (query->by == DISCLOSE_NUMBER && record.number != query->number)
            continue;
        if (!target->record(target->context, &record))
            return false;
    }
    return true;
}

/* A source on its way through. */
struct walk {
    struct disclose_query query;
    const struct disclose_target *target;
    struct frame_batch *batch; /* of the frame at hand */
    uint64_t without_key;      /* frames */
};

static bool start_walk(struct walk *walk, const struct disclose_query *query,
                       const struct disclose_target *target, struct fault *fault)
{
    *walk = (struct walk){.query = readable(query), .target = target};
    walk->batch = malloc(sizeof *walk->batch);
    return walk->batch != NULL || fault_set(fault, EX_OSERR, "out of memory for reading the query log");
}

static void warn(const struct walk *walk, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(const struct walk *walk, const char *format, ...)
{
    char line[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    walk->target->warning(walk->target->context, line);
}

static void end_walk(struct walk *walk)
{
    if (walk->without_key > 0)
        warn(walk,
             "%" PRIu64
             " frames of the window were not opened, since their keys are not here or are sealed to another "
             "officer's",
             walk->without_key);
    if (walk->batch != NULL)
        sodium_memzero(walk->batch, sizeof *walk->batch);
    free(walk->batch);
}

/* The frames of a bucket count up under each key. False when this one was passed on before. */
static bool check_ordinal(const struct walk *walk, const struct frame *frame, struct key_ring_entry *key)
{
    uint64_t before = key->seen[frame->bucket];
    if (frame->ordinal <= before) {
        warn(walk, "key %016" PRIx64 ", bucket %u: frame %" PRIu64 " comes again or late, and is left out",
             key->number, frame->bucket, frame->ordinal);
        return false;
    }
    if (frame->ordinal != before + 1)
        warn(walk, "key %016" PRIx64 ", bucket %u: the frames %" PRIu64 " to %" PRIu64 " are not here: %s",
             key->number, frame->bucket, before + 1, frame->ordinal - 1,
             before == 0 ? "removed, or shipped to Redis" : "removed or lost");
    key->seen[frame->bucket] = frame->ordinal;
    return true;
}

/* A gap lies in each hour that it has part in: only that of the first hour read is passed on. */
static void pass_gaps(const struct walk *walk, uint64_t server_id, uint64_t hour_ms)
{
    const struct disclose_query *query = &walk->query;
    const struct query_gap *gap = (const void *)walk->batch->blocks;
    for (size_t i = 0; i < walk->batch->bytes / sizeof *gap; i++, gap++) {
        uint64_t seen_from = gap->from_ms > query->from_ms ? gap->from_ms : query->from_ms;
        if (gap->from_ms < query->until_ms && gap->until_ms > query->from_ms &&
            hour_ms == frame_hour_of(seen_from))
            walk->target->gap(walk->target->context, server_id, gap);
    }
}

/* Of the buckets one requester's, or all; and always that of the gaps. */
static bool is_wanted_bucket(const struct disclose_query *query, uint32_t bucket)
{
    return query->by != DISCLOSE_REQUESTER || bucket == FRAME_GAP_BUCKET ||
           bucket == frame_bucket_of(query->requester);
}

/* False when the target wants no more. */
static bool pass_frame(struct walk *walk, const struct frame *frame, const struct frame_place *place)
{
    const struct disclose_query *query = &walk->query;
    size_t offset = 0;
    const struct query_block *block;
    if (!overlaps_hour(query, frame->hour_ms) || !is_wanted_bucket(query, frame->bucket))
        return true;
    struct key_ring_entry *key = key_ring_find(query->keys, place->server_id, frame->key);
    if (key == NULL) {
        /* Of an hour that began when the keys were read already, nothing was asked: it is logged while we read. */
        walk->without_key += frame->hour_ms <= query->now_ms;
        return true;
    }
    if (!frame_open(frame, place, key->secret, walk->batch)) {
        warn(walk, "segment %016" PRIx64 ", frame %" PRIu64 ": it was changed or moved, and is left out",
             place->sequence, frame->index);
        return true;
    }
    if (!check_ordinal(walk, frame, key))
        return true;
    if (frame->bucket == FRAME_GAP_BUCKET) {
        pass_gaps(walk, place->server_id, frame->hour_ms);
        return true;
    }
    /* The server's own retention, where that is the shorter one. */
    struct disclose_query cut = *query;
    cut.retention_ms = key->retention_ms;
    cut = readable(&cut);
    while ((block = frame_next_block(walk->batch, &offset)) != NULL)
        if (!pass_block(&cut, block, place->server_id, walk->target))
            return false;
    return true;
}

/* --- segments --- */

static bool pass_segment(struct walk *walk, const char *folder, const struct segment *segment, void *chunk)
{
    struct fault fault;
    struct frame_place place = {.sequence = segment->sequence};
    uint64_t offset = SEGMENT_HEADER_BYTES;
    size_t whole;
    bool more = true;
    int fd = segment_open(folder, segment, &place.server_id, &fault);
    if (fd < 0) {
        walk->target->warning(walk->target->context, fault.text);
        return true;
    }
    while (more && (whole = segment_read(fd, &offset, chunk, CHUNK_BYTES)) > 0) {
        for (size_t at = 0; more && at < whole;) {
            const struct frame *frame = (const void *)((const char *)chunk + at);
            more = pass_frame(walk, frame, &place);
            at += sizeof *frame + frame->payload_bytes;
        }
    }
    close(fd);
    if (more && offset < segment->bytes)
        warn(walk, "segment %016" PRIx64 ": the last %" PRIu64 " bytes are cut short or damaged",
             segment->sequence, segment->bytes - offset);
    return more;
}

bool disclose_segments(const char *folder, const struct disclose_query *query,
                       const struct disclose_target *target, struct fault *fault)
{
    struct walk walk;
    struct segment *segments;
    size_t count;
    if (!segment_list(folder, &segments, &count, fault))
        return false;
    void *chunk = malloc(CHUNK_BYTES);
    bool good = start_walk(&walk, query, target, fault);
    if (good && chunk == NULL)
        good = fault_set(fault, EX_OSERR, "out of memory for reading the query log");
    bool more = good && chunk != NULL;
    for (size_t i = 0; more && i < count; i++) {
        if (overlaps_hour(&walk.query, segments[i].hour_ms))
            more = pass_segment(&walk, folder, &segments[i], chunk);
        target->progress(target->context, i + 1, count);
    }
    end_walk(&walk);
    free(chunk);
    free(segments);
    return good;
}

/* --- Redis --- */

/* An entry's id. */
struct frame_id {
    uint64_t sequence;
    uint64_t index;
};

struct redis_walk {
    struct walk walk;
    struct redis_route *route;
    struct fault *fault;
    struct frame *aligned; /* a copy of the value at hand: replies are not aligned */
    bool stopped;          /* the target wants no more, or it cannot be gone on */
    struct frame_id last;  /* of the stream at hand */
    uint64_t hours_done;
    uint64_t hours;
};

static void pass_value(struct redis_walk *walk, const redisReply *value, const struct frame_place *place,
                       uint64_t index)
{
    size_t bytes;
    if (value->type != REDIS_REPLY_STRING || value->len > FRAME_BYTES_MAX) {
        warn(&walk->walk, "an entry in Redis is no frame");
        return;
    }
    memcpy(walk->aligned, value->str, value->len);
    if (frame_examine(walk->aligned, value->len, &bytes) != FRAME_WHOLE || bytes != value->len ||
        walk->aligned->index != index) {
        warn(&walk->walk, "an entry in Redis is damaged or lies in another's place");
        return;
    }
    walk->stopped = !pass_frame(&walk->walk, walk->aligned, place);
}

static bool is_behind(const struct frame_id *id, const struct frame_id *last)
{
    return id->sequence > last->sequence || (id->sequence == last->sequence && id->index > last->index);
}

/* One entry: its id and a field-value pair. */
static void pass_entry(struct redis_walk *walk, const redisReply *entry, uint64_t server_id, char next[64])
{
    struct frame_id id;
    /* First of all the walk goes on behind it, whatever it is; so it ends, whatever Redis answers. */
    bool has_id = entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 &&
                  entry->element[0]->type == REDIS_REPLY_STRING &&
                  sscanf(entry->element[0]->str, "%" SCNu64 "-%" SCNu64, &id.sequence, &id.index) == 2 &&
                  is_behind(&id, &walk->last);
    walk->stopped = !has_id;
    if (has_id) {
        walk->last = id;
        snprintf(next, 64, "(%s", entry->element[0]->str);
    }
    if (!has_id || entry->element[1]->type != REDIS_REPLY_ARRAY || entry->element[1]->elements != 2) {
        warn(&walk->walk, "an entry in Redis has an unknown form");
        return;
    }
    const struct frame_place place = {.server_id = server_id, .sequence = id.sequence};
    pass_value(walk, entry->element[1]->element[1], &place, id.index);
}

static bool walk_stream(struct redis_walk *walk, uint64_t server_id, uint64_t hour_ms, uint32_t bucket)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    char next[64] = "-";
    size_t entries = 1;
    redis_shipment_key(server_id, hour_ms, bucket, key);
    walk->last = (struct frame_id){0};
    while (entries > 0 && !walk->stopped) {
        redisReply *reply = redis_route_command(
            walk->route, key, REDIS_ROUTE_PATIENCE_MS, 6,
            (const char *[]){"XRANGE", key, next, "+", "COUNT", ENTRIES_PER_CALL}, walk->fault);
        if (reply == NULL)
            return false;
        entries = reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
        for (size_t i = 0; i < entries && !walk->stopped; i++)
            pass_entry(walk, reply->element[i], server_id, next);
        freeReplyObject(reply);
    }
    return true;
}

static bool walk_server(struct redis_walk *walk, uint64_t server_id)
{
    for (uint64_t hour = frame_hour_of(walk->walk.query.from_ms); hour < walk->walk.query.until_ms;
         hour += FRAME_HOUR_MS) {
        for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++) {
            if (!is_wanted_bucket(&walk->walk.query, bucket))
                continue;
            if (!walk_stream(walk, server_id, hour, bucket))
                return false;
            if (walk->stopped)
                return true;
        }
        walk->walk.target->progress(walk->walk.target->context, ++walk->hours_done, walk->hours);
    }
    return true;
}

static bool is_listed(const redisReply *list, uint64_t server_id)
{
    for (size_t i = 0; i < list->elements; i++) {
        const char *name = redis_link_text(list->element[i]);
        if (name != NULL && strtoull(name, NULL, 16) == server_id)
            return true;
    }
    return false;
}

/* Those that have keys here, and then those that are on Redis's list alone, whose frames are counted as not opened. The list may be short of a
 * server for a minute when a node of Redis has died with it: what can be opened is looked for all the same. */
static bool walk_each(struct redis_walk *walk, const redisReply *list, uint64_t *servers)
{
    bool good = true;
    size_t count = key_ring_servers(walk->walk.query.keys, servers);
    size_t listed = 0;
    for (size_t i = 0; i < count; i++)
        listed += is_listed(list, servers[i]);
    walk->hours = (list->elements + count - listed) *
                  ((walk->walk.query.until_ms - frame_hour_of(walk->walk.query.from_ms) + FRAME_HOUR_MS - 1) /
                   FRAME_HOUR_MS);
    for (size_t i = 0; good && !walk->stopped && i < count; i++)
        good = walk_server(walk, servers[i]);
    for (size_t i = 0; good && !walk->stopped && i < list->elements; i++) {
        const char *name = redis_link_text(list->element[i]);
        uint64_t server_id = name == NULL ? 0 : strtoull(name, NULL, 16);
        bool is_done = false;
        for (size_t j = 0; j < count; j++)
            is_done = is_done || servers[j] == server_id;
        if (name == NULL)
            warn(&walk->walk, "a server in Redis has no name");
        else if (!is_done)
            good = walk_server(walk, server_id);
    }
    return good;
}

static bool walk_servers(struct redis_walk *walk)
{
    redisReply *list =
        redis_route_command(walk->route, REDIS_SHIPMENT_SERVERS_KEY, REDIS_ROUTE_PATIENCE_MS, 4,
                            (const char *[]){"ZRANGE", REDIS_SHIPMENT_SERVERS_KEY, "0", "-1"}, walk->fault);
    if (list == NULL)
        return false;
    uint64_t *servers = calloc(key_ring_count(walk->walk.query.keys) + 1, sizeof *servers);
    bool good = servers != NULL ? walk_each(walk, list, servers)
                                : fault_set(walk->fault, EX_OSERR, "out of memory for reading the query log");
    free(servers);
    freeReplyObject(list);
    return good;
}

bool disclose_redis(const char *url, const struct disclose_query *query, const struct disclose_target *target,
                    struct fault *fault)
{
    struct redis_walk walk = {.fault = fault};
    struct redis_target redis;
    if (!redis_target_parse(url, &redis, fault))
        return false;
    bool good = start_walk(&walk.walk, query, target, fault);
    struct disclose_query *cut = &walk.walk.query;
    if (cut->until_ms > query->now_ms + FRAME_HOUR_MS)
        cut->until_ms = query->now_ms + FRAME_HOUR_MS; /* no hour after the present one has a key */
    walk.aligned = malloc(FRAME_BYTES_MAX);
    walk.route = redis_route_create(&redis);
    if (good && (walk.aligned == NULL || walk.route == NULL))
        good = fault_set(fault, EX_OSERR, "out of memory for reading the query log");
    good = good && walk_servers(&walk);
    end_walk(&walk.walk);
    redis_route_destroy(walk.route);
    free(walk.aligned);
    return good;
}
