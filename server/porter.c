/* A porter; see porter.h. */
#include "server/porter.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "server/address.h"
#include "server/clock.h"
#include "server/proxy.h"

/* So a porter gets a tenth of a processor that a worker keeps busy. */
#define NICE 10
/* For who sits on a place of the reserve. */
#define HURRY_MS 2000

struct guest {
    LIST_ENTRY(guest) link;
    struct porter *porter;
    struct arrival arrival;
    bool awaits_header;
    uint8_t header[PROXY_HEADER_BYTES_MAX];
    size_t header_bytes; /* read so far */
    uint64_t until_ms;
    struct event event; /* the next bytes, or room for ours, or the end of its time */
};

struct porter {
    struct counters counters;
    struct porter_options options;
    struct event_base *base;
    LIST_HEAD(, guest) guests;
    pthread_t thread;
    bool started;
    struct arrivals arrivals;
    int wake_fd;
    struct event *wake;
    atomic_bool ending;
};

/* --- one guest --- */

static void forget(struct guest *guest)
{
    event_del(&guest->event);
    LIST_REMOVE(guest, link);
    free(guest);
}

static void send_away(struct guest *guest)
{
    struct porter *porter = guest->porter;
    arrival_dismiss(&guest->arrival, porter->options.seats);
    counter_add(&porter->counters.connections_closed, 1);
    forget(guest);
}

static void let_in(struct guest *guest)
{
    guest->arrival.stream.has_input = stream_has_pending(&guest->arrival.stream);
    if (worker_adopt(guest->porter->options.worker, &guest->arrival))
        forget(guest);
    else
        send_away(guest);
}

/* Takes a seat for whom the proxy has named. */
static bool seat(struct guest *guest, const struct proxy_header *header)
{
    struct porter *porter = guest->porter;
    struct arrival *arrival = &guest->arrival;
    /* Who is not known is the proxy's own affair. */
    if (header->is_local || address_ip_is_zero(header->ip))
        return true;
    memcpy(arrival->client_ip, header->ip, sizeof arrival->client_ip);
    enum seats_verdict verdict =
        seats_claim(porter->options.seats, &arrival->seat, header->ip, clock_coarse_ns());
    if (verdict <= SEATS_RESERVED)
        return true;
    counter_add(&porter->counters.refused[verdict - SEATS_FULL], 1);
    return false;
}

/* What has come of it: a step on, nothing yet, or the end. */
enum progress { DONE, AGAIN, BROKEN };

/* Reads not a byte more than the header, since behind it TLS may begin. */
static enum progress read_header(struct guest *guest)
{
    struct proxy_header header;
    enum proxy_state state;
    while ((state = proxy_decode(guest->header, guest->header_bytes, &header)) == PROXY_INCOMPLETE) {
        ssize_t got = recv(guest->arrival.stream.fd, guest->header + guest->header_bytes,
                           header.bytes - guest->header_bytes, 0);
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EINTR) ? AGAIN : BROKEN;
        guest->header_bytes += (size_t)got;
    }
    if (state == PROXY_INVALID)
        counter_add(&guest->porter->counters.frames_malformed, 1);
    guest->awaits_header = false;
    return state == PROXY_DONE && seat(guest, &header) ? DONE : BROKEN;
}

static enum progress shake_hands(struct guest *guest)
{
    if (stream_shake_hands(&guest->arrival.stream))
        return DONE;
    return errno == EAGAIN ? AGAIN : BROKEN;
}

static void on_event(evutil_socket_t fd, short events, void *context);

static void wait_for(struct guest *guest, short what)
{
    uint64_t now = clock_coarse_ms();
    uint64_t left_ms = guest->until_ms > now ? guest->until_ms - now : 0;
    const struct timeval left = {.tv_sec = (time_t)(left_ms / 1000),
                                 .tv_usec = (suseconds_t)(left_ms % 1000) * 1000};
    event_assign(&guest->event, guest->porter->base, guest->arrival.stream.fd, what, on_event, guest);
    event_add(&guest->event, &left);
}

static void advance(struct guest *guest)
{
    enum progress progress = guest->awaits_header ? read_header(guest) : DONE;
    if (progress == DONE)
        progress = shake_hands(guest);
    if (progress == DONE)
        let_in(guest);
    else if (progress == AGAIN)
        wait_for(guest, guest->arrival.stream.receive_wants_room ? EV_WRITE : EV_READ);
    else
        send_away(guest);
}

static void on_event(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    struct guest *guest = context;
    if ((events & EV_TIMEOUT) == 0) {
        advance(guest);
        return;
    }
    counter_add(&guest->porter->counters.connections_slow, 1);
    send_away(guest);
}

static void receive(struct porter *porter, const struct arrival *arrival)
{
    struct guest *guest = calloc(1, sizeof *guest);
    unsigned patience_ms = porter->options.patience_ms;
    if (guest == NULL) {
        arrival_dismiss(arrival, porter->options.seats);
        counter_add(&porter->counters.connections_closed, 1);
        return;
    }
    if (arrival->seat.is_reserved && patience_ms > HURRY_MS)
        patience_ms = HURRY_MS;
    guest->porter = porter;
    guest->arrival = *arrival;
    guest->awaits_header = arrival->is_proxied;
    guest->until_ms = clock_coarse_ms() + patience_ms;
    LIST_INSERT_HEAD(&porter->guests, guest, link);
    wait_for(guest, EV_READ);
}

/* --- the thread --- */

static void on_wake(evutil_socket_t fd, short events, void *context)
{
    (void)events;
    struct porter *porter = context;
    struct arrival arrival;
    uint64_t count;
    (void)!read(fd, &count, sizeof count);
    while (arrivals_take(&porter->arrivals, &arrival))
        receive(porter, &arrival);
    if (atomic_load(&porter->ending))
        event_base_loopbreak(porter->base);
}

static void wake(struct porter *porter)
{
    (void)!write(porter->wake_fd, &(uint64_t){1}, sizeof(uint64_t)); /* fails only when it is set already */
}

static void *run(void *context)
{
    struct porter *porter = context;
    (void)pthread_setname_np(pthread_self(), "porter");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(),
                      NICE); /* of this thread; where it is refused, all is as it was */
    event_base_dispatch(porter->base);
    while (!LIST_EMPTY(&porter->guests))
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        send_away(LIST_FIRST(&porter->guests));
    return NULL;
}

bool porter_adopt(struct porter *porter, const struct arrival *arrival)
{
    if (!arrivals_put(&porter->arrivals, arrival))
        return false;
    wake(porter);
    return true;
}

/* --- life --- */

struct porter *porter_create(const struct porter_options *options)
{
    struct porter *porter = aligned_alloc(64, (sizeof *porter + 63) & ~(size_t)63);
    if (porter == NULL)
        return NULL;
    *porter = (struct porter){.options = *options};
    LIST_INIT(&porter->guests);
    arrivals_init(&porter->arrivals);
    porter->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    porter->base = event_base_new();
    if (porter->wake_fd >= 0 && porter->base != NULL)
        porter->wake = event_new(porter->base, porter->wake_fd, EV_READ | EV_PERSIST, on_wake, porter);
    if (porter->wake != NULL && event_add(porter->wake, NULL) == 0)
        return porter;
    porter_destroy(porter);
    return NULL;
}

bool porter_start(struct porter *porter)
{
    porter->started = pthread_create(&porter->thread, NULL, run, porter) == 0;
    return porter->started;
}

void porter_stop(struct porter *porter)
{
    if (porter == NULL || !porter->started)
        return;
    atomic_store(&porter->ending, true);
    wake(porter);
    pthread_join(porter->thread, NULL);
    porter->started = false;
}

void porter_destroy(struct porter *porter)
{
    if (porter == NULL)
        return;
    porter_stop(porter);
    if (porter->wake != NULL)
        event_free(porter->wake);
    if (porter->base != NULL)
        event_base_free(porter->base);
    if (porter->wake_fd >= 0)
        close(porter->wake_fd);
    arrivals_deinit(&porter->arrivals, porter->options.seats);
    free(porter);
}

const struct counters *porter_counters(const struct porter *porter)
{
    return &porter->counters;
}
