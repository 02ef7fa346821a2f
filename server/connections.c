/* One worker's connections; see connections.h. */
#include "server/connections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event_struct.h>

#include "server/address.h"
#include "server/clock.h"
#include "server/tls.h"

/* One turn reads and sends at most so much: to copy it takes some ten microseconds. */
#define READ_BYTES (64u << 10)
#define SEND_BYTES (64u << 10)
/* How long a connection that is done waits for the client to read and close. Closing a socket with unread input
 * resets it, and the reset may overtake the last replies. */
#define LINGER_MS 2000
/* So much of what it sends meanwhile is read away, for who must be rid of it before it reads our reply: more than the longest frames
 * that may be under way. What comes beyond stays with the kernels. */
#define LINGER_BYTES (4u << 20)
/* A client that waits to read gets its patience anew with so much that it took. */
#define PROGRESS_BYTES (64u << 10)
/* A turn in which more lookups were made, or more read or sent, makes the next one wait. (Not one that took longer: that may be the
 * kernel's doing, which had other threads to run.) The putting off itself takes 2 us. */
#define LONG_TURN_COST 4096
#define LONG_TURN_BYTES (48u << 10)
/* For those that were put off, before the others are looked at again; what goes beyond is the last turn. */
#define LATE_NS 50000
/* Who asks though its budget is used up is not read for so long, at least and for each number. */
#define REST_US_MIN 10000
#define REST_US_A_NUMBER 100
/* Replies that are longer change their owner rather than being copied. */
#define COPY_BYTES (32u << 10)
#define PUT_OFF_FEW 16
/* Who joins a round may send so much at least; and no more than so many join. */
#define ROUND_ROOM (32u << 10)
#define ROUND_CONNECTIONS 64
/* How often the impatient are looked for. */
#define IMPATIENCE_US 250000
/* For the hello of who sits on a place of the reserve. */
#define HURRY_MS 2000

struct connection {
    LIST_ENTRY(connection) link;
    struct connections *connections;
    struct stream stream;
    struct seat seat;
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
    struct connections_owing *owing; /* NULL: nothing */
    uint64_t owing_since_ms;
    size_t read_bytes; /* what it has read since then */
    bool has_given;    /* a request was taken from it in this turn */
    TAILQ_ENTRY(connection) owing_link;
    uint64_t held_bytes; /* memory of `in` and `out`, as of the last weighing */
    TAILQ_ENTRY(connection) heavy_link;
    uint64_t lingering_since_ms;
    size_t discarded_bytes; /* since then */
    size_t turn_bytes;      /* read and sent in this turn */
    bool was_long;          /* the turn before */
    bool is_resting;        /* it is neither read nor served for a while, and `readable` is the timer */
    bool is_put_off;
    TAILQ_ENTRY(connection) put_off_link;
    /* In the round: what was read of it, in the read buffer. */
    bool is_in_round;
    const uint8_t *given;
    size_t given_bytes;
    TAILQ_ENTRY(connection) round_link;
    struct session session;
    struct buffer
        in; /* the beginning of a frame whose rest has not come, or what the output cap holds back */
    struct buffer out; /* what the socket did not take */
};

/* --- one connection --- */

/* The list of those that hold about as much. */
static struct connection_queue *heavy_queue(struct connections *connections, uint64_t bytes)
{
    return &connections->heavy[63 - __builtin_clzll(bytes)];
}

/* Notes that the connection holds so much memory now. */
static void note_held(struct connection *connection, uint64_t bytes)
{
    struct connections *connections = connection->connections;
    uint64_t before = connection->held_bytes;
    if (bytes == before)
        return;
    struct connection_queue *from = before == 0 ? NULL : heavy_queue(connections, before);
    struct connection_queue *to = bytes == 0 ? NULL : heavy_queue(connections, bytes);
    if (from != to && from != NULL)
        TAILQ_REMOVE(from, connection, heavy_link);
    if (from != to && to != NULL)
        TAILQ_INSERT_TAIL(to, connection, heavy_link);
    connection->held_bytes = bytes;
    connections->buffer_bytes = connections->buffer_bytes - before + bytes;
    atomic_store_explicit(&connections->counters->buffer_bytes, connections->buffer_bytes,
                          memory_order_relaxed);
}

static void remove_put_off(struct connection *connection)
{
    TAILQ_REMOVE(&connection->connections->put_off, connection, put_off_link);
    connection->connections->put_off_count--;
    connection->is_put_off = false;
}

static void leave_round(struct connection *connection)
{
    TAILQ_REMOVE(&connection->connections->round, connection, round_link);
    connection->is_in_round = false;
}

static void close_connection(struct connection *connection)
{
    struct connections *connections = connection->connections;
    connections->out.length = 0; /* replies that could not be kept must not reach the next connection */
    if (connection->is_held)
        TAILQ_REMOVE(&connections->held_queue, connection, held_link);
    if (connection->owing != NULL)
        TAILQ_REMOVE(&connection->owing->queue, connection, owing_link);
    if (connection->is_put_off)
        remove_put_off(connection);
    if (connection->is_in_round)
        leave_round(connection);
    note_held(connection, 0);
    event_del(&connection->readable);
    event_del(&connection->writable);
    stream_close(&connection->stream);
    seats_leave(connections->seats, &connection->seat);
    session_deinit(&connection->session, connections->service);
    buffer_deinit(&connection->in);
    buffer_deinit(&connection->out);
    LIST_REMOVE(connection, link);
    free(connection);
    counter_add(&connections->counters->connections_closed, 1);
    if (connections->is_ending && LIST_EMPTY(&connections->all))
        event_base_loopbreak(connections->base);
}

/* Sends from the front of the buffer as much as the socket takes in this turn. False: the connection is broken. */
static bool send_some(struct connection *connection, struct buffer *buffer)
{
    size_t done = 0;
    while (done < buffer->length && done < SEND_BYTES) {
        size_t left = buffer->length - done;
        ssize_t sent =
            stream_send(&connection->stream, buffer->bytes + done, left < SEND_BYTES ? left : SEND_BYTES);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            if (errno != EAGAIN)
                return false;
            break;
        }
        done += (size_t)sent;
    }
    counter_add(&connection->connections->counters->bytes_out, done);
    connection->read_bytes += done;
    connection->turn_bytes += done;
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
    const struct stream *stream = &connection->stream;
    bool write = (connection->out.length > 0 && !connection->is_held && !stream->send_wants_input) ||
                 stream->receive_wants_room;
    bool read = !connection->session.closing && !connection->is_ended && !connection->is_resting &&
                connection->out.length < SESSION_OUTPUT_CAP;
    /* While it is held nothing is read; but few clients send before they have their answer, so the event goes only when they do
     * (on_ready): two calls of the kernel less for each registration. */
    if (connection->is_held)
        read = connection->is_reading;
    if (write != connection->is_writing)
        write ? event_add(&connection->writable, NULL) : event_del(&connection->writable);
    if (read != connection->is_reading)
        read ? event_add(&connection->readable, NULL) : event_del(&connection->readable);
    connection->is_writing = write;
    connection->is_reading = read;
}

/* --- turns that are put off --- */

/* True when what it has sent already is to be served before more is read. */
static bool may_resume(const struct connection *connection)
{
    return !connection->is_lingering && !connection->is_held && !connection->is_resting &&
           (connection->out.length < SESSION_OUTPUT_CAP || connection->session.work != NULL) &&
           has_work(connection);
}

/* True when there is something to do for which no event will come. */
static bool has_more(const struct connection *connection)
{
    return may_resume(connection) || (connection->stream.has_input && connection->is_reading &&
                                      !connection->is_held && !connection->is_lingering);
}

static void put_off(struct connection *connection)
{
    struct connections *connections = connection->connections;
    if (connection->is_put_off)
        return;
    connection->is_put_off = true;
    TAILQ_INSERT_TAIL(&connections->put_off, connection, put_off_link);
    connections->put_off_count++;
    if (!event_pending(connections->late, EV_TIMEOUT, NULL))
        event_add(connections->late, &(struct timeval){0});
}

/* --- patience --- */

static void forgive(struct connection *connection)
{
    if (connection->owing != NULL)
        TAILQ_REMOVE(&connection->owing->queue, connection, owing_link);
    connection->owing = NULL;
}

/* Notes whether the client owes something, anew if it has just given some of it. */
static void judge(struct connection *connection)
{
    struct connections *connections = connection->connections;
    bool owes = !connection->session.greeted || connection->in.length > 0 || connection->out.length > 0;
    bool has_given = connection->has_given || connection->read_bytes >= PROGRESS_BYTES;
    connection->has_given = false;
    bool is_stopped = connection->is_held || connection->is_resting; /* by us */
    if (connection->owing != NULL && owes && !has_given && !is_stopped)
        return;
    forgive(connection);
    if (!owes || is_stopped || connection->is_lingering)
        return;
    bool hurry = connection->seat.is_reserved && !connection->session.greeted;
    connection->owing = &connections->owing[hurry];
    connection->owing_since_ms = clock_coarse_ms();
    connection->read_bytes = 0;
    if (!event_pending(connections->impatience, EV_TIMEOUT, NULL))
        event_add(connections->impatience, &(struct timeval){.tv_usec = IMPATIENCE_US});
    TAILQ_INSERT_TAIL(&connection->owing->queue, connection, owing_link);
}

/* Closes whose time is over. True when others still owe something. */
static bool close_slow(struct connections *connections, const struct connections_owing *owing)
{
    uint64_t now = clock_coarse_ms();
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&owing->queue)) != NULL &&
           now - connection->owing_since_ms >= owing->patience_ms) {
        counter_add(&connections->counters->connections_slow, 1);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        close_connection(connection);
    }
    return connection != NULL;
}

static void on_impatience(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct connections *connections = context;
    bool others = close_slow(connections, &connections->owing[0]);
    others = close_slow(connections, &connections->owing[1]) || others;
    if (others)
        event_add(connections->impatience, &(struct timeval){.tv_usec = IMPATIENCE_US});
}

/* --- memory --- */

/* After each turn of a connection that is still open. It may be closed here, too. */
static void end_turn(struct connection *connection)
{
    struct connections *connections = connection->connections;
    if (has_more(connection))
        put_off(connection); /* as another turn it is fair to the others */
    note_held(connection,
              connection->in.capacity + connection->out.capacity + session_held_bytes(&connection->session));
    while (connections->buffer_bytes > connections->buffer_bytes_max) {
        unsigned weight = CONNECTIONS_WEIGHTS - 1;
        while (TAILQ_EMPTY(&connections->heavy[weight]))
            weight--;
        struct connection *heaviest = TAILQ_FIRST(&connections->heavy[weight]);
        counter_add(&connections->counters->connections_evicted, 1);
        seats_penalize(connections->seats, &heaviest->seat, clock_coarse_ns());
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        close_connection(heaviest);
    }
}

/* --- who asks on without a budget --- */

static void on_ready(evutil_socket_t fd, short events, void *context);

static void rest(struct connection *connection)
{
    uint64_t us = (uint64_t)connection->session.limited * REST_US_A_NUMBER;
    if (us < REST_US_MIN)
        us = REST_US_MIN;
    connection->is_resting = true;
    event_del(&connection->readable);
    connection->is_reading = false;
    event_assign(&connection->readable, connection->connections->base, -1, 0, on_ready, connection);
    event_add(&connection->readable,
              &(struct timeval){.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)});
    judge(connection);
}

static void end_rest(struct connection *connection)
{
    if (!connection->is_resting)
        return;
    connection->is_resting = false;
    event_del(&connection->readable);
    event_assign(&connection->readable, connection->connections->base, connection->stream.fd,
                 EV_READ | EV_PERSIST, on_ready, connection);
}

/* --- the end of a conversation --- */

/* All is said. False: close now; else the connection lingers until the client closes or its time is over. */
static bool linger(struct connection *connection)
{
    if (connection->is_ended || !stream_shut(&connection->stream))
        return false;
    end_rest(connection);
    if (connection->is_put_off)
        remove_put_off(connection);
    connection->is_lingering = true;
    forgive(connection);
    event_del(&connection->writable);
    connection->lingering_since_ms = clock_coarse_ms();
    event_add(&connection->readable, &(struct timeval){.tv_sec = LINGER_MS / 1000});
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
static bool is_decided(const struct connections *connections, uint64_t position, bool *failed)
{
    const struct registrations *registrations = connections->service->registrations;
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
    struct connections *connections = connection->connections;
    connection->hold_offset = connection->out.length;
    if (!buffer_append(&connection->out, connections->out.bytes, connections->out.length))
        return false;
    connections->out.length = 0;
    connection->is_held = true;
    TAILQ_INSERT_TAIL(&connections->held_queue, connection, held_link);
    connections->held(connections->context);
    set_interest(connection);
    judge(connection);
    return true;
}

/* False: close. */
static bool release(struct connection *connection, bool failed)
{
    TAILQ_REMOVE(&connection->connections->held_queue, connection, held_link);
    connection->is_held = false;
    connection->hold_position = 0;
    if (failed)
        session_retract(&connection->out, connection->hold_offset);
    return send_some(connection, &connection->out) && settle(connection);
}

static bool end(struct connection *connection);

bool connections_release(struct connections *connections)
{
    bool failed = false;
    struct connection *connection;
    while ((connection = TAILQ_FIRST(&connections->held_queue)) != NULL &&
           // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): release has unlinked what is freed
           is_decided(connections, connection->hold_position, &failed)) {
        bool good = release(connection, failed);
        if (good && connections->is_ending && session_waits(&connection->session))
            good = end(connection);
        if (good)
            end_turn(connection);
        else
            close_connection(connection);
    }
    return connection != NULL;
}

/* What is left of the replies of this turn is the connection's, which has none. False: memory is short. */
static bool keep(struct connection *connection)
{
    struct buffer *out = &connection->connections->out;
    if (out->length < COPY_BYTES || out->length < out->capacity / 2)
        return out->length == 0 || buffer_append(&connection->out, out->bytes, out->length);
    buffer_deinit(&connection->out);
    connection->out = *out;
    *out = (struct buffer){0};
    return true;
}

/* Sends the replies of this turn and keeps what does not go out, or must not yet. False: close. */
static bool flush(struct connection *connection)
{
    struct connections *connections = connection->connections;
    bool good = true;
    bool failed = false;
    if (connection->is_held) { /* a goodbye, behind all that waits */
        good = buffer_append(&connection->out, connections->out.bytes, connections->out.length);
        connections->out.length = 0;
        return good;
    }
    if (connection->hold_position > 0 && !is_decided(connections, connection->hold_position, &failed)) {
        /* The journal may have moved before it knew that somebody waits. */
        return hold(connection) &&
               (!is_decided(connections, connection->hold_position, &failed) || release(connection, failed));
    }
    if (connection->hold_position > 0 && failed)
        session_retract(&connections->out, 0);
    connection->hold_position = 0;
    if (connection->out.length == 0) {
        good = send_some(connection, &connections->out) && keep(connection);
    } else {
        good = buffer_append(&connection->out, connections->out.bytes, connections->out.length) &&
               send_some(connection, &connection->out);
    }
    connections->out.length = 0;
    if (connections->out.capacity > SESSION_OUTPUT_CAP)
        buffer_deinit(&connections->out);
    return good && settle(connection);
}

/* Lets the session take what it can of the bytes; keeps the rest with the connection. False: close. */
static bool serve(struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct connections *connections = connection->connections;
    struct service *service = connections->service;
    size_t taken = 0;
    /* The cap is on what waits already plus what this turn adds. */
    if (connection->out.length < SESSION_OUTPUT_CAP || connection->session.work != NULL)
        taken = session_consume(
            &connection->session, service, bytes, length,
            connection->out.length < SESSION_OUTPUT_CAP ? SESSION_OUTPUT_CAP - connection->out.length : 0,
            &connections->out);
    connection->has_given = taken > 0 || session_is_busy(&connection->session);
    connection->hold_position = service->hold_position;
    service->hold_position = 0;
    if (connection->session.closing)
        taken = length;
    if (bytes == connection->in.bytes) {
        buffer_consume(&connection->in, taken);
    } else if (taken < length) {
        /* Room for the whole frame at once, so that a long one is not copied again and again; but not for the asking, by a header
         * alone. */
        size_t frame_bytes = session_frame_bytes(bytes + taken, length - taken);
        if (frame_bytes > length - taken && frame_bytes / 4 <= length - taken)
            (void)buffer_reserve(&connection->in, frame_bytes);
        if (!buffer_append(&connection->in, bytes + taken, length - taken))
            return false;
    }
    if (connection->in.length == 0)
        buffer_deinit(&connection->in);
    return flush(connection);
}

/* The same, and what they ask for is looked up at once. False: close. */
static bool serve_alone(struct connection *connection, const uint8_t *bytes, size_t length)
{
    struct service *service = connection->connections->service;
    struct ahead *ahead = &service->scratch->ahead;
    session_gather(&connection->session, service, bytes, length);
    ahead_look(ahead, service->directory, service->reader);
    bool good = serve(connection, bytes, length);
    ahead_clear(ahead);
    return good;
}

/* It is no failure: the socket, or TLS, has nothing yet. */
static bool is_nothing_yet(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* What follows from a read that has brought nothing. False: close. */
static bool read_nothing(struct connection *connection, ssize_t got)
{
    if (got < 0 && !is_nothing_yet(errno))
        return false;
    if (got < 0) { /* TLS may wait for room now, or an answer no longer for input */
        set_interest(connection);
        return true;
    }
    connection->is_ended = true; /* but what is owed still goes out */
    return flush(connection);
}

static void note_read(struct connection *connection, size_t bytes)
{
    counter_add(&connection->connections->counters->bytes_in, bytes);
    connection->turn_bytes += bytes;
}

/* One read and what follows from it. False: close. */
static bool read_and_serve(struct connection *connection)
{
    struct connections *connections = connection->connections;
    ssize_t got = stream_receive(&connection->stream, connections->read_buffer, READ_BYTES);
    if (got <= 0)
        return read_nothing(connection, got);
    note_read(connection, (size_t)got);
    if (connection->in.length == 0)
        return serve_alone(connection, connections->read_buffer, (size_t)got);
    return buffer_append(&connection->in, connections->read_buffer, (size_t)got) &&
           serve_alone(connection, connection->in.bytes, connection->in.length);
}

/* Reads away what a lingering client sends. False: it has closed, or broke, or its time is over. */
static bool discard(struct connection *connection)
{
    /* The kernel throws it away, without a copy into the buffer (tcp(7)). */
    ssize_t got = recv(connection->stream.fd, connection->connections->read_buffer, READ_BYTES, MSG_TRUNC);
    /* The event's own time begins anew with whatever comes. */
    uint64_t lingered_ms = clock_coarse_ms() - connection->lingering_since_ms;
    if (lingered_ms >= LINGER_MS || got == 0 || (got < 0 && !is_nothing_yet(errno)))
        return false;
    connection->discarded_bytes += got > 0 ? (size_t)got : 0;
    if (connection->discarded_bytes < LINGER_BYTES)
        return true;
    unsigned left_ms = (unsigned)(LINGER_MS - lingered_ms);
    event_del(&connection->readable);
    event_assign(&connection->readable, connection->connections->base, -1, 0, on_ready, connection);
    event_add(&connection->readable,
              &(struct timeval){.tv_sec = left_ms / 1000, .tv_usec = (suseconds_t)(left_ms % 1000) * 1000});
    return true;
}

/* Sends what waits; if that comes to nothing, serves what is there, or reads. False: close. */
static bool advance(struct connection *connection)
{
    size_t waiting = connection->out.length;
    if (waiting > 0 && !connection->stream.send_wants_input && !connection->stream.receive_wants_room) {
        if (!flush(connection))
            return false;
        if (connection->out.length < waiting)
            return true;
    }
    if (may_resume(connection))
        return serve_alone(connection, connection->in.bytes, connection->in.length);
    if (connection->session.closing || connection->is_ended || connection->is_resting ||
        connection->out.length >= SESSION_OUTPUT_CAP) {
        set_interest(connection);
        return true;
    }
    return read_and_serve(connection);
}

static void begin_turn(struct connection *connection)
{
    connection->session.cost = connection->session.limited = 0;
    connection->turn_bytes = 0;
}

static void conclude_turn(struct connection *connection, bool good)
{
    if (!good) {
        close_connection(connection);
        return;
    }
    connection->was_long =
        connection->session.cost > LONG_TURN_COST || connection->turn_bytes > LONG_TURN_BYTES;
    if (connection->session.limited > 0 && !connection->is_lingering && !connection->is_resting)
        rest(connection);
    end_turn(connection);
}

static void take_turn(struct connection *connection)
{
    struct connections *connections = connection->connections;
    connections_finish_round(connections);
    uint64_t begun_ns = clock_precise_ns();
    begin_turn(connection);
    conclude_turn(connection, connection->is_lingering ? discard(connection) : advance(connection));
    counter_add_time(&connections->counters->turns, clock_precise_ns() - begun_ns);
}

/* --- the round --- */

/* True when all that it wants is to have answered what it sends. */
static bool may_join(const struct connection *connection)
{
    const struct stream *stream = &connection->stream;
    return connection->in.length == 0 && connection->out.length == 0 && !connection->is_lingering &&
           !connection->is_ended && !connection->session.closing && !stream->send_wants_input &&
           !stream->receive_wants_room;
}

/* Reads what it has sent, and has it answered with what the others have. */
static void join_round(struct connection *connection)
{
    struct connections *connections = connection->connections;
    if (READ_BYTES - connections->round_bytes < ROUND_ROOM || connections->round_count == ROUND_CONNECTIONS)
        connections_finish_round(connections);
    if (connections->round_count == 0)
        connections->round_begun_ns = clock_precise_ns();
    uint8_t *bytes = connections->read_buffer + connections->round_bytes;
    begin_turn(connection);
    ssize_t got = stream_receive(&connection->stream, bytes, READ_BYTES - connections->round_bytes);
    if (got <= 0) {
        conclude_turn(connection, read_nothing(connection, got));
        return;
    }
    note_read(connection, (size_t)got);
    connection->given = bytes;
    connection->given_bytes = (size_t)got;
    connection->is_in_round = true;
    TAILQ_INSERT_TAIL(&connections->round, connection, round_link);
    connections->round_bytes += (size_t)got;
    connections->round_count++;
    session_gather(&connection->session, connections->service, bytes, (size_t)got);
}

void connections_finish_round(struct connections *connections)
{
    struct service *service = connections->service;
    struct connection *connection;
    if (connections->round_count == 0)
        return;
    ahead_look(&service->scratch->ahead, service->directory, service->reader);
    while ((connection = TAILQ_FIRST(&connections->round)) != NULL) {
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        leave_round(connection);
        conclude_turn(connection, serve(connection, connection->given, connection->given_bytes));
    }
    ahead_clear(&service->scratch->ahead);
    connections->round_bytes = 0;
    connections->round_count = 0;
    counter_add_time(&connections->counters->turns, clock_precise_ns() - connections->round_begun_ns);
}

/* True when its turn may be long, or it has no claim to be served before others: it has not said hello, or sends its frame in
 * pieces. */
static bool can_wait(const struct connection *connection)
{
    return (connection->was_long || !connection->session.greeted || connection->in.length > 0) &&
           !connection->is_lingering;
}

/* Its turn will ask for events again. */
static void forget_events(struct connection *connection)
{
    if (connection->is_reading)
        event_del(&connection->readable);
    if (connection->is_writing)
        event_del(&connection->writable);
    connection->is_reading = connection->is_writing = false;
}

static void on_late(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    (void)events;
    struct connections *connections = context;
    struct connection *connection;
    uint64_t begun_ns = clock_precise_ns();
    while ((connection = TAILQ_FIRST(&connections->put_off)) != NULL &&
           clock_precise_ns() - begun_ns < LATE_NS) {
        remove_put_off(connection);
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the lists before it is freed
        if (!connection->is_held)
            take_turn(connection);
    }
    /* As a timer it comes behind what the sockets have by then. */
    if (connection != NULL)
        event_add(connections->late, &(struct timeval){0});
}

static void on_ready(evutil_socket_t fd, short events, void *context)
{
    (void)fd;
    struct connection *connection = context;
    if (connection->is_resting && (events & EV_TIMEOUT) != 0) {
        end_rest(connection);
        set_interest(connection);
        judge(connection);
        if (has_more(connection))
            put_off(connection);
    } else if ((events & EV_TIMEOUT) != 0) { /* it has lingered for long enough */
        close_connection(connection);
    } else if (connection->is_in_round) {
        return;
    } else if (connection->is_held) {
        forget_events(connection);
    } else if (connection->is_put_off || can_wait(connection)) {
        put_off(connection);
        /* Else each round would tell us again, which costs less than two calls of the kernel as long as they are few. */
        if (connection->connections->put_off_count > PUT_OFF_FEW)
            forget_events(connection);
    } else if ((events & EV_READ) != 0 && may_join(connection)) {
        join_round(connection);
    } else {
        take_turn(connection);
    }
}

/* The session begins, with whom the proxy has named, if there is one, and with what TLS knows of the client. */
static void begin(struct connection *connection, const struct arrival *arrival)
{
    struct session *session = &connection->session;
    bool is_named = !address_ip_is_zero(arrival->client_ip);
    session_init(session, is_named ? arrival->client_ip : arrival->ip, is_named ? arrival->ip : NULL);
    session->operators_only = arrival->seat.is_reserved;
    if (arrival->stream.ssl != NULL)
        session->has_fingerprint = tls_peer_fingerprint(arrival->stream.ssl, session->fingerprint);
}

/* --- all of them --- */

bool connections_init(struct connections *connections)
{
    LIST_INIT(&connections->all);
    for (unsigned i = 0; i < CONNECTIONS_WEIGHTS; i++)
        TAILQ_INIT(&connections->heavy[i]);
    TAILQ_INIT(&connections->held_queue);
    TAILQ_INIT(&connections->put_off);
    TAILQ_INIT(&connections->round);
    connections->owing[0].patience_ms = connections->patience_ms;
    connections->owing[1].patience_ms =
        connections->patience_ms < HURRY_MS ? connections->patience_ms : HURRY_MS;
    TAILQ_INIT(&connections->owing[0].queue);
    TAILQ_INIT(&connections->owing[1].queue);
    connections->read_buffer = malloc(READ_BYTES);
    connections->impatience = event_new(connections->base, -1, 0, on_impatience, connections);
    connections->late = event_new(connections->base, -1, 0, on_late, connections);
    return connections->read_buffer != NULL && connections->impatience != NULL && connections->late != NULL;
}

void connections_close(struct connections *connections)
{
    while (!LIST_EMPTY(&connections->all))
        // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it is unlinked from the list before it is freed
        close_connection(LIST_FIRST(&connections->all));
}

void connections_deinit(struct connections *connections)
{
    if (connections->impatience != NULL)
        event_free(connections->impatience);
    if (connections->late != NULL)
        event_free(connections->late);
    buffer_deinit(&connections->out);
    free(connections->read_buffer);
}

void connections_open(struct connections *connections, const struct arrival *arrival)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL) {
        arrival_dismiss(arrival, connections->seats);
        counter_add(&connections->counters->connections_closed, 1);
        return;
    }
    int fd = arrival->stream.fd;
    connection->connections = connections;
    connection->stream = arrival->stream;
    connection->seat = arrival->seat;
    begin(connection, arrival);
    event_assign(&connection->readable, connections->base, fd, EV_READ | EV_PERSIST, on_ready, connection);
    event_assign(&connection->writable, connections->base, fd, EV_WRITE | EV_PERSIST, on_ready, connection);
    LIST_INSERT_HEAD(&connections->all, connection, link);
    set_interest(connection);
    judge(connection);
    if (has_more(connection))
        put_off(connection);
}

/* Answers what has been begun and says goodbye, unless it waits for the feed: then behind that. False: close. */
static bool end(struct connection *connection)
{
    struct connections *connections = connection->connections;
    bool good = true;
    while (good && may_resume(connection) && session_is_busy(&connection->session))
        good = serve_alone(connection, connection->in.bytes, connection->in.length);
    if (good && !connection->session.closing && !session_waits(&connection->session)) {
        session_say_goodbye(&connection->session, connections->service, &connections->out);
        good = flush(connection);
    }
    return good;
}

void connections_end(struct connections *connections)
{
    struct connection *connection;
    struct connection *next;
    for (connection = LIST_FIRST(&connections->all); connection != NULL; connection = next) {
        next = LIST_NEXT(connection, link);
        end_rest(connection);
        bool good = connection->is_held || read_and_serve(connection);
        if (!good || !end(connection))
            close_connection(connection);
    }
    connections->is_ending = true;
    if (LIST_EMPTY(&connections->all))
        event_base_loopbreak(connections->base);
}
