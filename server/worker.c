/* A worker and its connections; see worker.h. */
#include "server/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "server/address.h"

/* One read takes at most this much, so one connection's turn is bounded to 32,000 numbers (or one longer request).
 */
#define READ_BYTES (256u << 10)
/* Below this much unsent output a connection that was held back is served again. */
#define RESUME_BYTES (SESSION_OUTPUT_CAP / 2)
/* How long a connection that is done waits for the client to read and close. Closing a socket with unread input
 * resets it, and the reset may overtake the last replies. */
#define LINGER_SECONDS 2
/* A client that waits to read gets its patience anew with so much that it took. */
#define PROGRESS_BYTES (64u << 10)
/* How often the impatient are looked for. */
#define IMPATIENCE_US 250000

struct connection {
    LIST_ENTRY(connection) link;
    struct worker *worker;
    int fd;
    struct event readable;
    struct event writable;
    bool is_reading; /* which of the two events are added */
    bool is_writing;
    bool is_ended;     /* the client has sent all it will send */
    bool is_lingering; /* all is sent; what still comes is discarded */
    /* Changes in its output wait for the journal: nothing is sent or read until `hold_position` is acknowledged. */
    bool is_held;
    uint64_t hold_position;
    size_t hold_offset; /* in `out`, where the output begins that waits */
    TAILQ_ENTRY(connection) held_link;
    /* It owes something since then: its hello, the rest of a frame, or to read what waits in `out`. */
    bool is_owing;
    uint64_t owing_since_ms;
    size_t read_bytes; /* what it has read since then */
    bool has_given;    /* a request was taken from it in this turn */
    TAILQ_ENTRY(connection) owing_link;
    struct session session;
    struct buffer
        in; /* the beginning of a frame whose rest has not come, or what the output cap holds back */
    struct buffer out; /* what the socket did not take */
};

struct adoption {
    STAILQ_ENTRY(adoption) link;
    int fd;
    struct sockaddr_storage peer;
};

struct worker {
    struct counters counters;
    struct recorder recorder;
    struct service service;
    struct event_base *base;
    pthread_t thread;
    bool started;
    LIST_HEAD(, connection) connections;
    TAILQ_HEAD(, connection) held;  /* by their positions, since these only grow */
    TAILQ_HEAD(, connection) owing; /* by since when */
    struct event *impatience;       /* added while somebody owes */
    unsigned patience_ms;
    uint8_t *read_buffer; /* READ_BYTES */
    struct buffer out;    /* replies of the connection at hand */
    struct event *deadline;
    /* The hand-over from the main thread. */
    int wake_fd;
    struct event *wake;
    pthread_mutex_t mutex;
    STAILQ_HEAD(, adoption) adoptions;
    bool has_held;                  /* wants to be woken when the journal has moved */
    struct directory *offered;      /* to be served from now on */
    const struct directory *served; /* as others see it */
    bool has_ended;
    struct tokens
        *offered_tokens; /* to count from now on; a reference, which the worker takes over; NULL: no others */
    bool draining;
    unsigned drain_ms;
    /* The worker's own: the drain has begun. */
    bool is_draining;
};

/* --- one connection --- */

static void close_connection(struct connection *connection)
{
    struct worker *worker = connection->worker;
    worker->out.length = 0; /* replies that could not be kept must not reach the next connection */
    if (connection->is_held)
        TAILQ_REMOVE(&worker->held, connection, held_link);
    if (connection->is_owing)
        TAILQ_REMOVE(&worker->owing, connection, owing_link);
    event_del(&connection->readable);
    event_del(&connection->writable);
    close(connection->fd);
    buffer_deinit(&connection->in);
    buffer_deinit(&connection->out);
    LIST_REMOVE(connection, link);
    free(connection);
    counter_add(&worker->counters.connections_closed, 1);
    if (worker->is_draining && LIST_EMPTY(&worker->connections))
        event_base_loopbreak(worker->base);
}

/* Sends from the front of the buffer as much as the socket takes. False: the connection is broken. */
static bool send_some(struct connection *connection, struct buffer *buffer)
{
    size_t done = 0;
    while (done < buffer->length) {
        ssize_t sent = send(connection->fd, buffer->bytes + done, buffer->length - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            if (errno != EAGAIN)
                return false;
            break;
        }
        done += (size_t)sent;
    }
    counter_add(&connection->worker->counters.bytes_out, done);
    connection->read_bytes += done;
    buffer_consume(buffer, done);
    return true;
}

/* True when the input that is kept holds a request that the output cap has held back. */
static bool has_work(const struct connection *connection)
{
    /* With its header there, a frame that is not longer than the input cannot be incomplete: taking it up
     * again ends in a reply or in a close, never in another turn for nothing. */
    return !connection->session.closing && connection->in.length >= WIRE_REQUEST_HEADER_BYTES &&
           session_frame_bytes(connection->in.bytes, connection->in.length) <= connection->in.length;
}

/* Waits for room when something is left to send. While the client does not read its answers, its questions
 * wait in the kernel. */
static void set_interest(struct connection *connection)
{
    bool write = connection->out.length > 0 && !connection->is_held;
    bool read =
        !connection->session.closing && !connection->is_ended && connection->out.length < SESSION_OUTPUT_CAP;
    /* While it is held nothing is read; but few clients send before they have their answer, so the event goes only when they do
     * (on_readable): two calls of the kernel less for each registration. */
    if (connection->is_held)
        read = connection->is_reading;
    if (write != connection->is_writing)
        write ? event_add(&connection->writable, NULL) : event_del(&connection->writable);
    if (read != connection->is_reading)
        read ? event_add(&connection->readable, NULL) : event_del(&connection->readable);
    connection->is_writing = write;
    connection->is_reading = read;
    /* Nothing else would wake us for it; as an event of its own it is fair to the other connections. */
    if (!write && !connection->is_held && has_work(connection))
        event_active(&connection->writable, EV_WRITE, 0);
}

/* --- patience --- */

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void forgive(struct connection *connection)
{
    if (connection->is_owing)
        TAILQ_REMOVE(&connection->worker->owing, connection, owing_link);
    connection->is_owing = false;
}

/* Notes whether the client owes something, anew if it has just given some of it. */
static void judge(struct connection *connection)
{
    struct worker *worker = connection->worker;
    bool owes = !connection->session.greeted || connection->in.length > 0 || connection->out.length > 0;
    bool has_given = connection->has_given || connection->read_bytes >= PROGRESS_BYTES;
    connection->has_given = false;
    if (connection->is_owing && owes && !has_given && !connection->is_held)
        return;
    forgive(connection);
    if (!owes || connection->is_held || connection->is_lingering)
        return;
    connection->is_owing = true;
    connection->owing_since_ms = now_ms();
    connection->read_bytes = 0;
    if (TAILQ_EMPTY(&worker->owing))
        event_add(worker->impatience, &(struct timeval){.tv_usec = IMPATIENCE_US});
    TAILQ_INSERT_TAIL(&worker->owing, connection, owing_link);
}

static void on_impatience(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct worker *worker = context;
    uint64_t now = now_ms();
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&worker->owing)) != NULL &&
           now - connection->owing_since_ms >= worker->patience_ms) {
        counter_add(&worker->counters.connections_slow, 1);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        close_connection(connection);
    }
    if (connection != NULL)
        event_add(worker->impatience, &(struct timeval){.tv_usec = IMPATIENCE_US});
}

/* --- the end of a conversation --- */

/* All is said. False: close now; else the connection lingers until the client closes or its time is over. */
static bool linger(struct connection *connection)
{
    if (connection->is_ended || shutdown(connection->fd, SHUT_WR) != 0)
        return false;
    connection->is_lingering = true;
    forgive(connection);
    event_del(&connection->writable);
    event_add(&connection->readable, &(struct timeval){.tv_sec = LINGER_SECONDS});
    return true;
}

/* What follows when all was sent that may be sent. False: close. */
static bool settle(struct connection *connection)
{
    if (connection->out.length == 0) {
        buffer_deinit(&connection->out);
        if (connection->session.closing || (connection->is_ended && !has_work(connection)))
            return linger(connection);
    }
    set_interest(connection);
    judge(connection);
    return true;
}

/* --- waiting for the journal --- */

/* True when the output may go; `*failed` when it has to be retracted first. What is decided stays so, but for a journal
 * that is resumed: then all is safe. */
static bool is_decided(const struct worker *worker, uint64_t position, bool *failed)
{
    const struct registrations *registrations = worker->service.registrations;
    *failed = false;
    if (registrations_acknowledged(registrations) >= position)
        return true;
    if (!registrations_have_failed(registrations))
        return false;
    /* It may have been acknowledged just before the failure. */
    *failed = registrations_acknowledged(registrations) < position;
    return true;
}

/* Puts this turn's replies behind those that wait. False: close. */
static bool hold(struct connection *connection)
{
    struct worker *worker = connection->worker;
    connection->hold_offset = connection->out.length;
    if (!buffer_append(&connection->out, worker->out.bytes, worker->out.length))
        return false;
    worker->out.length = 0;
    connection->is_held = true;
    TAILQ_INSERT_TAIL(&worker->held, connection, held_link);
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = true;
    pthread_mutex_unlock(&worker->mutex);
    set_interest(connection);
    judge(connection);
    return true;
}

/* False: close. */
static bool release(struct connection *connection, bool failed)
{
    TAILQ_REMOVE(&connection->worker->held, connection, held_link);
    connection->is_held = false;
    connection->hold_position = 0;
    if (failed)
        session_retract(&connection->out, connection->hold_offset);
    return send_some(connection, &connection->out) && settle(connection);
}

static void release_decided(struct worker *worker)
{
    bool failed;
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&worker->held)) != NULL &&
           // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): release has unlinked what is freed
           is_decided(worker, connection->hold_position, &failed))
        if (!release(connection, failed))
            close_connection(connection);
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = connection != NULL;
    pthread_mutex_unlock(&worker->mutex);
}

/* Sends the replies of this turn and keeps what does not go out, or must not yet. False: close. */
static bool flush(struct connection *connection)
{
    struct worker *worker = connection->worker;
    bool good = true;
    bool failed;
    if (connection->is_held) { /* a goodbye, behind all that waits */
        good = buffer_append(&connection->out, worker->out.bytes, worker->out.length);
        worker->out.length = 0;
        return good;
    }
    if (connection->hold_position > 0 && !is_decided(worker, connection->hold_position, &failed)) {
        /* The journal may have moved before it knew that somebody waits. */
        return hold(connection) &&
               (!is_decided(worker, connection->hold_position, &failed) || release(connection, failed));
    }
    if (connection->hold_position > 0 && failed)
        session_retract(&worker->out, 0);
    connection->hold_position = 0;
    if (connection->out.length == 0) {
        good = send_some(connection, &worker->out);
        if (good && worker->out.length > 0)
            good = buffer_append(&connection->out, worker->out.bytes, worker->out.length);
    } else {
        good = buffer_append(&connection->out, worker->out.bytes, worker->out.length) &&
               send_some(connection, &connection->out);
    }
    worker->out.length = 0;
    if (worker->out.capacity > SESSION_OUTPUT_CAP)
        buffer_deinit(&worker->out);
    return good && settle(connection);
}

/* Lets the session take what it can of the bytes; keeps the rest with the connection. False: close. */
static bool serve(struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct worker *worker = connection->worker;
    size_t taken = 0;
    /* The cap is on what waits already plus what this turn adds. */
    if (connection->out.length < SESSION_OUTPUT_CAP)
        taken = session_consume(&connection->session, &worker->service, bytes, length, &worker->out);
    connection->has_given = taken > 0;
    connection->hold_position = worker->service.hold_position;
    worker->service.hold_position = 0;
    if (connection->session.closing)
        taken = length;
    if (bytes == connection->in.bytes) {
        buffer_consume(&connection->in, taken);
    } else if (taken < length) {
        /* Room for the whole frame at once, so that a long one is not copied again and again. */
        size_t frame_bytes = session_frame_bytes(bytes + taken, length - taken);
        if (frame_bytes > length - taken && frame_bytes <= WIRE_REQUEST_BYTES_MAX)
            (void)buffer_reserve(&connection->in, frame_bytes);
        if (!buffer_append(&connection->in, bytes + taken, length - taken))
            return false;
    }
    if (connection->in.length == 0)
        buffer_deinit(&connection->in);
    return flush(connection);
}

/* One read and what follows from it. False: close. */
static bool read_and_serve(struct connection *connection)
{
    struct worker *worker = connection->worker;
    ssize_t got = recv(connection->fd, worker->read_buffer, READ_BYTES, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0) {
        connection->is_ended = true; /* but what is owed still goes out */
        return flush(connection);
    }
    counter_add(&worker->counters.bytes_in, (uint64_t)got);
    if (connection->in.length == 0)
        return serve(connection, worker->read_buffer, (size_t)got);
    return buffer_append(&connection->in, worker->read_buffer, (size_t)got) &&
           serve(connection, connection->in.bytes, connection->in.length);
}

/* Reads away what a lingering client sends. False: it has closed, or broke. */
static bool discard(struct connection *connection)
{
    ssize_t got = recv(connection->fd, connection->worker->read_buffer, READ_BYTES, 0);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    struct connection *connection = context;
    if (connection->is_held) {
        event_del(&connection->readable);
        connection->is_reading = false;
        return;
    }
    bool good =
        connection->is_lingering ? !(events & EV_TIMEOUT) && discard(connection) : read_and_serve(connection);
    if (!good)
        close_connection(connection);
}

static void on_writable(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct connection *connection = context;
    if (connection->is_held)
        return;
    bool good = send_some(connection, &connection->out) && flush(connection);
    if (good && !connection->is_lingering && connection->out.length < RESUME_BYTES && has_work(connection))
        good = serve(connection, connection->in.bytes, connection->in.length);
    if (!good)
        close_connection(connection);
}

static void open_connection(struct worker *worker, int fd, const struct sockaddr_storage *peer)
{
    uint8_t ip[16];
    struct connection *connection = calloc(1, sizeof *connection);
    counter_add(&worker->counters.connections_opened, 1);
    if (connection == NULL) {
        close(fd);
        counter_add(&worker->counters.connections_closed, 1);
        return;
    }
    connection->worker = worker;
    connection->fd = fd;
    address_ip(peer, ip);
    session_init(&connection->session, ip);
    event_assign(&connection->readable, worker->base, fd, EV_READ | EV_PERSIST, on_readable, connection);
    event_assign(&connection->writable, worker->base, fd, EV_WRITE | EV_PERSIST, on_writable, connection);
    LIST_INSERT_HEAD(&worker->connections, connection, link);
    set_interest(connection);
    judge(connection);
}

/* --- the hand-over --- */

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
    struct connection *connection;
    struct connection *next;
    for (connection = LIST_FIRST(&worker->connections); connection != NULL; connection = next) {
        next = LIST_NEXT(connection, link);
        bool good = connection->is_held || read_and_serve(connection);
        if (good && !connection->session.closing) {
            session_say_goodbye(&connection->session, &worker->out);
            good = flush(connection);
        }
        if (!good)
            close_connection(connection);
    }
    worker->is_draining = true;
    if (LIST_EMPTY(&worker->connections))
        event_base_loopbreak(worker->base);
    else
        event_add(worker->deadline, &patience);
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

static void on_wake(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct worker *worker = context;
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
    STAILQ_HEAD(, adoption) adoptions;
    STAILQ_INIT(&adoptions);
    pthread_mutex_lock(&worker->mutex);
    STAILQ_CONCAT(&adoptions, &worker->adoptions);
    bool draining = worker->draining;
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
    while (!STAILQ_EMPTY(&adoptions)) {
        struct adoption *adoption = STAILQ_FIRST(&adoptions);
        STAILQ_REMOVE_HEAD(&adoptions, link);
        open_connection(worker, adoption->fd, &adoption->peer);
        free(adoption);
    }
    if (draining && !worker->is_draining)
        begin_drain(worker, drain_ms);
}

static void wake(struct worker *worker)
{
    (void)!write(worker->wake_fd, &(uint64_t){1}, sizeof(uint64_t)); /* fails only when it is set already */
}

bool worker_adopt(struct worker *worker, int fd, const struct sockaddr_storage *peer)
{
    struct adoption *adoption = malloc(sizeof *adoption);
    if (adoption == NULL)
        return false;
    adoption->fd = fd;
    adoption->peer = *peer;
    pthread_mutex_lock(&worker->mutex);
    STAILQ_INSERT_TAIL(&worker->adoptions, adoption, link);
    pthread_mutex_unlock(&worker->mutex);
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

void worker_drain(struct worker *worker, unsigned patience_ms)
{
    pthread_mutex_lock(&worker->mutex);
    worker->draining = true;
    worker->drain_ms = patience_ms;
    pthread_mutex_unlock(&worker->mutex);
    wake(worker);
}

/* --- life --- */

static void *run(void *context)
{
    struct worker *worker = context;
    event_base_dispatch(worker->base);
    while (!LIST_EMPTY(&worker->connections))
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        close_connection(LIST_FIRST(&worker->connections));
    if (worker->service.reader != NULL)
        directory_leave(worker->service.directory, worker->service.reader);
    pthread_mutex_lock(&worker->mutex);
    worker->has_held = false; /* nobody wakes us any more */
    worker->has_ended = true;
    pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

/* The parts that may fail; worker_join frees what there is. */
static bool set_up(struct worker *worker)
{
    worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    worker->base = event_base_new();
    worker->read_buffer = malloc(READ_BYTES);
    worker->service.scratch = calloc(1, sizeof *worker->service.scratch);
    if (worker->wake_fd < 0 || worker->base == NULL || worker->read_buffer == NULL ||
        worker->service.scratch == NULL)
        return false;
    worker->wake = event_new(worker->base, worker->wake_fd, EV_READ | EV_PERSIST, on_wake, worker);
    worker->deadline = event_new(worker->base, -1, 0, on_deadline, worker);
    worker->impatience = event_new(worker->base, -1, 0, on_impatience, worker);
    return worker->wake != NULL && worker->deadline != NULL && worker->impatience != NULL &&
           getrandom(&worker->service.random, sizeof worker->service.random, 0) ==
               sizeof worker->service.random &&
           event_add(worker->wake, NULL) == 0;
}

struct worker *worker_create(const struct worker_options *options, char *error, size_t error_bytes)
{
    struct worker *worker = aligned_alloc(64, (sizeof *worker + 63) & ~(size_t)63);
    if (worker != NULL) {
        *worker = (struct worker){
            .recorder = options->recorder, .wake_fd = -1, .patience_ms = options->patience_ms};
        worker->service = (struct service){.registrations = options->registrations,
                                           .recorder = &worker->recorder,
                                           .counters = &worker->counters,
                                           .budgets = options->budgets,
                                           .hooks = options->hooks,
                                           .cache_seconds = options->cache_seconds};
        if (options->tokens != NULL)
            worker->service.tokens = tokens_acquire(options->tokens);
        LIST_INIT(&worker->connections);
        TAILQ_INIT(&worker->owing);
        TAILQ_INIT(&worker->held);
        STAILQ_INIT(&worker->adoptions);
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
    while (!STAILQ_EMPTY(&worker->adoptions)) {
        struct adoption *adoption = STAILQ_FIRST(&worker->adoptions);
        STAILQ_REMOVE_HEAD(&worker->adoptions, link);
        close(adoption->fd);
        free(adoption);
    }
    if (worker->wake != NULL)
        event_free(worker->wake);
    if (worker->deadline != NULL)
        event_free(worker->deadline);
    if (worker->impatience != NULL)
        event_free(worker->impatience);
    if (worker->base != NULL)
        event_base_free(worker->base);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    buffer_deinit(&worker->out);
    free(worker->service.scratch);
    free(worker->read_buffer);
    tokens_release(worker->offered_tokens);
    tokens_release(worker->service.tokens);
}

void worker_destroy(struct worker *worker)
{
    pthread_mutex_destroy(&worker->mutex);
    free(worker);
}

const struct counters *worker_counters(const struct worker *worker)
{
    return &worker->counters;
}
