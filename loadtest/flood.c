/* numberflood: attacks a server of this machine in one of several ways, for a while, and says what came of it. One thread.
 *
 * Each connection has a script: bytes that it sends, once or again and again, as fast as they are taken or in drips. What the
 * server answers is read away, unless the mode is not to read; who is closed comes again. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/ssl.h>

#include "flood_options.h"
#include "server/stream.h"

#define SECOND_NS UINT64_C(1000000000)
/* How often connections drip, or read slowly. */
#define TICK_NS (SECOND_NS / 10)
#define DRIP_BYTES 64
#define GARBAGE_BYTES (64u << 10)
/* New connections between two looks at those that are open. */
#define CONNECTS_IN_A_ROW 64
#define EVENTS 256
/* A receive buffer of some KiB: what is not read waits in the server. */
#define SLOW_RECEIVE_BUFFER_BYTES 4096

struct connection {
    struct stream stream;
    bool is_open;      /* else the handshake of TCP is under way */
    bool has_received; /* something, so that it was not turned away */
    bool is_deaf;      /* reads no more */
    size_t sent;       /* of the script */
};

/* What the connections send. */
struct script {
    uint8_t *bytes;
    size_t length;
    size_t again_from; /* after the end it goes on here; length: it is over */
    bool drips;
};

struct flood {
    struct flood_options options;
    struct script script;
    struct connection *connections;
    struct connection **idle; /* a stack of those without a socket */
    uint64_t idle_count;
    int epoll;
    uint64_t started_ns;
    uint64_t end_ns;
    uint64_t next_tick_ns;
    uint8_t *room; /* what is read goes there */
    uint64_t tried;
    /* The report. */
    uint64_t connects;
    uint64_t failed;  /* no connection came about */
    uint64_t refused; /* answered UNAVAILABLE, or closed without a byte before the script was over */
    uint64_t closed;  /* by the server, all others */
    uint64_t handshakes;
    uint64_t open_max;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    int last_error;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* --- scripts --- */

static bool script_alloc(struct script *script, size_t length)
{
    script->bytes = malloc(length);
    script->length = script->again_from = length;
    return script->bytes != NULL;
}

/* Hello, then one request for the most numbers that one may have. */
static bool write_lookup(struct flood *flood, uint8_t type)
{
    struct script *script = &flood->script;
    static uint64_t numbers[WIRE_COUNT_MAX];
    uint16_t token_bytes = (uint16_t)strlen(flood->options.token);
    for (uint64_t i = 0; i < WIRE_COUNT_MAX; i++)
        numbers[i] = UINT64_C(4915112300000) + i;
    if (!script_alloc(script, wire_request_bytes(WIRE_HELLO, 0, 0) + token_bytes +
                                  wire_request_bytes(type, 0, WIRE_COUNT_MAX)))
        return false;
    uint32_t hello_bytes = wire_encode_hello(script->bytes, 1, flood->options.token, token_bytes);
    script->length = hello_bytes +
                     wire_encode_numbers(script->bytes + hello_bytes, type, 2, NULL, numbers, WIRE_COUNT_MAX);
    script->again_from = hello_bytes;
    return true;
}

/* Linux shows numberd a connection when something has come. */
static bool write_first_bytes(struct flood *flood)
{
    uint8_t hello[WIRE_REQUEST_HEADER_BYTES + WIRE_TOKEN_BYTES_MAX + 16];
    (void)wire_encode_hello(hello, 1, NULL, 0);
    if (!script_alloc(&flood->script, WIRE_REQUEST_HEADER_BYTES))
        return false;
    memcpy(flood->script.bytes, hello, WIRE_REQUEST_HEADER_BYTES);
    flood->script.length = flood->script.again_from = flood->options.first_bytes;
    return true;
}

static bool write_garbage(struct script *script)
{
    if (!script_alloc(script, GARBAGE_BYTES))
        return false;
    script->again_from = 0;
    size_t done = 0;
    while (done < GARBAGE_BYTES) {
        ssize_t got = getrandom(script->bytes + done, GARBAGE_BYTES - done, 0);
        if (got < 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

/* A client hello as OpenSSL writes it. All connections send the same one: to make it costs the attacker nothing. */
static bool write_client_hello(struct flood *flood)
{
    int pair[2];
    ssize_t got = -1;
    if (!script_alloc(&flood->script, 1u << 12) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) != 0)
        return false;
    SSL *ssl = tls_connect(flood->options.tls, pair[0], "127.0.0.1");
    if (ssl != NULL && SSL_do_handshake(ssl) != 1)
        got = read(pair[1], flood->script.bytes, flood->script.length);
    SSL_free(ssl);
    close(pair[0]);
    close(pair[1]);
    flood->script.length = flood->script.again_from = got > 0 ? (size_t)got : 0;
    return got > 0;
}

static bool write_script(struct flood *flood)
{
    switch (flood->options.mode) {
    case FLOOD_SLOW_SEND:
        flood->script.drips = true;
        return write_lookup(flood, WIRE_LOOKUP);
    case FLOOD_SLOW_READ:
        return write_lookup(flood, WIRE_LOOKUP_RECORDS);
    case FLOOD_GARBAGE:
        return write_garbage(&flood->script);
    case FLOOD_HELLOS:
        return write_client_hello(flood);
    case FLOOD_CONNECTS:
    case FLOOD_HALF:
        return write_first_bytes(flood);
    case FLOOD_HANDSHAKES:
    case FLOOD_SINK:
    case FLOOD_MODES:
        return true;
    }
    return false;
}

/* --- connections --- */

/* With a reset, so that no port of ours waits for stray segments, and we may go on for as long as we like. */
static void close_connection(struct flood *flood, struct connection *connection)
{
    const struct linger reset = {.l_onoff = 1};
    setsockopt(connection->stream.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    SSL_free(connection->stream.ssl);
    close(connection->stream.fd);
    *connection = (struct connection){.stream.fd = -1};
    flood->idle[flood->idle_count++] = connection;
}

static void fail(struct flood *flood, struct connection *connection, int error)
{
    flood->failed++;
    flood->last_error = error;
    close_connection(flood, connection);
}

/* The server has closed it. */
static void note_close(struct flood *flood, struct connection *connection)
{
    bool is_refused = !connection->has_received && connection->sent < flood->script.length;
    flood->refused += is_refused;
    flood->closed += !is_refused;
    close_connection(flood, connection);
}

static void watch(struct flood *flood, struct connection *connection, int operation)
{
    const struct script *script = &flood->script;
    bool sends = !connection->is_open || (connection->sent < script->length && !script->drips);
    bool reads = flood->options.mode != FLOOD_SLOW_READ && !connection->is_deaf;
    struct epoll_event event = {.events = (connection->is_deaf ? 0 : EPOLLRDHUP) | (reads ? EPOLLIN : 0) |
                                          (sends ? EPOLLOUT : 0),
                                .data.ptr = connection};
    epoll_ctl(flood->epoll, operation, connection->stream.fd, &event);
}

/* False: the connection is gone. */
static bool send_script(struct flood *flood, struct connection *connection, size_t most)
{
    const struct script *script = &flood->script;
    while (connection->sent < script->length && most > 0) {
        size_t left = script->length - connection->sent;
        ssize_t sent = send(connection->stream.fd, script->bytes + connection->sent,
                            left < most ? left : most, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (sent < 0) {
            note_close(flood, connection);
            return false;
        }
        flood->bytes_sent += (uint64_t)sent;
        most -= (size_t)sent;
        connection->sent += (size_t)sent;
        if (connection->sent == script->length)
            connection->sent = script->again_from;
    }
    return true;
}

/* False: the connection is gone. */
static bool read_some(struct flood *flood, struct connection *connection, size_t most)
{
    ssize_t got = recv(connection->stream.fd, flood->room, most, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got == 0 &&
        flood->options.mode == FLOOD_GARBAGE) { /* it was told to stop, and goes on until it can't */
        connection->is_deaf = true;
        watch(flood, connection, EPOLL_CTL_MOD);
        return true;
    }
    if (got <= 0) {
        note_close(flood, connection);
        return false;
    }
    flood->bytes_received += (uint64_t)got;
    bool is_first = !connection->has_received;
    connection->has_received = true;
    if (is_first && got >= WIRE_REPLY_HEADER_BYTES && flood->room[5] == WIRE_UNAVAILABLE) {
        flood->refused++;
        close_connection(flood, connection);
        return false;
    }
    if (flood->options.mode == FLOOD_HELLOS) { /* the server has done its part of the work */
        flood->handshakes++;
        close_connection(flood, connection);
        return false;
    }
    return true;
}

static void shake_hands(struct flood *flood, struct connection *connection)
{
    int result = SSL_do_handshake(connection->stream.ssl);
    int error = result == 1 ? 0 : SSL_get_error(connection->stream.ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return;
    flood->handshakes += result == 1;
    flood->refused += result != 1;
    close_connection(flood, connection);
}

static void on_connected(struct flood *flood, struct connection *connection)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection->stream.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
        fail(flood, connection, error);
        return;
    }
    connection->is_open = true;
    flood->connects++;
    uint64_t open = flood->options.connections - flood->idle_count;
    if (open > flood->open_max)
        flood->open_max = open;
    if (flood->options.mode == FLOOD_HANDSHAKES) {
        connection->stream.ssl = tls_connect(flood->options.tls, connection->stream.fd, "127.0.0.1");
        watch(flood, connection, EPOLL_CTL_MOD);
        if (connection->stream.ssl != NULL)
            shake_hands(flood, connection);
        return;
    }
    if (flood->script.drips || send_script(flood, connection, SIZE_MAX))
        watch(flood, connection, EPOLL_CTL_MOD);
}

static void on_event(struct flood *flood, struct connection *connection, uint32_t events)
{
    bool reads = flood->options.mode != FLOOD_SLOW_READ && !connection->is_deaf;
    if (!connection->is_open) {
        on_connected(flood, connection);
        return;
    }
    if (connection->stream.ssl != NULL) {
        shake_hands(flood, connection);
        return;
    }
    if (reads && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !read_some(flood, connection, 1u << 16))
        return;
    bool has_ended = (events & EPOLLRDHUP) != 0 && flood->options.mode != FLOOD_GARBAGE;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0 || has_ended) {
        note_close(flood, connection);
        return;
    }
    if ((events & EPOLLOUT) != 0 && send_script(flood, connection, flood->script.length))
        watch(flood, connection, EPOLL_CTL_MOD);
}

/* --- connecting --- */

/* A socket that comes from the next address; -1 without one. */
static int open_socket(struct flood *flood)
{
    const struct flood_options *options = &flood->options;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (options->mode == FLOOD_SLOW_READ) {
        int bytes = SLOW_RECEIVE_BUFFER_BYTES;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    }
    if (options->from == 0)
        return fd;
    uint32_t ip = options->from + (uint32_t)(flood->tried % options->addresses);
    const struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one,
               sizeof one); /* else two connections can't share a port */
    if (bind(fd, (const struct sockaddr *)&source, sizeof source) == 0)
        return fd;
    close(fd);
    return -1;
}

/* False when there is no socket to be had now. */
static bool open_connection(struct flood *flood)
{
    const struct address *server = &flood->options.server;
    struct connection *connection = flood->idle[--flood->idle_count];
    connection->stream.fd = open_socket(flood);
    flood->tried++;
    if (connection->stream.fd < 0) {
        flood->idle_count++;
        flood->failed++;
        flood->last_error = errno;
        return false;
    }
    if (connect(connection->stream.fd, (const struct sockaddr *)&server->storage, server->length) == 0 ||
        errno == EINPROGRESS) {
        watch(flood, connection, EPOLL_CTL_ADD);
        return true;
    }
    fail(flood, connection, errno);
    return false;
}

/* On loopback the handshake of TCP is mostly over when connect returns; then there is nothing to wait for. */
static bool connect_and_close(struct flood *flood)
{
    const struct address *server = &flood->options.server;
    const struct linger reset = {.l_onoff = 1};
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    int fd = open_socket(flood);
    flood->tried++;
    if (fd < 0)
        return false;
    (void)connect(fd, (const struct sockaddr *)&server->storage, server->length);
    bool good = getpeername(fd, (struct sockaddr *)&peer, &length) == 0;
    flood->connects += good;
    flood->failed += !good;
    if (!good)
        flood->last_error = errno;
    if (good && flood->script.length > 0)
        flood->bytes_sent +=
            send(fd, flood->script.bytes, flood->script.length, MSG_NOSIGNAL | MSG_DONTWAIT) > 0
                ? flood->script.length
                : 0;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    return good;
}

/* So many more may be begun by now. */
static uint64_t due(const struct flood *flood, uint64_t now)
{
    uint64_t rate = flood->options.rate;
    if (rate == 0)
        return CONNECTS_IN_A_ROW;
    uint64_t by_now = (now - flood->started_ns) / 1000 * rate / 1000000;
    uint64_t more = by_now > flood->tried ? by_now - flood->tried : 0;
    return more < CONNECTS_IN_A_ROW ? more : CONNECTS_IN_A_ROW;
}

static void connect_some(struct flood *flood, uint64_t now)
{
    for (uint64_t more = due(flood, now); more > 0; more--) {
        if (flood->options.mode == FLOOD_CONNECTS) {
            if (!connect_and_close(flood))
                return;
        } else if (flood->idle_count == 0 || !open_connection(flood)) {
            return;
        }
    }
}

/* --- the loop --- */

static void tick(struct flood *flood)
{
    for (uint64_t i = 0; i < flood->options.connections; i++) {
        struct connection *connection = &flood->connections[i];
        if (!connection->is_open)
            continue;
        if (flood->script.drips)
            (void)send_script(flood, connection, DRIP_BYTES);
        else if (flood->options.mode == FLOOD_SLOW_READ && flood->options.read_bytes > 0)
            (void)read_some(flood, connection, flood->options.read_bytes);
    }
}

/* With connections to begin it does not wait, unless they are to be begun at a rate. */
static int wait_ms(const struct flood *flood)
{
    bool can_connect = flood->options.mode == FLOOD_CONNECTS || flood->idle_count > 0;
    if (!can_connect)
        return 10;
    return flood->options.rate > 0 || flood->failed > flood->connects ? 1 : 0;
}

static void run(struct flood *flood)
{
    struct epoll_event events[EVENTS];
    flood->started_ns = now_ns();
    flood->end_ns = flood->started_ns + flood->options.seconds * SECOND_NS;
    for (uint64_t now = flood->started_ns; now < flood->end_ns; now = now_ns()) {
        if (now >= flood->next_tick_ns) {
            flood->next_tick_ns = now + TICK_NS;
            tick(flood);
        }
        connect_some(flood, now);
        int ready = epoll_wait(flood->epoll, events, EVENTS, wait_ms(flood));
        for (int i = 0; i < ready; i++)
            on_event(flood, events[i].data.ptr, events[i].events);
    }
}

/* --- the dummy --- */

static void accept_all(struct flood *flood, int listener, uint64_t *open)
{
    int fd;
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    while ((fd = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        flood->connects++;
        if (*open >= flood->options.connections) {
            close(fd);
            continue;
        }
        epoll_ctl(flood->epoll, EPOLL_CTL_ADD, fd, &event);
        (*open)++;
    }
}

/* Accepts, reads, and says nothing: what the attacker's own work costs the machine, without a server's. */
static int run_sink(struct flood *flood)
{
    char text[256];
    struct epoll_event events[EVENTS];
    uint64_t open = 0;
    int listener = address_listen(&flood->options.server, text, sizeof text);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (listener < 0 || epoll_ctl(flood->epoll, EPOLL_CTL_ADD, listener, &event) != 0) {
        fprintf(stderr, "numberflood: %s\n", listener < 0 ? text : "cannot wait for connections");
        return EX_UNAVAILABLE;
    }
    address_format(&flood->options.server, text);
    printf("%s\n", text);
    fflush(stdout);
    for (uint64_t end_ns = now_ns() + flood->options.seconds * SECOND_NS; now_ns() < end_ns;) {
        int ready = epoll_wait(flood->epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            ssize_t got = fd == listener ? -1 : recv(fd, flood->room, 1u << 20, 0);
            if (fd == listener) {
                accept_all(flood, listener, &open);
            } else if (got > 0) {
                flood->bytes_received += (uint64_t)got;
            } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                close(fd);
                open--;
            }
        }
    }
    close(listener);
    return EX_OK;
}

/* --- set-up and report --- */

static bool set_up(struct flood *flood)
{
    uint64_t count = flood->options.connections;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    flood->connections = calloc(count, sizeof *flood->connections);
    flood->idle = calloc(count, sizeof(struct connection *));
    flood->room = malloc(1u << 20);
    flood->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (flood->connections == NULL || flood->idle == NULL || flood->room == NULL || flood->epoll < 0)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        flood->connections[i].stream.fd = -1;
        flood->idle[flood->idle_count++] = &flood->connections[count - 1 - i];
    }
    return write_script(flood);
}

static void deinit(struct flood *flood)
{
    for (uint64_t i = 0; flood->connections != NULL && i < flood->options.connections; i++)
        if (flood->connections[i].stream.fd >= 0)
            close_connection(flood, &flood->connections[i]);
    free(flood->connections);
    free(flood->idle);
    free(flood->room);
    free(flood->script.bytes);
    if (flood->epoll >= 0)
        close(flood->epoll);
    tls_context_release(flood->options.tls);
}

static void report(const struct flood *flood)
{
    double seconds = (double)flood->options.seconds;
    uint64_t open =
        flood->options.mode == FLOOD_CONNECTS ? 0 : flood->options.connections - flood->idle_count;
    const char *error = flood->last_error == 0 ? "" : strerror(flood->last_error);
    if (!flood->options.json) {
        printf("%s: %" PRIu64 " connections (%.0f/s), %" PRIu64 " failed%s%s, %" PRIu64 " refused, %" PRIu64
               " closed by the server, %" PRIu64 " open at the end, %" PRIu64 " at most; %" PRIu64
               " handshakes; %" PRIu64 " bytes sent, %" PRIu64 " received\n",
               flood_mode_name(flood->options.mode), flood->connects, (double)flood->connects / seconds,
               flood->failed, error[0] == '\0' ? "" : ", the last: ", error, flood->refused, flood->closed,
               open, flood->open_max, flood->handshakes, flood->bytes_sent, flood->bytes_received);
        return;
    }
    json_t *object = json_pack(
        "{s:s, s:f, s:I, s:f, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "mode",
        flood_mode_name(flood->options.mode), "seconds", seconds, "connects", (json_int_t)flood->connects,
        "connects_per_second", (double)flood->connects / seconds, "failed", (json_int_t)flood->failed,
        "last_error", error, "refused", (json_int_t)flood->refused, "closed", (json_int_t)flood->closed,
        "open", (json_int_t)open, "open_max", (json_int_t)flood->open_max, "handshakes",
        (json_int_t)flood->handshakes, "bytes_sent", (json_int_t)flood->bytes_sent, "bytes_received",
        (json_int_t)flood->bytes_received);
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
}

int main(int argc, char **argv)
{
    static struct flood flood;
    int status = flood_options_read(&flood.options, argc, argv);
    if (status >= 0)
        return status;
    signal(SIGPIPE, SIG_IGN);
    if (!set_up(&flood)) {
        fprintf(stderr, "numberflood: out of memory or descriptors\n");
        deinit(&flood);
        return EX_OSERR;
    }
    if (flood.options.mode == FLOOD_SINK) {
        status = run_sink(&flood);
    } else {
        run(&flood);
        report(&flood);
        status = EX_OK;
    }
    deinit(&flood);
    return status;
}
