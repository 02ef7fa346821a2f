/* The statistics as one plain report, and its renderings: JSON and Prometheus text.
 *
 * The report is filled by the main from everybody's counters (stats_add_worker does the workers' part); this
 * module knows no thread. Nothing in it names a number, an IP or a principal.
 * query_log: looked_up = stored + in_flight + lost, always. */
#ifndef NUMBERD_SERVER_STATS_H
#define NUMBERD_SERVER_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "hashing/directory.h"
#include "server/counters.h"
#include "server/recorder.h"

#define STATS_WORKERS_MAX 64

struct stats_query_log {
    uint64_t looked_up; /* events since the data directory was made, as all to `lost` */
    uint64_t stored;
    uint64_t in_flight;
    uint64_t lost;
    uint64_t spooled; /* part of in_flight: on disk, not yet confirmed by Redis */
    uint64_t bytes;   /* of segment files */
    uint64_t segments;
    uint64_t redis_failures;
    double erasure_lag_seconds; /* of the oldest that should have been erased; 0: none should */
    bool accepting;
    bool redis_used;
    bool redis_connected;
    bool redis_may_evict;
    bool redis_persists_nothing;
};

struct stats_snapshot {
    uint64_t number;      /* of the last snapshot that was asked for and is over, written or failed */
    uint64_t good_number; /* of the last that was written; below `number` when later ones failed */
    uint64_t records;     /* in the last good one */
    uint64_t position;
    uint64_t written_at_ms; /* 0: there is none */
    uint64_t bytes;
    uint64_t took_ms; /* the last one, good or not */
};

struct stats_journal {
    const char *policy; /* NULL: the registrations are being loaded, and there is no journal yet */
    uint64_t position;
    uint64_t acknowledged;
    uint64_t durable;
    uint64_t segments;
    uint64_t bytes;
    uint64_t written_bytes;
    uint64_t commits;
    uint64_t
        commit_ns; /* sum over the commits: from when lookups saw their oldest change to its acknowledgement */
    uint64_t commit_ns_max;
    uint64_t failures;
    bool read_only; /* it has failed: no registrations are taken */
};

/* Of the feed that registrations come from; see persist/registrations/feed.h for each. */
struct stats_feed {
    bool is_followed; /* false: there is none, and all else is 0 */
    bool connected;
    bool caught_up;
    bool broken;
    char reason[512];
    unsigned partitions; /* 0: not known yet */
    unsigned held;
    uint64_t map_version;
    unsigned min_replicas;
    uint64_t age_ms;
    uint64_t lag_ms;
    uint64_t lag_ms_max;
    uint64_t entries;
    uint64_t steps;
    uint64_t repeated;
    uint64_t waiting;
    uint64_t rounds;
    uint64_t failures;
};

/* The allocator's; the tables of registered numbers and the query log's rings are not among it (hashing/arena.h, ring/ring.h). */
struct stats_allocator {
    bool is_known;
    uint64_t allocated_bytes; /* by the program */
    uint64_t active_bytes;    /* of the pages these lie on */
    uint64_t resident_bytes;  /* with its own books, and what it has not given back yet */
    uint64_t retained_bytes;  /* address space without memory behind it */
};

struct stats_times {
    uint64_t counts[COUNTERS_TIMES]; /* as in counters.h */
    uint64_t ns;
};

struct stats_report {
    uint64_t uptime_seconds;
    uint64_t resident_bytes;
    uint64_t server_id; /* of the data directory */
    unsigned workers;
    bool ready;
    const char *not_ready; /* why, for people */
    bool loading;
    unsigned loading_percent;
    uint64_t connections_open;
    uint64_t connections_opened;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t frames_malformed;
    uint64_t requests_unavailable;
    uint64_t requests_elsewhere;
    uint64_t limited_unlogged;
    uint64_t connections_slow;
    uint64_t connections_evicted;
    uint64_t buffer_bytes;
    uint64_t refused[COUNTERS_REFUSALS];
    bool has_tls;
    int64_t certificate_ends_at; /* Unix time; with has_tls */
    uint64_t suspicions[COUNTERS_DETECTORS];
    uint64_t requests[COUNTERS_REQUEST_TYPES];
    uint64_t answers[COUNTERS_ANSWERS];
    uint64_t updates[COUNTERS_UPDATES];
    uint64_t batches[COUNTERS_BATCHES]; /* as in counters.h */
    uint64_t batch_numbers;
    struct stats_times turns;
    struct stats_times waits;
    uint64_t busy_ns[STATS_WORKERS_MAX]; /* of each worker: processor time */
    uint64_t position;                   /* of the registrations */
    struct directory_stats directory;
    const struct directory_stats
        *shards; /* directory.shards of them, for stats_render_shards; NULL: none yet */
    const char *lookup_variant;
    uint64_t huge_page_bytes;         /* of resident_bytes, as of the last ten seconds or so */
    struct stats_allocator allocator; /* not known to those who ask over the wire */
    struct stats_query_log query_log;
    struct stats_snapshot snapshot;
    struct stats_journal journal;
    struct stats_feed feed;
};

/* Adds one worker's counters. */
void stats_add_worker(struct stats_report *report, const struct counters *counters);

/* Texts to be freed with free(); NULL when memory is short. */
char *stats_render_json(const struct stats_report *report);
char *stats_render_prometheus(const struct stats_report *report);
/* The directory shard by shard, as JSON. */
char *stats_render_shards(const struct stats_report *report);

#endif
