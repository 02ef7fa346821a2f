/* The registrations from the disk into service: at a start, while the ports answer NOT_READY, or from a predecessor; see app.h. */
#include "server/app.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/redis/redis_link.h"

/* They wait for the disk more than they compute: as many reads at once, whatever the processors. */
#define LOAD_THREADS 4

void app_announce_ready(const struct app *app)
{
    char line[512];
    struct directory_stats stats;
    directory_stats(app->directory, &stats);
    snprintf(line, sizeof line, "ready: %" PRIu64 " numbers, %u workers, query log to %s", stats.records,
             app->worker_count, app->config.redis == NULL ? "the data directory" : "Redis");
    log_line(NOTICE_NORMAL, line);
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

/* From here on the workers answer. */
static void open_directory(struct app *app)
{
    atomic_store(&app->open, true);
    for (unsigned i = 0; i < app->worker_count; i++)
        worker_serve(app->workers[i], app->directory);
}

/* --- the feed --- */

/* In the feed's thread. */
static void on_caught_up(void *context)
{
    const struct app *app = context;
    (void)!write(app->caught_up_fd, &(uint64_t){1}, sizeof(uint64_t));
}

static void open_up_to_date(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct app *app = context;
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
    if (atomic_load(&app->open))
        return; /* a successor, which serves as its predecessor did */
    open_directory(app);
    app_announce_ready(app);
}

static bool watch_feed(struct app *app, struct fault *fault)
{
    app->caught_up_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    app->caught_up_event = event_new(app->base, app->caught_up_fd, EV_READ, open_up_to_date, app);
    return (app->caught_up_fd >= 0 && app->caught_up_event != NULL &&
            event_add(app->caught_up_event, NULL) == 0) ||
           fault_set(fault, EX_OSERR, "cannot follow the feed: out of memory or descriptors");
}

void app_close_feed(struct app *app)
{
    if (app->caught_up_event != NULL)
        event_free(app->caught_up_event);
    if (app->caught_up_fd >= 0)
        close(app->caught_up_fd);
    feed_state_deinit(&app->feed_state);
}

static void take_mark(void *context, const struct change *mark)
{
    feed_state_take(&((struct app *)context)->feed_state, mark);
}

static bool is_anywhere(const char *address)
{
    return strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "[::]:", 5) == 0;
}

/* What others are told: a name that clients can use, without anything that a text would have to be quoted for. */
static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (colon == NULL || colon == text || colon[1] < '1' || colon[1] > '9' || is_anywhere(text))
        return false;
    unsigned long port = strtoul(colon + 1, &end, 10);
    bool is_v6 = text[0] == '[' && colon[-1] == ']';
    size_t host = (size_t)(colon - text);
    return *end == '\0' && port <= UINT16_MAX && strlen(text) < FEED_NODE_ADDRESS_BYTES &&
           (is_v6
                ? strspn(text + 1, "abcdefABCDEF0123456789:.") == host - 2
                : strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == host);
}

/* Where clients are sent. */
static const char *lookups_of(const struct app *app)
{
    if (app->config.advertise != NULL)
        return app->config.advertise;
    if (!is_anywhere(app->ports.addresses[PORT_LOOKUP]))
        return app->ports.addresses[PORT_LOOKUP];
    log_line(NOTICE_WARNING, "clients cannot be sent to a server that listens on all addresses, so it is not "
                             "in their map: name one "
                             "with --advertise");
    return FEED_NOWHERE;
}

bool app_check_feed(struct app *app, struct fault *fault)
{
    struct redis_target target;
    const struct config *config = &app->config;
    if (config->registrations == NULL)
        return config->holds == NULL || fault_set(fault, EX_USAGE, "--holds is for --registrations");
    memset(&app->holds, true, sizeof app->holds);
    if (config->holds != NULL && !partition_set_parse(config->holds, &app->holds))
        return fault_set(fault, EX_USAGE, "--holds is no list of partitions such as 0-7,12 (0 to %u)",
                         PARTITIONS_MAX - 1);
    if (config->advertise != NULL && !is_address(config->advertise))
        return fault_set(fault, EX_USAGE, "--advertise is no address such as numberd1.example:4164");
    return redis_target_parse(config->registrations, &target, fault);
}

/* What belongs to a feed must not change without it. */
static bool check_origin(const struct app *app, struct fault *fault)
{
    return app->config.registrations != NULL || app->feed_state.feed == 0 ||
           fault_set(
               fault, EX_CONFIG,
               "the data directory's registrations come from a feed: name its Redis with --registrations");
}

/* --- all of it --- */

static bool start_durability(struct app *app, const struct store_found *found, struct fault *fault)
{
    if (!check_origin(app, fault) || (app->config.registrations != NULL && !watch_feed(app, fault)))
        return false;
    struct durability_options options = {
        .data_dir = app->datadir.path,
        .registrations = &app->registrations,
        .directory = app->directory,
        .found = *found,
        .policy = (enum journal_policy)app->config.durability,
        .interval_ms = (unsigned)app->config.durability_interval_ms,
        .snapshot_seconds = (unsigned)app->config.snapshot_minutes * 60,
        .journal_bytes = app->config.journal_bytes,
        .feed = {.redis_url = app->config.registrations,
                 .partitions = (unsigned)app->config.partitions,
                 .min_replicas = (unsigned)app->config.min_replicas,
                 .catch_up_percent = (unsigned)app->config.catch_up_percent,
                 .node = app->datadir.server_id,
                 .holds = app->config.holds == NULL ? NULL : &app->holds,
                 .lookups = app->config.registrations == NULL ? NULL : lookups_of(app),
                 .stats = app->ports.addresses[PORT_STATS],
                 .state = &app->feed_state},
        .serve = serve,
        .acknowledged = on_acknowledged,
        .caught_up = on_caught_up,
        .notice = log_line,
        .context = app,
    };
    app->durability = durability_start(&options, fault);
    atomic_store(&app->is_loaded, app->durability != NULL);
    return app->durability != NULL;
}

#define FOLLOWING_TEXT "the registrations are loaded; what the feed has since is read"

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
    if (app->config.registrations != NULL) {
        log_line(NOTICE_NORMAL, FOLLOWING_TEXT);
        return;
    }
    open_directory(app);
    app_announce_ready(app);
}

static struct store_options continue_options(struct app *app)
{
    return (struct store_options){.mark = take_mark,
                                  .mark_context = app,
                                  .data_dir = app->config.data_dir,
                                  .accounts = app->config.accounts,
                                  .threads = LOAD_THREADS,
                                  .notice = log_line};
}

/* What an earlier load has shown of the feed is forgotten. */
static struct store_options store_options(struct app *app)
{
    feed_state_deinit(&app->feed_state);
    return continue_options(app);
}

bool app_start_loading(struct app *app, struct fault *fault)
{
    if (app->directory != NULL)
        return true; /* of the predecessor */
    struct loader_options options = {.store = store_options(app),
                                     .is_low = app->config.registrations != NULL,
                                     .base = app->base,
                                     .done = on_loaded,
                                     .context = app};
    app->loader = loader_start(&options, fault);
    return app->loader != NULL;
}

/* While it serves: all that can be read by then. Then it gives the data directory up. */
bool app_load_ahead(struct app *app, struct fault *fault)
{
    if (app->predecessor < 0)
        return true;
    struct store_options options = store_options(app);
    struct snapshot_progress progress = {0};
    app->directory = store_load_ahead(&options, &progress, &app->found_ahead, fault);
    return app->directory != NULL && succession_await(app->predecessor, fault);
}

/* With the data directory: the rest. Where that does not fit, all is loaded anew, as at any start. */
bool app_catch_up(struct app *app, struct fault *fault)
{
    struct fault misfit;
    if (app->directory == NULL)
        return true;
    struct store_options options = continue_options(app);
    if (!store_catch_up(&options, app->directory, &app->found_ahead, &misfit)) {
        log_line(NOTICE_WARNING, misfit.text);
        log_line(NOTICE_WARNING, "the registrations are loaded anew");
        directory_destroy(app->directory);
        app->directory = NULL;
        return true;
    }
    bool has_all = feed_state_follows(&app->feed_state, &app->holds);
    if (!store_settle(app->datadir.path, &app->found_ahead, fault) ||
        !start_durability(app, &app->found_ahead, fault))
        return false;
    if (has_all)
        open_directory(app);
    else /* of some partitions the predecessor had nothing */
        log_line(NOTICE_NORMAL, FOLLOWING_TEXT);
    return true;
}
