/* The load; see load_run.h. */
#include "load_run.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/client.h"
#include "server/wire.h"

/* Numbers drawn beforehand; at 64 bytes of server memory each, far beyond any cache. */
#define POOL_NUMBERS (UINT64_C(4) << 20)
/* Open loop: more than this many unanswered on one connection wait in the tester, their clocks running. */
#define OUTSTANDING_MAX 4096
#define READ_BYTES (256u << 10)

/* Behind its end it goes on as at its beginning, so that every request is one slice. */
struct pool {
    uint64_t size;
    uint64_t *numbers;
    uint64_t *accounts; /* of a registration */
    uint8_t *expected;  /* of a lookup */
};

struct pending {
    uint64_t due_ns;
    uint64_t pool_offset;
    uint16_t count;
};

struct connection {
    struct stream stream;
    bool is_broken;
    bool wants_write;
    uint32_t next_id;
    uint32_t awaited_id;
    struct pending *pending; /* OUTSTANDING_MAX; the request of id i at i % OUTSTANDING_MAX */
    uint8_t *out;
    size_t out_bytes;
    size_t out_capacity;
    uint8_t *in;
    size_t in_bytes;
};

struct loader {
    const struct load_options *options;
    const struct pool *pool;
    pthread_t thread;
    int epoll;
    struct connection *connections;
    unsigned connection_count;
    unsigned next_connection;
    uint64_t next_offset;
    uint64_t next_due_ns;
    uint64_t interval_ns_x1000; /* open loop: time between requests of this thread, in picoseconds */
    uint64_t due_count;
    uint64_t start_ns;
    uint64_t count_from_ns;
    uint64_t end_ns;
    uint64_t numbers_left; /* to be sent; UINT64_MAX: no limit */
    uint64_t unanswered;
    struct load_report report;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15)); /* SplitMix64 */
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* --- the pool --- */

static void draw_lookups(const struct pool *pool, const struct load_options *options,
                         const struct population *population)
{
    uint64_t random = options->seed + 1;
    for (uint64_t i = 0; i < pool->size; i++) {
        uint64_t index = next_random(&random) % options->count;
        bool hit = (double)(next_random(&random) >> 11) * 0x1p-53 < options->hit_ratio;
        pool->numbers[i] =
            hit ? population_number(population, index) : population_neighbour(population, index);
        pool->expected[i] = hit ? WIRE_REGISTERED : WIRE_NOT_REGISTERED;
    }
    for (uint64_t i = 0; i < WIRE_COUNT_MAX; i++) {
        pool->numbers[pool->size + i] = pool->numbers[i % pool->size];
        pool->expected[pool->size + i] = pool->expected[i % pool->size];
    }
}

/* The population itself, in its order. */
static void list_registrations(const struct pool *pool, const struct population *population)
{
    for (uint64_t i = 0; i < pool->size + WIRE_COUNT_MAX; i++) {
        pool->numbers[i] = population_number(population, i % pool->size);
        pool->accounts[i] = population_account(population, i % pool->size);
    }
}

static bool fill_pool(struct pool *pool, const struct load_options *options,
                      const struct population *population)
{
    bool registers = options->verb == LOAD_REGISTER;
    pool->size = registers ? options->count : POOL_NUMBERS;
    size_t length = pool->size + WIRE_COUNT_MAX;
    pool->numbers = malloc(length * sizeof *pool->numbers);
    pool->accounts = registers ? malloc(length * sizeof *pool->accounts) : NULL;
    pool->expected = registers ? NULL : malloc(length);
    if (pool->numbers == NULL || (pool->accounts == NULL && pool->expected == NULL)) {
        fprintf(stderr, "numberload: out of memory for %" PRIu64 " numbers\n", pool->size);
        return false;
    }
    if (registers)
        list_registrations(pool, population);
    else
        draw_lookups(pool, options, population);
    return true;
}

/* --- sending --- */

static void lose(struct loader *loader, struct connection *connection)
{
    if (connection->is_broken)
        return;
    connection->is_broken = true;
    loader->report.broken++;
    loader->unanswered -= connection->next_id - connection->awaited_id;
    epoll_ctl(loader->epoll, EPOLL_CTL_DEL, connection->stream.fd, NULL);
}

static void watch(struct loader *loader, struct connection *connection, bool write)
{
    if (write == connection->wants_write)
        return;
    connection->wants_write = write;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = connection};
    epoll_ctl(loader->epoll, EPOLL_CTL_MOD, connection->stream.fd, &event);
}

static void flush(struct loader *loader, struct connection *connection)
{
    size_t done = 0;
    while (done < connection->out_bytes && !connection->is_broken) {
        ssize_t sent = stream_send(&connection->stream, connection->out + done, connection->out_bytes - done);
        if (sent >= 0)
            done += (size_t)sent;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            lose(loader, connection);
    }
    memmove(connection->out, connection->out + done, connection->out_bytes - done);
    connection->out_bytes -= done;
    if (!connection->is_broken)
        watch(loader, connection, connection->out_bytes > 0);
}

static uint8_t *reserve_out(struct connection *connection, size_t bytes)
{
    if (connection->out_capacity - connection->out_bytes < bytes) {
        size_t capacity = connection->out_capacity * 2 + bytes;
        uint8_t *grown = realloc(connection->out, capacity);
        if (grown == NULL)
            return NULL;
        connection->out = grown;
        connection->out_capacity = capacity;
    }
    return connection->out + connection->out_bytes;
}

/* One request for the slice of the pool that begins at `offset`; its bytes. */
static uint32_t encode(const struct pool *pool, uint8_t type, uint8_t *room, uint32_t id, uint64_t offset,
                       uint16_t count)
{
    if (type == WIRE_LOOKUP)
        return wire_encode_numbers(room, type, id, NULL, pool->numbers + offset, count);
    uint32_t bytes = wire_encode_header(room, type, 0, id, count);
    uint8_t *entry = room + WIRE_REQUEST_HEADER_BYTES;
    for (uint64_t i = offset; i < offset + count; i++, entry += WIRE_REGISTER_BYTES)
        wire_put_register_entry(entry, pool->numbers[i], pool->accounts[i], 0);
    return bytes;
}

/* Puts one request into the connection's buffer. */
static void ask(struct loader *loader, struct connection *connection, uint64_t due_ns)
{
    uint8_t type = loader->options->verb == LOAD_REGISTER ? WIRE_REGISTER : WIRE_LOOKUP;
    uint64_t batch = loader->options->batch;
    uint16_t count = (uint16_t)(batch < loader->numbers_left ? batch : loader->numbers_left);
    uint8_t *room = reserve_out(connection, wire_request_bytes(type, 0, count));
    if (room == NULL) {
        lose(loader, connection);
        return;
    }
    uint64_t offset = loader->next_offset;
    loader->next_offset = (offset + count) % loader->pool->size;
    connection->pending[connection->next_id % OUTSTANDING_MAX] = (struct pending){due_ns, offset, count};
    connection->out_bytes += encode(loader->pool, type, room, connection->next_id++, offset, count);
    loader->unanswered++;
    if (loader->numbers_left != UINT64_MAX)
        loader->numbers_left -= count;
}

static bool may_ask(const struct loader *loader, uint64_t now)
{
    return loader->numbers_left > 0 && now < loader->end_ns;
}

/* --- receiving --- */

static void check_lookups(struct load_report *report, const struct wire_reply *reply, const uint8_t *expected)
{
    for (uint32_t i = 0; i < reply->count; i++) {
        report->registered += reply->body[i] == WIRE_REGISTERED;
        report->limited += reply->body[i] == WIRE_LIMITED;
        report->wrong += reply->body[i] != expected[i] && reply->body[i] != WIRE_LIMITED;
    }
}

static void check_registrations(struct load_report *report, const struct wire_reply *reply)
{
    for (uint32_t i = 0; i < reply->count; i++) {
        report->added += reply->body[i] == WIRE_ADDED;
        report->replaced += reply->body[i] == WIRE_REPLACED;
        report->wrong += reply->body[i] != WIRE_ADDED && reply->body[i] != WIRE_REPLACED;
    }
}

static void check(struct loader *loader, const struct wire_reply *reply, const struct pending *pending,
                  uint64_t now)
{
    struct load_report *report = &loader->report;
    if (reply->code != WIRE_OK) {
        report->unavailable++;
        return;
    }
    if (reply->count != pending->count || reply->body_bytes != reply->count) {
        report->wrong += pending->count;
        return;
    }
    if (loader->options->verb == LOAD_REGISTER)
        check_registrations(report, reply);
    else
        check_lookups(report, reply, loader->pool->expected + pending->pool_offset);
    if (now < loader->count_from_ns)
        return;
    report->requests++;
    report->numbers += reply->count;
    histogram_add(&report->latency, now - pending->due_ns);
}

/* Takes the whole replies from the connection's input; in the closed loop each is followed by a new request.
 */
static void take_replies(struct loader *loader, struct connection *connection)
{
    size_t taken = 0;
    struct wire_reply reply;
    enum wire_state state;
    uint64_t now = now_ns();
    while ((state = wire_decode_reply(connection->in + taken, connection->in_bytes - taken, &reply)) ==
           WIRE_DONE) {
        taken += reply.frame_bytes;
        if (reply.request_id != connection->awaited_id) {
            lose(loader, connection); /* the server's goodbye, or worse */
            return;
        }
        check(loader, &reply, &connection->pending[connection->awaited_id % OUTSTANDING_MAX], now);
        connection->awaited_id++;
        loader->unanswered--;
        if (loader->options->rate == 0 && may_ask(loader, now))
            ask(loader, connection, now);
    }
    if (state == WIRE_MALFORMED)
        lose(loader, connection);
    memmove(connection->in, connection->in + taken, connection->in_bytes - taken);
    connection->in_bytes -= taken;
}

static void read_some(struct loader *loader, struct connection *connection)
{
    struct stream *stream = &connection->stream;
    do {
        ssize_t got =
            stream_receive(stream, connection->in + connection->in_bytes, READ_BYTES - connection->in_bytes);
        if (got > 0) {
            connection->in_bytes += (size_t)got;
            take_replies(loader, connection);
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            lose(loader, connection);
        }
    } while (stream->has_input && !connection->is_broken);
}

/* --- the loop --- */

/* Open loop: asks all that is due by now, as far as the connections have room. */
static void ask_what_is_due(struct loader *loader, uint64_t now)
{
    while (loader->next_due_ns <= now && may_ask(loader, loader->next_due_ns)) {
        struct connection *connection = NULL;
        for (unsigned tries = 0; tries < loader->connection_count && connection == NULL; tries++) {
            struct connection *next = &loader->connections[loader->next_connection];
            loader->next_connection = (loader->next_connection + 1) % loader->connection_count;
            if (!next->is_broken && next->next_id - next->awaited_id < OUTSTANDING_MAX)
                connection = next;
        }
        if (connection == NULL)
            return;
        ask(loader, connection, loader->next_due_ns);
        flush(loader, connection);
        loader->due_count++;
        loader->next_due_ns = loader->start_ns + loader->due_count * loader->interval_ns_x1000 / 1000;
    }
}

static int wait_ms(const struct loader *loader, uint64_t now)
{
    if (loader->options->rate == 0 || loader->next_due_ns >= loader->end_ns)
        return 10;
    return loader->next_due_ns > now + 2000000 ? 1 : 0; /* near the due time: poll, epoll is too coarse */
}

static void *run(void *context)
{
    struct loader *loader = context;
    struct epoll_event events[64];
    uint64_t now = now_ns();
    for (unsigned i = 0; loader->options->rate == 0 && i < loader->connection_count; i++) {
        for (uint64_t j = 0; j < loader->options->outstanding && may_ask(loader, now); j++)
            ask(loader, &loader->connections[i], now);
        flush(loader, &loader->connections[i]);
    }
    /* After the end, the answers that are owed get two seconds. */
    while ((may_ask(loader, now) || (loader->unanswered > 0 && now < loader->end_ns + 2000000000u)) &&
           loader->report.broken < loader->connection_count) {
        if (loader->options->rate > 0)
            ask_what_is_due(loader, now);
        int ready = epoll_wait(loader->epoll, events, 64, wait_ms(loader, now));
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_some(loader, connection);
            if (!connection->is_broken)
                flush(loader, connection);
        }
        now = now_ns();
    }
    loader->report.seconds =
        (double)((now < loader->end_ns ? now : loader->end_ns) - loader->count_from_ns) / 1e9;
    return NULL;
}

/* --- set-up --- */

static bool open_connection(struct loader *loader, struct connection *connection)
{
    char error[256];
    struct client *client = client_connect(&(struct client_options){.server = loader->options->server,
                                                                    .token = loader->options->token,
                                                                    .tls = loader->options->tls,
                                                                    .tls_name = loader->options->tls_name},
                                           error, sizeof error);
    if (client == NULL) {
        fprintf(stderr, "numberload: %s\n", error);
        return false;
    }
    *connection = (struct connection){.stream = client_detach(client), .next_id = 1, .awaited_id = 1};
    connection->pending = malloc(OUTSTANDING_MAX * sizeof *connection->pending);
    connection->in = malloc(READ_BYTES);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    return connection->pending != NULL && connection->in != NULL &&
           epoll_ctl(loader->epoll, EPOLL_CTL_ADD, connection->stream.fd, &event) == 0;
}

/* Of `whole`, what thread `number` of `parts` takes. */
static uint64_t share_of(uint64_t whole, uint64_t parts, unsigned number)
{
    return whole / parts + (number < whole % parts);
}

static bool set_up(struct loader *loader, const struct load_options *options, const struct pool *pool,
                   unsigned number)
{
    unsigned share = (unsigned)share_of(options->connections, options->threads, number);
    *loader = (struct loader){.options = options,
                              .pool = pool,
                              .epoll = epoll_create1(EPOLL_CLOEXEC),
                              .connections = calloc(share, sizeof *loader->connections),
                              .connection_count = share,
                              .numbers_left = options->numbers == 0
                                                  ? UINT64_MAX
                                                  : share_of(options->numbers, options->threads, number)};
    for (unsigned i = 0; i < number; i++) /* side by side: a pool that is asked for once, is so exactly */
        loader->next_offset += share_of(pool->size, options->threads, i);
    loader->next_offset %= pool->size;
    if (options->rate > 0)
        loader->interval_ns_x1000 =
            (uint64_t)(1e12 * (double)options->batch * (double)options->threads / (double)options->rate);
    if (loader->connections == NULL || loader->epoll < 0)
        return false;
    for (unsigned i = 0; i < share; i++)
        if (!open_connection(loader, &loader->connections[i]))
            return false;
    return true;
}

static void tear_down(struct loader *loader)
{
    for (unsigned i = 0; loader->connections != NULL && i < loader->connection_count; i++) {
        struct connection *connection = &loader->connections[i];
        if (connection->pending == NULL)
            continue; /* never opened */
        stream_close(&connection->stream);
        free(connection->pending);
        free(connection->in);
        free(connection->out);
    }
    free(loader->connections);
    if (loader->epoll >= 0)
        close(loader->epoll);
}

static void start_clocks(struct loader *loaders, const struct load_options *options)
{
    uint64_t now = now_ns();
    for (uint64_t i = 0; i < options->threads; i++) {
        struct loader *loader = &loaders[i];
        loader->start_ns = loader->next_due_ns = now;
        loader->count_from_ns = now + options->warmup_seconds * 1000000000u;
        loader->end_ns =
            options->seconds == 0 ? UINT64_MAX / 2 : loader->count_from_ns + options->seconds * 1000000000u;
    }
}

static void sum_up(const struct loader *loaders, uint64_t count, struct load_report *report)
{
    for (uint64_t i = 0; i < count; i++) {
        const struct load_report *part = &loaders[i].report;
        report->seconds = part->seconds > report->seconds ? part->seconds : report->seconds;
        report->requests += part->requests;
        report->numbers += part->numbers;
        report->registered += part->registered;
        report->wrong += part->wrong;
        report->limited += part->limited;
        report->added += part->added;
        report->replaced += part->replaced;
        report->unavailable += part->unavailable;
        report->broken += part->broken;
        histogram_merge(&report->latency, &part->latency);
    }
}

static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

bool load_run(const struct load_options *options, const struct population *population,
              struct load_report *report)
{
    struct pool pool = {0};
    struct loader *loaders = calloc(options->threads, sizeof *loaders);
    bool good = loaders != NULL && fill_pool(&pool, options, population);
    uint64_t started = 0;
    raise_file_limit();
    for (uint64_t i = 0; loaders != NULL && i < options->threads; i++)
        loaders[i].epoll = -1;
    for (uint64_t i = 0; good && i < options->threads; i++)
        good = set_up(&loaders[i], options, &pool, (unsigned)i);
    if (good) {
        start_clocks(loaders, options);
        while (started < options->threads &&
               pthread_create(&loaders[started].thread, NULL, run, &loaders[started]) == 0)
            started++;
        for (uint64_t i = 0; i < started; i++)
            pthread_join(loaders[i].thread, NULL);
        good = started == options->threads;
        *report = (struct load_report){0};
        sum_up(loaders, started, report);
    }
    for (uint64_t i = 0; loaders != NULL && i < options->threads; i++)
        tear_down(&loaders[i]);
    free(loaders);
    free(pool.numbers);
    free(pool.accounts);
    free(pool.expected);
    return good;
}
