/* One thread of the load; see load_loader.h. */
#include "load_loader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS UINT64_C(1000000000)
/* What is owed after the end gets so long. */
#define GRACE_NS (2 * SECOND_NS)

uint64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* --- connections that go, and come again --- */

static void lose(struct load_loader *loader, struct load_connection *connection)
{
    if (connection->is_broken)
        return;
    connection->is_broken = true;
    load_record_add(&loader->record, LOAD_BROKEN, 1);
    loader->unanswered -= load_connection_unanswered(connection);
    epoll_ctl(loader->epoll, EPOLL_CTL_DEL, connection->stream.fd, NULL);
}

static bool watch(const struct load_loader *loader, struct load_connection *connection, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (connection->wants_write ? EPOLLOUT : 0),
                                .data.ptr = connection};
    return epoll_ctl(loader->epoll, how, connection->stream.fd, &event) == 0;
}

static void flush(struct load_loader *loader, struct load_connection *connection)
{
    if (connection->is_broken)
        return;
    if (!load_connection_flush(connection)) {
        lose(loader, connection);
        return;
    }
    bool wants_write = connection->out_bytes > 0;
    if (wants_write == connection->wants_write)
        return;
    connection->wants_write = wants_write;
    (void)watch(loader, connection, EPOLL_CTL_MOD);
}

static const struct load_pool *pool_of(const struct load_loader *loader, bool registers)
{
    return registers ? loader->registrations : loader->lookups;
}

static struct load_asked asked_of(const struct load_loader *loader, const struct load_pending *pending,
                                  uint32_t id)
{
    const struct load_pool *pool = pool_of(loader, pending->registers);
    return (struct load_asked){.numbers = pool->numbers + pending->offset,
                               .accounts = pending->registers ? pool->accounts + pending->offset : NULL,
                               .id = id,
                               .count = pending->count};
}

/* Puts the request of this id into the connection's buffer. */
static void send_pending(struct load_loader *loader, struct load_connection *connection, uint32_t id)
{
    const struct load_dialect *dialect = loader->options->dialect;
    struct load_asked asked = asked_of(loader, load_connection_pending(connection, id), id);
    uint8_t *room = load_connection_reserve(connection, dialect->request_bytes(&asked));
    if (room == NULL)
        lose(loader, connection);
    else
        connection->out_bytes += dialect->encode(room, &asked);
}

/* What was asked and not answered is asked again: a lookup may be, and so may a registration of the same account. */
static bool reopen(struct load_loader *loader, struct load_connection *connection)
{
    epoll_ctl(loader->epoll, EPOLL_CTL_DEL, connection->stream.fd, NULL);
    if (!load_connection_reopen(connection, loader->options) || !watch(loader, connection, EPOLL_CTL_ADD)) {
        lose(loader, connection);
        return false;
    }
    for (uint32_t id = connection->awaited_id; id != connection->next_id && !connection->is_broken; id++)
        send_pending(loader, connection, id);
    return !connection->is_broken;
}

/* --- asking --- */

static bool may_ask(const struct load_loader *loader, uint64_t now)
{
    return loader->numbers_left > 0 && now < loader->end_ns;
}

/* Puts one more request into the connection's buffer. */
static void ask(struct load_loader *loader, struct load_connection *connection, uint64_t due_ns)
{
    bool registers = loader->options->verb == LOAD_REGISTER || load_pace_registers(&loader->pace);
    const struct load_pool *pool = pool_of(loader, registers);
    uint64_t *offset = registers ? &loader->registration_offset : &loader->lookup_offset;
    uint64_t count = load_pace_count(&loader->pace);
    if (count > loader->numbers_left)
        count = loader->numbers_left;
    *load_connection_pending(connection, connection->next_id) =
        (struct load_pending){due_ns, *offset, (uint16_t)count, registers};
    *offset = (*offset + count) % pool->size;
    load_pace_advance(&loader->pace, (uint16_t)count);
    loader->unanswered++;
    if (loader->numbers_left != UINT64_MAX)
        loader->numbers_left -= count;
    send_pending(loader, connection, connection->next_id++);
}

/* Closed loop: as many as may be under way. */
static void ask_all(struct load_loader *loader, struct load_connection *connection, uint64_t now)
{
    while (!connection->is_broken && !connection->is_leaving && may_ask(loader, now) &&
           load_connection_unanswered(connection) < loader->options->outstanding)
        ask(loader, connection, now);
}

/* Open loop: the next connection in turn that may be asked; NULL: none. */
static struct load_connection *next_free(struct load_loader *loader)
{
    for (unsigned tries = 0; tries < loader->connection_count; tries++) {
        struct load_connection *next = &loader->connections[loader->next_connection];
        loader->next_connection = (loader->next_connection + 1) % loader->connection_count;
        if (!next->is_broken && !next->is_leaving && load_connection_unanswered(next) < LOAD_OUTSTANDING_MAX)
            return next;
    }
    return NULL;
}

static uint64_t due_ns(const struct load_loader *loader)
{
    return loader->start_ns + (uint64_t)loader->pace.due_ns;
}

/* Open loop: asks all that is due by now, as far as the connections have room; what goes to the same connection goes out together. */
static void ask_what_is_due(struct load_loader *loader, uint64_t now)
{
    unsigned first = loader->next_connection;
    unsigned asked = 0;
    struct load_connection *connection;
    while (due_ns(loader) <= now && may_ask(loader, due_ns(loader)) &&
           (connection = next_free(loader)) != NULL) {
        ask(loader, connection, due_ns(loader));
        asked++;
    }
    if (asked == 0)
        return;
    do { /* all connections, when they have been round once */
        flush(loader, &loader->connections[first]);
        first = (first + 1) % loader->connection_count;
    } while (first != loader->next_connection);
}

/* --- what is answered --- */

static void check_lookups(struct load_record *record, const struct load_answer *answer,
                          const uint8_t *expected)
{
    uint64_t registered = 0;
    uint64_t limited = 0;
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        registered += answer->statuses[i] == WIRE_REGISTERED;
        limited += answer->statuses[i] == WIRE_LIMITED;
        wrong += answer->statuses[i] != expected[i] && answer->statuses[i] != WIRE_LIMITED;
    }
    load_record_add(record, LOAD_REGISTERED, registered);
    load_record_add(record, LOAD_LIMITED, limited);
    load_record_add(record, LOAD_WRONG, wrong);
}

static void check_registrations(struct load_record *record, const struct load_answer *answer)
{
    uint64_t added = 0;
    uint64_t replaced = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        added += answer->statuses[i] == WIRE_ADDED;
        replaced += answer->statuses[i] == WIRE_REPLACED;
    }
    load_record_add(record, LOAD_ADDED, added);
    load_record_add(record, LOAD_REPLACED, replaced);
    load_record_add(record, LOAD_WRONG, answer->count - added - replaced);
}

static void check(struct load_loader *loader, const struct load_pending *pending, uint64_t now)
{
    struct load_record *record = &loader->record;
    const struct load_answer *answer = &loader->answer;
    bool is_beside = pending->registers && loader->options->verb == LOAD_RUN;
    if (answer->kind == LOAD_REFUSED) {
        load_record_add(record, LOAD_UNAVAILABLE, 1);
        return;
    }
    if (answer->count != pending->count) {
        load_record_add(record, LOAD_WRONG, pending->count);
        return;
    }
    if (pending->registers)
        check_registrations(record, answer);
    else if (loader->options->dialect->answers)
        check_lookups(record, answer, loader->lookups->expected + pending->offset);
    if (now < loader->count_from_ns)
        return;
    load_record_add(record, is_beside ? LOAD_UPDATES : LOAD_REQUESTS, 1);
    load_record_add(record, LOAD_NUMBERS, is_beside ? 0 : answer->count);
    histogram_add(is_beside ? &record->update_latency : &record->latency, now - pending->due_ns);
}

/* Takes the reply at the front, if it is whole. */
static enum wire_state take_reply(struct load_loader *loader, const struct load_connection *connection,
                                  size_t taken, uint64_t now)
{
    const struct load_pending *pending = load_connection_pending(connection, connection->awaited_id);
    struct load_asked asked = {.id = connection->awaited_id};
    if (load_connection_unanswered(connection) > 0)
        asked = asked_of(loader, pending, connection->awaited_id);
    enum wire_state state = loader->options->dialect->decode(
        connection->in + taken, connection->in_bytes - taken, &asked, &loader->answer);
    if (state == WIRE_DONE && loader->answer.kind != LOAD_GOODBYE) {
        if (load_connection_unanswered(connection) == 0)
            return WIRE_MALFORMED; /* nobody asked */
        check(loader, pending, now);
    }
    return state;
}

/* Takes the whole replies from the connection's input; in the closed loop each is followed by a new request. */
static void take_replies(struct load_loader *loader, struct load_connection *connection)
{
    enum wire_state state = WIRE_INCOMPLETE;
    size_t taken = 0;
    uint64_t now = load_now_ns();
    while (!connection->is_broken && taken < connection->in_bytes &&
           (state = take_reply(loader, connection, taken, now)) == WIRE_DONE) {
        taken += loader->answer.bytes;
        if (loader->answer.kind == LOAD_GOODBYE) {
            load_record_add(&loader->record, LOAD_GOODBYES, 1);
            (void)reopen(loader, connection);
            return;
        }
        connection->awaited_id++;
        loader->unanswered--;
        if (loader->options->rate == 0)
            ask_all(loader, connection, now);
    }
    if (state == WIRE_MALFORMED)
        lose(loader, connection);
    load_connection_take(connection, taken);
}

static void read_some(struct load_loader *loader, struct load_connection *connection)
{
    do {
        if (load_connection_fill(connection))
            take_replies(loader, connection);
        else
            lose(loader, connection);
    } while (connection->stream.has_input && !connection->is_broken);
}

/* --- churn --- */

static void leave(struct load_loader *loader, struct load_connection *connection, uint64_t now)
{
    load_record_add(&loader->record, LOAD_CHURNED, 1);
    if (reopen(loader, connection) && loader->options->rate == 0)
        ask_all(loader, connection, now);
    flush(loader, connection);
}

/* Has the next connection leave when it is time: at once if nothing is under way on it, else with its last reply. */
static void churn(struct load_loader *loader, uint64_t now)
{
    double each_ns = 1e9 * (double)loader->options->threads / (double)loader->options->churn;
    while (loader->start_ns + (uint64_t)(each_ns * (double)(loader->churned + 1)) <= now) {
        struct load_connection *connection = &loader->connections[loader->next_churned];
        loader->next_churned = (loader->next_churned + 1) % loader->connection_count;
        loader->churned++;
        connection->is_leaving = !connection->is_broken;
        if (connection->is_leaving && load_connection_unanswered(connection) == 0)
            leave(loader, connection, now);
    }
}

/* --- the loop --- */

static int wait_ms(const struct load_loader *loader, uint64_t now)
{
    if (loader->options->rate == 0 || due_ns(loader) >= loader->end_ns)
        return 10;
    return due_ns(loader) > now + 2000000 ? 1 : 0; /* near the due time: poll, epoll is too coarse */
}

/* A client that sleeps has to be woken by whom it asks, which on the same machine costs the server an interrupt of the other processor, and
 * this one the time that its sleep lasts too long. Whoever wants neither in the figures spins. */
static int wait_for_replies(const struct load_loader *loader, struct epoll_event *events, int room,
                            uint64_t now)
{
    uint64_t spin_until = now + loader->options->spin_us * 1000;
    while (now < spin_until) {
        int ready = epoll_wait(loader->epoll, events, room, 0);
        if (ready != 0)
            return ready;
        now = load_now_ns();
    }
    return epoll_wait(loader->epoll, events, room, wait_ms(loader, now));
}

static void serve(struct load_loader *loader, const struct epoll_event *event)
{
    struct load_connection *connection = event->data.ptr;
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_some(loader, connection);
    if (connection->is_leaving && !connection->is_broken && load_connection_unanswered(connection) == 0)
        leave(loader, connection, load_now_ns());
    flush(loader, connection);
}

static bool goes_on(const struct load_loader *loader, uint64_t now)
{
    return (may_ask(loader, now) || (loader->unanswered > 0 && now < loader->end_ns + GRACE_NS)) &&
           load_record_count(&loader->record, LOAD_BROKEN) < loader->connection_count;
}

void load_loader_run(struct load_loader *loader)
{
    struct epoll_event events[64];
    uint64_t now = load_now_ns();
    for (unsigned i = 0; loader->options->rate == 0 && i < loader->connection_count; i++) {
        ask_all(loader, &loader->connections[i], now);
        flush(loader, &loader->connections[i]);
    }
    while (goes_on(loader, now)) {
        if (loader->options->rate > 0)
            ask_what_is_due(loader, now);
        if (loader->options->churn > 0 && may_ask(loader, now))
            churn(loader, now);
        load_slow_tick(&loader->slow, now, &loader->record);
        int ready = wait_for_replies(loader, events, 64, now);
        for (int i = 0; i < ready; i++)
            serve(loader, &events[i]);
        now = load_now_ns();
    }
    if (now > loader->end_ns)
        now = loader->end_ns;
    loader->seconds = now > loader->count_from_ns ? (double)(now - loader->count_from_ns) / 1e9 : 0;
}

/* --- life --- */

/* Of `whole`, what thread `number` of `parts` takes. */
static uint64_t share_of(uint64_t whole, uint64_t parts, unsigned number)
{
    return whole / parts + (number < whole % parts);
}

/* Where thread `number` begins: side by side, so that a pool that is asked for once, is so exactly. */
static uint64_t first_of(const struct load_pool *pool, uint64_t parts, unsigned number)
{
    uint64_t first = 0;
    for (unsigned i = 0; i < number; i++)
        first += share_of(pool->size, parts, i);
    return pool->size == 0 ? 0 : first % pool->size;
}

bool load_loader_init(struct load_loader *loader, const struct load_options *options,
                      const struct load_pool *lookups, const struct load_pool *registrations, unsigned number)
{
    unsigned share = (unsigned)share_of(options->connections, options->threads, number);
    memset(loader, 0, sizeof *loader);
    loader->options = options;
    loader->lookups = lookups;
    loader->registrations = registrations;
    loader->lookup_offset = first_of(lookups, options->threads, number);
    loader->registration_offset = first_of(registrations, options->threads, number);
    loader->epoll = epoll_create1(EPOLL_CLOEXEC);
    loader->connections = calloc(share, sizeof *loader->connections);
    loader->numbers_left =
        options->numbers == 0 ? UINT64_MAX : share_of(options->numbers, options->threads, number);
    load_pace_init(&loader->pace, options, number);
    if (loader->connections == NULL || loader->epoll < 0)
        return false;
    for (; loader->connection_count < share; loader->connection_count++) {
        struct load_connection *connection = &loader->connections[loader->connection_count];
        if (!load_connection_init(connection, options) || !watch(loader, connection, EPOLL_CTL_ADD)) {
            load_connection_deinit(connection);
            return false;
        }
    }
    return load_slow_init(&loader->slow, options, lookups,
                          share_of(options->slow_readers, options->threads, number));
}

void load_loader_deinit(struct load_loader *loader)
{
    for (unsigned i = 0; i < loader->connection_count; i++)
        load_connection_deinit(&loader->connections[i]);
    free(loader->connections);
    load_slow_deinit(&loader->slow);
    if (loader->epoll >= 0)
        close(loader->epoll);
}
