/* The statistics and their renderings; see stats.h. */
#include "server/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "server/access/budgets.h"
#include "server/wire.h"

/* Names by wire type, as labels. */
static const char *const request_names[COUNTERS_REQUEST_TYPES] = {
    "unknown", "hello", "lookup",   "lookup_records", "register",    "deregister", "move",
    "ping",    "stats", "snapshot", "goodbye",        "replace_all", "map"};
static const char *const answer_names[COUNTERS_ANSWERS] = {"not_registered", "registered", "invalid",
                                                           "limited"};
static const char *const update_names[COUNTERS_UPDATES] = {"added",  "replaced", "removed", "moved",
                                                           "absent", "occupied", "refused"};

static const char *const refusal_names[COUNTERS_REFUSALS] = {"full", "crowded_address", "hasty_address"};

static void add_times(struct stats_times *times, const struct counters_times *more)
{
    for (unsigned i = 0; i < COUNTERS_TIMES; i++)
        times->counts[i] += counter_read(&more->counts[i]);
    times->ns += counter_read(&more->ns);
}

void stats_add_worker(struct stats_report *report, const struct counters *counters)
{
    /* Closed first, so that the difference is never below zero. */
    uint64_t closed = counter_read(&counters->connections_closed);
    uint64_t opened = counter_read(&counters->connections_opened);
    report->connections_open += opened - closed;
    report->connections_opened += opened;
    report->bytes_in += counter_read(&counters->bytes_in);
    report->bytes_out += counter_read(&counters->bytes_out);
    report->frames_malformed += counter_read(&counters->frames_malformed);
    report->requests_unavailable += counter_read(&counters->requests_unavailable);
    report->requests_elsewhere += counter_read(&counters->requests_elsewhere);
    report->limited_unlogged += counter_read(&counters->limited_unlogged);
    report->connections_slow += counter_read(&counters->connections_slow);
    report->connections_evicted += counter_read(&counters->connections_evicted);
    report->buffer_bytes += counter_read(&counters->buffer_bytes);
    for (unsigned i = 0; i < COUNTERS_REFUSALS; i++)
        report->refused[i] += counter_read(&counters->refused[i]);
    for (unsigned i = 0; i < COUNTERS_DETECTORS; i++)
        report->suspicions[i] += counter_read(&counters->suspicions[i]);
    for (unsigned i = 0; i < COUNTERS_REQUEST_TYPES; i++)
        report->requests[i] += counter_read(&counters->requests[i]);
    for (unsigned i = 0; i < COUNTERS_ANSWERS; i++)
        report->answers[i] += counter_read(&counters->answers[i]);
    for (unsigned i = 0; i < COUNTERS_UPDATES; i++)
        report->updates[i] += counter_read(&counters->updates[i]);
    for (unsigned i = 0; i < COUNTERS_BATCHES; i++)
        report->batches[i] += counter_read(&counters->batches[i]);
    report->batch_numbers += counter_read(&counters->batch_numbers);
    add_times(&report->turns, &counters->turns);
    add_times(&report->waits, &counters->waits);
}

/* Up to which value the place of a histogram goes. */
static double batch_bound(unsigned place)
{
    return (double)(UINT64_C(1) << place);
}

static double time_bound(unsigned place)
{
    return (double)((uint64_t)COUNTERS_TIME_FIRST_NS << 2 * place) / 1e9;
}

static double ratio(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (double)part / (double)whole;
}

/* --- JSON --- */

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *by_name(const char *const *names, const uint64_t *values, unsigned count)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < count; i++)
        json_object_set_new(object, names[i], integer(values[i]));
    return object;
}

/* What the whole directory and each shard have in common. */
static json_t *table_json(const struct directory_stats *stats)
{
    return json_pack("{s:o, s:o, s:f, s:o, s:f, s:f, s:f, s:o, s:f}", "registered", integer(stats->records),
                     "slots", integer(stats->slots), "fill", ratio(stats->records, stats->slots), "bytes",
                     integer(stats->bytes), "bytes_per_number", ratio(stats->bytes, stats->records),
                     "second_line_share", ratio(stats->spilled, stats->records), "moves_per_insert",
                     ratio(stats->moved, stats->added), "rebuilds", integer(stats->rebuilds),
                     "rebuild_seconds", (double)stats->rebuild_ns / 1e9);
}

static json_t *directory_json(const struct stats_report *report)
{
    json_t *object = table_json(&report->directory);
    json_t *rest = json_pack("{s:o, s:i, s:o, s:s}", "position", integer(report->position), "shards",
                             (int)report->directory.shards, "bytes_peak",
                             integer(report->directory.bytes_peak), "lookup", report->lookup_variant);
    json_object_update(object, rest);
    json_decref(rest);
    return object;
}

char *stats_render_shards(const struct stats_report *report)
{
    json_t *array = json_array();
    for (unsigned i = 0; report->shards != NULL && i < report->directory.shards; i++)
        json_array_append_new(array, table_json(&report->shards[i]));
    char *text = json_dumps(array, JSON_INDENT(2));
    json_decref(array);
    return text;
}

static json_t *query_log_json(const struct stats_query_log *log)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:b, s:s, s:o, s:b, s:b}", "looked_up",
                     integer(log->looked_up), "stored", integer(log->stored), "in_flight",
                     integer(log->in_flight), "lost", integer(log->lost), "spooled", integer(log->spooled),
                     "bytes", integer(log->bytes), "segments", integer(log->segments), "erasure_lag_seconds",
                     log->erasure_lag_seconds, "accepting", (int)log->accepting, "redis",
                     !log->redis_used       ? "not used"
                     : log->redis_connected ? "connected"
                                            : "away",
                     "redis_failures", integer(log->redis_failures), "redis_may_evict",
                     (int)log->redis_may_evict, "redis_persists_nothing", (int)log->redis_persists_nothing);
}

static json_t *snapshot_json(const struct stats_snapshot *snapshot)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f}", "number", integer(snapshot->number),
                     "good_number", integer(snapshot->good_number), "records", integer(snapshot->records),
                     "position", integer(snapshot->position), "written_at_ms",
                     integer(snapshot->written_at_ms), "bytes", integer(snapshot->bytes), "seconds",
                     (double)snapshot->took_ms / 1e3);
}

static json_t *journal_json(const struct stats_journal *journal)
{
    if (journal->policy == NULL)
        return json_null();
    double commits = journal->commits == 0 ? 1 : (double)journal->commits;
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:o}", "policy",
                     journal->policy, "read_only", (int)journal->read_only, "position",
                     integer(journal->position), "acknowledged", integer(journal->acknowledged), "durable",
                     integer(journal->durable), "segments", integer(journal->segments), "bytes",
                     integer(journal->bytes), "written_bytes", integer(journal->written_bytes), "commits",
                     integer(journal->commits), "visible_to_acknowledged_seconds_mean",
                     (double)journal->commit_ns / 1e9 / commits, "visible_to_acknowledged_seconds_max",
                     (double)journal->commit_ns_max / 1e9, "failures", integer(journal->failures));
}

static const char *feed_state(const struct stats_feed *feed)
{
    return feed->broken ? "broken" : !feed->connected ? "away" : feed->caught_up ? "followed" : "catching up";
}

static json_t *feed_json(const struct stats_feed *feed)
{
    if (!feed->is_followed)
        return json_null();
    return json_pack("{s:s, s:s, s:i, s:i, s:o, s:i, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o}", "state",
                     feed_state(feed), "reason", feed->reason, "partitions", (int)feed->partitions, "held",
                     (int)feed->held, "map_version", integer(feed->map_version), "min_replicas",
                     (int)feed->min_replicas, "age_seconds", (double)feed->age_ms / 1e3, "lag_seconds",
                     (double)feed->lag_ms / 1e3, "lag_seconds_max", (double)feed->lag_ms_max / 1e3, "entries",
                     integer(feed->entries), "steps", integer(feed->steps), "repeated",
                     integer(feed->repeated), "waiting", integer(feed->waiting), "rounds",
                     integer(feed->rounds), "failures", integer(feed->failures));
}

/* {"bounds": [...], "counts": [...], "sum": ...}; the last place has no bound. */
static json_t *histogram_json(const uint64_t *counts, unsigned places, double (*bound)(unsigned place),
                              double sum)
{
    json_t *bounds = json_array();
    json_t *each = json_array();
    for (unsigned i = 0; i < places; i++) {
        json_array_append_new(each, integer(counts[i]));
        if (i + 1 < places)
            json_array_append_new(bounds, json_real(bound(i)));
    }
    return json_pack("{s:o, s:o, s:f}", "bounds", bounds, "counts", each, "sum", sum);
}

static json_t *times_json(const struct stats_times *times)
{
    return histogram_json(times->counts, COUNTERS_TIMES, time_bound, (double)times->ns / 1e9);
}

static json_t *busy_json(const struct stats_report *report)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < report->workers; i++)
        json_array_append_new(array, json_real((double)report->busy_ns[i] / 1e9));
    return array;
}

static json_t *allocator_json(const struct stats_allocator *allocator)
{
    if (!allocator->is_known)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:o}", "allocated_bytes", integer(allocator->allocated_bytes),
                     "active_bytes", integer(allocator->active_bytes), "resident_bytes",
                     integer(allocator->resident_bytes), "retained_bytes",
                     integer(allocator->retained_bytes));
}

char *stats_render_json(const struct stats_report *report)
{
    char server[20];
    snprintf(server, sizeof server, "%016" PRIx64, report->server_id);
    json_t *root = json_pack(
        "{s:s, s:s, s:b, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "version", NUMBERD_VERSION, "server", server, "ready", (int)report->ready, "uptime_seconds",
        integer(report->uptime_seconds), "resident_bytes", integer(report->resident_bytes), "huge_page_bytes",
        integer(report->huge_page_bytes), "workers", (int)report->workers, "connections_open",
        integer(report->connections_open), "connections_opened", integer(report->connections_opened),
        "bytes_in", integer(report->bytes_in), "bytes_out", integer(report->bytes_out), "frames_malformed",
        integer(report->frames_malformed), "requests_unavailable", integer(report->requests_unavailable),
        "lookups", by_name(answer_names, report->answers, COUNTERS_ANSWERS), "requests",
        by_name(request_names, report->requests, COUNTERS_REQUEST_TYPES), "updates",
        by_name(update_names, report->updates, COUNTERS_UPDATES), "directory", directory_json(report),
        "query_log", query_log_json(&report->query_log));
    if (root == NULL || json_object_set_new(root, "snapshot", snapshot_json(&report->snapshot)) != 0 ||
        json_object_set_new(root, "allocator", allocator_json(&report->allocator)) != 0 ||
        json_object_set_new(root, "requests_elsewhere", integer(report->requests_elsewhere)) != 0 ||
        json_object_set_new(root, "connections_slow", integer(report->connections_slow)) != 0 ||
        json_object_set_new(root, "limited_unlogged", integer(report->limited_unlogged)) != 0 ||
        json_object_set_new(root, "connections_evicted", integer(report->connections_evicted)) != 0 ||
        json_object_set_new(root, "buffer_bytes", integer(report->buffer_bytes)) != 0 ||
        json_object_set_new(root, "connections_refused",
                            by_name(refusal_names, report->refused, COUNTERS_REFUSALS)) != 0 ||
        json_object_set_new(root, "certificate_ends_at",
                            report->has_tls ? json_integer(report->certificate_ends_at) : json_null()) != 0 ||
        json_object_set_new(root, "suspicions",
                            by_name(detector_names(), report->suspicions, COUNTERS_DETECTORS)) != 0 ||
        json_object_set_new(root, "journal", journal_json(&report->journal)) != 0 ||
        json_object_set_new(root, "feed", feed_json(&report->feed)) != 0 ||
        json_object_set_new(root, "batches",
                            histogram_json(report->batches, COUNTERS_BATCHES, batch_bound,
                                           (double)report->batch_numbers)) != 0 ||
        json_object_set_new(root, "turns", times_json(&report->turns)) != 0 ||
        json_object_set_new(root, "waits", times_json(&report->waits)) != 0 ||
        json_object_set_new(root, "worker_busy_seconds", busy_json(report)) != 0 ||
        json_object_set_new(root, "loading_percent",
                            report->loading ? json_integer(report->loading_percent) : json_null()) != 0) {
        json_decref(root);
        return NULL;
    }
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return text;
}

/* --- Prometheus --- */

static void metric(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    metric(out, name, type, help);
    fprintf(out, "%s %" PRIu64 "\n", name, value);
}

static void labelled(FILE *out, const char *name, const char *help, const char *label,
                     const char *const *labels, const uint64_t *values, unsigned count)
{
    metric(out, name, "counter", help);
    for (unsigned i = 0; i < count; i++)
        fprintf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, labels[i], values[i]);
}

static void histogram(FILE *out, const char *name, const char *help, const uint64_t *counts, unsigned places,
                      double (*bound)(unsigned place), double sum)
{
    uint64_t all = 0;
    metric(out, name, "histogram", help);
    for (unsigned i = 0; i + 1 < places; i++)
        fprintf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bound(i), all += counts[i]);
    all += counts[places - 1];
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9g\n%s_count %" PRIu64 "\n", name, all, name,
            sum, name, all);
}

static void put_work(FILE *out, const struct stats_report *report)
{
    metric(out, "numberd_worker_busy_seconds_total", "counter",
           "Processor time of each worker; its rate is the share of the time that it is busy.");
    for (unsigned i = 0; i < report->workers; i++)
        fprintf(out, "numberd_worker_busy_seconds_total{worker=\"%u\"} %.6f\n", i,
                (double)report->busy_ns[i] / 1e9);
    histogram(out, "numberd_lookup_batch_numbers", "Numbers asked for in a request.", report->batches,
              COUNTERS_BATCHES, batch_bound, (double)report->batch_numbers);
    histogram(out, "numberd_turn_seconds",
              "How long turns take, of one connection or of all that are ready together: reading, answering "
              "what was read, and sending. The next one "
              "that is ready waits for so long.",
              report->turns.counts, COUNTERS_TIMES, time_bound, (double)report->turns.ns / 1e9);
    histogram(
        out, "numberd_queue_seconds",
        "How long what arrives waits until its worker comes to it, as probes find that each worker gets "
        "20 times a second.",
        report->waits.counts, COUNTERS_TIMES, time_bound, (double)report->waits.ns / 1e9);
}

static void put_server(FILE *out, const struct stats_report *report)
{
    metric(out, "numberd_build_info", "gauge", "Constant 1, labelled with the version that runs.");
    fprintf(out, "numberd_build_info{version=\"%s\"} 1\n", NUMBERD_VERSION);
    single(out, "numberd_ready", "gauge", "1 while the server answers and can log what it answers.",
           report->ready);
    single(out, "numberd_uptime_seconds", "gauge", "Seconds since the start.", report->uptime_seconds);
    single(out, "numberd_resident_bytes", "gauge", "Memory of the process that is in RAM.",
           report->resident_bytes);
    single(out, "numberd_huge_page_bytes", "gauge", "The part of it that lies on huge pages.",
           report->huge_page_bytes);
    single(out, "numberd_workers", "gauge", "Worker threads.", report->workers);
    single(out, "numberd_connections_open", "gauge", "Connections open now.", report->connections_open);
    single(out, "numberd_connections_opened_total", "counter", "Connections taken since the start.",
           report->connections_opened);
    single(out, "numberd_received_bytes_total", "counter", "Bytes read from clients.", report->bytes_in);
    single(out, "numberd_sent_bytes_total", "counter", "Bytes written to clients.", report->bytes_out);
    single(out, "numberd_frames_malformed_total", "counter",
           "Frames that broke the protocol; each closed its connection.", report->frames_malformed);
    single(out, "numberd_requests_unavailable_total", "counter", "Requests answered UNAVAILABLE.",
           report->requests_unavailable);
    single(out, "numberd_requests_elsewhere_total", "counter",
           "Requests answered ELSEWHERE: a number was in a partition that is not here.",
           report->requests_elsewhere);
    single(out, "numberd_limited_unlogged_total", "counter",
           "Numbers that were LIMITED while so many were that no more of them were logged.",
           report->limited_unlogged);
    single(out, "numberd_connections_slow_total", "counter",
           "Connections closed since their client took longer than its patience.", report->connections_slow);
    single(out, "numberd_connections_evicted_total", "counter",
           "Connections closed since all together held more memory than buffer-bytes-max, and they the most.",
           report->connections_evicted);
    single(out, "numberd_buffer_bytes", "gauge",
           "Memory that connections hold for frames and replies that are not complete.",
           report->buffer_bytes);
    labelled(out, "numberd_connections_refused_total",
             "Connections closed at once: there was no place left, or their address had its share or came "
             "too often.",
             "reason", refusal_names, report->refused, COUNTERS_REFUSALS);
    if (report->has_tls) {
        metric(out, "numberd_certificate_end_timestamp_seconds", "gauge",
               "Until when the TLS certificate is valid, Unix time.");
        fprintf(out, "numberd_certificate_end_timestamp_seconds %" PRId64 "\n", report->certificate_ends_at);
    }
    labelled(out, "numberd_suspicions_total",
             "Principals and networks that a detector of enumeration began to suspect.", "detector",
             detector_names(), report->suspicions, COUNTERS_DETECTORS);
    labelled(out, "numberd_requests_total", "Requests by type.", "type", request_names, report->requests,
             COUNTERS_REQUEST_TYPES);
    labelled(out, "numberd_lookups_total", "Numbers looked up, by answer.", "answer", answer_names,
             report->answers, COUNTERS_ANSWERS);
    labelled(out, "numberd_updates_total", "Registrations asked to change, by result.", "result",
             update_names, report->updates, COUNTERS_UPDATES);
}

static void single_real(FILE *out, const char *name, const char *type, const char *help, double value)
{
    metric(out, name, type, help);
    fprintf(out, "%s %.6f\n", name, value);
}

static void put_directory(FILE *out, const struct stats_report *report)
{
    const struct directory_stats *directory = &report->directory;
    single(out, "numberd_registered_numbers", "gauge", "Numbers registered now, hidden ones included.",
           directory->records);
    single(out, "numberd_registrations_position", "gauge", "Changes to the registrations, over all starts.",
           report->position);
    single(out, "numberd_directory_bytes", "gauge", "Memory of the hash tables.", directory->bytes);
    single(out, "numberd_directory_peak_bytes", "gauge", "The most that the hash tables have taken so far.",
           directory->bytes_peak);
    single(out, "numberd_directory_slots", "gauge", "Slots of the hash tables.", directory->slots);
    single_real(out, "numberd_directory_fill_ratio", "gauge", "Registered numbers over slots.",
                ratio(directory->records, directory->slots));
    single_real(out, "numberd_directory_second_line_ratio", "gauge",
                "Share of the registered numbers whose lookup reads a second line.",
                ratio(directory->spilled, directory->records));
    single(out, "numberd_directory_inserts_total", "counter", "Numbers added to the hash tables.",
           directory->added);
    single(out, "numberd_directory_moves_total", "counter",
           "Numbers that these inserts pushed to their other line.", directory->moved);
    single(out, "numberd_directory_rebuilds_total", "counter", "Shards rebuilt, to grow or to clean up.",
           directory->rebuilds);
    single_real(out, "numberd_directory_rebuild_seconds_total", "counter", "Time spent on that.",
                (double)directory->rebuild_ns / 1e9);
    single(out, "numberd_snapshots_total", "counter",
           "Snapshots of the registrations asked for and finished.", report->snapshot.number);
    metric(out, "numberd_snapshot_timestamp_seconds", "gauge",
           "When the last good snapshot was written, 0 if never.");
    fprintf(out, "numberd_snapshot_timestamp_seconds %.3f\n", (double)report->snapshot.written_at_ms / 1000);
    single(out, "numberd_snapshot_bytes", "gauge", "Size of the last good snapshot.", report->snapshot.bytes);
    single_real(out, "numberd_snapshot_seconds", "gauge", "How long the last snapshot took, good or not.",
                (double)report->snapshot.took_ms / 1e3);
    single(out, "numberd_snapshot_failed", "gauge", "1 when the last snapshot failed.",
           report->snapshot.good_number < report->snapshot.number);
}

static void put_journal(FILE *out, const struct stats_journal *journal)
{
    if (journal->policy == NULL)
        return;
    single(out, "numberd_read_only", "gauge",
           "1 while no registrations are taken, since the journal has failed.", journal->read_only);
    single(out, "numberd_journal_position", "gauge", "Changes in the journal, over all starts.",
           journal->position);
    single(out, "numberd_journal_acknowledged_position", "gauge", "Changes that may be acknowledged.",
           journal->acknowledged);
    single(out, "numberd_journal_durable_position", "gauge", "Changes that are surely on the disk.",
           journal->durable);
    single(out, "numberd_journal_segments", "gauge", "Segment files of the journal.", journal->segments);
    single(out, "numberd_journal_bytes", "gauge", "Bytes of the journal's segments.", journal->bytes);
    single(out, "numberd_journal_written_bytes_total", "counter", "Bytes written to the journal.",
           journal->written_bytes);
    single(out, "numberd_journal_commits_total", "counter", "Commits, of many changes each.",
           journal->commits);
    single_real(
        out, "numberd_journal_commit_seconds_total", "counter",
        "From when lookups saw a commit's oldest change to its acknowledgement, summed over the commits.",
        (double)journal->commit_ns / 1e9);
    single_real(out, "numberd_journal_commit_seconds_max", "gauge", "The longest of these.",
                (double)journal->commit_ns_max / 1e9);
    single(out, "numberd_journal_failures_total", "counter",
           "Failed writes; each makes the server read-only.", journal->failures);
}

static void put_query_log(FILE *out, const struct stats_query_log *log)
{
    single(out, "numberd_query_log_looked_up_total", "counter",
           "Query events; always stored + in flight + lost.", log->looked_up);
    single(out, "numberd_query_log_stored_total", "counter", "Query events in their final place.",
           log->stored);
    single(out, "numberd_query_log_in_flight", "gauge", "Query events on their way.", log->in_flight);
    single(out, "numberd_query_log_lost_total", "counter", "Query events given up.", log->lost);
    single(out, "numberd_query_log_spooled", "gauge", "Query events on disk that Redis has not confirmed.",
           log->spooled);
    single(out, "numberd_query_log_segment_bytes", "gauge", "Bytes of query log segments on disk.",
           log->bytes);
    single(out, "numberd_query_log_segments", "gauge", "Query log segments on disk.", log->segments);
    single_real(out, "numberd_query_log_erasure_lag_seconds", "gauge",
                "For so long the oldest hour on disk should have been erased; 0: none should.",
                log->erasure_lag_seconds);
    single(out, "numberd_query_log_accepting", "gauge", "0 while the log can take nothing more.",
           log->accepting);
    if (!log->redis_used)
        return;
    single(out, "numberd_redis_connected", "gauge", "1 while Redis takes the query log.",
           log->redis_connected);
    single(out, "numberd_redis_failures_total", "counter", "Tries that Redis did not confirm.",
           log->redis_failures);
    single(out, "numberd_redis_may_evict", "gauge",
           "1 when its maxmemory-policy may evict the query log before its time.", log->redis_may_evict);
    single(out, "numberd_redis_persists_nothing", "gauge", "1 when a restart of Redis loses the query log.",
           log->redis_persists_nothing);
}

static void put_feed(FILE *out, const struct stats_feed *feed)
{
    if (!feed->is_followed)
        return;
    single(out, "numberd_feed_connected", "gauge", "1 while the feed of registrations is followed.",
           feed->connected);
    single(out, "numberd_feed_broken", "gauge",
           "1 when the feed cannot be followed any more, since one side lacks changes of the other.",
           feed->broken);
    single(out, "numberd_feed_partitions", "gauge", "Partitions of the feed.", feed->partitions);
    single(out, "numberd_feed_partitions_held", "gauge", "Those that are held here.", feed->held);
    single_real(out, "numberd_feed_age_seconds", "gauge", "Since all that the feed had was carried out.",
                (double)feed->age_ms / 1e3);
    single_real(out, "numberd_feed_lag_seconds", "gauge",
                "From when Redis had the last entry until it was carried out here.",
                (double)feed->lag_ms / 1e3);
    single(out, "numberd_feed_entries_total", "counter", "Entries carried out.", feed->entries);
    single(out, "numberd_feed_steps_total", "counter", "Changes in them.", feed->steps);
    single(out, "numberd_feed_repeated_total", "counter", "Entries that were in the feed twice.",
           feed->repeated);
    single(out, "numberd_feed_waiting", "gauge", "Changes of clients that wait for the feed.", feed->waiting);
    single(out, "numberd_feed_rounds_total", "counter", "Trips to Redis.", feed->rounds);
    single(out, "numberd_feed_failures_total", "counter", "Times that it went away.", feed->failures);
}

static void put_allocator(FILE *out, const struct stats_allocator *allocator)
{
    if (!allocator->is_known)
        return;
    single(out, "numberd_allocator_allocated_bytes", "gauge", "Memory that the program has from jemalloc.",
           allocator->allocated_bytes);
    single(out, "numberd_allocator_active_bytes", "gauge", "The pages that it lies on.",
           allocator->active_bytes);
    single(out, "numberd_allocator_resident_bytes", "gauge",
           "With jemalloc's own books, and what it has not given back yet.", allocator->resident_bytes);
    single(out, "numberd_allocator_retained_bytes", "gauge",
           "Address space that jemalloc keeps without memory behind it.", allocator->retained_bytes);
}

static void put_metrics(FILE *out, const struct stats_report *report)
{
    put_server(out, report);
    put_work(out, report);
    put_allocator(out, &report->allocator);
    put_directory(out, report);
    put_journal(out, &report->journal);
    put_feed(out, &report->feed);
    put_query_log(out, &report->query_log);
}

char *stats_render_prometheus(const struct stats_report *report)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL)
        return NULL;
    put_metrics(out, report);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
