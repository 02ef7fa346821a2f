/* numberd: set-up bottom up, the main loop, teardown in reverse. */
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <systemd/sd-daemon.h>

#include "hashing/arena.h"
#include "hashing/directory.h"
#include "persist/datadir.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/querylog.h"
#include "server/acceptor.h"
#include "server/access/budgets.h"
#include "server/access/seats.h"
#include "server/access/tokens.h"
#include "server/allocator.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/http.h"
#include "server/loader.h"
#include "server/porter.h"
#include "server/ports.h"
#include "server/privileges.h"
#include "server/registrations.h"
#include "server/stats.h"
#include "server/succession.h"
#include "server/supervisor.h"
#include "server/suspicions.h"
#include "server/worker.h"

#define WORKERS_MAX TALLY_WORKERS_MAX
/* They wait for the disk more than they compute: as many reads at once, whatever the processors. */
#define LOAD_THREADS 4
/* A hand-over that waits for a snapshot looks so often whether it is written. */
#define HAND_OVER_US 20000
/* Between two counts of the huge pages. */
#define HUGE_PAGES_SECONDS 10
#define STOP_SIGNALS 2
static const int stop_signals[STOP_SIGNALS] = {SIGTERM, SIGINT};
/* Per worker: two million events. The drain looks every 5 ms, so this holds what comes while the disk hesitates. */
#define RING_BYTES (16u << 20)

struct app {
    struct config config;
    struct datadir datadir;
    struct loader *loader; /* until the registrations are loaded */
    struct registrations registrations;
    struct directory *directory;     /* what is served; under the lock once it is open */
    pthread_rwlock_t directory_lock; /* taken by those who look at it for its figures */
    struct durability *durability;
    atomic_bool open; /* set when the three above are, for other threads */
    struct tokens *tokens;
    struct budgets *budgets;
    struct seats *seats;
    struct counters door; /* the acceptor's */
    struct suspicions suspicions;
    struct querylog *querylog;
    struct ring *rings[WORKERS_MAX];
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count;
    struct porter *porters[WORKERS_MAX];
    unsigned porter_count; /* 0, or as many as workers */
    struct service_hooks hooks;
    struct ports ports;
    _Atomic int64_t certificate_ends_at; /* of ports.tls, for other threads */
    struct event_base *base;
    struct event *stop_events[STOP_SIGNALS];
    struct event *reload_event;
    struct event *succession_event;
    struct event *hand_over_event; /* a timer */
    char *const *argv;
    char program[PATH_MAX]; /* this one's */
    int predecessor;        /* the socket to it; -1: there is none, or no more */
    struct store_found found_ahead;
    struct succession *succession;
    bool is_handing_over;
    struct acceptor *acceptor;
    struct http *http;
    struct supervisor *supervisor;
    time_t started;
    time_t huge_pages_read;                                        /* when; the main thread's */
    struct directory_stats shards[1u << DIRECTORY_SHARD_BITS_MAX]; /* the main thread's, for the stats port */
    _Atomic uint64_t huge_page_bytes;                              /* as of then */
    bool officer_exposed; /* what opens the query log lies in the data directory */
    bool stopping;
    bool failed; /* in the main loop; `fault` says why */
    struct fault fault;
};

static void notice(const char *line)
{
    char stamp[32];
    time_t now = time(NULL);
    if (supervisor_has_journal()) {
        fprintf(stderr, SD_NOTICE "%s\n", line);
        return;
    }
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
    report->loading = !atomic_load(&app->open);
    if (report->loading) {
        report->not_ready = "the registrations are being loaded";
        return;
    }
    pthread_rwlock_rdlock(&app->directory_lock);
    directory_stats(app->directory, &report->directory);
    pthread_rwlock_unlock(&app->directory_lock);
    report->position = atomic_load(&app->registrations.position);
    durability_figures(app->durability, &report->journal, &report->snapshot);
}

/* Called from the main thread (HTTP) and from workers (the protocol's stats). */
static void collect(void *context, struct stats_report *report)
{
    struct app *app = context;
    *report = (struct stats_report){.uptime_seconds = (uint64_t)(time(NULL) - app->started),
                                    .resident_bytes = resident_bytes(),
                                    .server_id = app->datadir.server_id,
                                    .workers = app->worker_count};
    for (unsigned i = 0; i < app->worker_count; i++)
        stats_add_worker(report, worker_counters(app->workers[i]));
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
static void collect_for_http(void *context, struct stats_report *report)
{
    struct app *app = context;
    time_t now = time(NULL);
    if (now < app->huge_pages_read || now >= app->huge_pages_read + HUGE_PAGES_SECONDS) {
        app->huge_pages_read = now;
        atomic_store(&app->huge_page_bytes, arena_huge_bytes());
    }
    collect(context, report);
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

static char *stats_json(void *context)
{
    struct stats_report report;
    collect(context, &report);
    return stats_render_json(&report);
}

static uint64_t request_snapshot(void *context)
{
    return durability_request_snapshot(((struct app *)context)->durability);
}

static void suspect(void *context, unsigned detectors, uint64_t principal, uint64_t named)
{
    suspicions_report(&((struct app *)context)->suspicions, detectors, principal, named);
}

static uint64_t request_replacement(void *context)
{
    return durability_request_replacement(((struct app *)context)->durability);
}

/* --- loading, while the ports answer NOT_READY --- */

static void announce_ready(const struct app *app)
{
    char line[512];
    struct directory_stats stats;
    directory_stats(app->directory, &stats);
    snprintf(line, sizeof line, "ready: %" PRIu64 " numbers, %u workers, query log to %s", stats.records,
             app->worker_count, app->config.redis == NULL ? "the data directory" : "Redis");
    notice(line);
    supervisor_ready(line);
}

/* From the journal's thread. */
static void on_acknowledged(void *context)
{
    const struct app *app = context;
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_acknowledge(app->workers[i]);
}

/* In the snapshots' thread: a replacement of all registrations is served from now on. */
static void serve(void *context, struct directory *directory)
{
    struct app *app = context;
    pthread_rwlock_wrlock(&app->directory_lock);
    app->directory = directory;
    pthread_rwlock_unlock(&app->directory_lock);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_serve(app->workers[i], directory);
    for (unsigned i = 0; i < app->worker_count; i++)
        while (!worker_serves(app->workers[i], directory))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static bool start_durability(struct app *app, const struct store_found *found, struct fault *fault)
{
    struct durability_options options = {
        .data_dir = app->datadir.path,
        .registrations = &app->registrations,
        .directory = app->directory,
        .found = *found,
        .policy = (enum journal_policy)app->config.durability,
        .interval_ms = (unsigned)app->config.durability_interval_ms,
        .snapshot_seconds = (unsigned)app->config.snapshot_minutes * 60,
        .journal_bytes = app->config.journal_bytes,
        .serve = serve,
        .acknowledged = on_acknowledged,
        .notice = notice,
        .context = app,
    };
    app->durability = durability_start(&options, fault);
    return app->durability != NULL;
}

/* From here on the workers answer. */
static void open_directory(struct app *app)
{
    atomic_store(&app->open, true);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_serve(app->workers[i], app->directory);
}

/* In the main loop. */
static void on_loaded(void *context)
{
    struct app *app = context;
    struct store_found found;
    app->directory = loader_take(app->loader, &found, &app->fault);
    if (app->directory == NULL || !start_durability(app, &found, &app->fault)) {
        app->failed = true;
        event_base_loopbreak(app->base);
        return;
    }
    open_directory(app);
    announce_ready(app);
}

static struct store_options store_options(const struct app *app)
{
    return (struct store_options){.data_dir = app->config.data_dir,
                                  .accounts = app->config.accounts,
                                  .threads = LOAD_THREADS,
                                  .notice = notice};
}

static bool start_loading(struct app *app, struct fault *fault)
{
    struct loader_options options = {
        .store = store_options(app), .base = app->base, .done = on_loaded, .context = app};
    if (app->directory != NULL)
        return true; /* of the predecessor */
    app->loader = loader_start(&options, fault);
    return app->loader != NULL;
}

/* --- succeeding another numberd --- */

/* While it serves: all that can be read by then. Then it gives the data directory up. */
static bool load_ahead(struct app *app, struct fault *fault)
{
    struct store_options options = store_options(app);
    struct snapshot_progress progress = {0};
    if (app->predecessor < 0)
        return true;
    app->directory = store_load_ahead(&options, &progress, &app->found_ahead, fault);
    return app->directory != NULL && succession_await(app->predecessor, fault);
}

/* With the data directory: the rest. Where that does not fit, all is loaded anew, as at any start. */
static bool catch_up(struct app *app, struct fault *fault)
{
    struct store_options options = store_options(app);
    struct fault misfit;
    if (app->directory == NULL)
        return true;
    if (!store_catch_up(&options, app->directory, &app->found_ahead, &misfit)) {
        notice(misfit.text);
        notice("the registrations are loaded anew");
        directory_destroy(app->directory);
        app->directory = NULL;
        return true;
    }
    if (!store_settle(app->datadir.path, &app->found_ahead, fault) ||
        !start_durability(app, &app->found_ahead, fault))
        return false;
    open_directory(app);
    return true;
}

/* --- set-up --- */

static bool load_tokens(struct app *app, struct fault *fault)
{
    char error[512];
    if (app->config.token_file == NULL)
        return true;
    app->tokens = tokens_load(app->config.token_file, error, sizeof error);
    return app->tokens != NULL || fault_set(fault, EX_CONFIG, "%s", error);
}

static bool create_budgets(struct app *app, struct fault *fault)
{
    const struct config *config = &app->config;
    app->budgets = budgets_create(&(struct budget_options){
        .principal = config->principal_budget,
        .network = config->network_budget,
        .principal_rate = config->principal_rate,
        .network_rate = config->network_rate,
        .threads = (unsigned)config->threads,
        .accounts = config->budget_accounts,
        .detection = (enum detection)config->detection,
        .miss_percent_max = (unsigned)config->miss_percent_max,
        .network_principals_max = (unsigned)config->network_principals_max,
    });
    return app->budgets != NULL || fault_set(fault, EX_OSERR, "out of memory for the budgets");
}

static bool create_seats(struct app *app, struct fault *fault)
{
    const struct config *config = &app->config;
    uint64_t total = app->ports.connections_max;
    /* Without tokens everybody is an operator. */
    uint64_t reserve = config->token_file == NULL                ? 0
                       : config->connections_reserve < total / 2 ? config->connections_reserve
                                                                 : total / 2;
    app->seats = seats_create(&(struct seats_options){.total = total,
                                                      .reserve = reserve,
                                                      .by_address = config->connections_per_address,
                                                      .rate = config->connects_per_second});
    return app->seats != NULL || fault_set(fault, EX_OSERR, "out of memory for the connections");
}

static void warn_of_tls(const struct app *app)
{
    if (app->ports.tls != NULL && tls_context_ends_at(app->ports.tls) < time(NULL))
        notice("the certificate has expired: clients that look will not connect");
}

static void warn_of_tokens(const struct app *app)
{
    size_t count = 1;
    if (app->tokens != NULL)
        (void)tokens_list(app->tokens, &count);
    if (count == 0)
        notice("there is no token in the token file: nobody gets in");
}

/* What was read as root may be closed to whom it has become. */
static void warn_of_reloads(const struct app *app)
{
    const struct config *config = &app->config;
    const char *const files[] = {config->token_file, config->tls_certificate, config->tls_key,
                                 config->tls_client_ca};
    char line[600];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (files[i] == NULL || access(files[i], R_OK) == 0)
            continue;
        snprintf(line, sizeof line, "%s cannot be read by --user %s: SIGHUP will not read it again", files[i],
                 config->user == NULL ? "" : config->user);
        notice(line);
    }
}

static void take_tls(struct app *app)
{
    if (app->ports.tls == NULL)
        return;
    atomic_store(&app->certificate_ends_at, tls_context_ends_at(app->ports.tls));
    acceptor_set_tls(app->acceptor, app->ports.tls);
    if (app->config.stats_tls)
        http_set_tls(app->http, app->ports.tls);
}

static void reload_tls(struct app *app)
{
    struct fault fault;
    char line[600];
    if (app->ports.tls == NULL)
        return;
    if (ports_reload_tls(&app->ports, &app->config, &fault)) {
        take_tls(app);
        notice("SIGHUP: the certificate was read again");
        warn_of_tls(app);
    } else {
        snprintf(line, sizeof line, "SIGHUP: the certificate stays as it was: %s", fault.text);
        notice(line);
    }
}

/* What cannot be read changes nothing. */
static void reload_tokens(struct app *app)
{
    char line[600];
    char error[512];
    size_t count;
    struct tokens *tokens = tokens_load(app->config.token_file, error, sizeof error);
    if (tokens == NULL) {
        snprintf(line, sizeof line, "SIGHUP: the tokens stay as they were: %s", error);
        notice(line);
        return;
    }
    tokens_release(app->tokens);
    app->tokens = tokens;
    http_replace_tokens(app->http, tokens);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_replace_tokens(app->workers[i], tokens);
    (void)tokens_list(tokens, &count);
    snprintf(line, sizeof line, "SIGHUP: %zu tokens were read again", count);
    notice(line);
    warn_of_tokens(app);
}

/* In the main loop. */
static void on_reload(evutil_socket_t signal_number, short events, void *context)
{
    (void)signal_number;
    (void)events;
    struct app *app = context;
    bool is_ready = atomic_load(&app->open);
    if (is_ready)
        supervisor_reloading();
    if (app->config.token_file == NULL && app->ports.tls == NULL)
        notice("SIGHUP: there is no token file and no certificate, and nothing else that is read again");
    reload_tls(app);
    if (app->config.token_file != NULL)
        reload_tokens(app);
    if (is_ready)
        supervisor_ready("serving; files were read again");
}

/* The public key that the query log is sealed to. */
static bool read_officer(struct app *app, uint8_t key[static OFFICER_KEY_BYTES], struct fault *fault)
{
    if (app->config.officer_key != NULL)
        return officer_read_public(app->config.officer_key, key, fault);
    return officer_of(app->datadir.path, key, &app->officer_exposed, fault);
}

static bool start_query_log(struct app *app, struct fault *fault)
{
    uint8_t officer[OFFICER_KEY_BYTES];
    if (!read_officer(app, officer, fault))
        return false;
    for (unsigned i = 0; i < app->config.threads; i++) {
        app->rings[i] = ring_create(RING_BYTES);
        if (app->rings[i] == NULL)
            return fault_set(fault, EX_OSERR, "out of memory for the query log's rings");
    }
    app->querylog = querylog_start(&(struct querylog_options){.folder = app->datadir.querylog_path,
                                                              .officer = officer,
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
    uint64_t buffer_bytes_max = app->config.buffer_bytes_max / app->config.threads;
    if (buffer_bytes_max < CONNECTIONS_BUFFER_BYTES_MIN)
        buffer_bytes_max = CONNECTIONS_BUFFER_BYTES_MIN;
    app->hooks = (struct service_hooks){stats_json, request_snapshot, request_replacement, suspect, app};
    for (unsigned i = 0; i < app->config.threads; i++) {
        struct worker_options options = {.registrations = &app->registrations,
                                         .tokens = app->tokens,
                                         .budgets = app->budgets,
                                         .seats = app->seats,
                                         .patience_ms = (unsigned)app->config.patience_seconds * 1000,
                                         .buffer_bytes_max = buffer_bytes_max,
                                         .hooks = &app->hooks,
                                         .cache_seconds = (uint32_t)app->config.cache_seconds,
                                         .recorder = {.ring = app->rings[i],
                                                      .gate = querylog_gate(app->querylog),
                                                      .refuse_when_full = app->config.refuse_when_log_full,
                                                      .hits_only = app->config.log_hits_only,
                                                      .ip_kept = (enum query_ip)app->config.log_ip,
                                                      .worker = (uint16_t)i,
                                                      .counts = querylog_worker(app->querylog, i)}};
        app->workers[i] = worker_create(&options, error, sizeof error);
        if (app->workers[i] == NULL)
            return fault_set(fault, EX_OSERR, "%s", error);
        app->worker_count++;
    }
    return true;
}

/* One for each worker, if there is a port whose connections do not begin with a hello. */
static bool create_porters(struct app *app, struct fault *fault)
{
    if (app->ports.listeners[PORT_LOOKUP_TLS] < 0 && app->ports.listeners[PORT_PROXY] < 0)
        return true;
    for (unsigned i = 0; i < app->worker_count; i++) {
        app->porters[i] = porter_create(
            &(struct porter_options){.worker = app->workers[i],
                                     .seats = app->seats,
                                     .patience_ms = (unsigned)app->config.patience_seconds * 1000});
        if (app->porters[i] == NULL)
            return fault_set(fault, EX_OSERR, "cannot create a porter: out of memory or descriptors");
        app->porter_count++;
    }
    return true;
}

static void on_stop(evutil_socket_t signal_number, short events, void *context)
{
    (void)events;
    struct app *app = context;
    if (!app->stopping)
        notice(signal_number == SIGTERM ? "SIGTERM: stopping" : "SIGINT: stopping");
    app->stopping = true;
    supervisor_stopping();
    event_base_loopbreak(app->base);
}

/* --- being succeeded --- */

static void give_up_successor(struct app *app, const char *why)
{
    char line[600];
    succession_stop(app->succession);
    app->succession = NULL;
    (void)durability_hold(app->durability, false);
    snprintf(line, sizeof line, "%s: this process goes on", why);
    notice(line);
}

static void on_successor_failed(void *context)
{
    give_up_successor(context, "the successor has ended before it was ready, for the reason above");
}

/* The successor is loaded. A snapshot is finished first, since nobody serves while the stop waits for it. */
static void on_hand_over(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct app *app = context;
    if (durability_has_failed(app->durability)) {
        give_up_successor(app, "the journal has failed, and the successor would not have all changes");
        return;
    }
    if (!durability_hold(app->durability, true)) {
        event_add(app->hand_over_event, &(struct timeval){.tv_usec = HAND_OVER_US});
        return;
    }
    app->is_handing_over = true;
    supervisor_hand_over(succession_process(app->succession));
    event_base_loopbreak(app->base);
}

static void on_successor_loaded(void *context)
{
    on_hand_over(-1, 0, context);
}

/* In the main loop. */
static void on_succeed(evutil_socket_t signal_number, short events, void *context)
{
    (void)signal_number;
    (void)events;
    struct app *app = context;
    struct fault fault;
    char line[600];
    const char *refusal = !atomic_load(&app->open)  ? "the registrations are still being loaded"
                          : app->succession != NULL ? "a successor is being started already"
                          : durability_has_failed(app->durability) ? "the journal has failed; mend that first"
                                                                   : NULL;
    if (refusal == NULL) {
        app->succession = succession_start(&(struct succession_options){.base = app->base,
                                                                        .program = app->program,
                                                                        .argv = app->argv,
                                                                        .listeners = app->ports.sockets,
                                                                        .count = PORTS,
                                                                        .loaded = on_successor_loaded,
                                                                        .failed = on_successor_failed,
                                                                        .context = app},
                                           &fault);
        refusal = app->succession == NULL ? fault.text : NULL;
    }
    if (refusal == NULL)
        snprintf(line, sizeof line, "SIGUSR2: process %d loads the registrations, to take over",
                 (int)succession_process(app->succession));
    else
        snprintf(line, sizeof line, "SIGUSR2: no successor: %s", refusal);
    notice(line);
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
    app->reload_event = evsignal_new(app->base, SIGHUP, on_reload, app);
    app->succession_event = evsignal_new(app->base, SIGUSR2, on_succeed, app);
    app->hand_over_event = evtimer_new(app->base, on_hand_over, app);
    if (app->reload_event == NULL || event_add(app->reload_event, NULL) != 0 ||
        app->succession_event == NULL || event_add(app->succession_event, NULL) != 0 ||
        app->hand_over_event == NULL)
        return fault_set(fault, EX_OSERR, "cannot watch for signals");
    return true;
}

static bool open_doors(struct app *app)
{
    static const struct {
        enum port port;
        unsigned kind;
    } doors[] = {
        {PORT_LOOKUP, ACCEPTOR_PLAIN}, {PORT_LOOKUP_TLS, ACCEPTOR_TLS}, {PORT_PROXY, ACCEPTOR_PROXIED}};
    for (size_t i = 0; i < sizeof doors / sizeof doors[0]; i++) {
        int listener = ports_take(&app->ports, doors[i].port);
        unsigned kind = doors[i].kind;
        if (doors[i].port == PORT_PROXY && app->config.proxy_tls)
            kind |= ACCEPTOR_TLS;
        if (listener >= 0 && !acceptor_listen(app->acceptor, listener, kind))
            return false;
    }
    return true;
}

static bool is_alive(void *context)
{
    const struct app *app = context;
    bool all = true;
    for (unsigned i = 0; i < app->worker_count; i++)
        all = worker_answers(app->workers[i]) && all;
    return all;
}

static bool is_loading(void *context, unsigned *percent)
{
    const struct app *app = context;
    bool loading = !atomic_load(&app->open);
    if (loading)
        *percent = loader_progress(app->loader);
    return loading;
}

static bool start_serving(struct app *app, struct fault *fault)
{
    for (unsigned i = 0; i < app->worker_count; i++)
        if (!worker_start(app->workers[i]))
            return fault_set(fault, EX_OSERR, "cannot start worker thread %u", i);
    for (unsigned i = 0; i < app->porter_count; i++)
        if (!porter_start(app->porters[i]))
            return fault_set(fault, EX_OSERR, "cannot start porter thread %u", i);
    app->http =
        http_create(app->base, ports_take(&app->ports, PORT_STATS), app->tokens, collect_for_http, app);
    app->acceptor = acceptor_create(&(struct acceptor_options){.base = app->base,
                                                               .workers = app->workers,
                                                               .porters = app->porters,
                                                               .worker_count = app->worker_count,
                                                               .seats = app->seats,
                                                               .counters = &app->door,
                                                               .proxies = app->ports.proxies,
                                                               .operators = app->ports.operators,
                                                               .operator_count = app->ports.operator_count,
                                                               .proxy_count = app->ports.proxy_count});
    if (app->http == NULL || app->acceptor == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the ports");
    app->supervisor = supervisor_start(&(struct supervisor_options){app->base, is_alive, is_loading, app});
    if (app->supervisor == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the watchdog");
    take_tls(app);
    return open_doors(app) || fault_set(fault, EX_OSERR, "out of memory for the ports");
}

static bool start(struct app *app, struct fault *fault)
{
    registrations_init(&app->registrations);
    pthread_rwlock_init(&app->directory_lock, NULL);
    suspicions_init(&app->suspicions, app->config.detection == DETECTION_TIGHTEN, notice);
    return watch_signals(app, fault) && load_tokens(app, fault) &&
           ports_open(&app->ports, &app->config, app->predecessor, fault) &&
           privileges_drop(app->config.user, app->config.data_dir, fault) && load_ahead(app, fault) &&
           datadir_open(&app->datadir, app->config.data_dir, fault) && create_budgets(app, fault) &&
           create_seats(app, fault) && start_query_log(app, fault) && create_workers(app, fault) &&
           create_porters(app, fault) && catch_up(app, fault) && start_serving(app, fault) &&
           start_loading(app, fault);
}

/* --- teardown --- */

/* Until all is answered that was asked. The clients may take their time to read it and to close. */
static void silence_workers(struct app *app)
{
    acceptor_destroy(app->acceptor);
    http_destroy(app->http);
    supervisor_stop(app->supervisor);
    for (unsigned i = 0; i < app->porter_count; i++)
        porter_stop(app->porters[i]);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_drain(app->workers[i], (unsigned)app->config.drain_seconds * 1000);
    for (unsigned i = 0; i < app->worker_count; i++)
        while (!worker_is_silent(app->workers[i]))
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void stop_query_log(struct app *app)
{
    if (app->querylog == NULL)
        return;
    struct querylog_figures figures =
        querylog_stop(app->querylog, app->is_handing_over ? 0 : (unsigned)app->config.drain_seconds * 1000);
    char line[160];
    uint64_t stored = figures.stored - figures.stored_before;
    uint64_t lost = figures.lost - figures.lost_before;
    if (app->failed && stored + figures.spooled + lost == 0)
        return; /* why it failed is the line to be read */
    snprintf(line, sizeof line,
             "query log: %" PRIu64 " events stored, %" PRIu64 " left in the spool, %" PRIu64 " lost", stored,
             figures.spooled, lost);
    notice(line);
}

/* All that the data directory is needed for; then another process may have it. */
static bool save(struct app *app, struct fault *fault)
{
    silence_workers(app);
    stop_query_log(app);
    bool saved = app->durability == NULL || durability_stop(app->durability, !app->is_handing_over,
                                                            (unsigned)app->config.drain_seconds, fault);
    loader_stop(app->loader);
    datadir_close(&app->datadir);
    if (app->is_handing_over)
        succession_complete(app->succession);
    return saved;
}

/* Undoes whatever start has done, in reverse; saves the registrations. */
static bool stop(struct app *app, struct fault *fault)
{
    bool saved = save(app, fault);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_join(app->workers[i]);
    succession_stop(app->succession);
    if (app->predecessor >= 0)
        close(app->predecessor);
    for (unsigned i = 0; i < app->porter_count; i++)
        porter_destroy(app->porters[i]);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_destroy(app->workers[i]);
    for (unsigned i = 0; i < WORKERS_MAX; i++)
        ring_destroy(app->rings[i]);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        if (app->stop_events[i] != NULL)
            event_free(app->stop_events[i]);
        signal(stop_signals[i], SIG_IGN); /* libevent has set the default again; we are ending anyway */
    }
    struct event *const others[] = {app->reload_event, app->succession_event, app->hand_over_event};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (others[i] != NULL)
            event_free(others[i]);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    if (app->base != NULL)
        event_base_free(app->base);
    ports_close(&app->ports);
    seats_destroy(app->seats);
    tokens_release(app->tokens);
    budgets_destroy(app->budgets);
    directory_destroy(app->directory);
    registrations_deinit(&app->registrations);
    pthread_rwlock_destroy(&app->directory_lock);
    suspicions_deinit(&app->suspicions);
    return saved;
}

static int fail(const struct fault *fault)
{
    fprintf(stderr, "%snumberd: %s\n", supervisor_has_journal() ? SD_ERR : "", fault->text);
    return fault->status;
}

static void announce(const struct app *app)
{
    const struct ports *ports = &app->ports;
    char line[512];
    snprintf(line, sizeof line, "lookups on %s, stats on %s://%s/%s", ports->addresses[PORT_LOOKUP],
             app->config.stats_tls ? "https" : "http", ports->addresses[PORT_STATS],
             atomic_load(&app->open) ? "" : "; loading the registrations");
    notice(line);
    snprintf(line, sizeof line, "lookups under TLS on %s", ports->addresses[PORT_LOOKUP_TLS]);
    if (ports->addresses[PORT_LOOKUP_TLS][0] != '\0')
        notice(line);
    snprintf(line, sizeof line, "lookups through proxies on %s%s", ports->addresses[PORT_PROXY],
             app->config.proxy_tls ? ", under TLS" : "");
    if (ports->addresses[PORT_PROXY][0] != '\0')
        notice(line);
    snprintf(line, sizeof line,
             "%s/" OFFICER_NAME
             ".private opens the query log: move it to who may read the log, and away from this machine",
             app->datadir.path);
    if (app->officer_exposed)
        notice(line);
    warn_of_tls(app);
    warn_of_tokens(app);
    warn_of_reloads(app);
    if (geteuid() == 0)
        notice("runs as root, which it needs for nothing: name another user with --user");
    if (atomic_load(&app->open))
        announce_ready(app); /* what its predecessor served */
    if (ports->connections_max >= app->config.connections_max)
        return;
    snprintf(line, sizeof line,
             "connections-max is cut from %" PRIu64 " to %" PRIu64
             ": raise the limit of open files (ulimit -n)",
             app->config.connections_max, ports->connections_max);
    notice(line);
}

/* --check-config: all that a start would read, and nothing that it would do. */
static bool check_config(struct app *app, struct fault *fault)
{
    uint8_t officer[OFFICER_KEY_BYTES];
    return load_tokens(app, fault) && ports_check(&app->ports, &app->config, fault) &&
           (app->config.officer_key == NULL || officer_read_public(app->config.officer_key, officer, fault));
}

static int report_check(struct app *app)
{
    struct fault fault;
    int status = check_config(app, &fault) ? EX_OK : fail(&fault);
    if (status == EX_OK)
        puts("numberd: the configuration is good");
    ports_close(&app->ports);
    tokens_release(app->tokens);
    return status;
}

int main(int argc, char **argv)
{
    static struct app app = {.datadir = {.lock_fd = -1}};
    struct fault fault = {0};
    int status = EX_OK;
    app.predecessor = succession_inherit();
    app.argv = argv;
    /* Not when it is needed: by then another version may have taken the file's place. */
    (void)!readlink("/proc/self/exe", app.program, sizeof app.program - 1);
    enum config_result result = config_read(&app.config, argc, argv, &fault);
    ports_init(&app.ports);
    if (result != CONFIG_RUN) {
        status = result == CONFIG_EXIT ? EX_OK : result == CONFIG_CHECK ? report_check(&app) : fail(&fault);
        config_deinit(&app.config);
        return status;
    }
    app.started = time(NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a failed write, not an end */
    if (start(&app, &fault)) {
        if (app.predecessor >= 0)
            close(app.predecessor);
        app.predecessor = -1;
        announce(&app);
        event_base_dispatch(app.base);
        if (app.failed)
            status = fail(&app.fault);
    } else {
        status = fail(&fault);
    }
    if (!stop(&app, &fault))
        status = fail(&fault);
    else if (status == EX_OK)
        notice(app.is_handing_over ? "handed over to the successor" : "stopped; the registrations are saved");
    config_deinit(&app.config);
    return status;
}
