/* The snapshot file; format in snapshot.h. */
#include "persist/registrations/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include <xxhash.h>

#include "hashing/phone.h"
#include "persist/durable.h"

#define NAME "registrations.snapshot"
#define MAGIC "NBRDSNAP"
#define VERSION 1u
#define BYTE_ORDER_MARK 0x01020304u
#define BLOCK_ENTRIES 4096u
#define FLAGS_SHIFT 56
#define NUMBER_MASK ((UINT64_C(1) << PHONE_KEY_BITS) - 1)

struct header {
    char magic[8];
    uint32_t version;
    uint32_t byte_order;
    uint64_t records;
    uint64_t position;
    uint64_t written_at_ms;
    uint64_t zero[2];
    uint64_t checksum;
};

struct entry {
    uint64_t word;
    uint64_t account;
};

struct block {
    uint32_t count;
    uint32_t number;
    uint64_t checksum;
    struct entry entries[BLOCK_ENTRIES];
};

static_assert(sizeof(struct header) == 64, "the header has no padding");
static_assert(offsetof(struct block, entries) == 16, "the block's header has no padding");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the file is in the host's order, and little-endian");

/* Sequence: count and block number, then the entries; the checksum field between them is left out. */
static uint64_t block_checksum(const struct block *block)
{
    XXH64_hash_t head = XXH3_64bits(block, 8);
    return XXH3_64bits_withSeed(block->entries, block->count * sizeof block->entries[0], head);
}

/* --- writing --- */

struct block_writer {
    FILE *stream;
    struct block *block;
    uint64_t records;
};

static void flush_block(struct block_writer *writer)
{
    struct block *block = writer->block;
    if (block->count == 0)
        return;
    block->checksum = block_checksum(block);
    /* An error stays in the stream until the commit looks at it. */
    fwrite(block, offsetof(struct block, entries) + block->count * sizeof block->entries[0], 1,
           writer->stream);
    writer->records += block->count;
    block->count = 0;
    block->number++;
}

static void write_records(struct block_writer *writer, const struct record *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        writer->block->entries[writer->block->count++] =
            (struct entry){records[i].number | (uint64_t)records[i].flags << FLAGS_SHIFT, records[i].account};
        if (writer->block->count == BLOCK_ENTRIES)
            flush_block(writer);
    }
}

static bool write_shards(struct block_writer *writer, struct directory *directory, struct fault *fault)
{
    struct directory_stats stats;
    directory_stats(directory, &stats);
    struct record *records = NULL;
    size_t capacity = 0;
    for (unsigned shard = 0; shard < stats.shards; shard++) {
        size_t count;
        while ((count = directory_copy_shard(directory, shard, records, capacity)) > capacity) {
            free(records);
            capacity = count + count / 16;
            records = malloc(capacity * sizeof *records);
            if (records == NULL)
                return fault_set(fault, EX_OSERR, "out of memory for the snapshot (%zu records of one shard)",
                                 capacity);
        }
        write_records(writer, records, count);
    }
    free(records);
    flush_block(writer);
    return true;
}

static void write_header(FILE *stream, const struct snapshot_info *info)
{
    struct header header = {.version = VERSION,
                            .byte_order = BYTE_ORDER_MARK,
                            .records = info->records,
                            .position = info->position,
                            .written_at_ms = info->written_at_ms};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    header.checksum = XXH3_64bits(&header, offsetof(struct header, checksum));
    rewind(stream);
    fwrite(&header, sizeof header, 1, stream);
}

bool snapshot_write(const char *folder, struct directory *directory, uint64_t position, uint64_t now_ms,
                    struct snapshot_info *info, struct fault *fault)
{
    struct durable_file file;
    struct block_writer writer = {.block = calloc(1, sizeof *writer.block)};
    if (writer.block == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the snapshot");
    if (!durable_begin(&file, folder, NAME, fault)) {
        free(writer.block);
        return false;
    }
    writer.stream = file.stream;
    /* The header's place is kept; it is written last, when the count is known. */
    write_header(file.stream, &(struct snapshot_info){0});
    bool written = write_shards(&writer, directory, fault);
    free(writer.block);
    if (!written) {
        durable_abort(&file);
        return false;
    }
    *info = (struct snapshot_info){.records = writer.records, .position = position, .written_at_ms = now_ms};
    /* rewind() clears the stream's error, so a failed write has to be seen before it. */
    if (fflush(file.stream) != 0 || ferror(file.stream)) {
        fault_set(fault, EX_IOERR, "cannot write the snapshot in %s: %s; free space, then try again", folder,
                  strerror(errno));
        durable_abort(&file);
        return false;
    }
    write_header(file.stream, info);
    return durable_commit(&file, fault);
}

/* --- reading --- */

static bool damaged(struct fault *fault, const char *folder, const char *what)
{
    return fault_set(fault, EX_DATAERR,
                     "%s/%s is damaged (%s); restore it from a backup, or move it away to start empty",
                     folder, NAME, what);
}

static FILE *open_snapshot(const char *folder)
{
    char path[PATH_MAX];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, NAME) >= sizeof path)
        return NULL;
    return fopen(path, "re");
}

bool snapshot_exists(const char *folder)
{
    char path[PATH_MAX];
    struct stat status;
    /* Only "no such file" means none: what cannot be looked at must not be taken for empty. */
    return (size_t)snprintf(path, sizeof path, "%s/%s", folder, NAME) < sizeof path &&
           (lstat(path, &status) == 0 || errno != ENOENT);
}

static bool read_header(FILE *stream, const char *folder, struct snapshot_info *info, struct fault *fault)
{
    struct header header;
    if (fread(&header, sizeof header, 1, stream) != 1 ||
        memcmp(header.magic, MAGIC, sizeof header.magic) != 0)
        return damaged(fault, folder, "no header");
    if (header.byte_order != BYTE_ORDER_MARK || header.version != VERSION)
        return fault_set(fault, EX_DATAERR,
                         "%s/%s has version %u or another byte order; this numberd reads version %u: use the "
                         "numberd that wrote it, or export there and import here",
                         folder, NAME, header.version, VERSION);
    if (header.checksum != XXH3_64bits(&header, offsetof(struct header, checksum)))
        return damaged(fault, folder, "header checksum");
    *info = (struct snapshot_info){header.records, header.position, header.written_at_ms};
    return true;
}

static bool cannot_open(const char *folder, struct fault *fault)
{
    return fault_set(fault, EX_NOINPUT, "cannot open %s/%s: %s", folder, NAME, strerror(errno));
}

bool snapshot_read_info(const char *folder, struct snapshot_info *info, struct fault *fault)
{
    FILE *stream = open_snapshot(folder);
    if (stream == NULL)
        return cannot_open(folder, fault);
    bool read = read_header(stream, folder, info, fault);
    fclose(stream);
    return read;
}

/* Reads block `number`, which may have at most `left` records. */
static bool read_block(FILE *stream, uint32_t number, uint64_t left, struct block *block)
{
    if (fread(block, offsetof(struct block, entries), 1, stream) != 1)
        return false;
    if (block->count == 0 || block->count > BLOCK_ENTRIES || block->count > left || block->number != number)
        return false;
    return fread(block->entries, sizeof block->entries[0], block->count, stream) == block->count &&
           block->checksum == block_checksum(block);
}

static bool visit_block(const struct block *block, bool (*visit)(void *context, const struct record *record),
                        void *context)
{
    for (uint32_t i = 0; i < block->count; i++) {
        struct record record = {.number = block->entries[i].word & NUMBER_MASK,
                                .account = block->entries[i].account,
                                .flags = (uint8_t)(block->entries[i].word >> FLAGS_SHIFT)};
        if (!visit(context, &record))
            return false;
    }
    return true;
}

bool snapshot_read(const char *folder, bool (*visit)(void *context, const struct record *record),
                   void *context, struct fault *fault)
{
    struct snapshot_info info = {0};
    FILE *stream = open_snapshot(folder);
    if (stream == NULL)
        return cannot_open(folder, fault);
    setvbuf(stream, NULL, _IOFBF, 1 << 20);
    struct block *block = malloc(sizeof *block);
    bool good = block != NULL ? read_header(stream, folder, &info, fault)
                              : fault_set(fault, EX_OSERR, "out of memory for reading the snapshot");
    for (uint32_t number = 0; good && info.records > 0; number++) {
        if (!read_block(stream, number, info.records, block))
            good = damaged(fault, folder, "a block is cut short or its checksum is wrong");
        else
            good = visit_block(block, visit, context);
        info.records -= good ? block->count : 0;
    }
    if (good && fgetc(stream) != EOF)
        good = damaged(fault, folder, "bytes after the last block");
    free(block);
    fclose(stream);
    return good;
}
