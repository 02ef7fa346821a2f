/* The query log, put together; see querylog.h. */
#include "persist/querylog/querylog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

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
    uint64_t recovered;
};

static bool start_sink(struct querylog *querylog, const struct querylog_options *options, struct fault *fault)
{
    struct redis_sink_options sink = {.spool = querylog->spool,
                                      .server_id = options->server_id,
                                      .retention_ms = options->retention_hours * HOUR_MS,
                                      .notice = options->notice};
    if (!redis_target_parse(options->redis_url, &sink.target, fault))
        return false;
    querylog->sink = redis_sink_start(&sink, fault);
    return querylog->sink != NULL;
}

struct querylog *querylog_start(const struct querylog_options *options, struct fault *fault)
{
    struct querylog *querylog = calloc(1, sizeof *querylog);
    if (querylog == NULL) {
        fault_set(fault, EX_OSERR, "out of memory");
        return NULL;
    }
    bool redis = options->redis_url != NULL;
    /* Several segments fit under the cap, so that room is made in steps. */
    uint64_t most = options->bytes_max / 4;
    uint64_t segment_bytes = redis ? SEGMENT_BYTES_QUEUE : SEGMENT_BYTES_LOG;
    struct spool_options spool = {.folder = options->folder,
                                  .officer = options->officer,
                                  .server_id = options->server_id,
                                  .retention_ms = options->retention_hours * HOUR_MS,
                                  .bytes_max = options->bytes_max,
                                  .is_queue = redis,
                                  .segment_bytes = most < segment_bytes ? most : segment_bytes};
    struct drain_options drain = {
        .rings = options->rings, .ring_count = options->ring_count, .notice = options->notice};
    querylog->spool = spool_open(&spool, fault);
    if (querylog->spool == NULL) {
        free(querylog);
        return NULL;
    }
    struct spool_figures found;
    spool_figures(querylog->spool, &found);
    querylog->recovered = found.events;
    if (found.damaged_bytes > 0) {
        char line[160];
        snprintf(line, sizeof line,
                 "query log: %" PRIu64
                 " bytes at the ends of segments are cut short or damaged and are left out",
                 found.damaged_bytes);
        options->notice(line);
    }
    drain.spool = querylog->spool;
    querylog->drain = drain_start(&drain, fault);
    if (querylog->drain == NULL || (redis && !start_sink(querylog, options, fault))) {
        querylog_stop(querylog, 0);
        return NULL;
    }
    return querylog;
}

static struct querylog_figures combine(const struct querylog *querylog, const struct drain_figures *drain,
                                       const struct redis_sink_figures *sink)
{
    struct spool_figures spool;
    spool_figures(querylog->spool, &spool);
    return (struct querylog_figures){.recovered = querylog->recovered,
                                     .appended = drain->appended,
                                     .stored = sink == NULL ? drain->appended : sink->stored,
                                     .spooled = sink == NULL ? 0 : spool.events,
                                     .lost = drain->lost + (sink == NULL ? 0 : sink->lost),
                                     .bytes = spool.bytes,
                                     .segments = spool.segments,
                                     .redis_failures = sink == NULL ? 0 : sink->failures,
                                     .oldest_hour_ms = spool.oldest_hour_ms,
                                     .redis_used = sink != NULL,
                                     .redis_connected = sink != NULL && sink->connected};
}

struct querylog_figures querylog_figures(const struct querylog *querylog)
{
    /* Downstream first: an event that moves on meanwhile is then counted as still on its way, never twice. */
    struct redis_sink_figures sink = {0};
    if (querylog->sink != NULL)
        sink = redis_sink_figures(querylog->sink);
    struct drain_figures drain = drain_figures(querylog->drain);
    return combine(querylog, &drain, querylog->sink == NULL ? NULL : &sink);
}

struct querylog_figures querylog_stop(struct querylog *querylog, unsigned patience_ms)
{
    struct drain_figures drain = {0};
    struct redis_sink_figures sink = {0};
    bool redis = querylog->sink != NULL;
    if (querylog->drain != NULL)
        drain = drain_stop(querylog->drain);
    if (redis)
        sink = redis_sink_stop(querylog->sink, patience_ms);
    struct querylog_figures figures = combine(querylog, &drain, redis ? &sink : NULL);
    spool_close(querylog->spool);
    free(querylog);
    return figures;
}

const atomic_bool *querylog_gate(const struct querylog *querylog)
{
    return drain_gate(querylog->drain);
}
