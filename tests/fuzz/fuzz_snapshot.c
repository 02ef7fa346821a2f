/* Fuzz target: any bytes as a snapshot. It is read or refused with a reason, alike by all who read snapshots; and a directory that
 * was loaded from one stands lookups, whatever its images hold: where the check of each shard is content, each record is found.
 *
 * Input: 1 byte: bit 0 the header is put right and all checksums, so that what lies behind them is reached, bit 1 so is the
 * length of the images; bit 2 it is loaded into a directory of the other kind, with accounts or without; bit 3 it is loaded also
 * if it could not be read, which takes most of the time; then the file. */
#include <stddef.h>
#include <string.h>
#include <sysexits.h>

#include <xxhash.h>

#include "fuzz_file.h"
#include "hashing/directory.h"
#include "persist/registrations/snapshot.h"
#include "persist/registrations/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define POSITION 1u
#define FILE_BYTES_MAX 8192u
#define SHARD_BITS_MAX 2u
#define LINE_BYTES 64u
#define HEADER_BYTES 128u
#define NUMBERS_MAX 1024u

/* As snapshot.h describes them. */
struct header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint32_t layout;
    uint16_t shard_bits;
    uint16_t accounts;
    uint64_t seed;
    uint64_t records;
    uint64_t position;
    uint64_t written_at_ms;
    uint64_t index_offset;
    uint64_t index_bytes;
    uint64_t index_checksum;
    uint64_t zero[5];
    uint64_t checksum;
};

_Static_assert(sizeof(struct header) == HEADER_BYTES, "the header has no padding");

static _Alignas(8) uint8_t file[FILE_BYTES_MAX];

/* --- a file that is right but for what is in it --- */

/* The lines of all images in equal parts. */
static void mend_lines(const struct header *header, struct table_image *images, unsigned shards)
{
    uint64_t lines = (header->index_offset - HEADER_BYTES) / LINE_BYTES / (1u + header->accounts) / shards;
    for (unsigned i = 0; i < shards; i++)
        images[i].line_count = lines;
}

static void mend_blocks(const struct header *header, const struct table_image *images, unsigned shards)
{
    uint8_t *checksums = file + header->index_offset + shards * sizeof *images;
    uint64_t offset = HEADER_BYTES;
    for (unsigned i = 0; i < shards; i++) {
        uint64_t bytes = images[i].line_count * LINE_BYTES * (1u + header->accounts);
        uint64_t checksum = bytes <= header->index_offset - offset ? XXH3_64bits(file + offset, bytes) : 0;
        memcpy(checksums + i * sizeof checksum, &checksum, sizeof checksum);
        offset += bytes <= header->index_offset - offset ? bytes : 0;
    }
}

static void mend(size_t size, bool lines_too)
{
    struct header header;
    struct table_image images[1u << SHARD_BITS_MAX];
    memcpy(&header, file, sizeof header);
    memcpy(header.magic, "NBRDSNAP", sizeof header.magic);
    header.version = 2;
    header.byte_order = 0x01020304;
    header.layout = TABLE_IMAGE_LAYOUT;
    header.shard_bits %= SHARD_BITS_MAX + 1;
    header.accounts &= 1;
    header.position = POSITION;
    unsigned shards = 1u << header.shard_bits;
    header.index_bytes = shards * (sizeof *images + sizeof(uint64_t));
    if (size < sizeof header + header.index_bytes)
        return;
    header.index_offset = size - header.index_bytes;
    memcpy(images, file + header.index_offset, shards * sizeof *images);
    if (lines_too) {
        mend_lines(&header, images, shards);
        header.records = 0;
        for (unsigned i = 0; i < shards; i++)
            header.records += images[i].records;
    }
    memcpy(file + header.index_offset, images, shards * sizeof *images);
    mend_blocks(&header, images, shards);
    header.index_checksum = XXH3_64bits(file + header.index_offset, header.index_bytes);
    header.checksum = XXH3_64bits(&header, offsetof(struct header, checksum));
    memcpy(file, &header, sizeof header);
}

/* --- what was read --- */

struct reading {
    struct record records[NUMBERS_MAX];
    size_t count;
};

static bool take_record(void *context, const struct record *record)
{
    struct reading *reading = context;
    fuzz_file_expect(reading->count < NUMBERS_MAX && record->number != 0);
    reading->records[reading->count++] = *record;
    return true;
}

/* Lookups of what is in it and of what is not end, and agree if each number is there once. */
static void check_lookups(struct directory *directory, const struct reading *reading, bool is_good)
{
    static uint64_t numbers[NUMBERS_MAX];
    static uint8_t answers[NUMBERS_MAX];
    static uint8_t answers_again[NUMBERS_MAX];
    static struct record records[NUMBERS_MAX];
    struct epoch_reader *reader = directory_join(directory);
    for (size_t i = 0; i < reading->count; i++)
        numbers[i] = reading->records[i].number + (i % 4 == 3);
    directory_lookup(directory, reader, numbers, reading->count, answers);
    directory_lookup_records(directory, reader, numbers, reading->count, answers_again, records);
    fuzz_file_expect(!is_good || memcmp(answers, answers_again, reading->count) == 0);
    directory_leave(directory, reader);
}

static void check_directory(struct directory *directory, const struct reading *reading)
{
    struct directory_stats stats;
    bool is_good = true;
    directory_stats(directory, &stats);
    for (unsigned shard = 0; shard < stats.shards; shard++)
        is_good = directory_check_shard(directory, shard) && is_good;
    check_lookups(directory, reading, is_good);
    if (!is_good)
        return;
    fuzz_file_expect(stats.records == reading->count);
    for (size_t i = 0; i < reading->count; i++) {
        struct record found;
        fuzz_file_expect(directory_read(directory, reading->records[i].number, &found) &&
                         found.account == reading->records[i].account &&
                         found.flags == reading->records[i].flags);
    }
    for (size_t i = 0; i < reading->count; i++)
        fuzz_file_expect(directory_deregister(directory, reading->records[i].number) == DIRECTORY_REMOVED);
}

static void check_fault(const struct fault *fault)
{
    fuzz_file_expect(fault->status != 0 && fault->text[0] != '\0' && strchr(fault->text, '\n') == NULL);
}

static void read_all(bool into_other_kind, bool always)
{
    static struct reading reading;
    struct snapshot_info info;
    struct snapshot_progress progress = {0};
    struct fault fault = {0};
    reading.count = 0;
    if (!snapshot_read_info(fuzz_file_folder, POSITION, &info, &fault)) {
        check_fault(&fault);
        fuzz_file_expect(!snapshot_visit(fuzz_file_folder, POSITION, take_record, &reading, &fault));
        return;
    }
    bool is_read = snapshot_visit(fuzz_file_folder, POSITION, take_record, &reading, &fault);
    fuzz_file_expect(is_read || fault.status == EX_DATAERR);
    if (!is_read && !always)
        return;
    bool accounts = info.shape.accounts != into_other_kind;
    struct directory *directory =
        store_load_snapshot(fuzz_file_folder, POSITION, accounts, 1, &progress, &fault);
    if (directory == NULL) {
        check_fault(&fault);
        fuzz_file_expect(!is_read || into_other_kind); /* that looks at each record */
        return;
    }
    fuzz_file_expect(is_read);
    if (!into_other_kind)
        check_directory(directory, &reading);
    directory_destroy(directory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (size == 0 || size - 1 > sizeof file)
        return -1;
    if (fd < 0) {
        char name[SNAPSHOT_NAME_BYTES];
        snapshot_name(POSITION, name);
        fuzz_file_make_folder();
        fd = fuzz_file_create(name);
    }
    memcpy(file, data + 1, size - 1);
    if ((data[0] & 1) != 0 && size - 1 >= HEADER_BYTES)
        mend(size - 1, (data[0] & 2) != 0);
    fuzz_file_fill(fd, file, size - 1);
    read_all((data[0] & 4) != 0, (data[0] & 8) != 0);
    return 0;
}
