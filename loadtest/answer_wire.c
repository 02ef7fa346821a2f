/* answer_times over the wire: what a client sees of a numberd. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "answer_times.h"
#include "bench.h"
#include "server/client.h"

#define TIMEOUT_MS 60000
#define REGISTER_BATCH UINT64_C(32768)
/* Reply frames that are compared byte by byte: of one number, and of so many. */
#define SIZE_ROUNDS 1000
#define SIZE_BATCH 64
#define SIZE_FRAME_BYTES (WIRE_REPLY_HEADER_BYTES + SIZE_BATCH * WIRE_RECORD_BYTES)
#define REPLY_BYTES (WIRE_REPLY_HEADER_BYTES + 1)
/* Empty looks into the socket before it waits in the kernel; a round trip has some dozens. */
#define LOOKS_MAX 20000

static struct client *connect_to(const char *server)
{
    char error[256];
    struct client *client = client_connect(
        &(struct client_options){.server = server, .timeout_ms = TIMEOUT_MS}, error, sizeof error);
    bench_assert(client != NULL, error);
    return client;
}

static void register_all(const struct answer_world *world, struct client *client)
{
    static struct client_registration batch[REGISTER_BATCH];
    for (uint64_t start = 0; start < world->n; start += REGISTER_BATCH) {
        uint64_t count = world->n - start < REGISTER_BATCH ? world->n - start : REGISTER_BATCH;
        struct wire_reply reply;
        for (uint64_t i = 0; i < count; i++) {
            const struct record *record = &world->records[start + i];
            batch[i] = (struct client_registration){
                .number = record->number, .account = record->account, .flags = record->flags};
        }
        bench_assert(client_send_register(client, batch, (uint16_t)count) && client_finish(client, &reply),
                     "numbers could not be registered");
        for (uint64_t i = 0; i < count; i++)
            bench_assert(reply.body[i] == WIRE_ADDED, "a number was not added: is the server empty?");
    }
}

/* --- sockets, as an attacker would use them --- */

/* Spins rather than sleeps: to be woken takes longer, and more unevenly, than the answer. */
static void receive(int fd, uint8_t *bytes, size_t length)
{
    size_t done = 0;
    for (unsigned looks = 0; done < length; looks++) {
        ssize_t got = recv(fd, bytes + done, length - done, MSG_DONTWAIT);
        bench_assert(got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)), "the connection broke");
        if (got > 0)
            done += (size_t)got;
        else if (looks > LOOKS_MAX)
            bench_assert(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, TIMEOUT_MS) != 0,
                         "the server did not answer in time");
    }
}

static void ask(int fd, const uint8_t *request, size_t request_bytes, uint8_t *reply, size_t reply_bytes)
{
    bench_assert(send(fd, request, request_bytes, MSG_NOSIGNAL) == (ssize_t)request_bytes,
                 "a request could not be sent");
    receive(fd, reply, reply_bytes);
}

/* --- what replies look like --- */

/* The frame with which the server answers `count` numbers of a class, all bytes of it. Its length. */
static size_t fetch_frame(const struct answer_world *world, int fd, uint8_t type, enum answer_class class,
                          unsigned round, uint16_t count, uint8_t *frame)
{
    uint8_t request[WIRE_REQUEST_HEADER_BYTES + SIZE_BATCH * WIRE_NUMBER_BYTES];
    uint64_t numbers[SIZE_BATCH];
    for (uint16_t i = 0; i < count; i++)
        numbers[i] = world->asked[class][((uint64_t)round * SIZE_BATCH + i) % world->count];
    uint32_t bytes = wire_encode_numbers(request, type, round, NULL, numbers, count);
    ask(fd, request, bytes, frame, 4);
    size_t length = wire_get_u32(frame);
    bench_assert(length > WIRE_REPLY_HEADER_BYTES && length <= SIZE_FRAME_BYTES, "a frame has a wrong size");
    receive(fd, frame + 4, length - 4);
    return length;
}

/* Bytes that differ, and those that one has more. */
static double differing(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    size_t shorter = a_bytes < b_bytes ? a_bytes : b_bytes;
    size_t bytes = (a_bytes > b_bytes ? a_bytes : b_bytes) - shorter;
    for (size_t i = 0; i < shorter; i++)
        bytes += a[i] != b[i];
    return (double)bytes;
}

/* Requests of all classes carry the same request id, so even that is equal: hidden and missing numbers must get the
 * same frames, byte for byte, and hits frames of the same size with the same header. */
static void compare_frames(const struct answer_world *world, int fd)
{
    double hidden = 0;
    double hits = 0;
    for (unsigned round = 0; round < SIZE_ROUNDS; round++) {
        uint8_t frames[ANSWER_CLASSES][SIZE_FRAME_BYTES];
        size_t lengths[ANSWER_CLASSES];
        uint8_t type = round % 2 == 0 ? WIRE_LOOKUP : WIRE_LOOKUP_RECORDS;
        uint16_t count = round % 4 < 2 ? 1 : SIZE_BATCH;
        for (unsigned class = 0; class < ANSWER_CLASSES; class ++)
            lengths[class] = fetch_frame(world, fd, type, class, round, count, frames[class]);
        hidden += differing(frames[ANSWER_HIDDEN], lengths[ANSWER_HIDDEN], frames[ANSWER_MISS],
                            lengths[ANSWER_MISS]);
        hits += differing(frames[ANSWER_HIT], WIRE_REPLY_HEADER_BYTES, frames[ANSWER_MISS],
                          WIRE_REPLY_HEADER_BYTES);
        hits += lengths[ANSWER_HIT] != lengths[ANSWER_MISS];
    }
    answer_print("frames", "hidden_miss", hidden);
    answer_print("frames", "hit_miss", hits);
    /* Whatever the size of the run: this is no matter of noise. */
    bench_assert(hidden == 0 && hits == 0, "replies to hits, misses or hidden accounts differ");
}

/* --- how long they take --- */

struct trips {
    const struct answer_world *world;
    const uint8_t *order;
    uint32_t *times[ANSWER_CLASSES];
    uint64_t statuses[ANSWER_CLASSES]; /* how many of each were answered REGISTERED */
};

/* Asks about one number after the other, the class of each by chance. Whatever depends on the class comes after the
 * clock was read, and has no branch. */
static void make_trips(struct trips *trips, int fd, uint64_t count)
{
    uint8_t request[WIRE_REQUEST_HEADER_BYTES + WIRE_NUMBER_BYTES];
    uint8_t reply[REPLY_BYTES];
    uint64_t done[ANSWER_CLASSES] = {0};
    for (uint64_t i = 0; i < count * ANSWER_CLASSES; i++) {
        uint8_t class = trips->order[i];
        uint64_t at = done[class]++;
        wire_encode_numbers(request, WIRE_LOOKUP, (uint32_t)i, NULL, &trips->world->asked[class][at], 1);
        uint64_t started = bench_now_ns();
        ask(fd, request, sizeof request, reply, sizeof reply);
        uint64_t time = bench_now_ns() - started;
        trips->times[class][at] = time < UINT32_MAX ? (uint32_t)time : UINT32_MAX;
        trips->statuses[class] += reply[WIRE_REPLY_HEADER_BYTES] == WIRE_REGISTERED;
        bench_assert(reply[5] == WIRE_OK && reply[WIRE_REPLY_HEADER_BYTES] <= WIRE_REGISTERED,
                     "a lookup was not answered");
    }
    bench_assert(trips->statuses[ANSWER_HIT] == count && trips->statuses[ANSWER_MISS] == 0 &&
                     trips->statuses[ANSWER_HIDDEN] == 0,
                 "a lookup gave a wrong answer");
}

static void measure_trips(const struct answer_world *world, int fd)
{
    uint64_t random = bench_now_ns();
    uint8_t *order = answer_order(world->count, &random);
    struct trips trips = {.world = world, .order = order};
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++) {
        trips.times[class] = malloc(world->count * sizeof *trips.times[class]);
        bench_assert(trips.times[class] != NULL, "out of memory");
    }
    make_trips(&trips, fd, world->count);
    answer_compare("wire", trips.times, world->count, 1);
    for (unsigned class = 0; class < ANSWER_CLASSES; class ++)
        free(trips.times[class]);
    free(order);
}

void answer_wire(const struct answer_world *world, const char *server)
{
    struct client *client = connect_to(server);
    register_all(world, client);
    struct stream stream = client_detach(client);
    measure_trips(world, stream.fd);
    compare_frames(world, stream.fd); /* asks about some numbers again, so it comes after */
    stream_close(&stream);
}
