/* A worker: its thread, what is handed over to it, and its end; see worker.h. */
#include "server/worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "server/clock.h"
#include "server/requests.h"

/* Callbacks in a row before the sockets are looked at again: one that always has more to do (a client under TLS that sends
 * without a pause) is then only one among those that are ready. */
#define CALLBACKS_IN_A_ROW 64

struct worker {
    struct counters counters;
    struct recorder recorder;
    struct service service;
    struct connections connections;
    struct event_base *base;
    pthread_t thread;
    bool started;
    struct event *deadline;
    /* The hand-over from the main thread and the porter. */
    struct arrivals arrivals;
    int wake_fd;
    struct event *wake;
    pthread_mutex_t mutex;
    bool has_held;                  /* wants to be woken when the journal has moved */
    struct directory *offered;      /* to be served from now on */
    const struct directory *served; /* as others see it */
    bool has_ended;
    struct tokens
        *offered_tokens; /* to count from now on; a reference, which the worker takes over; NULL: no others */
    bool draining;
    bool is_silent; /* has answered all that it will answer */
    unsigned drain_ms;
    bool is_pinged; /* and has not answered */
    /* When the probe was sent that is under way, by the precise clock; 0: none is. */
    _Atomic uint64_t probed_ns;
};

/* --- from the worker's thread --- */

/* The connections have replies that wait for the journal. */
static void on_held(void *context)
{
    struct worker *worker = context;
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = true;
    pthread_mutex_unlock(&worker->mutex);
}

static void release_decided(struct worker *worker)
{
    bool has_held = connections_release(&worker->connections);
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = has_held;
    pthread_mutex_unlock(&worker->mutex);
}

static void on_deadline(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    event_base_loopbreak(((struct worker *)context)->base);
}

static void begin_drain(struct worker *worker, unsigned patience_ms)
{
    struct timeval patience = {.tv_sec = patience_ms / 1000,
                               .tv_usec = (suseconds_t)(patience_ms % 1000) * 1000};
    event_add(worker->deadline, &patience);
    connections_end(&worker->connections);
}

/* From now on lookups go to the directory. It has room for as many readers as there may be workers. */
static void take_directory(struct worker *worker, struct directory *directory)
{
    if (worker->service.reader != NULL)
        directory_leave(worker->service.directory, worker->service.reader);
    worker->service.reader = directory_join(directory);
    worker->service.directory = directory;
    pthread_mutex_lock(&worker->mutex);
    worker->served = directory;
    pthread_mutex_unlock(&worker->mutex);
}

/* Takes the reference over. */
static void take_tokens(struct worker *worker, struct tokens *tokens)
{
    tokens_release(worker->service.tokens);
    worker->service.tokens = tokens;
    worker->service.tokens_version++;
}

static void fall_silent(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->is_silent = true;
    pthread_mutex_unlock(&worker->mutex);
}

static void take_probe(struct worker *worker)
{
    uint64_t probed_ns = atomic_exchange_explicit(&worker->probed_ns, 0, memory_order_relaxed);
    if (probed_ns != 0)
        counter_add_wait(&worker->counters.waits, clock_precise_ns() - probed_ns,
                         WORKER_PROBE_MS * UINT64_C(1000000));
}

static void on_wake(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct worker *worker = context;
    uint64_t count;
    struct arrival arrival;
    (void)!read(fd, &count, sizeof count);
    connections_finish_round(&worker->connections);
    take_probe(worker);
    pthread_mutex_lock(&worker->mutex);
    bool draining = worker->draining;
    worker->is_pinged = false;
    unsigned drain_ms = worker->drain_ms;
    struct directory *offered = worker->offered;
    struct tokens *tokens = worker->offered_tokens;
    worker->offered_tokens = NULL;
    pthread_mutex_unlock(&worker->mutex);
    if (offered != worker->service.directory)
        take_directory(worker, offered);
    if (tokens != NULL)
        take_tokens(worker, tokens);
    release_decided(worker);
    while (arrivals_take(&worker->arrivals, &arrival))
        connections_open(&worker->connections, &arrival);
    if (draining && !worker->connections.is_ending)
        begin_drain(worker, drain_ms);
    if (draining && !connections_has_held(&worker->connections))
        fall_silent(worker);
}

/* --- the hand-over, from other threads --- */

static void wake(struct worker *worker)
{
    (void)!write(worker->wake_fd, &(uint64_t){1}, sizeof(uint64_t)); /* fails only when it is set already */
}

bool worker_adopt(struct worker *worker, const struct arrival *arrival)
{
    if (!arrivals_put(&worker->arrivals, arrival))
        return false;
    wake(worker);
    return true;
}

void worker_serve(struct worker *worker, struct directory *directory)
{
    pthread_mutex_lock(&worker->mutex);
    worker->offered = directory;
    bool has_ended = worker->has_ended;
    pthread_mutex_unlock(&worker->mutex);
    if (!has_ended)
        wake(worker);
}

void worker_replace_tokens(struct worker *worker, struct tokens *tokens)
{
    pthread_mutex_lock(&worker->mutex);
    tokens_release(worker->offered_tokens); /* those that it has not even looked at */
    worker->offered_tokens = tokens_acquire(tokens);
    bool has_ended = worker->has_ended;
    pthread_mutex_unlock(&worker->mutex);
    if (!has_ended)
        wake(worker);
}

bool worker_serves(struct worker *worker, const struct directory *directory)
{
    pthread_mutex_lock(&worker->mutex);
    bool serves = worker->served == directory || worker->has_ended;
    pthread_mutex_unlock(&worker->mutex);
    return serves;
}

void worker_acknowledge(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool wanted = worker->has_held;
    pthread_mutex_unlock(&worker->mutex);
    if (wanted)
        wake(worker);
}

bool worker_answers(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool answered = !worker->is_pinged;
    worker->is_pinged = true;
    pthread_mutex_unlock(&worker->mutex);
    wake(worker);
    return answered;
}

void worker_probe(struct worker *worker)
{
    if (atomic_load_explicit(&worker->probed_ns, memory_order_relaxed) != 0)
        return;
    atomic_store_explicit(&worker->probed_ns, clock_precise_ns(), memory_order_relaxed);
    wake(worker);
}

void worker_drain(struct worker *worker, unsigned patience_ms)
{
    pthread_mutex_lock(&worker->mutex);
    worker->draining = true;
    worker->drain_ms = patience_ms;
    pthread_mutex_unlock(&worker->mutex);
    wake(worker);
}

bool worker_is_silent(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    bool is_silent = worker->is_silent || worker->has_ended || !worker->started;
    pthread_mutex_unlock(&worker->mutex);
    return is_silent;
}

/* --- life --- */

static void *run(void *context)
{
    struct worker *worker = context;
    (void)pthread_setname_np(pthread_self(), "worker");
    /* Each time what is ready has been read, it is answered. */
    while (!event_base_got_break(worker->base) && event_base_loop(worker->base, EVLOOP_ONCE) == 0)
        connections_finish_round(&worker->connections);
    connections_close(&worker->connections);
    if (worker->service.reader != NULL)
        directory_leave(worker->service.directory, worker->service.reader);
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = false; /* nobody wakes us any more */
    worker->has_ended = true;
    pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

static struct event_base *create_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;
    if (config != NULL && event_config_set_max_dispatch_interval(config, NULL, CALLBACKS_IN_A_ROW, 0) == 0)
        base = event_base_new_with_config(config);
    if (config != NULL)
        event_config_free(config);
    return base;
}

/* The parts that may fail; worker_join frees what there is. */
static bool set_up(struct worker *worker)
{
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->base = worker->connections.base = create_base();
    worker->service.scratch = calloc(1, sizeof *worker->service.scratch);
    if (worker->wake_fd < 0 || worker->base == NULL || worker->service.scratch == NULL)
        return false;
    worker->wake = event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
    worker->deadline = event_new(worker->base, -1, 0, on_deadline, worker);
    return worker->wake != NULL && worker->deadline != NULL && connections_init(&worker->connections) &&
           getrandom(&worker->service.random, sizeof worker->service.random, 0) ==
               sizeof worker->service.random &&
           event_add(worker->wake, NULL) == 0;
}

struct worker *worker_create(const struct worker_options *options, char *error, size_t error_bytes)
{
    struct worker *worker = aligned_alloc(64, (sizeof *worker + 63) & ~(size_t)63);
    if (worker != NULL) {
        *worker = (struct worker){.recorder = options->recorder, .wake_fd = -1};
        worker->service = (struct service){.registrations = options->registrations,
                                           .recorder = &worker->recorder,
                                           .counters = &worker->counters,
                                           .budgets = options->budgets,
                                           .hooks = options->hooks,
                                           .part_numbers = REQUESTS_PART_NUMBERS,
                                           .part_changes = REQUESTS_PART_CHANGES,
                                           .cache_seconds = options->cache_seconds,
                                           .stale_ms = options->stale_ms,
                                           .refuse_stale = options->refuse_stale};
        worker->connections = (struct connections){.service = &worker->service,
                                                   .counters = &worker->counters,
                                                   .seats = options->seats,
                                                   .patience_ms = options->patience_ms,
                                                   .buffer_bytes_max = options->buffer_bytes_max,
                                                   .held = on_held,
                                                   .context = worker};
        if (options->tokens != NULL)
            worker->service.tokens = tokens_acquire(options->tokens);
        arrivals_init(&worker->arrivals);
        pthread_mutex_init(&worker->mutex, NULL);
        if (set_up(worker))
            return worker;
        worker_join(worker);
        worker_destroy(worker);
    }
    snprintf(error, error_bytes, "cannot create a worker: out of memory, descriptors or readers");
    return NULL;
}

bool worker_start(struct worker *worker)
{
    worker->started = pthread_create(&worker->thread, NULL, run, worker) == 0;
    return worker->started;
}

void worker_join(struct worker *worker)
{
    if (worker->started)
        pthread_join(worker->thread, NULL);
    worker->started = false;
    arrivals_deinit(&worker->arrivals, worker->connections.seats);
    if (worker->wake != NULL)
        event_free(worker->wake);
    if (worker->deadline != NULL)
        event_free(worker->deadline);
    connections_deinit(&worker->connections);
    if (worker->base != NULL)
        event_base_free(worker->base);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    free(worker->service.scratch);
    tokens_release(worker->offered_tokens);
    tokens_release(worker->service.tokens);
}

void worker_destroy(struct worker *worker)
{
    pthread_mutex_destroy(&worker->mutex);
    free(worker);
}

uint64_t worker_busy_ns(struct worker *worker)
{
    struct timespec busy = {0};
    clockid_t clock;
    pthread_mutex_lock(&worker->mutex);
    bool has_thread = worker->started && !worker->has_ended;
    pthread_mutex_unlock(&worker->mutex);
    if (has_thread && pthread_getcpuclockid(worker->thread, &clock) == 0)
        (void)clock_gettime(clock, &busy);
    return (uint64_t)busy.tv_sec * 1000000000 + (uint64_t)busy.tv_nsec;
}

const struct counters *worker_counters(const struct worker *worker)
{
    return &worker->counters;
}
