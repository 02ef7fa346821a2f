/* Reading the query log back; see disclose.h. */
#include "persist/querylog/disclose.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "persist/querylog/frame.h"
#include "persist/querylog/redis_link.h"
#include "persist/querylog/redis_sink.h"
#include "persist/querylog/segment.h"

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
    if (!query->by_number && block->requester != query->requester)
        return true;
    for (uint32_t i = 0; i < block->count; i++) {
        struct disclose_record record = {.server_id = server_id,
                                         .time_ms = block->time_ms,
                                         .requester = block->requester,
                                         .ip = block->ip,
                                         .number = query_event_number(block->events[i]),
                                         .answer = query_event_answer(block->events[i])};
        if (query->by_number && record.number != query->number)
            continue;
        if (!target->record(target->context, &record))
            return false;
    }
    return true;
}

/* False when the target wants no more. */
static bool pass_frame(const struct disclose_query *query, const struct frame *frame, uint64_t server_id,
                       const struct disclose_target *target)
{
    size_t offset = 0;
    const struct query_block *block;
    if (!overlaps_hour(query, frame->hour_ms) ||
        (!query->by_number && frame->bucket != frame_bucket_of(query->requester)))
        return true;
    while ((block = frame_next_block(frame, &offset)) != NULL)
        if (!pass_block(query, block, server_id, target))
            return false;
    return true;
}

/* --- segments --- */

static bool pass_segment(const struct disclose_query *query, const char *folder,
                         const struct segment *segment, void *chunk, const struct disclose_target *target)
{
    struct fault fault;
    uint64_t server_id;
    uint64_t offset = SEGMENT_HEADER_BYTES;
    size_t whole;
    bool more = true;
    int fd = segment_open(folder, segment, &server_id, &fault);
    if (fd < 0) {
        target->warning(target->context, fault.text);
        return true;
    }
    while (more && (whole = segment_read(fd, &offset, chunk, CHUNK_BYTES)) > 0) {
        for (size_t at = 0; more && at < whole;) {
            const struct frame *frame = (const void *)((const char *)chunk + at);
            more = pass_frame(query, frame, server_id, target);
            at += sizeof *frame + frame->payload_bytes;
        }
    }
    close(fd);
    if (more && offset < segment->bytes) {
        char line[160];
        snprintf(line, sizeof line,
                 "segment %" PRIu64 ": the last %" PRIu64 " bytes are cut short or damaged",
                 segment->sequence, segment->bytes - offset);
        target->warning(target->context, line);
    }
    return more;
}

bool disclose_segments(const char *folder, const struct disclose_query *query,
                       const struct disclose_target *target, struct fault *fault)
{
    struct disclose_query cut = readable(query);
    struct segment *segments;
    size_t count;
    if (!segment_list(folder, &segments, &count, fault))
        return false;
    void *chunk = malloc(CHUNK_BYTES);
    if (chunk == NULL) {
        free(segments);
        return fault_set(fault, EX_OSERR, "out of memory");
    }
    bool more = true;
    for (size_t i = 0; more && i < count; i++)
        if (overlaps_hour(&cut, segments[i].hour_ms))
            more = pass_segment(&cut, folder, &segments[i], chunk, target);
    free(chunk);
    free(segments);
    return true;
}

/* --- Redis --- */

struct redis_walk {
    redisContext *link;
    struct redis_target where;
    struct disclose_query query;
    const struct disclose_target *target;
    struct fault *fault;
    struct frame *aligned; /* a copy of the value at hand: replies are not aligned */
    bool stopped;          /* the target wants no more */
};

static void pass_value(struct redis_walk *walk, const redisReply *value, uint64_t server_id)
{
    size_t bytes;
    if (value->type != REDIS_REPLY_STRING || value->len > sizeof(struct frame) + FRAME_PAYLOAD_MAX) {
        walk->target->warning(walk->target->context, "an entry in Redis is no frame");
        return;
    }
    memcpy(walk->aligned, value->str, value->len);
    if (frame_examine(walk->aligned, value->len, &bytes) != FRAME_WHOLE || bytes != value->len) {
        walk->target->warning(walk->target->context, "an entry in Redis is damaged");
        return;
    }
    walk->stopped = !pass_frame(&walk->query, walk->aligned, server_id, walk->target);
}

/* One entry: its id and a field-value pair. */
static void pass_entry(struct redis_walk *walk, const redisReply *entry, uint64_t server_id, char next[64])
{
    /* First of all the walk goes on behind it, whatever it is. */
    bool has_id = entry->type == REDIS_REPLY_ARRAY && entry->elements == 2 &&
                  entry->element[0]->type == REDIS_REPLY_STRING;
    walk->stopped = !has_id;
    if (has_id)
        snprintf(next, 64, "(%s", entry->element[0]->str);
    if (!has_id || entry->element[1]->type != REDIS_REPLY_ARRAY || entry->element[1]->elements != 2) {
        walk->target->warning(walk->target->context, "an entry in Redis has an unknown form");
        return;
    }
    pass_value(walk, entry->element[1]->element[1], server_id);
}

static bool walk_stream(struct redis_walk *walk, uint64_t server_id, uint64_t hour_ms, uint32_t bucket)
{
    char key[REDIS_SINK_KEY_BYTES];
    char next[64] = "-";
    size_t entries = 1;
    redis_sink_key(server_id, hour_ms, bucket, key);
    while (entries > 0 && !walk->stopped) {
        redisReply *reply = redis_link_command(
            walk->link, &walk->where, 6,
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
    for (uint64_t hour = frame_hour_of(walk->query.from_ms); hour < walk->query.until_ms;
         hour += FRAME_HOUR_MS) {
        for (uint32_t bucket = 0; bucket < FRAME_BUCKETS; bucket++) {
            if (!walk->query.by_number && bucket != frame_bucket_of(walk->query.requester))
                continue;
            if (!walk_stream(walk, server_id, hour, bucket))
                return false;
            if (walk->stopped)
                return true;
        }
    }
    return true;
}

static bool walk_servers(struct redis_walk *walk)
{
    redisReply *servers =
        redis_link_command(walk->link, &walk->where, 4,
                           (const char *[]){"ZRANGE", REDIS_SINK_SERVERS_KEY, "0", "-1"}, walk->fault);
    if (servers == NULL)
        return false;
    bool good = true;
    for (size_t i = 0; good && !walk->stopped && i < servers->elements; i++)
        good = walk_server(walk, strtoull(servers->element[i]->str, NULL, 16));
    freeReplyObject(servers);
    return good;
}

bool disclose_redis(const char *url, const struct disclose_query *query, const struct disclose_target *target,
                    struct fault *fault)
{
    struct redis_walk walk = {.query = readable(query), .target = target, .fault = fault};
    if (walk.query.until_ms > query->now_ms + FRAME_HOUR_MS)
        walk.query.until_ms = query->now_ms + FRAME_HOUR_MS; /* no hour after the present one has a key */
    if (!redis_target_parse(url, &walk.where, fault))
        return false;
    walk.aligned = malloc(sizeof(struct frame) + FRAME_PAYLOAD_MAX);
    walk.link = redis_link_connect(&walk.where, fault);
    if (walk.aligned == NULL)
        fault_set(fault, EX_OSERR, "out of memory");
    bool good = walk.aligned != NULL && walk.link != NULL && walk_servers(&walk);
    redisFree(walk.link);
    free(walk.aligned);
    return good;
}
