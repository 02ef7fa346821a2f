/* numberd: set-up bottom up, the main loop, teardown in reverse. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "hashing/arena.h"
#include "hashing/directory.h"
#include "persist/datadir.h"
#include "persist/querylog/querylog.h"
#include "persist/registrations/snapshot.h"
#include "server/acceptor.h"
#include "server/address.h"
#include "server/config.h"
#include "server/http.h"
#include "server/registrations.h"
#include "server/snapshots.h"
#include "server/stats.h"
#include "server/tokens.h"
#include "server/worker.h"

#define WORKERS_MAX 64
/* Records that are loaded at a time. */
#define LOAD_BATCH 512
/* Between two counts of the huge pages. */
#define HUGE_PAGES_SECONDS 10
/* SIGHUP too: a terminal that goes away must not take unsaved registrations along. */
#define STOP_SIGNALS 3
static const int stop_signals[STOP_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
/* Per worker: two million events. The drain looks every 5 ms, so this holds what comes while the disk hesitates. */
#define RING_BYTES (16u << 20)
#define DESCRIPTORS_RESERVED 64

struct app {
    struct config config;
    struct datadir datadir;
    struct directory *directory;
    struct registrations registrations;
    struct snapshot_info loaded;
    struct snapshots *snapshots;
    struct tokens *tokens;
    struct querylog *querylog;
    struct ring *rings[WORKERS_MAX];
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count;
    uint64_t connections_max; /* as configured, or fewer if descriptors are */
    struct service_hooks hooks;
    int listener;
    int stats_listener;
    struct event_base *base;
    struct event *stop_events[STOP_SIGNALS];
    struct acceptor *acceptor;
    struct http *http;
    time_t started;
    time_t huge_pages_read;           /* when; the main thread's */
    _Atomic uint64_t huge_page_bytes; /* as of then */
    bool stopping;
};

static void notice(const char *line)
{
    char stamp[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    fprintf(stderr, "%s numberd: %s\n", stamp, line);
}

/* --- statistics --- */

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
    /* The log first, the workers after it: what moves on meanwhile counts as in flight. */
    struct querylog_figures figures = querylog_figures(app->querylog);
    *log = (struct stats_query_log){.looked_up = figures.recovered,
                                    .stored = figures.stored,
                                    .lost = figures.lost,
                                    .spooled = figures.spooled,
                                    .bytes = figures.bytes,
                                    .segments = figures.segments,
                                    .redis_failures = figures.redis_failures,
                                    .accepting = !atomic_load(querylog_gate(app->querylog)),
                                    .redis_used = figures.redis_used,
                                    .redis_connected = figures.redis_connected};
    for (unsigned i = 0; i < app->worker_count; i++) {
        const struct recorder *recorder = worker_recorder(app->workers[i]);
        uint64_t lost = counter_read(&recorder->lost);
        log->looked_up += counter_read(&recorder->logged) + lost;
        log->lost += lost;
    }
    log->in_flight = log->looked_up - log->stored - log->lost;
}

/* Called from the main thread (HTTP) and from workers (the protocol's stats). */
static void collect(void *context, struct stats_report *report)
{
    struct app *app = context;
    *report = (struct stats_report){.uptime_seconds = (uint64_t)(time(NULL) - app->started),
                                    .resident_bytes = resident_bytes(),
                                    .server_id = app->datadir.server_id,
                                    .workers = app->worker_count,
                                    .position = atomic_load(&app->registrations.position)};
    for (unsigned i = 0; i < app->worker_count; i++)
        stats_add_worker(report, worker_counters(app->workers[i]));
    directory_stats(app->directory, &report->directory);
    report->shards_of = app->directory;
    report->lookup_variant = directory_lookup_variant();
    report->huge_page_bytes = atomic_load(&app->huge_page_bytes);
    collect_query_log(app, &report->query_log);
    snapshots_figures(app->snapshots, &report->snapshot);
    report->ready = report->query_log.accepting || !app->config.refuse_when_log_full;
}

/* For the stats port, in the main thread. The huge pages are counted anew now and then, since for that the kernel looks
 * through all of the process's memory; a worker never has them counted. */
static void collect_for_http(void *context, struct stats_report *report)
{
    struct app *app = context;
    time_t now = time(NULL);
    if (now < app->huge_pages_read || now >= app->huge_pages_read + HUGE_PAGES_SECONDS) {
        app->huge_pages_read = now;
        atomic_store(&app->huge_page_bytes, arena_huge_bytes());
    }
    collect(context, report);
}

static char *stats_json(void *context)
{
    struct stats_report report;
    collect(context, &report);
    return stats_render_json(&report);
}

static uint64_t request_snapshot(void *context)
{
    return snapshots_request(((struct app *)context)->snapshots);
}

/* --- loading --- */

/* Records on their way from the snapshot into the directory, many at a time. */
struct loader {
    struct app *app;
    struct fault *fault;
    size_t count;
    struct record records[LOAD_BATCH];
};

static bool load_batch(struct loader *loader)
{
    uint8_t results[LOAD_BATCH];
    directory_register_batch(loader->app->directory, loader->records, loader->count, results);
    for (size_t i = 0; i < loader->count; i++) {
        if (results[i] == DIRECTORY_NO_MEMORY)
            return fault_set(loader->fault, EX_OSERR,
                             "out of memory for the registrations: %" PRIu64 " in the snapshot",
                             loader->app->loaded.records);
        if (results[i] == DIRECTORY_INVALID_NUMBER)
            return fault_set(loader->fault, EX_DATAERR,
                             "the snapshot holds a number that is none; restore a backup");
    }
    loader->count = 0;
    return true;
}

static bool load_record(void *context, const struct record *record)
{
    struct loader *loader = context;
    loader->records[loader->count++] = *record;
    return loader->count < LOAD_BATCH || load_batch(loader);
}

static bool load_registrations(struct app *app, struct fault *fault)
{
    struct directory_options options = {
        .shard_bits = DIRECTORY_SHARD_BITS_DEFAULT, .accounts = app->config.accounts, .populate = true};
    bool found = snapshot_exists(app->datadir.path);
    if (found && !snapshot_read_info(app->datadir.path, &app->loaded, fault))
        return false;
    options.expected_records = app->loaded.records;
    if (getrandom(&options.seed, sizeof options.seed, 0) != sizeof options.seed)
        return fault_set(fault, EX_OSERR, "the system gave no random seed");
    app->directory = directory_create(&options);
    if (app->directory == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the directory of %" PRIu64 " numbers",
                         app->loaded.records);
    struct loader loader = {.app = app, .fault = fault};
    if (found && (!snapshot_read(app->datadir.path, load_record, &loader, fault) || !load_batch(&loader)))
        return false;
    registrations_init(&app->registrations, app->directory, app->loaded.position);
    return true;
}

/* --- set-up --- */

static int listen_on(const char *text, struct fault *fault)
{
    struct address address;
    char error[256];
    int fd = -1;
    if (address_parse(text, 0, &address, error, sizeof error))
        fd = address_listen(&address, error, sizeof error);
    if (fd < 0)
        fault_set(fault, EX_UNAVAILABLE, "%s", error);
    return fd;
}

/* Leaves descriptors for files, Redis and the stats port. */
static void limit_connections(struct app *app, uint64_t files_max)
{
    uint64_t reserve = DESCRIPTORS_RESERVED + 4 * app->config.threads;
    uint64_t most = files_max > 2 * reserve ? files_max - reserve : files_max / 2;
    app->connections_max = app->config.connections_max < most ? app->config.connections_max : most;
}

static bool open_ports(struct app *app, struct fault *fault)
{
    struct rlimit files;
    app->connections_max = app->config.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* a connection is a descriptor */
        setrlimit(RLIMIT_NOFILE, &files);
        limit_connections(app, files.rlim_cur);
    }
    app->listener = listen_on(app->config.listen, fault);
    app->stats_listener = app->listener < 0 ? -1 : listen_on(app->config.stats_listen, fault);
    return app->stats_listener >= 0;
}

static bool load_tokens(struct app *app, struct fault *fault)
{
    char error[256];
    if (app->config.token_file == NULL)
        return true;
    app->tokens = tokens_load(app->config.token_file, error, sizeof error);
    return app->tokens != NULL || fault_set(fault, EX_CONFIG, "%s", error);
}

static bool start_query_log(struct app *app, struct fault *fault)
{
    for (unsigned i = 0; i < app->config.threads; i++) {
        app->rings[i] = ring_create(RING_BYTES);
        if (app->rings[i] == NULL)
            return fault_set(fault, EX_OSERR, "out of memory for the query log's rings");
    }
    app->querylog = querylog_start(&(struct querylog_options){.folder = app->datadir.querylog_path,
                                                              .server_id = app->datadir.server_id,
                                                              .redis_url = app->config.redis,
                                                              .retention_hours = app->config.retention_hours,
                                                              .bytes_max = app->config.query_log_bytes,
                                                              .rings = app->rings,
                                                              .ring_count = (unsigned)app->config.threads,
                                                              .notice = notice},
                                   fault);
    return app->querylog != NULL;
}

static bool create_workers(struct app *app, struct fault *fault)
{
    char error[256];
    app->hooks = (struct service_hooks){stats_json, request_snapshot, app};
    for (unsigned i = 0; i < app->config.threads; i++) {
        struct worker_options options = {.directory = app->directory,
                                         .registrations = &app->registrations,
                                         .tokens = app->tokens,
                                         .hooks = &app->hooks,
                                         .cache_seconds = (uint32_t)app->config.cache_seconds,
                                         .recorder = {.ring = app->rings[i],
                                                      .gate = querylog_gate(app->querylog),
                                                      .refuse_when_full = app->config.refuse_when_log_full,
                                                      .worker = i}};
        app->workers[i] = worker_create(&options, error, sizeof error);
        if (app->workers[i] == NULL)
            return fault_set(fault, EX_OSERR, "%s", error);
        app->worker_count++;
    }
    return true;
}

static void on_stop(evutil_socket_t signal_number, short events, void *context)
{
    (void)events;
    struct app *app = context;
    if (!app->stopping)
        notice(signal_number == SIGTERM  ? "SIGTERM: stopping"
               : signal_number == SIGINT ? "SIGINT: stopping"
                                         : "SIGHUP: stopping");
    app->stopping = true;
    event_base_loopbreak(app->base);
}

/* First of all, so that a signal at any later moment means an orderly stop. */
static bool watch_signals(struct app *app, struct fault *fault)
{
    app->base = event_base_new();
    if (app->base == NULL)
        return fault_set(fault, EX_OSERR, "cannot create the event loop");
    for (int i = 0; i < STOP_SIGNALS; i++) {
        app->stop_events[i] = evsignal_new(app->base, stop_signals[i], on_stop, app);
        if (app->stop_events[i] == NULL || event_add(app->stop_events[i], NULL) != 0)
            return fault_set(fault, EX_OSERR, "cannot watch for signals");
    }
    return true;
}

static bool start_serving(struct app *app, struct fault *fault)
{
    for (unsigned i = 0; i < app->worker_count; i++)
        if (!worker_start(app->workers[i]))
            return fault_set(fault, EX_OSERR, "cannot start worker thread %u", i);
    int stats_listener = app->stats_listener;
    int listener = app->listener;
    app->stats_listener = app->listener = -1; /* both calls take them over, also when they fail */
    app->http = http_create(app->base, stats_listener, collect_for_http, app);
    app->acceptor =
        acceptor_create(app->base, listener, app->workers, app->worker_count, app->connections_max);
    if (app->http == NULL || app->acceptor == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the ports");
    return true;
}

static bool start(struct app *app, struct fault *fault)
{
    struct snapshots_options snapshots = {.registrations = &app->registrations, .notice = notice};
    if (!watch_signals(app, fault) || !datadir_open(&app->datadir, app->config.data_dir, fault) ||
        !load_tokens(app, fault) || !open_ports(app, fault) || !load_registrations(app, fault))
        return false;
    snapshots.folder = app->datadir.path;
    snapshots.found = app->loaded;
    app->snapshots = snapshots_start(&snapshots, fault);
    return app->snapshots != NULL && start_query_log(app, fault) && create_workers(app, fault) &&
           start_serving(app, fault);
}

/* --- teardown --- */

static void stop_workers(struct app *app)
{
    acceptor_destroy(app->acceptor);
    http_destroy(app->http);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_drain(app->workers[i], (unsigned)app->config.drain_seconds * 1000);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_join(app->workers[i]);
}

static void stop_query_log(struct app *app)
{
    if (app->querylog == NULL)
        return;
    struct querylog_figures figures =
        querylog_stop(app->querylog, (unsigned)app->config.drain_seconds * 1000);
    char line[160];
    snprintf(line, sizeof line,
             "query log: %" PRIu64 " events stored, %" PRIu64 " left in the spool, %" PRIu64 " lost",
             figures.stored, figures.spooled, figures.lost);
    notice(line);
}

/* Undoes whatever start has done, in reverse; saves the registrations. */
static bool stop(struct app *app, struct fault *fault)
{
    stop_workers(app);
    stop_query_log(app);
    bool saved =
        app->snapshots == NULL || snapshots_stop(app->snapshots, (unsigned)app->config.drain_seconds, fault);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_destroy(app->workers[i]);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        ring_destroy(app->rings[i]);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        if (app->stop_events[i] != NULL)
            event_free(app->stop_events[i]);
        signal(stop_signals[i], SIG_IGN); /* libevent has set the default again; we are ending anyway */
    }
    if (app->base != NULL)
        event_base_free(app->base);
    if (app->listener >= 0)
        close(app->listener);
    if (app->stats_listener >= 0)
        close(app->stats_listener);
    tokens_destroy(app->tokens);
    directory_destroy(app->directory);
    datadir_close(&app->datadir);
    return saved;
}

static int fail(const struct fault *fault)
{
    fprintf(stderr, "numberd: %s\n", fault->text);
    return fault->status;
}

static void announce(const struct app *app)
{
    char line[512];
    if (app->connections_max < app->config.connections_max) {
        snprintf(line, sizeof line,
                 "connections-max is cut from %" PRIu64 " to %" PRIu64
                 ": raise the limit of open files (ulimit -n)",
                 app->config.connections_max, app->connections_max);
        notice(line);
    }
    snprintf(line, sizeof line,
             "ready: %" PRIu64 " numbers, lookups on %s, stats on http://%s/, %u workers, query log to %s",
             app->loaded.records, app->config.listen, app->config.stats_listen, app->worker_count,
             app->config.redis == NULL ? "the data directory" : "Redis");
    notice(line);
}

int main(int argc, char **argv)
{
    static struct app app = {.listener = -1, .stats_listener = -1, .datadir = {.lock_fd = -1}};
    struct fault fault = {0};
    int status = EX_OK;
    enum config_result result = config_read(&app.config, argc, argv, &fault);
    if (result != CONFIG_RUN) {
        config_deinit(&app.config);
        return result == CONFIG_EXIT ? EX_OK : fail(&fault);
    }
    app.started = time(NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write, not an end */
    if (start(&app, &fault)) {
        announce(&app);
        event_base_dispatch(app.base);
    } else {
        status = fail(&fault);
    }
    if (!stop(&app, &fault))
        status = fail(&fault);
    else if (status == EX_OK)
        notice("stopped; the registrations are saved");
    config_deinit(&app.config);
    return status;
}
