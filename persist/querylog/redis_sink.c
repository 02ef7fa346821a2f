/* The sink to Redis; see redis_sink.h. */
#include "persist/querylog/redis_sink.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/clock.h"
#include "persist/querylog/redis_shipment.h"
#include "persist/redis/redis_route.h"

/* One pipeline's worth of frames. */
#define CHUNK_BYTES (1u << 20)
#define IDLE_MS 20
#define THREAD_NICE 10
/* What Redis has confirmed stays in the spool for so long, and so much of it at most. */
#define KEEP_MS 60000
#define KEEP_BYTES (UINT64_C(512) << 20)
#define ALIVE_EVERY_MS 1000
#define ANNOUNCE_EVERY_MS 60000
/* While the node that has the list is away: by new connections, since another may have taken its place. */
#define RELIST_EVERY_MS 5000
#define BACKOFF_FIRST_MS 200
#define BACKOFF_MAX_MS 5000
/* So many times in a row another node is taken to have the streams. */
#define MOVES_MAX 4

struct redis_sink {
    struct redis_sink_options options;
    struct redis_route *route;
    struct redis_path path; /* to the node that has this server's streams; no link: not connected */
    void *chunk;
    /* The segment being shipped; fd -1: none. */
    int fd;
    struct segment segment;
    uint64_t offset;
    uint64_t done_sequence; /* all segments up to this one are finished */
    char run_id[96];        /* of the Redis that confirmed last; empty: none has, or it does not say */
    char last_key[REDIS_SHIPMENT_KEY_BYTES]; /* of the frame that was confirmed last; empty: none was */
    char last_id[REDIS_SHIPMENT_ID_BYTES];
    uint64_t announced_ms;   /* and when, by the monotonic clock */
    uint64_t announced_hour; /* the hour for which this server was last announced on this connection */
    bool is_unlisted;        /* it could not be announced */
    uint64_t alive_ms;       /* when it was asked for a sign of life, by the monotonic clock */
    unsigned backoff_ms;     /* 0: the last try succeeded */
    unsigned moves;          /* so many tries in a row ended at another node */
    pthread_t thread;
    atomic_bool stop;
    _Atomic uint64_t deadline_ms; /* after the stop: monotonic end of patience */
    _Atomic uint64_t failures;
    atomic_bool connected;
    atomic_bool may_evict;
    atomic_bool persists_nothing;
};

enum ship_result { SHIP_MORE, SHIP_IDLE, SHIP_MOVED, SHIP_FAILED };

/* --- the walk over the segments --- */

/* For a new hour, on a new connection, and once a minute, since somebody may have emptied Redis. */
static bool is_announcement_due(const struct redis_sink *sink)
{
    return sink->announced_hour != sink->segment.hour_ms ||
           clock_ms(CLOCK_MONOTONIC) - sink->announced_ms >= ANNOUNCE_EVERY_MS;
}

/* `events` of this hour will never be in Redis. False: that cannot be said now, and is left to the next start. */
static bool give_up(const struct redis_sink *sink, uint64_t hour_ms, uint64_t events)
{
    struct query_gap gap = {.from_ms = hour_ms,
                            .until_ms = hour_ms + FRAME_HOUR_MS,
                            .events = events,
                            .reason = QUERY_GAP_DAMAGED,
                            .worker = QUERY_GAP_ALL_WORKERS};
    return events == 0 || sink->options.lost(sink->options.context, &gap);
}

/* Remembers the chunk's last frame, which Redis has confirmed with all before it. */
static void note_confirmed(struct redis_sink *sink, const struct redis_shipment *shipment)
{
    const struct frame *last = shipment->frames;
    for (size_t at = 0; at < shipment->bytes; at += sizeof *last + last->payload_bytes)
        last = (const void *)((const char *)shipment->frames + at);
    redis_shipment_names(shipment, last, sink->last_key, sink->last_id);
}

static void close_segment(struct redis_sink *sink)
{
    close(sink->fd);
    sink->fd = -1;
    sink->done_sequence = sink->segment.sequence;
}

/* The segment will not grow and has no further whole frame: it is shipped, or damaged from here on. False: it stays. */
static bool finish_segment(struct redis_sink *sink)
{
    bool damaged = sink->segment.is_torn || sink->offset < sink->segment.bytes;
    if (!give_up(sink, sink->segment.hour_ms, sink->segment.events))
        return false;
    if (!damaged)
        spool_keep(sink->options.spool, sink->segment.sequence, clock_ms(CLOCK_MONOTONIC));
    else
        spool_set_aside(sink->options.spool, sink->segment.sequence);
    if (damaged) {
        char line[160];
        snprintf(line, sizeof line,
                 "query log segment %016" PRIx64
                 " is damaged: what could be read is in Redis, the file is set aside",
                 sink->segment.sequence);
        sink->options.notice(NOTICE_WARNING, line);
    }
    close_segment(sink);
    return true;
}

/* Opens the segment at hand. A file that is none of ours is set aside; any other failure may pass, and is
 * tried again. */
static bool open_segment(struct redis_sink *sink, const struct segment *segment, struct fault *fault)
{
    sink->fd = segment_open(spool_folder(sink->options.spool), segment, NULL, fault);
    sink->offset = SEGMENT_HEADER_BYTES;
    if (sink->fd < 0 && fault->status == EX_DATAERR && give_up(sink, segment->hour_ms, segment->events)) {
        sink->options.notice(NOTICE_ERROR, fault->text);
        spool_set_aside(sink->options.spool, segment->sequence);
        sink->done_sequence = segment->sequence;
    }
    return sink->fd >= 0;
}

/* The `bytes` of whole frames that were read into the chunk. */
static struct redis_shipment make_shipment(const struct redis_sink *sink, size_t bytes)
{
    const struct segment *segment = &sink->segment;
    return (struct redis_shipment){
        .route = sink->route,
        .server_id = sink->options.server_id,
        .retention_ms = sink->options.retention_ms,
        .sequence = segment->sequence,
        .frames = sink->chunk,
        .bytes = bytes,
        .confirmed_bytes = segment->confirmed_to > sink->offset ? segment->confirmed_to - sink->offset : 0,
        .announce_hour_ms = is_announcement_due(sink) ? segment->hour_ms : 0,
        .notice = sink->options.notice};
}

/* Says when it changes whether the server is on the list. */
static void note_listing(struct redis_sink *sink, bool is_listed, const struct fault *fault)
{
    char line[sizeof fault->text + 128];
    if (is_listed != sink->is_unlisted)
        return;
    sink->is_unlisted = !is_listed;
    snprintf(line, sizeof line, "%s%s", is_listed ? "" : fault->text,
             is_listed ? "the list of servers in Redis is written again"
                       : "; the query log goes on, but until the list of servers is written numberctl check "
                         "does not find this one's in Redis");
    sink->options.notice(is_listed ? NOTICE_NORMAL : NOTICE_WARNING, line);
}

static enum ship_result deliver(struct redis_sink *sink, const struct redis_shipment *shipment,
                                struct redis_delivery *delivery, struct fault *fault)
{
    enum redis_shipped shipped = redis_shipment_send(shipment, delivery, fault);
    if (shipped == REDIS_SHIPPING_MOVED)
        return SHIP_MOVED;
    if (shipped != REDIS_SHIPPED || !give_up(sink, sink->segment.hour_ms, delivery->lost))
        return SHIP_FAILED;
    if (shipment->announce_hour_ms != 0) {
        sink->announced_hour = shipment->announce_hour_ms;
        sink->announced_ms = clock_ms(CLOCK_MONOTONIC);
        note_listing(sink, !delivery->is_unlisted, fault);
    }
    return SHIP_MORE;
}

/* Without frames: there may be none for long. */
static enum ship_result list_again(struct redis_sink *sink, struct fault *fault)
{
    struct redis_delivery delivery;
    const struct redis_shipment shipment = make_shipment(sink, 0);
    return deliver(sink, &shipment, &delivery, fault);
}

static enum ship_result ship_some(struct redis_sink *sink, struct fault *fault)
{
    /* The state is taken before the read, so that "closed" means that the read saw all there will ever be. */
    bool open;
    struct segment state;
    if (!spool_next(sink->options.spool, sink->done_sequence, &state, &open))
        return SHIP_IDLE;
    if (sink->fd >= 0 && state.sequence != sink->segment.sequence)
        close_segment(sink); /* it has expired under us */
    if (sink->fd < 0 && !open_segment(sink, &state, fault))
        return sink->done_sequence == state.sequence ? SHIP_MORE : SHIP_FAILED;
    sink->segment = state;
    uint64_t offset = sink->offset;
    struct redis_delivery delivery;
    /* Not what is in the file and not yet in the list: its events are not counted there. */
    uint64_t listed = state.bytes > offset ? state.bytes - offset : 0;
    size_t bytes = listed == 0 ? 0
                               : segment_read(sink->fd, &offset, sink->chunk,
                                              listed < CHUNK_BYTES ? (size_t)listed : CHUNK_BYTES);
    if (bytes == 0) {
        return open || !finish_segment(sink) ? SHIP_IDLE : SHIP_MORE;
    }
    const struct redis_shipment shipment = make_shipment(sink, bytes);
    enum ship_result result = deliver(sink, &shipment, &delivery, fault);
    if (result != SHIP_MORE)
        return result;
    note_confirmed(sink, &shipment);
    sink->offset = offset;
    spool_confirm(sink->options.spool, sink->segment.sequence, delivery.events + delivery.lost, offset);
    tally_stored(sink->options.tally, delivery.events);
    return SHIP_MORE;
}

/* --- the thread --- */

static void drop_link(struct redis_sink *sink)
{
    redis_route_forget(sink->route, NULL);
    sink->path = (struct redis_path){0};
    sink->announced_hour = 0;
    atomic_store(&sink->connected, false);
}

static void report_failure(struct redis_sink *sink, const struct fault *fault)
{
    atomic_fetch_add(&sink->failures, 1);
    if (sink->backoff_ms == 0) {
        char line[sizeof fault->text + 80];
        snprintf(line, sizeof line, "%s; the query log goes to the spool until Redis takes it again",
                 fault->text);
        sink->options.notice(NOTICE_WARNING, line);
    }
    sink->backoff_ms = sink->backoff_ms == 0 ? BACKOFF_FIRST_MS : sink->backoff_ms * 2;
    if (sink->backoff_ms > BACKOFF_MAX_MS)
        sink->backoff_ms = BACKOFF_MAX_MS;
}

static void report_success(struct redis_sink *sink)
{
    if (sink->backoff_ms > 0)
        sink->options.notice(NOTICE_NORMAL, "Redis takes the query log again");
    sink->backoff_ms = 0;
}

/* Sleeps in small steps, so that a stop is not kept waiting. */
static void sleep_unless_stopped(const struct redis_sink *sink, unsigned ms)
{
    for (unsigned slept = 0; slept < ms; slept += IDLE_MS) {
        nanosleep(&(struct timespec){.tv_nsec = IDLE_MS * 1000000L}, NULL);
        if (atomic_load(&sink->stop))
            return;
    }
}

/* Another run of Redis has taken over what the one before had confirmed, or its beginning: what it was confirmed last, it lost
 * first. If that is there, all is; else it begins again with the oldest segment that is kept. */
static bool rewind_if_lost(struct redis_sink *sink, struct fault *fault)
{
    if (sink->last_key[0] == '\0')
        return true;
    redisReply *found =
        redis_route_command(sink->route, sink->last_key, 0, 4,
                            (const char *[]){"XRANGE", sink->last_key, sink->last_id, sink->last_id}, fault);
    if (found == NULL)
        return false;
    bool is_there = found->type == REDIS_REPLY_ARRAY && found->elements == 1;
    freeReplyObject(found);
    if (is_there)
        return true;
    if (sink->fd >= 0)
        close_segment(sink);
    sink->done_sequence = 0;
    sink->last_key[0] = '\0';
    return true;
}

/* Warns of what changed since the connection before. */
static bool look_at_policy(struct redis_sink *sink, struct fault *fault)
{
    struct redis_policy policy;
    if (!redis_policy_read(sink->path.link, &sink->path.address, &policy, fault))
        return false;
    if ((policy.run_id[0] == '\0' || strcmp(policy.run_id, sink->run_id) != 0) &&
        !rewind_if_lost(sink, fault))
        return false;
    memcpy(sink->run_id, policy.run_id, sizeof sink->run_id);
    if (policy.may_evict && !atomic_exchange(&sink->may_evict, true))
        sink->options.notice(
            NOTICE_WARNING,
            "Redis may evict the query log before its time (maxmemory-policy): set it to noeviction");
    if (policy.persists_nothing && !atomic_exchange(&sink->persists_nothing, true))
        sink->options.notice(
            NOTICE_WARNING,
            "Redis persists nothing: a restart of it loses the query log; set appendonly yes, or save");
    atomic_store(&sink->may_evict, policy.may_evict);
    atomic_store(&sink->persists_nothing, policy.persists_nothing);
    return true;
}

/* To the node that has this server's streams. */
static bool connect_link(struct redis_sink *sink, struct fault *fault)
{
    char key[REDIS_SHIPMENT_KEY_BYTES];
    redis_shipment_key(sink->options.server_id, 0, 0, key);
    bool is_connected = redis_route_path(sink->route, key, &sink->path, fault) &&
                        look_at_policy(sink, fault) &&
                        /* what it asked may have led elsewhere */
                        redis_route_path(sink->route, key, &sink->path, fault);
    atomic_store(&sink->connected, is_connected);
    return is_connected;
}

/* A connection that nothing is sent on is not seen to be broken: asked for a sign of life once a second. */
static enum ship_result ask_for_life(struct redis_sink *sink, struct fault *fault)
{
    uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
    if (now_ms - sink->alive_ms < ALIVE_EVERY_MS)
        return SHIP_IDLE;
    redisReply *pong =
        redis_link_command(sink->path.link, &sink->path.address, 1, (const char *[]){"PING"}, fault);
    bool is_alive = pong != NULL;
    freeReplyObject(pong);
    sink->alive_ms = now_ms;
    return is_alive ? SHIP_IDLE : SHIP_FAILED;
}

/* One turn of the thread. */
static enum ship_result take_turn(struct redis_sink *sink)
{
    struct fault fault = {0};
    uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
    spool_release(sink->options.spool, now_ms > KEEP_MS ? now_ms - KEEP_MS : 0, KEEP_BYTES);
    if (sink->is_unlisted && now_ms - sink->announced_ms >= RELIST_EVERY_MS)
        drop_link(sink);
    bool linked = sink->path.link != NULL || connect_link(sink, &fault);
    enum ship_result result = SHIP_FAILED;
    if (linked)
        result = sink->is_unlisted && sink->announced_hour == 0 ? list_again(sink, &fault)
                                                                : ship_some(sink, &fault);
    if (result == SHIP_IDLE)
        result = ask_for_life(sink, &fault);
    sink->moves = result == SHIP_MOVED ? sink->moves + 1 : 0;
    if (sink->moves > MOVES_MAX)
        result = SHIP_FAILED; /* two nodes each of which names the other */
    if (result == SHIP_MOVED) {
        sink->path = (struct redis_path){0}; /* and the route knows where it goes on */
        sink->announced_hour = 0;
        return SHIP_MORE;
    }
    if (result == SHIP_FAILED) {
        drop_link(sink);
        report_failure(sink, &fault);
    } else {
        report_success(sink);
    }
    return result;
}

static void *run(void *context)
{
    struct redis_sink *sink = context;
    (void)pthread_setname_np(pthread_self(), "redis");
    /* Of this thread alone: workers that wake come first. */
    (void)setpriority(PRIO_PROCESS, 0, THREAD_NICE);
    for (;;) {
        /* Looked at before the turn: the spool is sealed before the stop, so an idle turn after it is the
         * end. */
        bool stopping = atomic_load(&sink->stop);
        enum ship_result result = take_turn(sink);
        if (stopping && (result != SHIP_MORE || clock_ms(CLOCK_MONOTONIC) >= atomic_load(&sink->deadline_ms)))
            break;
        if (result != SHIP_MORE)
            sleep_unless_stopped(sink, result == SHIP_IDLE ? IDLE_MS : sink->backoff_ms);
    }
    if (sink->fd >= 0)
        close(sink->fd);
    if (sink->path.link != NULL)
        spool_release(sink->options.spool, 0, 0); /* nobody would send it again */
    return NULL;
}

struct redis_sink *redis_sink_start(const struct redis_sink_options *options, struct fault *fault)
{
    struct redis_sink *sink = calloc(1, sizeof *sink);
    void *chunk = malloc(CHUNK_BYTES);
    struct redis_route *route = redis_route_create(&options->target);
    if (sink != NULL && chunk != NULL && route != NULL) {
        sink->options = *options;
        sink->chunk = chunk;
        sink->route = route;
        sink->fd = -1;
        if (pthread_create(&sink->thread, NULL, run, sink) == 0)
            return sink;
    }
    free(sink);
    free(chunk);
    redis_route_destroy(route);
    fault_set(fault, EX_OSERR, "cannot start the thread for Redis: out of memory or threads");
    return NULL;
}

struct redis_sink_figures redis_sink_stop(struct redis_sink *sink, unsigned patience_ms)
{
    atomic_store(&sink->deadline_ms, clock_ms(CLOCK_MONOTONIC) + patience_ms);
    atomic_store(&sink->stop, true);
    pthread_join(sink->thread, NULL);
    struct redis_sink_figures figures = redis_sink_figures(sink);
    redis_route_destroy(sink->route);
    free(sink->chunk);
    free(sink);
    return figures;
}

struct redis_sink_figures redis_sink_figures(const struct redis_sink *sink)
{
    return (struct redis_sink_figures){.failures = atomic_load(&sink->failures),
                                       .connected = atomic_load(&sink->connected),
                                       .policy = {.may_evict = atomic_load(&sink->may_evict),
                                                  .persists_nothing = atomic_load(&sink->persists_nothing)}};
}
