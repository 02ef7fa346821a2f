/* What numberd's own files share: the parts it is made of. numberd.c sets them up and takes them down; app_registrations.c brings the
 * registrations into service, app_reload.c reads tokens and certificate, app_figures.c collects the figures, app_succession.c hands all
 * over to a new process.
 *
 * Main thread only, but for app_collect and app_stats_json, and what is said at the members. */
#ifndef NUMBERD_SERVER_APP_H
#define NUMBERD_SERVER_APP_H

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <event2/event.h>

#include "hashing/directory.h"
#include "persist/datadir.h"
#include "persist/querylog/querylog.h"
#include "server/acceptor.h"
#include "server/access/budgets.h"
#include "server/access/seats.h"
#include "server/access/tokens.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/http.h"
#include "server/loader.h"
#include "server/log.h"
#include "server/porter.h"
#include "server/ports.h"
#include "server/registrations.h"
#include "server/stats.h"
#include "server/succession.h"
#include "server/supervisor.h"
#include "server/suspicions.h"
#include "server/worker.h"

#define WORKERS_MAX TALLY_WORKERS_MAX

static_assert(WORKERS_MAX <= STATS_WORKERS_MAX, "each has its place in the report");

struct app {
    struct config config;
    struct datadir datadir;
    struct loader *loader; /* until the registrations are loaded */
    struct registrations registrations;
    struct directory *directory;     /* what is served; under the lock once it is open */
    pthread_rwlock_t directory_lock; /* taken by those who look at it for its figures */
    struct durability *durability;
    struct feed_state feed_state; /* as it was loaded; then the feed's */
    struct partition_set holds;   /* with a feed: what is to be held */
    atomic_bool is_loaded;        /* set when the four above are, for other threads */
    atomic_bool open;             /* ... and what is served is up to date */
    int caught_up_fd;             /* written to by the feed's thread, once; -1: not there */
    struct event *caught_up_event;
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
    int signal_fd; /* of SIGTERM, SIGINT, SIGHUP and SIGUSR2, which no thread takes otherwise; -1: not there */
    struct event *signal_event;
    struct event *hand_over_event; /* a timer */
    struct event *probe_event;
    char *const *argv;
    char program[PATH_MAX]; /* this one's */
    int predecessor;        /* the socket to it; -1: there is none, or no more */
    struct store_found found_ahead;
    struct succession *succession;
    bool is_handing_over;
    bool is_waiting_to_hand_over; /* for a snapshot, which has been said */
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

/* --- app_registrations.c --- */

/* Begins to load in a thread, unless a predecessor's are served already. */
bool app_start_loading(struct app *app, struct fault *fault);
/* If there is a predecessor: loads while it serves, and waits until it lets go. Before the data directory is opened. */
bool app_load_ahead(struct app *app, struct fault *fault);
/* With the data directory, and workers that have not begun: the rest. Where that does not fit, all is to be loaded. */
bool app_catch_up(struct app *app, struct fault *fault);
void app_announce_ready(const struct app *app);
/* Whether the feed's URL is one. */
bool app_check_feed(struct app *app, struct fault *fault);
void app_close_feed(struct app *app);

/* --- app_reload.c --- */

bool app_load_tokens(struct app *app, struct fault *fault);
/* To the ports, once they are there. */
void app_take_tls(struct app *app);
/* Of what is amiss with tokens and certificate, at the start. */
void app_warn(const struct app *app);
void app_reload(struct app *app); /* SIGHUP */

/* --- app_figures.c --- */

/* For the stats port, with what takes some time. */
void app_collect_for_http(void *context, struct stats_report *report);
/* For the protocol, from workers. */
char *app_stats_json(void *context);

/* --- app_succession.c --- */

void app_succeed(struct app *app);                                      /* SIGUSR2 */
void app_on_hand_over(evutil_socket_t fd, short events, void *context); /* app->hand_over_event */

#endif
