/* The floor; see load_floor.h. */
#include "load_floor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/address.h"
#include "server/wire.h"

/* Room for the longest frame and a read behind it. */
#define READ_BYTES (64u << 10)
#define IN_BYTES (WIRE_REQUEST_BYTES_MAX + READ_BYTES)
/* A reply has 24 bytes and one a number, a request 16 and eight. */
#define OUT_BYTES (IN_BYTES / WIRE_REQUEST_HEADER_BYTES * WIRE_REPLY_HEADER_BYTES)

struct connection {
    int fd;
    size_t in_bytes;
    size_t out_bytes;
    uint8_t in[IN_BYTES];
    uint8_t out[OUT_BYTES];
};

static void answer(struct connection *connection, const struct wire_request *request)
{
    uint8_t *room = connection->out + connection->out_bytes;
    struct wire_reply reply = {
        .type = request->type | WIRE_REPLY_BIT, .code = WIRE_OK, .request_id = request->request_id};
    if (request->type == WIRE_HELLO) {
        reply.body_bytes = WIRE_HELLO_REPLY_BYTES;
        memset(room + WIRE_REPLY_HEADER_BYTES, 0, reply.body_bytes);
        wire_put_u16(room + WIRE_REPLY_HEADER_BYTES, WIRE_VERSION);
    } else {
        reply.count = request->count;
        reply.body_bytes = request->count;
        memset(room + WIRE_REPLY_HEADER_BYTES, WIRE_NOT_REGISTERED, reply.body_bytes);
    }
    wire_encode_reply_header(room, &reply);
    connection->out_bytes += WIRE_REPLY_HEADER_BYTES + reply.body_bytes;
}

/* The frames that are whole. False: what was sent is no frame. */
static bool answer_all(struct connection *connection)
{
    struct wire_request request;
    enum wire_state state;
    size_t taken = 0;
    while ((state = wire_decode_request(connection->in + taken, connection->in_bytes - taken, &request)) ==
           WIRE_DONE) {
        answer(connection, &request);
        taken += request.frame_bytes;
    }
    memmove(connection->in, connection->in + taken, connection->in_bytes - taken);
    connection->in_bytes -= taken;
    return state != WIRE_MALFORMED;
}

/* Waits for a client that does not read: there is nobody else to be fair to. */
static bool send_all(struct connection *connection)
{
    size_t done = 0;
    while (done < connection->out_bytes) {
        ssize_t sent =
            send(connection->fd, connection->out + done, connection->out_bytes - done, MSG_NOSIGNAL);
        if (sent >= 0)
            done += (size_t)sent;
        else if (errno != EAGAIN || poll(&(struct pollfd){connection->fd, POLLOUT, 0}, 1, -1) < 0)
            return false;
    }
    connection->out_bytes = 0;
    return true;
}

/* False: it has ended. */
static bool serve_one(struct connection *connection)
{
    ssize_t got = recv(connection->fd, connection->in + connection->in_bytes, READ_BYTES, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    connection->in_bytes += (size_t)got;
    return got > 0 && answer_all(connection) && send_all(connection);
}

static bool watch(int epoll, int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void take_connection(int epoll, int listener)
{
    int one = 1;
    // cppcheck-suppress nullPointer ; nobody asks for the address
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *connection = fd < 0 ? NULL : malloc(sizeof *connection);
    if (connection != NULL) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection->fd = fd;
        connection->in_bytes = connection->out_bytes = 0;
        if (watch(epoll, fd, connection))
            return; // NOLINT(clang-analyzer-unix.Malloc): epoll has it
    }
    free(connection);
    if (fd >= 0)
        close(fd);
}

/* Until a signal comes; connections that are open then end with the program. */
static void serve(int epoll, const int *listener, const int *signals)
{
    struct epoll_event events[64];
    for (;;) {
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].data.ptr == signals)
                return;
            if (events[i].data.ptr == listener) {
                take_connection(epoll, *listener);
            } else if (!serve_one(connection)) {
                close(connection->fd);
                free(connection);
            }
        }
    }
}

int load_floor_serve(const char *address_text)
{
    struct address address;
    char text[ADDRESS_TEXT_BYTES];
    char error[256];
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    int listener = address_parse(address_text, WIRE_PORT_DEFAULT, &address, error, sizeof error)
                       ? address_listen(&address, error, sizeof error)
                       : -1;
    if (listener < 0) {
        fprintf(stderr, "numberload: %s\n", error);
        return EX_UNAVAILABLE;
    }
    int signals = signalfd(-1, &ends, SFD_CLOEXEC);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (signals < 0 || epoll < 0 || !watch(epoll, listener, &listener) || !watch(epoll, signals, &signals)) {
        perror("numberload: the floor");
        return EX_OSERR;
    }
    address_format(&address, text);
    printf("%s\n", text);
    fflush(stdout);
    serve(epoll, &listener, &signals);
    return EX_OK;
}
