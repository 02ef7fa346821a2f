/* server/session: a conversation with every type of frame comes to the same however its bytes are split: cut at each place, at
 * each two places, and before each byte. */
#include <stdlib.h>
#include <string.h>

#include "conversation.h"
#include "unit.h"

#define NUMBER UINT64_C(491510000000)

static void put_numbers(struct conversation *talk, uint8_t type, const struct wire_origin *origin)
{
    const uint64_t numbers[] = {NUMBER, UINT64_C(1) << 60};
    talk->length +=
        wire_encode_numbers(talk->bytes + talk->length, type, (uint32_t)talk->length, origin, numbers, 2);
}

static void put_plain(struct conversation *talk, uint8_t type)
{
    talk->length += wire_encode_plain(talk->bytes + talk->length, type, (uint32_t)talk->length);
}

static void put_register(struct conversation *talk, uint64_t number)
{
    uint8_t *frame = talk->bytes + talk->length;
    talk->length += wire_encode_header(frame, WIRE_REGISTER, 0, (uint32_t)talk->length, 1);
    wire_put_register_entry(frame + WIRE_REQUEST_HEADER_BYTES, number, 77, 0);
}

static void put_move(struct conversation *talk)
{
    uint8_t *frame = talk->bytes + talk->length;
    talk->length += wire_encode_header(frame, WIRE_MOVE, 0, (uint32_t)talk->length, 1);
    wire_put_u64(frame + WIRE_REQUEST_HEADER_BYTES, NUMBER);
    wire_put_u64(frame + WIRE_REQUEST_HEADER_BYTES + 8, NUMBER + 1);
}

/* Every type, an unknown one, and bytes behind the goodbye, which nobody looks at. */
static void make_talk(struct conversation *talk)
{
    const struct wire_origin origin = {.requester = 42, .ip = {[10] = 0xff, [11] = 0xff, [12] = 203}};
    talk->length = wire_encode_hello(talk->bytes, 1, "secret", 6);
    put_numbers(talk, WIRE_LOOKUP, NULL);
    put_register(talk, NUMBER);
    put_numbers(talk, WIRE_LOOKUP_RECORDS, &origin);
    put_move(talk);
    put_numbers(talk, WIRE_LOOKUP, &origin);
    put_plain(talk, WIRE_PING);
    put_plain(talk, 0x7f);
    put_plain(talk, WIRE_STATS);
    put_plain(talk, WIRE_SNAPSHOT);
    put_plain(talk, WIRE_REPLACE_ALL);
    put_plain(talk, WIRE_MAP);
    put_numbers(talk, WIRE_DEREGISTER, NULL);
    put_plain(talk, WIRE_GOODBYE);
    put_plain(talk, WIRE_PING);
}

static void check_cuts(struct conversation_world *world, const struct conversation *talk, const size_t *cuts,
                       size_t count, const struct conversation_outcome *whole)
{
    static struct conversation_outcome outcome; /* its buffer is used again and again */
    conversation_hold(world, talk, cuts, count, &outcome);
    assert_true(conversation_is_same(whole, &outcome));
}

static void check_each_cut(struct conversation_world *world, const struct conversation *talk, bool pairs_too)
{
    size_t everywhere[CONVERSATION_BYTES_MAX];
    struct conversation_outcome whole = {0};
    conversation_hold(world, talk, NULL, 0, &whole);
    for (size_t cut = 0; cut <= talk->length; cut++) {
        everywhere[cut] = cut;
        check_cuts(world, talk, &cut, 1, &whole);
        for (size_t second = cut; pairs_too && second <= talk->length; second++)
            check_cuts(world, talk, (const size_t[]){cut, second}, 2, &whole);
    }
    check_cuts(world, talk, everywhere, talk->length, &whole);
    buffer_deinit(&whole.replies);
}

/* All requests of the conversation are answered, and each as it should be when nothing is split. */
static void test_whole(void **state)
{
    (void)state;
    static const uint8_t codes[] = {WIRE_OK,           WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK,
                                    WIRE_UNKNOWN_TYPE, WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK, WIRE_OK};
    struct conversation_world *world = conversation_world_create();
    struct conversation_outcome whole = {0};
    static struct conversation talk;
    struct wire_reply reply;
    size_t at = 0;
    make_talk(&talk);
    conversation_hold(world, &talk, NULL, 0, &whole);
    for (size_t i = 0; i < sizeof codes; i++, at += reply.frame_bytes) {
        assert_int_equal(wire_decode_reply(whole.replies.bytes + at, whole.replies.length - at, &reply),
                         WIRE_DONE);
        assert_int_equal(reply.code, codes[i]);
    }
    assert_int_equal(at, whole.replies.length);
    assert_int_equal(whole.changes, 3); /* the move is two; the deregistered number had moved away */
    assert_int_equal(whole.logged, 6);
    assert_true(whole.closing);
    buffer_deinit(&whole.replies);
    conversation_world_destroy(world);
}

/* Cut at each place and at each two. */
static void test_every_pair_of_cuts(void **state)
{
    (void)state;
    struct conversation_world *world = conversation_world_create();
    static struct conversation talk = {.roles = ROLES_ALL};
    make_talk(&talk);
    check_each_cut(world, &talk, true);
    conversation_world_destroy(world);
}

/* The same where requests are taken entry by entry: all replies are as those to whole ones. */
static void test_every_cut_in_parts(void **state)
{
    (void)state;
    struct conversation_world *world = conversation_world_create();
    static struct conversation talk = {.roles = ROLES_ALL, .in_parts = true};
    make_talk(&talk);
    check_each_cut(world, &talk, false);
    conversation_world_destroy(world);
}

/* Conversations that end badly, or in which little is allowed: one byte changed, for each byte of the conversation. */
static void test_every_cut_of_damaged_ones(void **state)
{
    (void)state;
    struct conversation_world *world = conversation_world_create();
    static struct conversation talk;
    make_talk(&talk);
    for (size_t at = 0; at < talk.length; at++) {
        talk.greeted = at % 3 == 0;
        talk.roles = at % 2 == 0 ? ROLES_ALL : ROLE_LOOKUP;
        talk.is_loading = at % 5 == 0;
        talk.bytes[at] ^= 0x05;
        talk.in_parts = at % 7 == 0;
        check_each_cut(world, &talk, false);
        talk.bytes[at] ^= 0x05;
    }
    conversation_world_destroy(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_every_pair_of_cuts),
        cmocka_unit_test(test_every_cut_in_parts),
        cmocka_unit_test(test_every_cut_of_damaged_ones),
    };
    return cmocka_run_group_tests_name("split", tests, NULL, NULL);
}
