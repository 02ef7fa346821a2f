/* Writes what is a valid input of the targets that read binary files, by the product's own functions, into DIR/TARGET: the
 * beginning of their corpora. (Text targets have theirs by hand; .../fuzz_session/examples is the conversation of
 * PROTOCOL.md.) After a long run
 * `fuzz_TARGET -set_cover_merge=1 NEW build/fuzz/tests/corpus/TARGET tests/fuzz/corpus/TARGET` picks what together reaches all
 * that was reached; of that, the thirty smallest files are committed, named by the beginning of their hash.
 *
 *     build/fuzz/tests/fuzz_seeds DIR */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hashing/directory.h"
#include "persist/registrations/journal_file.h"
#include "persist/registrations/snapshot.h"
#include "server/wire.h"

#define NUMBER UINT64_C(491510000000)

static const char *root;

/* Opens DIR/TARGET/NAME for writing. */
static FILE *begin(const char *target, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, target);
    (void)mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

static void seed(const char *target, const char *name, const char *mode, size_t mode_bytes, const void *bytes,
                 size_t length)
{
    FILE *file = begin(target, name);
    fwrite(mode, 1, mode_bytes, file);
    fwrite(bytes, 1, length, file);
    fclose(file);
}

/* --- snapshots --- */

static void seed_snapshot(unsigned shard_bits, bool accounts, const char *name)
{
    static uint8_t bytes[8192];
    char folder[] = "/tmp/numberd-seeds-XXXXXX";
    char path[128];
    char file_name[SNAPSHOT_NAME_BYTES];
    struct snapshot_info info;
    struct fault fault;
    struct directory *directory = directory_create(
        &(struct directory_options){.seed = 4, .shard_bits = shard_bits, .accounts = accounts});
    for (uint64_t i = 0; i < 40; i++)
        (void)directory_register(directory, &(struct record){NUMBER + i, i, (uint8_t)(i % 3)});
    if (mkdtemp(folder) == NULL ||
        !snapshot_write(folder, directory, 1, 1000, false, NULL, NULL, &info, &fault))
        exit(1);
    snapshot_name(1, file_name);
    snprintf(path, sizeof path, "%s/%s", folder, file_name);
    FILE *file = fopen(path, "r");
    seed("fuzz_snapshot", name, "\0", 1, bytes, fread(bytes, 1, sizeof bytes, file));
    fclose(file);
    (void)remove(path);
    (void)remove(folder);
    directory_destroy(directory);
}

/* --- a journal of three blocks, the last of them a mark --- */

static size_t put_block(uint8_t *bytes, uint64_t first, unsigned changes, uint64_t *chain)
{
    struct journal_block *block = (void *)bytes;
    *block = (struct journal_block){.first_position = first, .durable = first - 1, .previous = *chain};
    for (unsigned i = 0; i < changes; i++) {
        struct change change = {.kind = i % 3 == 2 ? CHANGE_REMOVE : CHANGE_SET,
                                .record = {.number = NUMBER + i, .account = i}};
        block->payload_bytes += (uint32_t)journal_encode(block->payload + block->payload_bytes, &change);
    }
    journal_seal_block(block);
    *chain = block->checksum;
    return sizeof *block + block->payload_bytes;
}

static void seed_journal(void)
{
    static _Alignas(8) uint8_t bytes[4096];
    struct journal_header header;
    journal_make_header(&header, 7, 6);
    memcpy(bytes, &header, sizeof header);
    uint64_t chain = header.checksum;
    size_t length = sizeof header;
    length += put_block(bytes + length, 7, 4, &chain);
    length += put_block(bytes + length, 11, 6, &chain);
    length += put_block(bytes + length, 17, 0, &chain);
    seed("fuzz_journal", "three_blocks", "\0", 1, bytes, length);
    seed("fuzz_journal", "preallocated", "\1", 1, bytes, length + 64);
    bytes[length - 60] ^= 1;
    seed("fuzz_journal", "damaged", "\0", 1, bytes, length);
}

/* --- frames --- */

static void seed_frames(void)
{
    static uint8_t bytes[1024];
    const uint64_t numbers[] = {NUMBER, NUMBER + 1};
    const struct wire_origin origin = {.requester = 42, .ip = {[10] = 0xff, [11] = 0xff, [12] = 203}};
    seed("fuzz_wire", "hello", "", 0, bytes, wire_encode_hello(bytes, 1, "secret", 6));
    seed("fuzz_wire", "lookup", "", 0, bytes, wire_encode_numbers(bytes, WIRE_LOOKUP, 2, NULL, numbers, 2));
    seed("fuzz_wire", "records", "", 0, bytes,
         wire_encode_numbers(bytes, WIRE_LOOKUP_RECORDS, 3, &origin, numbers, 2));
    seed("fuzz_wire", "deregister", "", 0, bytes,
         wire_encode_numbers(bytes, WIRE_DEREGISTER, 4, NULL, numbers, 1));
    seed("fuzz_wire", "ping", "", 0, bytes, wire_encode_plain(bytes, WIRE_PING, 5));
    memset(bytes, 0, sizeof bytes);
    seed("fuzz_wire", "register", "", 0, bytes, wire_encode_header(bytes, WIRE_REGISTER, 0, 6, 1));
    seed("fuzz_wire", "move", "", 0, bytes, wire_encode_header(bytes, WIRE_MOVE, 0, 7, 1));
    struct wire_reply reply = {.type = WIRE_LOOKUP | WIRE_REPLY_BIT, .count = 2, .body_bytes = 2};
    wire_encode_reply_header(bytes, &reply);
    seed("fuzz_wire", "reply", "", 0, bytes, WIRE_REPLY_HEADER_BYTES + reply.body_bytes);
    reply = (struct wire_reply){.type = WIRE_HELLO | WIRE_REPLY_BIT, .body_bytes = WIRE_HELLO_REPLY_BYTES};
    wire_encode_reply_header(bytes, &reply);
    wire_put_hello_reply(bytes + WIRE_REPLY_HEADER_BYTES, &(struct wire_hello_reply){1, 2, 3});
    seed("fuzz_wire", "hello_reply", "", 0, bytes, WIRE_REPLY_HEADER_BYTES + reply.body_bytes);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: fuzz_seeds DIR\n", stderr);
        return 64;
    }
    root = argv[1];
    seed_frames();
    seed_snapshot(0, false, "one_shard");
    seed_snapshot(0, true, "accounts");
    seed_snapshot(1, true, "two_shards");
    seed_journal();
    return 0;
}
