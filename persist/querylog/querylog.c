/* The query log, put together; see querylog.h. */
#include "persist/querylog/querylog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

#include "persist/clock.h"
#include "persist/querylog/drain.h"
#include "persist/querylog/redis_sink.h"
#include "persist/querylog/spool.h"

#define HOUR_MS UINT64_C(3600000)
/* With Redis a segment is a piece of a queue and should go soon; without, it is the log of an hour. */
#define SEGMENT_BYTES_QUEUE (UINT64_C(64) << 20)
#define SEGMENT_BYTES_LOG (UINT64_C(1) << 30)

struct querylog {
    struct spool *spool;
    struct drain *drain;
    struct redis_sink *sink; /* NULL without Redis */
    struct tally *tally;
    uint64_t retention_ms;
    /* As it was at the start. */
    uint64_t stored_before;
    uint64_t lost_before;
};

static bool note_lost(void *context, const struct query_gap *gap)
{
    return drain_note(context, gap);
}

static bool start_sink(struct querylog *querylog, const struct querylog_options *options, struct fault *fault)
{
    struct redis_sink_options sink = {.spool = querylog->spool,
                                      .tally = querylog->tally,
                                      .server_id = options->server_id,
                                      .retention_ms = options->retention_hours * HOUR_MS,
                                      .lost = note_lost,
                                      .context = querylog->drain,
                                      .notice = options->notice};
    if (!redis_target_parse(options->redis_url, &sink.target, fault))
        return false;
    querylog->sink = redis_sink_start(&sink, fault);
    return querylog->sink != NULL;
}

static bool open_spool(struct querylog *querylog, const struct querylog_options *options, struct fault *fault)
{
    bool redis = options->redis_url != NULL;
    /* Several segments fit under the cap, so that room is made in steps. */
    uint64_t most = options->bytes_max / 4;
    uint64_t segment_bytes = redis ? SEGMENT_BYTES_QUEUE : SEGMENT_BYTES_LOG;
    struct spool_options spool = {.folder = options->folder,
                                  .cipher = options->cipher,
                                  .officer = options->officer,
                                  .server_id = options->server_id,
                                  .retention_ms = options->retention_hours * HOUR_MS,
                                  .bytes_max = options->bytes_max,
                                  .is_queue = redis,
                                  .segment_bytes = most < segment_bytes ? most : segment_bytes};
    querylog->spool = spool_open(&spool, fault);
    return querylog->spool != NULL;
}

struct found_events {
    struct tally *tally;
    uint64_t events;
};

static void count_found(void *context, uint64_t hour_ms, uint64_t events)
{
    struct found_events *found = context;
    found->events += events;
    tally_sealed(found->tally, hour_ms, events);
}

/* Counts what the run before appended and could not count any more; what is missing then is its gap. */
static bool settle_past(struct querylog *querylog, enum tally_past past, struct query_gap *gap,
                        struct fault *fault)
{
    struct tally *tally = querylog->tally;
    struct tally_place place = tally_place(tally);
    struct found_events found = {.tally = tally};
    if (past != TALLY_STOPPED) {
        if (!spool_count_behind(querylog->spool, &place.sequence, &place.offset, count_found, &found, fault))
            return false;
        tally_appended(tally, place.sequence, place.offset, found.events);
    }
    tally_level(tally);
    struct tally_figures figures = tally_figures(tally);
    uint64_t last_ms = past == TALLY_KILLED ? tally_last_ms(tally) : 0;
    uint64_t until_ms = last_ms != 0 ? last_ms + 1 : clock_ms(CLOCK_REALTIME);
    uint64_t earliest_ms = until_ms - DRAIN_GAP_HOURS * HOUR_MS;
    uint64_t passed_ms = tally_passed_ms(tally);
    *gap = (struct query_gap){
        .from_ms = passed_ms < earliest_ms ? earliest_ms : passed_ms,
        .until_ms = passed_ms < until_ms ? until_ms : passed_ms + 1, /* the clock went back */
        .events = figures.looked_up - figures.dropped - figures.appended - figures.missed,
        .worker = QUERY_GAP_ALL_WORKERS};
    if (past == TALLY_UNKNOWN)
        gap->reason = QUERY_GAP_RESTARTED;
    else if (gap->events > 0)
        gap->reason = past == TALLY_KILLED ? QUERY_GAP_KILLED : QUERY_GAP_UNWRITTEN;
    return true;
}

/* What the segments found hold and what the count says should agree. Of a queue the sink ships all that it finds, so those
 * that were stored before the stop are counted when they are confirmed again; what is not found any more was damaged. */
static uint64_t settle_stored(struct querylog *querylog, bool is_queue)
{
    struct tally_figures figures = tally_figures(querylog->tally);
    struct spool_figures found;
    spool_figures(querylog->spool, &found);
    uint64_t kept = figures.appended - figures.lost;
    uint64_t waiting = kept > figures.stored ? kept - figures.stored : 0;
    if (!is_queue)
        tally_set_stored(querylog->tally, kept);
    else if (found.events >= waiting)
        tally_set_stored(querylog->tally, kept - found.events);
    return is_queue && found.events < waiting ? waiting - found.events : 0;
}

static void report_past(const struct querylog *querylog, const struct query_gap *gap, notice_fn *notice)
{
    char line[200];
    struct spool_figures found;
    spool_figures(querylog->spool, &found);
    if (found.damaged_bytes > 0) {
        snprintf(line, sizeof line,
                 "query log: %" PRIu64
                 " bytes at the ends of segments are cut short or damaged and are left out",
                 found.damaged_bytes);
        notice(NOTICE_WARNING, line);
    }
    if (gap->reason == QUERY_GAP_RESTARTED) {
        notice(NOTICE_WARNING,
               "query log: the machine was restarted, or the log's count is damaged: what was lost is not "
               "known; that is recorded as a gap");
    } else if (gap->reason != 0) {
        snprintf(line, sizeof line,
                 "query log: %" PRIu64 " events were lost when the server %s; that is recorded as a gap",
                 gap->events,
                 gap->reason == QUERY_GAP_KILLED ? "was killed" : "stopped and the disk refused them");
        notice(NOTICE_WARNING, line);
    }
}

struct querylog *querylog_start(const struct querylog_options *options, struct fault *fault)
{
    struct querylog *querylog = calloc(1, sizeof *querylog);
    struct drain_options drain = {
        .rings = options->rings, .ring_count = options->ring_count, .notice = options->notice};
    enum tally_past past;
    if (querylog == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    querylog->retention_ms = options->retention_hours * HOUR_MS;
    if (!open_spool(querylog, options, fault) ||
        (querylog->tally = tally_open(options->folder, &past, fault)) == NULL ||
        !settle_past(querylog, past, &drain.past, fault)) {
        querylog_stop(querylog, 0);
        return NULL;
    }
    report_past(querylog, &drain.past, options->notice);
    uint64_t damaged = settle_stored(querylog, options->redis_url != NULL);
    struct querylog_figures before = querylog_figures(querylog);
    querylog->lost_before = before.lost;
    querylog->stored_before = before.stored;
    drain.spool = querylog->spool;
    drain.tally = querylog->tally;
    drain.is_final = options->redis_url == NULL;
    querylog->drain = drain_start(&drain, fault);
    if (querylog->drain != NULL && damaged > 0)
        drain_note(querylog->drain,
                   &(struct query_gap){.from_ms = before.oldest_hour_ms != 0
                                                      ? before.oldest_hour_ms
                                                      : clock_ms(CLOCK_REALTIME) - DRAIN_GAP_HOURS * HOUR_MS,
                                       .until_ms = clock_ms(CLOCK_REALTIME),
                                       .events = damaged,
                                       .reason = QUERY_GAP_DAMAGED,
                                       .worker = QUERY_GAP_ALL_WORKERS});
    if (querylog->drain == NULL || (options->redis_url != NULL && !start_sink(querylog, options, fault))) {
        querylog_stop(querylog, 0);
        return NULL;
    }
    return querylog;
}

static uint64_t erasure_lag(const struct querylog *querylog, uint64_t oldest_hour_ms)
{
    uint64_t over_at = frame_hour_over_at(oldest_hour_ms, querylog->retention_ms);
    uint64_t now = clock_ms(CLOCK_REALTIME);
    return oldest_hour_ms == 0 || over_at >= now ? 0 : now - over_at;
}

static struct querylog_figures combine(const struct querylog *querylog, const struct redis_sink_figures *sink)
{
    struct spool_figures spool;
    struct tally_figures tally = tally_figures(querylog->tally);
    spool_figures(querylog->spool, &spool);
    return (struct querylog_figures){.looked_up = tally.looked_up,
                                     .stored = tally.stored,
                                     .spooled = spool.events,
                                     .lost = tally.dropped + tally.missed + tally.lost,
                                     .stored_before = querylog->stored_before,
                                     .lost_before = querylog->lost_before,
                                     .bytes = spool.bytes,
                                     .segments = spool.segments,
                                     .redis_failures = sink == NULL ? 0 : sink->failures,
                                     .oldest_hour_ms = spool.oldest_hour_ms,
                                     .erasure_lag_ms = erasure_lag(querylog, spool.oldest_hour_ms),
                                     .redis_used = sink != NULL,
                                     .redis_connected = sink != NULL && sink->connected,
                                     .redis_may_evict = sink != NULL && sink->policy.may_evict,
                                     .redis_persists_nothing = sink != NULL && sink->policy.persists_nothing};
}

struct querylog_figures querylog_figures(const struct querylog *querylog)
{
    /* Downstream first: an event that moves on meanwhile is then counted as still on its way, never twice. */
    struct redis_sink_figures sink = {0};
    if (querylog->sink != NULL)
        sink = redis_sink_figures(querylog->sink);
    return combine(querylog, querylog->sink == NULL ? NULL : &sink);
}

struct querylog_figures querylog_stop(struct querylog *querylog, unsigned patience_ms)
{
    struct redis_sink_figures sink = {0};
    struct querylog_figures figures = {0};
    bool redis = querylog->sink != NULL;
    bool started = querylog->drain != NULL;
    if (started)
        drain_stop(querylog->drain);
    if (redis)
        sink = redis_sink_stop(querylog->sink, patience_ms);
    drain_destroy(querylog->drain);
    if (started) {
        figures = combine(querylog, redis ? &sink : NULL);
        /* What is not even in the spool: the disk refused it. */
        figures.lost += figures.looked_up - figures.stored - figures.spooled - figures.lost;
    }
    tally_close(querylog->tally, started);
    spool_close(querylog->spool);
    free(querylog);
    return figures;
}

struct query_counts *querylog_worker(const struct querylog *querylog, unsigned worker)
{
    return tally_worker(querylog->tally, worker);
}

const atomic_bool *querylog_gate(const struct querylog *querylog)
{
    return drain_gate(querylog->drain);
}
