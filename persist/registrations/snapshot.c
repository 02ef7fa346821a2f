/* Snapshot files; format in snapshot.h. */
#include "persist/registrations/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/checksum.h"
#include "persist/direct_reader.h"
#include "persist/durable.h"
#include "persist/registrations/positions.h"

#define MAGIC "NBRDSNAP"
#define VERSION 2u
#define BYTE_ORDER_MARK 0x01020304u
#define THREADS_MAX 16
#define PIECE_BYTES ((size_t)64 << 10)
/* A gentle writer pauses seven times as long as it has worked. */
#define PAUSE_AFTER_NS 100000
#define PAUSE_SHARE 7
#define PAUSE_NS_MAX 20000000

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

struct shard_entry {
    uint64_t line_count;
    uint64_t records;
    uint64_t spilled;
    uint64_t stale_marks;
};

static_assert(sizeof(struct header) == 128, "the header has no padding");
static_assert(sizeof(struct shard_entry) == 32, "an entry has no padding");
// NOLINTNEXTLINE(misc-redundant-expression): the two are equal, and need not be
static_assert(SNAPSHOT_BLOCK_BYTES <= DIRECT_READER_BYTES, "a block is one read");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the file is in the host's order, and little-endian");

static size_t block_count(size_t bytes)
{
    return (bytes + SNAPSHOT_BLOCK_BYTES - 1) / SNAPSHOT_BLOCK_BYTES;
}

/* --- names --- */

void snapshot_name(uint64_t position, char name[static SNAPSHOT_NAME_BYTES])
{
    positions_name(position, ".snapshot", name);
}

static bool make_path(char path[PATH_MAX], const char *folder, uint64_t position)
{
    char name[SNAPSHOT_NAME_BYTES];
    snapshot_name(position, name);
    return (size_t)snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX;
}

bool snapshot_list(const char *folder, uint64_t **positions, size_t *count, struct fault *fault)
{
    if (!positions_list(folder, ".snapshot", positions, count, fault))
        return false;
    for (size_t i = 0; i < *count / 2; i++) { /* the newest first */
        uint64_t older = (*positions)[i];
        (*positions)[i] = (*positions)[*count - 1 - i];
        (*positions)[*count - 1 - i] = older;
    }
    return true;
}

void snapshot_remove(const char *folder, uint64_t position)
{
    char path[PATH_MAX];
    if (make_path(path, folder, position))
        (void)unlink(path); /* one that stays is removed with the next */
}

/* --- the index: entries, and behind them the checksums of all blocks --- */

struct index {
    uint8_t *bytes;
    size_t length;
    size_t capacity;
};

static bool index_append(struct index *index, const void *bytes, size_t length)
{
    if (index->length + length > index->capacity) {
        size_t capacity = 2 * (index->length + length);
        uint8_t *grown = realloc(index->bytes, capacity);
        if (grown == NULL)
            return false;
        index->bytes = grown;
        index->capacity = capacity;
    }
    memcpy(index->bytes + index->length, bytes, length);
    index->length += length;
    return true;
}

/* --- writing --- */

struct writer {
    struct durable_file file;
    struct directory *directory;
    struct directory_shape shape;
    uint8_t *image; /* one shard's */
    size_t capacity;
    struct index index;
    uint64_t offset;
    uint64_t records;
    bool gentle;
    uint64_t paused_ns; /* when the last pause ended */
};

/* Copies the shard into the writer's memory; its bytes, or 0 when memory is short. */
static size_t copy_shard(struct writer *writer, unsigned shard, struct table_image *image)
{
    size_t bytes;
    while ((bytes = directory_copy_shard(writer->directory, shard, image, writer->image, writer->capacity)) >
           writer->capacity) {
        free(writer->image);
        writer->capacity = bytes + bytes / 8;
        writer->image = malloc(writer->capacity);
        if (writer->image == NULL)
            return writer->capacity = 0;
    }
    return bytes;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Leaves the processor and the disk to others for longer than the work since the last pause has taken. */
static void pause_gently(struct writer *writer)
{
    if (!writer->gentle)
        return;
    uint64_t worked_ns = now_ns() - writer->paused_ns;
    if (worked_ns < PAUSE_AFTER_NS)
        return;
    uint64_t pause_ns = worked_ns * PAUSE_SHARE < PAUSE_NS_MAX ? worked_ns * PAUSE_SHARE : PAUSE_NS_MAX;
    nanosleep(&(struct timespec){.tv_nsec = (long)pause_ns}, NULL);
    writer->paused_ns = now_ns();
}

/* One block, in pieces: the kernel is not interrupted within one write, and may keep a lookup waiting. */
static bool write_block(struct writer *writer, const uint8_t *block, size_t bytes, struct fault *fault)
{
    for (size_t done = 0; done < bytes; done += PIECE_BYTES) {
        size_t size = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        if (!durable_put(&writer->file, block + done, size, writer->offset, fault))
            return false;
        writer->offset += size;
        pause_gently(writer);
    }
    return true;
}

static bool write_image(struct writer *writer, size_t bytes, struct fault *fault)
{
    for (size_t done = 0; done < bytes; done += SNAPSHOT_BLOCK_BYTES) {
        size_t size = bytes - done < SNAPSHOT_BLOCK_BYTES ? bytes - done : SNAPSHOT_BLOCK_BYTES;
        uint64_t checksum = checksum_of(writer->image + done, size);
        if (!index_append(&writer->index, &checksum, sizeof checksum))
            return fault_set(fault, EX_OSERR, "out of memory for the snapshot's index");
        if (!write_block(writer, writer->image + done, size, fault))
            return false;
    }
    /* On its way to the disk already, so that the sync at the end is no storm that commits of the journal wait in. */
    (void)sync_file_range(writer->file.fd, (off_t)(writer->offset - bytes), (off_t)bytes,
                          SYNC_FILE_RANGE_WRITE);
    return true;
}

static bool write_shards(struct writer *writer, struct fault *fault)
{
    unsigned shards = 1u << writer->shape.shard_bits;
    struct shard_entry none = {0};
    for (unsigned shard = 0; shard < shards; shard++)
        if (!index_append(&writer->index, &none, sizeof none))
            return fault_set(fault, EX_OSERR, "out of memory for the snapshot's index");
    for (unsigned shard = 0; shard < shards; shard++) {
        struct table_image image;
        size_t bytes = copy_shard(writer, shard, &image);
        if (bytes == 0)
            return fault_set(fault, EX_OSERR, "out of memory for the snapshot: one shard's bytes are needed");
        struct shard_entry entry = {image.line_count, image.records, image.spilled, image.stale_marks};
        memcpy(writer->index.bytes + shard * sizeof entry, &entry, sizeof entry);
        writer->records += image.records;
        if (!write_image(writer, bytes, fault))
            return false;
    }
    return true;
}

static bool write_ends(struct writer *writer, uint64_t position, uint64_t now_ms, struct fault *fault)
{
    struct header header = {.version = VERSION,
                            .byte_order = BYTE_ORDER_MARK,
                            .layout = TABLE_IMAGE_LAYOUT,
                            .shard_bits = (uint16_t)writer->shape.shard_bits,
                            .accounts = writer->shape.accounts,
                            .seed = writer->shape.seed,
                            .records = writer->records,
                            .position = position,
                            .written_at_ms = now_ms,
                            .index_offset = writer->offset,
                            .index_bytes = writer->index.length,
                            .index_checksum = checksum_of(writer->index.bytes, writer->index.length)};
    memcpy(header.magic, MAGIC, sizeof header.magic);
    header.checksum = checksum_of(&header, offsetof(struct header, checksum));
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): snapshot_write frees the index
    return durable_put(&writer->file, writer->index.bytes, writer->index.length, writer->offset, fault) &&
           durable_put(&writer->file, &header, sizeof header, 0, fault);
}

bool snapshot_write(const char *folder, struct directory *directory, uint64_t position, uint64_t now_ms,
                    bool gentle, bool (*settle)(void *context, struct fault *fault), void *context,
                    struct snapshot_info *info, struct fault *fault)
{
    char name[SNAPSHOT_NAME_BYTES];
    struct writer writer = {.directory = directory,
                            .shape = directory_shape(directory),
                            .offset = sizeof(struct header),
                            .gentle = gentle,
                            .paused_ns = now_ns()};
    snapshot_name(position, name);
    if (!durable_begin(&writer.file, folder, name, fault))
        return false;
    bool good = write_shards(&writer, fault) && (settle == NULL || settle(context, fault)) &&
                write_ends(&writer, position, now_ms, fault);
    if (good)
        good = durable_commit(&writer.file, fault);
    else
        durable_abort(&writer.file);
    *info = (struct snapshot_info){.records = writer.records,
                                   .position = position,
                                   .written_at_ms = now_ms,
                                   .bytes = writer.offset + writer.index.length,
                                   .shape = writer.shape};
    free(writer.image);
    free(writer.index.bytes);
    return good;
}

/* --- reading --- */

/* An open snapshot whose header and index were found right. */
struct reader {
    char path[PATH_MAX];
    struct direct_reader file;
    struct header header;
    uint8_t *index;
    unsigned shards;
};

static bool damaged(const struct reader *reader, const char *what, struct fault *fault)
{
    return fault_set(fault, EX_DATAERR, "%s is damaged (%s)", reader->path, what);
}

static bool cannot_open(const struct reader *reader, int error, struct fault *fault)
{
    return fault_set(fault, EX_NOINPUT, "cannot open %s: %s", reader->path, strerror(error));
}

/* All bytes, at most a block's, or false: with a fault of its own kind when reading fails, as damage when the file ends. */
static bool read_at(struct reader *reader, void *bytes, size_t length, uint64_t offset, struct fault *fault)
{
    ssize_t got = direct_reader_read(&reader->file, bytes, length, offset);
    if (got < 0)
        return fault_set(fault, EX_IOERR, "cannot read %s: %s", reader->path, strerror(errno));
    return (size_t)got == length || damaged(reader, "it is cut short", fault);
}

/* Whether the file has the length that its header says; and room for its records, by whose number memory is taken. */
static bool check_length(const struct reader *reader, struct fault *fault)
{
    const struct header *header = &reader->header;
    struct stat status;
    if (fstat(reader->file.fd, &status) != 0)
        return fault_set(fault, EX_IOERR, "cannot look at %s: %s", reader->path, strerror(errno));
    uint64_t size = (uint64_t)status.st_size;
    return (header->index_offset <= size && header->index_bytes == size - header->index_offset &&
            header->index_bytes >= reader->shards * sizeof(struct shard_entry) &&
            header->records <= header->index_offset / sizeof(uint64_t)) ||
           damaged(reader, "its length", fault);
}

static bool read_header(struct reader *reader, uint64_t position, struct fault *fault)
{
    struct header *header = &reader->header;
    if (!read_at(reader, header, sizeof *header, 0, fault))
        return false;
    if (memcmp(header->magic, MAGIC, sizeof header->magic) != 0)
        return damaged(reader, "no header", fault);
    if (header->checksum != checksum_of(header, offsetof(struct header, checksum)))
        return damaged(reader, "header checksum", fault);
    if (header->byte_order != BYTE_ORDER_MARK || header->version != VERSION ||
        header->layout != TABLE_IMAGE_LAYOUT)
        return fault_set(fault, EX_CONFIG,
                         "%s has version %u, layout %u or another byte order; this numberd reads version %u, "
                         "layout %u: use the numberd that wrote it, or export there and import here",
                         reader->path, header->version, header->layout, VERSION, TABLE_IMAGE_LAYOUT);
    if (header->position != position)
        return damaged(reader, "it is another one's", fault);
    if (header->shard_bits > DIRECTORY_SHARD_BITS_MAX || header->accounts > 1)
        return damaged(reader, "header", fault);
    reader->shards = 1u << header->shard_bits;
    return check_length(reader, fault);
}

static struct table_image image_of(const struct reader *reader, unsigned shard)
{
    struct shard_entry entry;
    memcpy(&entry, reader->index + shard * sizeof entry, sizeof entry);
    return (struct table_image){entry.line_count, entry.records, entry.spilled, entry.stale_marks};
}

/* Where the shard's image and its checksums begin; with `shard` the number of shards, where they end. */
static void locate(const struct reader *reader, unsigned shard, uint64_t *offset, size_t *checksums)
{
    *offset = sizeof reader->header;
    *checksums = reader->shards * sizeof(struct shard_entry);
    for (unsigned i = 0; i < shard; i++) {
        struct table_image image = image_of(reader, i);
        size_t bytes = table_image_bytes(&image, reader->header.accounts);
        *offset += bytes;
        *checksums += block_count(bytes) * sizeof(uint64_t);
    }
}

/* Whether each image describes a table, so that no sum of their sizes overflows, and all records are in one. */
static bool check_images(const struct reader *reader)
{
    uint64_t records = 0;
    for (unsigned shard = 0; shard < reader->shards; shard++) {
        struct table_image image = image_of(reader, shard);
        if (!table_image_is_sound(&image))
            return false;
        records += image.records;
    }
    return records == reader->header.records;
}

static bool read_index(struct reader *reader, struct fault *fault)
{
    const struct header *header = &reader->header;
    reader->index = malloc(header->index_bytes);
    if (reader->index == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for reading the snapshot");
    for (size_t done = 0; done < header->index_bytes; done += SNAPSHOT_BLOCK_BYTES) {
        size_t rest = header->index_bytes - done;
        if (!read_at(reader, reader->index + done, rest < SNAPSHOT_BLOCK_BYTES ? rest : SNAPSHOT_BLOCK_BYTES,
                     header->index_offset + done, fault))
            return false;
    }
    if (header->index_checksum != checksum_of(reader->index, header->index_bytes))
        return damaged(reader, "index checksum", fault);
    uint64_t end;
    size_t checksums_end;
    if (!check_images(reader))
        return damaged(reader, "index", fault);
    locate(reader, reader->shards, &end, &checksums_end);
    return (end == header->index_offset && checksums_end == header->index_bytes) ||
           damaged(reader, "index", fault);
}

static void close_reader(struct reader *reader)
{
    direct_reader_close(&reader->file);
    free(reader->index);
}

static bool open_reader(struct reader *reader, const char *folder, uint64_t position, bool index_too,
                        struct fault *fault)
{
    *reader = (struct reader){0};
    if (!make_path(reader->path, folder, position))
        return fault_set(fault, EX_USAGE, "the path of the snapshots' folder is too long");
    if (!direct_reader_open(&reader->file, reader->path))
        return cannot_open(reader, errno, fault);
    if (read_header(reader, position, fault) && (!index_too || read_index(reader, fault)))
        return true;
    close_reader(reader);
    return false;
}

bool snapshot_read_info(const char *folder, uint64_t position, struct snapshot_info *info,
                        struct fault *fault)
{
    struct reader reader;
    if (!open_reader(&reader, folder, position, false, fault))
        return false;
    const struct header *header = &reader.header;
    *info = (struct snapshot_info){.records = header->records,
                                   .position = header->position,
                                   .written_at_ms = header->written_at_ms,
                                   .bytes = header->index_offset + header->index_bytes,
                                   .shape = {header->seed, header->shard_bits, header->accounts != 0}};
    close_reader(&reader);
    return true;
}

/* The shard's image is read next; meanwhile its memory is made ready. Returns its bytes. */
static size_t expect_image(struct reader *reader, unsigned shard, struct table_image *image)
{
    uint64_t offset;
    size_t checksums;
    *image = image_of(reader, shard);
    size_t bytes = table_image_bytes(image, reader->header.accounts);
    locate(reader, shard, &offset, &checksums);
    direct_reader_expect(&reader->file, offset, bytes);
    return bytes;
}

/* Reads the shard's image into memory of its size and checks each block. */
static bool read_image(struct reader *reader, unsigned shard, size_t bytes, uint8_t *memory,
                       struct snapshot_progress *progress, struct fault *fault)
{
    uint64_t offset;
    size_t checksums;
    locate(reader, shard, &offset, &checksums);
    for (size_t done = 0; done < bytes; done += SNAPSHOT_BLOCK_BYTES) {
        size_t size = bytes - done < SNAPSHOT_BLOCK_BYTES ? bytes - done : SNAPSHOT_BLOCK_BYTES;
        uint64_t checksum;
        memcpy(&checksum, reader->index + checksums + done / SNAPSHOT_BLOCK_BYTES * sizeof checksum,
               sizeof checksum);
        if (!read_at(reader, memory + done, size, offset + done, fault))
            return false;
        if (checksum != checksum_of(memory + done, size))
            return damaged(reader, "a block's checksum", fault);
        if (progress != NULL) {
            atomic_fetch_add(&progress->bytes_done, size);
            if (atomic_load(&progress->cancel))
                return fault_set(fault, EX_TEMPFAIL, "loading the registrations was interrupted");
        }
    }
    return true;
}

/* --- loading --- */

struct load {
    const struct reader *reader;
    struct directory *directory;
    struct snapshot_progress *progress;
    _Atomic unsigned next_shard;
    atomic_bool failed;
    /* Of the first that failed; under the mutex. */
    pthread_mutex_t mutex;
    struct fault fault;
};

/* `reader` is the thread's own. */
static bool load_shard(const struct load *load, struct reader *reader, unsigned shard, struct fault *fault)
{
    struct table_image image;
    size_t bytes = expect_image(reader, shard, &image);
    void *memory = directory_load_shard(load->directory, shard, &image);
    if (memory == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for the %" PRIu64 " registrations of %s",
                         reader->header.records, reader->path);
    return read_image(reader, shard, bytes, memory, load->progress, fault);
}

static bool load_some(struct load *load, struct reader *reader, struct fault *fault)
{
    unsigned shard;
    while (!atomic_load(&load->failed) && (shard = atomic_fetch_add(&load->next_shard, 1)) < reader->shards)
        if (!load_shard(load, reader, shard, fault))
            return false;
    return true;
}

static void *load_shards(void *context)
{
    struct load *load = context;
    struct fault fault;
    struct reader reader = *load->reader; /* but for the file: its buffer is one thread's */
    bool is_open = direct_reader_open(&reader.file, reader.path);
    if (!(is_open ? load_some(load, &reader, &fault) : cannot_open(&reader, errno, &fault))) {
        pthread_mutex_lock(&load->mutex);
        if (!atomic_exchange(&load->failed, true))
            load->fault = fault;
        pthread_mutex_unlock(&load->mutex);
    }
    if (is_open)
        direct_reader_close(&reader.file);
    return NULL;
}

bool snapshot_load(const char *folder, uint64_t position, struct directory *directory, unsigned threads,
                   struct snapshot_progress *progress, struct fault *fault)
{
    struct reader reader;
    pthread_t helpers[THREADS_MAX];
    unsigned started = 0;
    if (!open_reader(&reader, folder, position, true, fault))
        return false;
    struct load load = {.reader = &reader, .directory = directory, .progress = progress};
    pthread_mutex_init(&load.mutex, NULL);
    atomic_store(&progress->bytes_total, reader.header.index_offset - sizeof reader.header);
    atomic_store(&progress->bytes_done, 0);
    /* This thread is one of them; those that cannot be started are not missed. */
    while (started + 1 < threads && started < THREADS_MAX &&
           pthread_create(&helpers[started], NULL, load_shards, &load) == 0)
        started++;
    load_shards(&load);
    for (unsigned i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    pthread_mutex_destroy(&load.mutex);
    close_reader(&reader);
    if (atomic_load(&load.failed)) {
        *fault = load.fault;
        return false;
    }
    directory_loaded(directory);
    return true;
}

/* --- visiting --- */

bool snapshot_visit(const char *folder, uint64_t position,
                    bool (*visit)(void *context, const struct record *record), void *context,
                    struct fault *fault)
{
    struct reader reader;
    if (!open_reader(&reader, folder, position, true, fault))
        return false;
    bool good = true;
    for (unsigned shard = 0; good && shard < reader.shards; shard++) {
        struct table_image image;
        size_t bytes = expect_image(&reader, shard, &image);
        uint8_t *memory = malloc(bytes);
        if (memory == NULL)
            good = fault_set(fault, EX_OSERR, "out of memory for a shard of %s", reader.path);
        else
            good = read_image(&reader, shard, bytes, memory, NULL, fault) &&
                   table_image_visit(&image, reader.header.accounts, memory, visit, context);
        free(memory);
    }
    close_reader(&reader);
    return good;
}
