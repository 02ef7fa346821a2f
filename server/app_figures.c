/* The figures for the stats port and the protocol's stats; see app.h. */
#include "server/app.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "hashing/arena.h"
#include "server/allocator.h"

/* Between two counts of the huge pages. */
#define HUGE_PAGES_SECONDS 10

static uint64_t resident_bytes(void)
{
    uint64_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void collect_query_log(const struct app *app, struct stats_query_log *log)
{
    struct querylog_figures figures = querylog_figures(app->querylog);
    *log = (struct stats_query_log){.looked_up = figures.looked_up,
                                    .stored = figures.stored,
                                    .lost = figures.lost,
                                    .spooled = figures.spooled,
                                    .bytes = figures.bytes,
                                    .segments = figures.segments,
                                    .redis_failures = figures.redis_failures,
                                    .erasure_lag_seconds = (double)figures.erasure_lag_ms / 1000,
                                    .accepting = !atomic_load(querylog_gate(app->querylog)),
                                    .redis_used = figures.redis_used,
                                    .redis_connected = figures.redis_connected,
                                    .redis_may_evict = figures.redis_may_evict,
                                    .redis_persists_nothing = figures.redis_persists_nothing};
    log->in_flight = log->looked_up - log->stored - log->lost;
}

static void collect_registrations(struct app *app, struct stats_report *report)
{
    report->loading = !atomic_load(&app->is_loaded);
    if (report->loading) {
        report->not_ready = "the registrations are being loaded";
        return;
    }
    pthread_rwlock_rdlock(&app->directory_lock);
    directory_stats(app->directory, &report->directory);
    pthread_rwlock_unlock(&app->directory_lock);
    report->position = atomic_load(&app->registrations.position);
    durability_figures(app->durability, &report->journal, &report->snapshot, &report->feed);
    if (report->feed.is_followed && report->feed.age_ms > app->config.stale_seconds * 1000 &&
        app->config.refuse_stale)
        report->not_ready = "the feed of registrations has not been followed for too long";
    if (!atomic_load(&app->open))
        report->not_ready = report->feed.reason[0] != '\0'
                                ? report->feed.reason
                                : "the registrations are being brought up to date with the feed";
}

/* Called from the main thread (HTTP) and from workers (the protocol's stats). */
static void app_collect(void *context, struct stats_report *report)
{
    struct app *app = context;
    *report = (struct stats_report){.uptime_seconds = (uint64_t)(time(NULL) - app->started),
                                    .resident_bytes = resident_bytes(),
                                    .server_id = app->datadir.server_id,
                                    .workers = app->worker_count};
    for (unsigned i = 0; i < app->worker_count; i++) {
        stats_add_worker(report, worker_counters(app->workers[i]));
        report->busy_ns[i] = worker_busy_ns(app->workers[i]);
    }
    for (unsigned i = 0; i < app->porter_count; i++)
        stats_add_worker(report, porter_counters(app->porters[i]));
    /* Last, so that nobody is seen to leave who was not seen to come. */
    stats_add_worker(report, &app->door);
    report->has_tls = app->config.tls_certificate != NULL;
    report->certificate_ends_at = atomic_load(&app->certificate_ends_at);
    collect_registrations(app, report);
    report->lookup_variant = directory_lookup_variant();
    report->huge_page_bytes = atomic_load(&app->huge_page_bytes);
    collect_query_log(app, &report->query_log);
    if (!report->query_log.accepting && app->config.refuse_when_log_full)
        report->not_ready = "the query log is full and its policy is refuse";
    report->ready = report->not_ready == NULL;
}

/* For the stats port, in the main thread. The huge pages are counted anew now and then, since for that the kernel looks
 * through all of the process's memory; a worker never has them counted. */
void app_collect_for_http(void *context, struct stats_report *report)
{
    struct app *app = context;
    time_t now = time(NULL);
    if (now < app->huge_pages_read || now >= app->huge_pages_read + HUGE_PAGES_SECONDS) {
        app->huge_pages_read = now;
        atomic_store(&app->huge_page_bytes, arena_huge_bytes());
    }
    app_collect(context, report);
    allocator_read(&report->allocator);
    if (report->loading) {
        report->loading_percent = loader_progress(app->loader);
        return;
    }
    pthread_rwlock_rdlock(&app->directory_lock);
    for (unsigned i = 0; i < report->directory.shards; i++)
        directory_shard_stats(app->directory, i, &app->shards[i]);
    pthread_rwlock_unlock(&app->directory_lock);
    report->shards = app->shards;
}

char *app_stats_json(void *context)
{
    struct stats_report report;
    app_collect(context, &report);
    return stats_render_json(&report);
}
