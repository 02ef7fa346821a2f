/* numberd: set-up bottom up, the main loop, teardown in reverse. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "persist/querylog/officer.h"
#include "server/app.h"
#include "server/cipher.h"
#include "server/privileges.h"
#include "server/sharing.h"
#include "server/succession.h"

static const int watched_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
/* Per worker: two million events. The drain looks every 5 ms, so this holds what comes while the disk hesitates. */
#define RING_BYTES (16u << 20)

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

/* --- set-up --- */

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
                                                              .cipher = cipher_seal,
                                                              .officer = officer,
                                                              .server_id = app->datadir.server_id,
                                                              .redis_url = app->config.redis,
                                                              .retention_hours = app->config.retention_hours,
                                                              .bytes_max = app->config.query_log_bytes,
                                                              .rings = app->rings,
                                                              .ring_count = (unsigned)app->config.threads,
                                                              .notice = log_line},
                                   fault);
    return app->querylog != NULL;
}

static bool create_workers(struct app *app, struct fault *fault)
{
    char error[256];
    uint64_t buffer_bytes_max = app->config.buffer_bytes_max / app->config.threads;
    if (buffer_bytes_max < CONNECTIONS_BUFFER_BYTES_MIN)
        buffer_bytes_max = CONNECTIONS_BUFFER_BYTES_MIN;
    app->hooks = (struct service_hooks){app_stats_json, request_snapshot, request_replacement, suspect, app};
    for (unsigned i = 0; i < app->config.threads; i++) {
        struct worker_options options = {.registrations = &app->registrations,
                                         .tokens = app->tokens,
                                         .budgets = app->budgets,
                                         .seats = app->seats,
                                         .patience_ms = (unsigned)app->config.patience_seconds * 1000,
                                         .buffer_bytes_max = buffer_bytes_max,
                                         .hooks = &app->hooks,
                                         .cache_seconds = (uint32_t)app->config.cache_seconds,
                                         .stale_ms = (uint32_t)app->config.stale_seconds * 1000,
                                         .refuse_stale = app->config.refuse_stale,
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

static void stop_serving(struct app *app, uint32_t signal_number)
{
    if (!app->stopping)
        log_line(NOTICE_NORMAL, signal_number == SIGTERM ? "SIGTERM: stopping" : "SIGINT: stopping");
    app->stopping = true;
    supervisor_stopping();
    event_base_loopbreak(app->base);
}

/* One at a time; the event comes again if there are more. */
static void on_signal(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct app *app = context;
    struct signalfd_siginfo signal;
    if (read(fd, &signal, sizeof signal) != (ssize_t)sizeof signal)
        return;
    if (signal.ssi_signo == SIGHUP)
        app_reload(app);
    else if (signal.ssi_signo == SIGUSR2)
        app_succeed(app);
    else
        stop_serving(app, signal.ssi_signo);
}

/* First of all, so that a signal at any later moment means an orderly stop. No thread is interrupted by one: they are blocked
 * before there are others, which inherit that, and are read in the main loop; what comes during the stop is left unread. */
static bool watch_signals(struct app *app, struct fault *fault)
{
    sigset_t signals;
    sigemptyset(&signals);
    for (size_t i = 0; i < sizeof watched_signals / sizeof watched_signals[0]; i++)
        sigaddset(&signals, watched_signals[i]);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    app->base = event_base_new();
    if (app->base == NULL)
        return fault_set(fault, EX_OSERR, "cannot create the event loop");
    app->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    if (app->signal_fd < 0)
        return fault_set(fault, EX_OSERR, "cannot watch for signals: %s", strerror(errno));
    app->signal_event = event_new(app->base, app->signal_fd, EV_READ | EV_PERSIST, on_signal, app);
    app->hand_over_event = evtimer_new(app->base, app_on_hand_over, app);
    return (app->signal_event != NULL && event_add(app->signal_event, NULL) == 0 &&
            app->hand_over_event != NULL) ||
           fault_set(fault, EX_OSERR, "out of memory for the event loop");
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

static void on_probe(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    const struct app *app = context;
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_probe(app->workers[i]);
}

/* The watchdog's questions, and the probes. */
static bool watch_workers(struct app *app, struct fault *fault)
{
    app->supervisor = supervisor_start(&(struct supervisor_options){app->base, is_alive, is_loading, app});
    app->probe_event = event_new(app->base, -1, EV_PERSIST, on_probe, app);
    if (app->supervisor == NULL || app->probe_event == NULL ||
        event_add(app->probe_event, &(struct timeval){.tv_usec = WORKER_PROBE_MS * 1000L}) != 0)
        return fault_set(fault, EX_OSERR, "out of memory for the watchdog");
    return true;
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
        http_create(app->base, ports_take(&app->ports, PORT_STATS), app->tokens, app_collect_for_http, app);
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
    const struct http_files files = sharing_of(app->datadir.path);
    if (app->http == NULL || app->acceptor == NULL || (app->config.share && !http_share(app->http, &files)))
        return fault_set(fault, EX_OSERR, "out of memory for the ports");
    app_take_tls(app);
    return watch_workers(app, fault) &&
           (open_doors(app) || fault_set(fault, EX_OSERR, "out of memory for the ports"));
}

static bool start(struct app *app, struct fault *fault)
{
    registrations_init(&app->registrations);
    pthread_rwlock_init(&app->directory_lock, NULL);
    suspicions_init(&app->suspicions, app->config.detection == DETECTION_TIGHTEN, log_line);
    return watch_signals(app, fault) && app_check_feed(app, fault) && app_load_tokens(app, fault) &&
           ports_open(&app->ports, &app->config, app->predecessor, fault) &&
           privileges_drop(app->config.user, app->config.data_dir, fault) && app_load_ahead(app, fault) &&
           datadir_open(&app->datadir, app->config.data_dir, fault) && create_budgets(app, fault) &&
           create_seats(app, fault) && start_query_log(app, fault) && create_workers(app, fault) &&
           create_porters(app, fault) && app_catch_up(app, fault) && start_serving(app, fault) &&
           app_start_loading(app, fault);
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
    log_line(lost > 0 ? NOTICE_WARNING : NOTICE_NORMAL, line);
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
    struct event *const others[] = {app->signal_event, app->hand_over_event, app->probe_event};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (others[i] != NULL)
            event_free(others[i]);
    if (app->signal_fd >= 0)
        close(app->signal_fd);
    app_close_feed(app);
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
    log_end(fault->text);
    return fault->status;
}

static void announce(const struct app *app)
{
    const struct ports *ports = &app->ports;
    char line[512];
    snprintf(line, sizeof line, "lookups on %s, stats on %s://%s/%s", ports->addresses[PORT_LOOKUP],
             app->config.stats_tls ? "https" : "http", ports->addresses[PORT_STATS],
             atomic_load(&app->open) ? "" : "; loading the registrations");
    log_line(NOTICE_NORMAL, line);
    snprintf(line, sizeof line, "lookups under TLS on %s", ports->addresses[PORT_LOOKUP_TLS]);
    if (ports->addresses[PORT_LOOKUP_TLS][0] != '\0')
        log_line(NOTICE_NORMAL, line);
    snprintf(line, sizeof line, "lookups through proxies on %s%s", ports->addresses[PORT_PROXY],
             app->config.proxy_tls ? ", under TLS" : "");
    if (ports->addresses[PORT_PROXY][0] != '\0')
        log_line(NOTICE_NORMAL, line);
    snprintf(line, sizeof line,
             "%s/" OFFICER_NAME
             ".private opens the query log: move it to who may read the log, and away from this machine",
             app->datadir.path);
    if (app->officer_exposed)
        log_line(NOTICE_WARNING, line);
    app_warn(app);
    if (geteuid() == 0)
        log_line(NOTICE_WARNING, "runs as root, which it needs for nothing: name another user with --user");
    if (atomic_load(&app->open))
        app_announce_ready(app); /* what its predecessor served */
    if (ports->connections_max >= app->config.connections_max)
        return;
    snprintf(line, sizeof line,
             "connections-max is cut from %" PRIu64 " to %" PRIu64
             ": raise the limit of open files (ulimit -n)",
             app->config.connections_max, ports->connections_max);
    log_line(NOTICE_WARNING, line);
}

/* --check-config: all that a start would read, and nothing that it would do. */
static bool check_config(struct app *app, struct fault *fault)
{
    uint8_t officer[OFFICER_KEY_BYTES];
    return app_check_feed(app, fault) && app_load_tokens(app, fault) &&
           ports_check(&app->ports, &app->config, fault) &&
           (app->config.officer_key == NULL || officer_read_public(app->config.officer_key, officer, fault));
}

static int report_check(struct app *app)
{
    struct fault fault;
    int status = check_config(app, &fault) ? EX_OK : fail(&fault);
    if (status == EX_OK)
        printf("numberd: the configuration is good%s\n",
               geteuid() == 0 && app->config.user == NULL
                   ? " (root can read all that it names: see that the user of the service can, too)"
                   : "");
    ports_close(&app->ports);
    tokens_release(app->tokens);
    return status;
}

int main(int argc, char **argv)
{
    static struct app app = {.datadir = {.lock_fd = -1}, .caught_up_fd = -1, .signal_fd = -1};
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
    log_configure((enum log_format)app.config.log_format,
                  (enum notice_level)(NOTICE_NORMAL - app.config.log_level));
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
        log_line(NOTICE_NORMAL, app.is_handing_over ? "handed over to the successor"
                                                    : "stopped; the registrations are saved");
    config_deinit(&app.config);
    return status;
}
