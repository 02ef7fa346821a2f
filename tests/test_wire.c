/* server/wire and server/session: every prefix of a frame is incomplete, what is malformed is named, and a
 * conversation has the same replies however its bytes are split. */
#include <stdlib.h>
#include <string.h>

#include "journal_in_memory.h"
#include "ring/event.h"
#include "ring/ring.h"
#include "server/requests.h"
#include "server/wire.h"
#include "unit.h"

static enum wire_state decode(const uint8_t *bytes, size_t length, struct wire_request *request)
{
    /* In memory of exactly this size, so that a read beyond it is seen. */
    uint8_t *exact = malloc(length + (length == 0));
    memcpy(exact, bytes, length);
    enum wire_state state = wire_decode_request(exact, length, request);
    free(exact);
    return state;
}

static void expect_prefixes_incomplete(const uint8_t *bytes, uint32_t length)
{
    struct wire_request request;
    for (uint32_t cut = 0; cut < length; cut++)
        assert_int_equal(decode(bytes, cut, &request), WIRE_INCOMPLETE);
    assert_int_equal(wire_decode_request(bytes, length, &request), WIRE_DONE);
    assert_int_equal(request.frame_bytes, length);
}

/* Each kind of request comes back as it was encoded, and no prefix of it is taken for whole. */
static void test_requests_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[512];
    struct wire_request request;
    const uint64_t numbers[2] = {4915112345678, 1};
    const struct wire_origin origin = {.requester = 77, .ip = {1, 2, 3}};

    uint32_t length = wire_encode_hello(bytes, 9, "secret", 6);
    expect_prefixes_incomplete(bytes, length);
    assert_int_equal(wire_decode_request(bytes, length, &request), WIRE_DONE);
    assert_int_equal(request.token_bytes, 6);
    assert_memory_equal(request.token, "secret", 6);
    assert_int_equal(request.request_id, 9);

    length = wire_encode_numbers(bytes, WIRE_LOOKUP, 10, &origin, numbers, 2);
    expect_prefixes_incomplete(bytes, length);
    assert_int_equal(wire_decode_request(bytes, length, &request), WIRE_DONE);
    assert_int_equal(request.origin.requester, 77);
    assert_memory_equal(request.origin.ip, origin.ip, 16);
    assert_int_equal(request.count, 2);
    assert_int_equal(wire_get_u64(request.entries), numbers[0]);

    length = wire_encode_header(bytes, WIRE_REGISTER, 0, 11, 1);
    wire_put_register_entry(bytes + WIRE_REQUEST_HEADER_BYTES, numbers[0], UINT64_MAX, 255);
    expect_prefixes_incomplete(bytes, length);
    assert_int_equal(wire_decode_request(bytes, length, &request), WIRE_DONE);
    assert_int_equal(request.entries[16], 255);

    for (uint8_t type = WIRE_PING; type <= WIRE_GOODBYE; type++)
        expect_prefixes_incomplete(bytes, wire_encode_plain(bytes, type, type));
}

/* Each breach of the header's rules is malformed as soon as the header is there. */
static void test_malformed_headers(void **state)
{
    (void)state;
    static const struct {
        uint8_t header[16];
    } cases[] = {
        {{15, 0, 0, 0, WIRE_PING}},                           /* smaller than the header */
        {{0xff, 0xff, 0xff, 0xff, WIRE_LOOKUP, 0, 1}},        /* larger than any request */
        {{16, 0, 0, 0, WIRE_LOOKUP, 0, 0}},                   /* count 0 */
        {{24, 0, 0, 0, WIRE_LOOKUP, 0, 2}},                   /* too short for its count */
        {{25, 0, 0, 0, WIRE_LOOKUP, 0, 1}},                   /* too long for its count */
        {{24, 0, 0, 0, WIRE_LOOKUP, 4, 1}},                   /* an unknown flag */
        {{24, 0, 0, 0, WIRE_DEREGISTER, 1, 1}},               /* a flag of another type */
        {{16, 0, 0, 0, WIRE_PING, 0, 1}},                     /* a count where there are no entries */
        {{24, 0, 0, 0, WIRE_PING, 0, 0}},                     /* a body where there is none */
        {{24, 0, 0, 0, WIRE_LOOKUP, 0, 1, 0, 0, 0, 0, 0, 1}}, /* reserved bytes */
        {{27, 0, 0, 0, WIRE_HELLO}},                          /* shorter than a hello */
        {{0, 2, 0, 0, WIRE_HELLO}},                           /* longer than any hello */
    };
    struct wire_request request;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(decode(cases[i].header, 16, &request), WIRE_MALFORMED);
        assert_non_null(request.reason);
    }
}

/* Replies come back as encoded; lengths that a client could not hold are malformed. */
static void test_replies(void **state)
{
    (void)state;
    uint8_t bytes[64] = {0};
    struct wire_reply reply = {.type = WIRE_LOOKUP | WIRE_REPLY_BIT,
                               .count = 3,
                               .request_id = 5,
                               .quota_left = 6,
                               .retry_after_ms = 7,
                               .cache_seconds = 8,
                               .body_bytes = 3};
    struct wire_reply got;
    wire_encode_reply_header(bytes, &reply);
    for (size_t cut = 0; cut < 27; cut++)
        assert_int_equal(wire_decode_reply(bytes, cut, &got), WIRE_INCOMPLETE);
    assert_int_equal(wire_decode_reply(bytes, 27, &got), WIRE_DONE);
    assert_int_equal(got.request_id, 5);
    assert_int_equal(got.quota_left, 6);
    assert_int_equal(got.retry_after_ms, 7);
    assert_int_equal(got.cache_seconds, 8);
    assert_int_equal(got.body_bytes, 3);
    wire_put_u32(bytes, 28); /* a body that does not fit the count */
    assert_int_equal(wire_decode_reply(bytes, 28, &got), WIRE_MALFORMED);
    wire_put_u32(bytes, UINT32_MAX);
    assert_int_equal(wire_decode_reply(bytes, 27, &got), WIRE_MALFORMED);
}

/* --- sessions --- */

struct world {
    struct directory *directory;
    struct registrations registrations;
    struct journal_in_memory journal;
    struct ring *ring;
    atomic_bool gate;
    struct query_counts counts;
    struct recorder recorder;
    struct counters counters;
    struct service service;
};

static char *no_stats(void *context)
{
    (void)context;
    return strdup("{}");
}

static uint64_t no_snapshot(void *context)
{
    (void)context;
    return 3;
}

static void world_init(struct world *world)
{
    static const struct service_hooks hooks = {no_stats, no_snapshot, no_snapshot, NULL, NULL};
    memset(world, 0, sizeof *world);
    world->directory = directory_create(&(struct directory_options){.seed = 1, .accounts = true});
    struct registrations_journal journal = journal_in_memory(&world->journal);
    registrations_init(&world->registrations);
    registrations_open(&world->registrations, world->directory, &journal, 0);
    world->ring = ring_create(4 << 20);
    world->recorder = (struct recorder){.ring = world->ring, .gate = &world->gate, .counts = &world->counts};
    world->service = (struct service){.directory = world->directory,
                                      .reader = directory_join(world->directory),
                                      .registrations = &world->registrations,
                                      .recorder = &world->recorder,
                                      .counters = &world->counters,
                                      .hooks = &hooks,
                                      .scratch = calloc(1, sizeof *world->service.scratch),
                                      .part_numbers = WIRE_COUNT_MAX,
                                      .part_changes = WIRE_COUNT_MAX,
                                      .cache_seconds = 60};
}

static void world_deinit(struct world *world)
{
    directory_leave(world->directory, world->service.reader);
    free(world->service.scratch);
    ring_destroy(world->ring);
    registrations_deinit(&world->registrations);
    directory_destroy(world->directory);
}

/* A conversation of all types with a random number of random entries, ending with garbage or a goodbye. */
static size_t make_conversation(uint8_t *bytes, uint64_t *random)
{
    size_t length = wire_encode_hello(bytes, 1, NULL, 0);
    uint32_t requests = (uint32_t)(unit_random(random) % 20);
    for (uint32_t id = 2; id < requests + 2; id++) {
        uint8_t type = (uint8_t)(WIRE_LOOKUP + unit_random(random) % (WIRE_SNAPSHOT - WIRE_LOOKUP + 1));
        uint16_t count = wire_entry_bytes(type) == 0 ? 0 : (uint16_t)(1 + unit_random(random) % 9);
        uint32_t frame_bytes = wire_encode_header(bytes + length, type, 0, id, count);
        for (uint32_t i = WIRE_REQUEST_HEADER_BYTES; i + 8 <= frame_bytes; i += 8)
            wire_put_u64(bytes + length + i, UINT64_C(491510000000) + unit_random(random) % 12);
        length += frame_bytes;
    }
    if (unit_random(random) % 2 == 0)
        return length + wire_encode_plain(bytes + length, WIRE_GOODBYE, requests + 2);
    for (size_t end = length + unit_random(random) % 40; length < end; length++)
        bytes[length] = (uint8_t)unit_random(random);
    return length;
}

/* Feeds the bytes in random pieces, as a worker would. */
static void converse(const uint8_t *bytes, size_t length, size_t piece_max, uint64_t *random,
                     struct buffer *out)
{
    struct world world;
    struct session session;
    world_init(&world);
    session_init(&session, (const uint8_t[16]){0}, NULL);
    size_t taken = 0;
    for (size_t fed = 0; fed < length && !session.closing;) {
        fed += 1 + unit_random(random) % piece_max;
        fed = fed < length ? fed : length;
        uint8_t *exact = malloc(fed - taken);
        memcpy(exact, bytes + taken, fed - taken);
        size_t now = 0;
        if (piece_max < 20) /* else without */
            session_gather(&session, &world.service, exact, fed - taken);
        ahead_look(&world.service.scratch->ahead, world.directory, world.service.reader);
        do
            now += session_consume(&session, &world.service, exact + now, fed - taken - now,
                                   SESSION_OUTPUT_CAP, out);
        while (session_is_busy(&session));
        taken += now;
        ahead_clear(&world.service.scratch->ahead);
        free(exact);
    }
    session_deinit(&session, &world.service);
    world_deinit(&world);
}

/* Splitting never changes the answers. */
static void test_splitting_changes_nothing(void **state)
{
    (void)state;
    uint64_t random = 5;
    static uint8_t bytes[1 << 16];
    for (int round = 0; round < 200; round++) {
        struct buffer whole = {0};
        struct buffer split = {0};
        size_t length = make_conversation(bytes, &random);
        converse(bytes, length, SIZE_MAX / 4, &random, &whole);
        converse(bytes, length, 1 + (size_t)round % 50, &random, &split);
        assert_int_equal(whole.length, split.length);
        assert_memory_equal(whole.bytes, split.bytes, whole.length);
        buffer_deinit(&whole);
        buffer_deinit(&split);
    }
}

/* Every looked-up number leaves one event, in blocks; a full ring drops or refuses, and says so. */
static void test_query_events(void **state)
{
    (void)state;
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL, .principal = 12}};
    struct buffer out = {0};
    uint16_t count = 10000;
    world_init(&world);
    uint64_t *numbers = malloc(count * sizeof *numbers);
    uint8_t *frame = malloc(wire_request_bytes(WIRE_LOOKUP, 0, count));
    for (uint16_t i = 0; i < count; i++)
        numbers[i] = UINT64_C(491510000000) + i;
    uint32_t length = wire_encode_numbers(frame, WIRE_LOOKUP, 1, NULL, numbers, count);
    assert_int_equal(session_consume(&session, &world.service, frame, length, SESSION_OUTPUT_CAP, &out),
                     length);
    size_t bytes;
    uint32_t events = 0;
    for (const struct query_block *block; (block = ring_next(world.ring, &bytes)) != NULL;) {
        assert_int_equal(block->requester, 12);
        for (uint32_t i = 0; i < block->count; i++, events++)
            assert_int_equal(query_event_number(block->events[i]), numbers[events]);
    }
    assert_int_equal(events, count);
    assert_int_equal(world.counts.logged, count);

    atomic_store(&world.gate, true);
    out.length = 0;
    session_consume(&session, &world.service, frame, length, SESSION_OUTPUT_CAP, &out);
    assert_int_equal(world.counts.dropped, count);
    assert_int_equal(out.bytes[5], WIRE_OK);
    world.recorder.refuse_when_full = true;
    out.length = 0;
    session_consume(&session, &world.service, frame, length, SESSION_OUTPUT_CAP, &out);
    assert_int_equal(world.counts.dropped, count);
    assert_int_equal(out.bytes[5], WIRE_UNAVAILABLE);
    assert_true(wire_get_u32(out.bytes + 16) > 0);
    free(frame);
    free(numbers);
    buffer_deinit(&out);
    world_deinit(&world);
}

/* A block of the ring: so many events, the first of this number, by this requester. */
static void check_block(struct world *world, uint32_t count, uint64_t first, uint64_t requester)
{
    size_t bytes;
    const struct query_block *block = ring_next(world->ring, &bytes);
    assert_non_null(block);
    assert_int_equal(block->count, count);
    assert_int_equal(block->requester, requester);
    assert_int_equal(bytes, query_block_bytes(count, false));
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(query_event_number(block->events[i]), first + i);
}

/* Short requests that are answered together share a block, as far as they have one origin; a long one has its own. */
static void test_joined_events(void **state)
{
    (void)state;
    static const struct wire_origin other = {.requester = 7};
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL, .principal = 12}};
    struct buffer out = {0};
    uint64_t numbers[1200];
    uint8_t frames[16384];
    size_t length = 0;
    uint32_t used = 0;
    world_init(&world);
    for (uint32_t i = 0; i < 1200; i++)
        numbers[i] = UINT64_C(491510000000) + i;
    static const struct {
        uint16_t count;
        bool is_for_other;
    } requests[] = {{1, false},  {1, false},  {16, false}, {1, true},   {64, true},  {2, false},
                    {65, false}, {64, false}, {64, false}, {64, false}, {64, false}, {1, false}};
    for (uint32_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        length +=
            wire_encode_numbers(frames + length, WIRE_LOOKUP, i + 1, requests[i].is_for_other ? &other : NULL,
                                numbers + used, requests[i].count);
        used += requests[i].count;
    }
    assert_int_equal(session_consume(&session, &world.service, frames, length, SESSION_OUTPUT_CAP, &out),
                     length);
    static const struct {
        uint32_t count;
        uint64_t requester;
    } blocks[] = {{18, 12}, {65, 7}, {2, 12}, {65, 12}, {256, 12}, {1, 12}};
    used = 0;
    for (uint32_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        check_block(&world, blocks[i].count, numbers[used], blocks[i].requester);
        used += blocks[i].count;
    }
    size_t bytes;
    assert_null(ring_next(world.ring, &bytes));
    assert_int_equal(world.counts.logged, used);
    /* What is not logged at all leaves no empty block. */
    ring_release(world.ring);
    world.recorder.hits_only = true;
    session_consume(&session, &world.service, frames, length, SESSION_OUTPUT_CAP, &out);
    assert_null(ring_next(world.ring, &bytes));
    buffer_deinit(&out);
    world_deinit(&world);
}

static uint32_t put_register(uint8_t *bytes, uint32_t id, uint64_t number)
{
    uint32_t length = wire_encode_header(bytes, WIRE_REGISTER, 0, id, 1);
    wire_put_register_entry(bytes + WIRE_REQUEST_HEADER_BYTES, number, 5, 0);
    return length;
}

/* The next reply in the buffer, whose code and count are as given. */
static size_t check_reply(const struct buffer *out, size_t at, uint8_t type, uint8_t code, uint16_t count)
{
    struct wire_reply reply;
    assert_int_equal(wire_decode_reply(out->bytes + at, out->length - at, &reply), WIRE_DONE);
    assert_int_equal(reply.type, type | WIRE_REPLY_BIT);
    assert_int_equal(reply.code, code);
    assert_int_equal(reply.count, count);
    return at + reply.frame_bytes;
}

/* Changes say which position has to be acknowledged before their replies go; if the journal fails instead, they become
 * READ_ONLY and the replies between them stay. */
static void test_held_replies(void **state)
{
    (void)state;
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL}};
    struct buffer out = {0};
    uint8_t bytes[256];
    uint32_t length = put_register(bytes, 1, UINT64_C(491510000001));
    length += wire_encode_plain(bytes + length, WIRE_PING, 2);
    length += put_register(bytes + length, 3, UINT64_C(491510000002));
    world_init(&world);
    assert_int_equal(session_consume(&session, &world.service, bytes, length, SESSION_OUTPUT_CAP, &out),
                     length);
    assert_int_equal(world.service.hold_position, 2);
    assert_int_equal(world.journal.last.record.number, 491510000002);
    size_t at = check_reply(&out, 0, WIRE_REGISTER, WIRE_OK, 1);
    size_t second = at;
    at = check_reply(&out, at, WIRE_PING, WIRE_OK, 0);
    check_reply(&out, at, WIRE_REGISTER, WIRE_OK, 1);
    session_retract(&out, second); /* the first one had gone already */
    at = check_reply(&out, 0, WIRE_REGISTER, WIRE_OK, 1);
    at = check_reply(&out, at, WIRE_PING, WIRE_OK, 0);
    assert_int_equal(check_reply(&out, at, WIRE_REGISTER, WIRE_READ_ONLY, 0), out.length);
    buffer_deinit(&out);
    world_deinit(&world);
}

/* With a failed journal a change is READ_ONLY and not carried out; without memory for the journal it is refused. */
static void test_no_journal(void **state)
{
    (void)state;
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL}};
    struct buffer out = {0};
    uint8_t bytes[64];
    uint32_t length = put_register(bytes, 1, UINT64_C(491510000001));
    struct record record;
    world_init(&world);
    world.journal.failed = true;
    session_consume(&session, &world.service, bytes, length, SESSION_OUTPUT_CAP, &out);
    assert_int_equal(check_reply(&out, 0, WIRE_REGISTER, WIRE_READ_ONLY, 0), out.length);
    assert_false(directory_read(world.directory, UINT64_C(491510000001), &record));
    world.journal.failed = false;
    world.journal.short_of_memory = true;
    out.length = 0;
    session_consume(&session, &world.service, bytes, length, SESSION_OUTPUT_CAP, &out);
    check_reply(&out, 0, WIRE_REGISTER, WIRE_OK, 1);
    assert_int_equal(out.bytes[WIRE_REPLY_HEADER_BYTES], WIRE_REFUSED);
    assert_true(wire_get_u32(out.bytes + 16) > 0);
    assert_false(directory_read(world.directory, UINT64_C(491510000001), &record));
    assert_int_equal(world.journal.position, 0);
    buffer_deinit(&out);
    world_deinit(&world);
}

/* One turn with all of the frame. */
static size_t take_a_turn(struct world *world, struct session *session, const uint8_t *frame, uint32_t length,
                          struct buffer *out)
{
    return session_consume(session, &world->service, frame, length, SESSION_OUTPUT_CAP, out);
}

/* A lookup of ten numbers, four a turn: one reply at the end, all logged; UNAVAILABLE when the log is full. */
static void test_long_lookup(void **state)
{
    (void)state;
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL}};
    struct buffer out = {0};
    uint64_t numbers[10];
    uint8_t frame[256];
    world_init(&world);
    world.service.part_numbers = 4;
    world.recorder.refuse_when_full = true;
    for (uint64_t i = 0; i < 10; i++) {
        numbers[i] = UINT64_C(491510000000) + i;
        if (i % 3 == 0)
            directory_register(world.directory, &(struct record){.number = numbers[i]});
    }
    uint32_t length = wire_encode_numbers(frame, WIRE_LOOKUP, 1, NULL, numbers, 10);
    for (uint64_t logged = 4; logged <= 8; logged += 4) {
        assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
        assert_true(session_is_busy(&session));
        assert_int_equal(out.length, 0);
        assert_int_equal(world.counts.logged, logged);
    }
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_false(session_is_busy(&session));
    assert_int_equal(check_reply(&out, 0, WIRE_LOOKUP, WIRE_OK, 10), out.length);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(out.bytes[WIRE_REPLY_HEADER_BYTES + i], i % 3 == 0);
    assert_int_equal(world.counts.logged, 10);
    assert_int_equal(world.counters.requests[WIRE_LOOKUP], 1);

    out.length = 0;
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
    /* The gate closes: what was begun is carried out, what comes next is not begun. */
    atomic_store(&world.gate, true);
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_int_equal(check_reply(&out, 0, WIRE_LOOKUP, WIRE_OK, 10), out.length);
    assert_int_equal(world.counts.logged, 20);
    out.length = 0;
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_int_equal(check_reply(&out, 0, WIRE_LOOKUP, WIRE_UNAVAILABLE, 0), out.length);
    assert_int_equal(world.counts.logged, 20);

    /* The ring is full: then even that is not possible. */
    out.length = 0;
    atomic_store(&world.gate, false);
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
    while (ring_reserve(world.ring, 4096) != NULL)
        ring_commit(world.ring);
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_int_equal(check_reply(&out, 0, WIRE_LOOKUP, WIRE_UNAVAILABLE, 0), out.length);
    size_t bytes;
    while (ring_next(world.ring, &bytes) != NULL)
        ;
    ring_release(world.ring);
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
    session_deinit(&session, &world.service); /* it has closed: nothing leaks */
    buffer_deinit(&out);
    world_deinit(&world);
}

/* Ten registrations, four a turn: the reply waits for the last one; READ_ONLY as a whole when the journal fails half-way. */
static void test_long_update(void **state)
{
    (void)state;
    struct world world;
    struct session session = {.greeted = true, .grant = {.roles = ROLES_ALL}};
    struct buffer out = {0};
    uint8_t frame[256];
    uint32_t length = wire_encode_header(frame, WIRE_REGISTER, 0, 1, 10);
    for (uint64_t i = 0; i < 10; i++)
        wire_put_register_entry(frame + WIRE_REQUEST_HEADER_BYTES + i * WIRE_REGISTER_BYTES,
                                UINT64_C(491510000000) + i, i, 0);
    world_init(&world);
    world.service.part_changes = 4;
    for (uint64_t position = 4; position <= 8; position += 4) {
        assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
        assert_int_equal(world.journal.position, position);
        assert_int_equal(world.service.hold_position, 0);
        assert_int_equal(out.length, 0);
    }
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_int_equal(check_reply(&out, 0, WIRE_REGISTER, WIRE_OK, 10), out.length);
    assert_int_equal(world.service.hold_position, 10);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(out.bytes[WIRE_REPLY_HEADER_BYTES + i], WIRE_ADDED);

    /* Behind another change that waits for the journal it is not even begun. */
    uint8_t both[320];
    out.length = 0;
    world.service.hold_position = 0;
    uint32_t first = put_register(both, 2, UINT64_C(491510000077));
    memcpy(both + first, frame, length);
    assert_int_equal(take_a_turn(&world, &session, both, first + length, &out), first);
    assert_true(session_is_busy(&session) && session.work == NULL);
    assert_int_equal(world.service.hold_position, 11);
    world.service.hold_position = 0;

    out.length = 0;
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), 0);
    world.journal.failed = true;
    assert_int_equal(take_a_turn(&world, &session, frame, length, &out), length);
    assert_int_equal(check_reply(&out, 0, WIRE_REGISTER, WIRE_READ_ONLY, 0), out.length);
    assert_false(session_is_busy(&session));
    buffer_deinit(&out);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_replies),
        cmocka_unit_test(test_long_lookup),
        cmocka_unit_test(test_long_update),
        cmocka_unit_test(test_no_journal),
        cmocka_unit_test(test_requests_round_trip),
        cmocka_unit_test(test_malformed_headers),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_splitting_changes_nothing),
        cmocka_unit_test(test_query_events),
        cmocka_unit_test(test_joined_events),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
