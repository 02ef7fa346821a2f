/* The acceptor; see acceptor.h. */
#include "server/acceptor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Connections taken before other events of the main loop get their turn. */
#define ACCEPTS_PER_TURN 64
#define PAUSE_US 100000

struct acceptor {
    int listener;
    struct event *readable;
    struct event *resume;
    struct worker *const *workers;
    unsigned worker_count;
    unsigned next_worker;
    uint64_t connections_max;
    uint64_t accepted;
};

static uint64_t open_connections(const struct acceptor *acceptor)
{
    uint64_t closed = 0;
    for (unsigned i = 0; i < acceptor->worker_count; i++)
        closed += counter_read(&worker_counters(acceptor->workers[i])->connections_closed);
    return acceptor->accepted - closed;
}

static void pause_accepting(struct acceptor *acceptor)
{
    event_del(acceptor->readable);
    event_add(acceptor->resume, &(struct timeval){.tv_usec = PAUSE_US});
}

static void on_resume(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    event_add(((struct acceptor *)context)->readable, NULL);
}

static void on_readable(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct acceptor *acceptor = context;
    int one = 1;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        if (open_connections(acceptor) >= acceptor->connections_max) {
            pause_accepting(acceptor);
            return;
        }
        int client = accept4(fd, (struct sockaddr *)&peer, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client < 0) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                pause_accepting(acceptor);
            return;
        }
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (worker_adopt(acceptor->workers[acceptor->next_worker], client, &peer))
            acceptor->accepted++;
        else
            close(client);
        acceptor->next_worker = (acceptor->next_worker + 1) % acceptor->worker_count;
    }
}

struct acceptor *acceptor_create(struct event_base *base, int listener, struct worker *const *workers,
                                 unsigned worker_count, uint64_t connections_max)
{
    struct acceptor *acceptor = calloc(1, sizeof *acceptor);
    if (acceptor == NULL) {
        close(listener);
        return NULL;
    }
    *acceptor = (struct acceptor){.listener = listener,
                                  .workers = workers,
                                  .worker_count = worker_count,
                                  .connections_max = connections_max};
    acceptor->readable = event_new(base, listener, EV_READ | EV_PERSIST, on_readable, acceptor);
    acceptor->resume = event_new(base, -1, 0, on_resume, acceptor);
    if (acceptor->readable == NULL || acceptor->resume == NULL || event_add(acceptor->readable, NULL) != 0) {
        acceptor_destroy(acceptor);
        return NULL;
    }
    return acceptor;
}

void acceptor_destroy(struct acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    if (acceptor->readable != NULL)
        event_free(acceptor->readable);
    if (acceptor->resume != NULL)
        event_free(acceptor->resume);
    close(acceptor->listener);
    free(acceptor);
}
