/* Fuzz target: a session fed with any bytes, whole and cut: short ones at every place, long ones before every byte and where the
 * input says. The replies must be well-formed, and all that comes of it the same however it is cut.
 *
 * Input: 1 byte: bit 0 the hello is still to come, bit 1 the registrations are being loaded, bit 2 the frames' headers are put
 * right, so that more of them are carried out, bit 3 where it is cut, requests are taken entry by entry, bits 4..7 roles that are missing; 2 and 2 bytes: two places to cut at; the
 * conversation. */
#include <stdlib.h>
#include <string.h>

#include "../conversation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD_BYTES 5u
/* At each of so many cuts a whole conversation is held. */
#define EVERY_CUT_MAX 48u
/* In mended frames: a few entries a frame, so that a short input has many frames. */
#define ENTRIES_MAX 3u

/* Gives each frame the size and the zeros that its type and count ask for; all else stays as the fuzzer made it. */
static void mend_frames(struct conversation *talk)
{
    size_t frame_bytes;
    for (size_t at = 0; talk->length - at >= WIRE_REQUEST_HEADER_BYTES; at += frame_bytes) {
        uint8_t *frame = talk->bytes + at;
        uint8_t type = frame[4] = frame[4] % (WIRE_MAP + 2);
        uint16_t count = wire_entry_bytes(type) == 0 ? 0 : (uint16_t)(1 + frame[6] % ENTRIES_MAX);
        frame[5] &= type == WIRE_LOOKUP || type == WIRE_LOOKUP_RECORDS ? WIRE_FLAG_ORIGIN : 0;
        frame_bytes = wire_request_bytes(type, frame[5], count);
        wire_put_u32(frame, (uint32_t)frame_bytes);
        wire_put_u16(frame + 6, count);
        wire_put_u32(frame + 12, 0);
        if (talk->length - at < frame_bytes)
            return;
        if (type == WIRE_HELLO)
            (void)wire_encode_hello(frame, wire_get_u32(frame + 8), NULL, 0);
    }
}

static void make_talk(const uint8_t *data, size_t size, struct conversation *talk)
{
    talk->greeted = (data[0] & 1) == 0;
    talk->is_loading = (data[0] & 2) != 0;
    talk->in_parts = (data[0] & 8) != 0;
    talk->roles = ROLES_ALL & ~(uint32_t)(data[0] >> 4);
    talk->length = size - HEAD_BYTES;
    memcpy(talk->bytes, data + HEAD_BYTES, talk->length);
    if ((data[0] & 4) != 0)
        mend_frames(talk);
}

static void check_replies(const struct buffer *replies)
{
    struct wire_reply reply;
    for (size_t at = 0; at < replies->length; at += reply.frame_bytes)
        if (wire_decode_reply(replies->bytes + at, replies->length - at, &reply) != WIRE_DONE)
            abort();
}

static void check_cut(struct conversation_world *world, const struct conversation *talk, const size_t *cuts,
                      size_t count, const struct conversation_outcome *whole)
{
    static struct conversation_outcome cut;
    conversation_hold(world, talk, cuts, count, &cut);
    if (!conversation_is_same(whole, &cut))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct conversation_world *world;
    static struct conversation talk;
    static struct conversation_outcome whole;
    static size_t everywhere[CONVERSATION_BYTES_MAX];
    if (size < HEAD_BYTES || size - HEAD_BYTES > sizeof talk.bytes)
        return -1;
    if (world == NULL) {
        world = conversation_world_create();
        for (size_t i = 0; i < CONVERSATION_BYTES_MAX; i++)
            everywhere[i] = i;
    }
    make_talk(data, size, &talk);
    conversation_hold(world, &talk, NULL, 0, &whole);
    check_replies(&whole.replies);
    check_cut(world, &talk, everywhere, talk.length, &whole);
    size_t cuts[2] = {wire_get_u16(data + 1) % (talk.length + 1), wire_get_u16(data + 3) % (talk.length + 1)};
    if (cuts[0] > cuts[1]) {
        size_t later = cuts[0];
        cuts[0] = cuts[1];
        cuts[1] = later;
    }
    check_cut(world, &talk, cuts, 2, &whole);
    if (talk.length <= EVERY_CUT_MAX)
        for (size_t cut = 1; cut < talk.length; cut++)
            check_cut(world, &talk, &cut, 1, &whole);
    return 0;
}
