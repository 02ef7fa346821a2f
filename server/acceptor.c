/* The acceptor; see acceptor.h. */
#include "server/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/clock.h"

/* Connections taken before other events of the main loop get their turn. */
#define ACCEPTS_PER_TURN 64
#define PAUSE_US 100000
/* The kernel's buffers for one connection, which it would let grow to megabytes, however little we read: memory that no limit of ours
 * counts, and as much work for it. The kernel doubles the figure for what it needs itself. */
#define SOCKET_BUFFER_BYTES (256 << 10)
/* So many who get no place are told why in a second; it takes longer than all the rest. */
#define REPLIES_PER_SECOND 1000
/* The kernel shows us a connection when it has the client's first bytes, since all clients speak first, or after so long: connections
 * that are closed again at once, or never say a word, cost us nothing or less. */
#define FIRST_BYTES_SECONDS 1
#define PORTS_MAX 3

struct port {
    struct acceptor *acceptor;
    int listener;
    unsigned kind; /* enum acceptor_port, joined */
    struct event *readable;
};

struct acceptor {
    struct acceptor_options options;
    struct port ports[PORTS_MAX];
    unsigned port_count;
    struct event *resume;
    struct tls_context *tls;
    unsigned next_worker;
    uint64_t next_reply_ns; /* may be in the past, by a second at most */
    int spare_fd;           /* to accept with when there is none left */
};

static void pause_accepting(struct acceptor *acceptor)
{
    for (unsigned i = 0; i < acceptor->port_count; i++)
        event_del(acceptor->ports[i].readable);
    event_add(acceptor->resume, &(struct timeval){.tv_usec = PAUSE_US});
}

static void on_resume(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct acceptor *acceptor = context;
    for (unsigned i = 0; i < acceptor->port_count; i++)
        event_add(acceptor->ports[i].readable, NULL);
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without a descriptor left: those who wait are closed rather than left waiting. */
static void turn_away(struct acceptor *acceptor, int listener)
{
    for (int i = 0; i < ACCEPTS_PER_TURN && acceptor->spare_fd >= 0; i++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        close(acceptor->spare_fd);
        int client = accept4(listener, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client >= 0)
            close(client);
        acceptor->spare_fd = open_spare();
        if (client < 0)
            return;
        counter_add(&acceptor->options.counters->refused[0], 1);
    }
}

/* A frame that says UNAVAILABLE, as far as the socket takes it; the rest is silence. */
static void say_unavailable(struct acceptor *acceptor, int client)
{
    uint64_t now = clock_coarse_ns();
    if (now < acceptor->next_reply_ns)
        return;
    uint64_t earliest_ns = now - UINT64_C(1000000000); /* a second's worth may be said at once */
    if (acceptor->next_reply_ns < earliest_ns)
        acceptor->next_reply_ns = earliest_ns;
    acceptor->next_reply_ns += UINT64_C(1000000000) / REPLIES_PER_SECOND;
    uint8_t frame[WIRE_REPLY_HEADER_BYTES];
    const struct wire_reply reply = {.type = WIRE_HELLO | WIRE_REPLY_BIT,
                                     .code = WIRE_UNAVAILABLE,
                                     .quota_left = WIRE_QUOTA_UNLIMITED,
                                     .retry_after_ms = 1000};
    wire_encode_reply_header(frame, &reply);
    (void)!send(client, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool is_among(const struct address_network *networks, size_t count, const uint8_t ip[static 16])
{
    for (size_t i = 0; i < count; i++)
        if (address_network_has(&networks[i], ip))
            return true;
    return false;
}

/* The client is gone again: the workers need not know of it. */
static bool is_gone(int client)
{
    uint8_t byte;
    ssize_t got = recv(client, &byte, sizeof byte, MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* Gives it a seat; false when it gets none. */
static bool seat(const struct port *port, struct arrival *arrival)
{
    const struct acceptor_options *options = &port->acceptor->options;
    if (arrival->is_proxied && !is_among(options->proxies, options->proxy_count, arrival->ip)) {
        counter_add(&options->counters->frames_malformed, 1);
        return false;
    }
    enum seats_verdict verdict = seats_take(options->seats, arrival->is_proxied ? NULL : arrival->ip,
                                            clock_coarse_ns(), &arrival->seat);
    if (verdict == SEATS_RESERVED && options->operator_count > 0 &&
        !is_among(options->operators, options->operator_count, arrival->ip)) {
        seats_leave(options->seats, &arrival->seat);
        verdict = SEATS_FULL;
    }
    if (verdict <= SEATS_RESERVED)
        return true;
    counter_add(&options->counters->refused[verdict - SEATS_FULL], 1);
    if (port->kind == ACCEPTOR_PLAIN)
        say_unavailable(port->acceptor, arrival->stream.fd);
    return false;
}

static void take(const struct port *port, int client, const struct sockaddr_storage *peer)
{
    struct acceptor *acceptor = port->acceptor;
    struct arrival arrival = {.stream.fd = client, .is_proxied = (port->kind & ACCEPTOR_PROXIED) != 0};
    address_ip(peer, arrival.ip);
    if (is_gone(client) || !seat(port, &arrival)) {
        close(client);
        return;
    }
    if ((port->kind & ACCEPTOR_TLS) != 0)
        arrival.stream.ssl = tls_accept(acceptor->tls, client);
    counter_add(&acceptor->options.counters->connections_opened, 1);
    unsigned turn = acceptor->next_worker;
    bool good = port->kind == ACCEPTOR_PLAIN
                    ? worker_adopt(acceptor->options.workers[turn], &arrival)
                    : ((port->kind & ACCEPTOR_TLS) == 0 || arrival.stream.ssl != NULL) &&
                          porter_adopt(acceptor->options.porters[turn], &arrival);
    if (!good) {
        arrival_dismiss(&arrival, acceptor->options.seats);
        counter_add(&acceptor->options.counters->connections_closed, 1);
    }
    acceptor->next_worker = (acceptor->next_worker + 1) % acceptor->options.worker_count;
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct port *port = context;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int client = accept4(fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            take(port, client, &peer);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            turn_away(port->acceptor, fd);
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            pause_accepting(port->acceptor);
        return;
    }
}

struct acceptor *acceptor_create(const struct acceptor_options *options)
{
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (acceptor == NULL)
        return NULL;
    acceptor->options = *options;
    acceptor->spare_fd = open_spare();
    acceptor->resume = event_new(options->base, -1, 0, on_resume, acceptor);
    if (acceptor->spare_fd >= 0 && acceptor->resume != NULL)
        return acceptor;
    acceptor_destroy(acceptor);
    return NULL;
}

/* What connections inherit from it. The kernel's refusal changes nothing but speed. */
static void tune(int listener)
{
    const struct {
        int level;
        int name;
        int value;
    } options[] = {{SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES},
                   {SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES},
                   {IPPROTO_TCP, TCP_NODELAY, 1},
                   {IPPROTO_TCP, TCP_DEFER_ACCEPT, FIRST_BYTES_SECONDS}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(listener, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

bool acceptor_listen(struct acceptor *acceptor, int listener, unsigned kind)
{
    tune(listener);
    struct port *port = &acceptor->ports[acceptor->port_count++];
    *port = (struct port){.acceptor = acceptor, .listener = listener, .kind = kind};
    port->readable = event_new(acceptor->options.base, listener, EV_READ | EV_PERSIST, on_readable, port);
    return port->readable != NULL && event_add(port->readable, NULL) == 0;
}

void acceptor_set_tls(struct acceptor *acceptor, struct tls_context *tls)
{
    tls_context_release(acceptor->tls);
    acceptor->tls = tls_context_acquire(tls);
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    for (unsigned i = 0; i < acceptor->port_count; i++) {
        if (acceptor->ports[i].readable != NULL)
            event_free(acceptor->ports[i].readable);
        close(acceptor->ports[i].listener);
    }
    if (acceptor->resume != NULL)
        event_free(acceptor->resume);
    if (acceptor->spare_fd >= 0)
        close(acceptor->spare_fd);
    tls_context_release(acceptor->tls);
    free(acceptor);
}
