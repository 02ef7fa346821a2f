/* The journal's files; see journal_file.h. */
#include "persist/registrations/journal_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "hashing/phone.h"
#include "persist/checksum.h"

#define MAGIC "NBRDJRNL"
#define BLOCK_MAGIC "NBJB"
#define VERSION 1u
#define BYTE_ORDER_MARK 0x01020304u
#define KIND_SHIFT PHONE_KEY_BITS
#define KIND_MASK 3u
#define FLAGS_SHIFT 56
#define NUMBER_MASK ((UINT64_C(1) << PHONE_KEY_BITS) - 1)

static_assert(sizeof(struct journal_header) == JOURNAL_HEADER_BYTES, "the header has no padding");
static_assert(sizeof(struct journal_block) == JOURNAL_BLOCK_BYTES, "the block's header has no padding");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is in the host's order, little-endian");

/* --- names --- */

void journal_name(uint64_t first_position, char name[static JOURNAL_NAME_BYTES])
{
    positions_name(first_position, ".journal", name);
}

static bool look_at(const char *folder, struct journal_segment *segment, struct fault *fault)
{
    char name[JOURNAL_NAME_BYTES];
    char path[PATH_MAX];
    struct stat status;
    journal_name(segment->first_position, name);
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path || stat(path, &status) != 0)
        return fault_set(fault, EX_NOINPUT, "cannot look at %s/%s: %s", folder, name, strerror(errno));
    segment->bytes = (uint64_t)status.st_size;
    return true;
}

bool journal_list(const char *folder, struct journal_segment **segments, size_t *count, struct fault *fault)
{
    uint64_t *positions;
    *segments = NULL;
    if (!positions_list(folder, ".journal", &positions, count, fault))
        return false;
    if (*count == 0)
        return true;
    struct journal_segment *list = calloc(*count, sizeof *list);
    if (list == NULL) {
        free(positions);
        *count = 0;
        return fault_set(fault, EX_OSERR, "out of memory for the list of journal segments");
    }
    bool good = true;
    for (size_t i = 0; good && i < *count; i++) {
        list[i].first_position = positions[i];
        good = look_at(folder, &list[i], fault);
    }
    free(positions);
    if (!good) {
        free(list);
        *count = 0;
        return false;
    }
    *segments = list;
    return true;
}

/* --- writing --- */

void journal_make_header(struct journal_header *header, uint64_t first_position, uint64_t durable)
{
    *header = (struct journal_header){.version = VERSION,
                                      .byte_order = BYTE_ORDER_MARK,
                                      .first_position = first_position,
                                      .durable = durable};
    memcpy(header->magic, MAGIC, sizeof header->magic);
    header->checksum = checksum_of(header, offsetof(struct journal_header, checksum));
}

static uint64_t block_checksum(const struct journal_block *block)
{
    uint64_t head = checksum_of(block, offsetof(struct journal_block, checksum));
    return checksum_of_with(block->payload, block->payload_bytes, head);
}

void journal_seal_block(struct journal_block *block)
{
    memcpy(block->magic, BLOCK_MAGIC, sizeof block->magic);
    block->checksum = block_checksum(block);
}

size_t journal_encode(uint8_t bytes[static JOURNAL_CHANGE_BYTES_MAX], const struct change *change)
{
    uint64_t word = change->record.number | (uint64_t)change->kind << KIND_SHIFT |
                    (uint64_t)change->record.flags << FLAGS_SHIFT;
    memcpy(bytes, &word, sizeof word);
    if (change->kind == CHANGE_REMOVE)
        return sizeof word;
    memcpy(bytes + sizeof word, &change->record.account, sizeof change->record.account);
    return 2 * sizeof word;
}

/* --- reading --- */

/* The change at the start of the bytes; its size, or 0 when there is none. */
static size_t decode(const uint8_t *bytes, size_t length, struct change *change)
{
    uint64_t word;
    if (length < sizeof word)
        return 0;
    memcpy(&word, bytes, sizeof word);
    *change =
        (struct change){.kind = (enum change_kind)(word >> KIND_SHIFT & KIND_MASK),
                        .record = {.number = word & NUMBER_MASK, .flags = (uint8_t)(word >> FLAGS_SHIFT)}};
    if (change->kind == CHANGE_REMOVE)
        return sizeof word;
    if ((change->kind != CHANGE_SET && change->kind != CHANGE_MARK) || length < 2 * sizeof word)
        return 0;
    memcpy(&change->record.account, bytes + sizeof word, sizeof word);
    return 2 * sizeof word;
}

/* A segment in memory while it is read. */
struct reading {
    uint8_t *bytes;
    size_t length;
    size_t offset;     /* behind the last valid block */
    uint64_t chain;    /* its checksum */
    uint64_t expected; /* the position that comes next */
};

/* The block at the offset if it is whole and its checksum right, whatever stands before it; else NULL. */
static const struct journal_block *block_at(const struct reading *reading, size_t offset)
{
    const struct journal_block *block = (const void *)(reading->bytes + offset);
    size_t room = reading->length - offset;
    if (room < sizeof *block || memcmp(block->magic, BLOCK_MAGIC, sizeof block->magic) != 0 ||
        block->payload_bytes > JOURNAL_PAYLOAD_MAX || block->payload_bytes % 8 != 0 ||
        block->payload_bytes > room - sizeof *block || block->checksum != block_checksum(block))
        return NULL;
    return block;
}

static bool visit_block(struct reading *reading, const struct journal_block *block, uint64_t after,
                        bool (*visit)(void *context, uint64_t position, const struct change *change),
                        void *context, struct fault *fault)
{
    struct change change;
    for (size_t at = 0, size; at < block->payload_bytes; at += size) {
        size = decode(block->payload + at, block->payload_bytes - at, &change);
        if (size == 0) /* with a right checksum: written by something else */
            return fault_set(fault, EX_DATAERR, "the journal has a change of an unknown kind");
        if (reading->expected > after && !visit(context, reading->expected, &change))
            return false;
        reading->expected++;
    }
    return true;
}

/* What lies behind the last valid block; see the header. Blocks begin at multiples of 8. */
static void examine_rest(const struct reading *reading, struct journal_extent *extent)
{
    extent->end = JOURNAL_CLEAN;
    for (size_t at = reading->offset; at < reading->length; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t room = reading->length - at;
        memcpy(&word, reading->bytes + at, room < sizeof word ? room : sizeof word);
        if (word == 0)
            continue;
        extent->end = JOURNAL_TORN;
        const struct journal_block *block = block_at(reading, at);
        if (block != NULL && block->durable > extent->durable)
            extent->durable = block->durable;
    }
    if (extent->durable > extent->last_position)
        extent->end = JOURNAL_DAMAGED;
}

/* Where the file's data ends: behind that it has only holes and what was preallocated, which read as zeros. */
static size_t data_end(int fd, size_t length)
{
    size_t end = 0;
    off_t data = 0;
    while ((data = lseek(fd, (off_t)end, SEEK_DATA)) >= 0 && (size_t)data < length) {
        off_t hole = lseek(fd, data, SEEK_HOLE);
        if (hole <= data)
            return length; /* not known here */
        end = (size_t)hole;
    }
    if (data < 0 && errno != ENXIO) /* ENXIO: no data behind `end` */
        return length;
    return end < length ? end : length;
}

static bool read_file(const char *path, struct reading *reading, struct fault *fault)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fault_set(fault, EX_NOINPUT, "cannot open %s: %s", path, strerror(errno));
    ssize_t got = 1;
    size_t done = 0;
    reading->length = data_end(fd, reading->length);
    while (done < reading->length &&
           (got = pread(fd, reading->bytes + done, reading->length - done, (off_t)done)) > 0)
        done += (size_t)got;
    int error = errno;
    close(fd);
    reading->length = done; /* shorter than listed: it was cut meanwhile, and reads as that */
    return got >= 0 || fault_set(fault, EX_IOERR, "cannot read %s: %s", path, strerror(error));
}

/* The header is written aside and synced before the file has its name: anything but a good one is damage. False with a
 * fault for one of another version. */
static bool read_header(const char *path, struct reading *reading, const struct journal_segment *segment,
                        struct journal_extent *extent, struct fault *fault)
{
    struct journal_header header;
    extent->last_position = segment->first_position - 1;
    extent->end = JOURNAL_DAMAGED;
    if (reading->length < sizeof header)
        return true;
    memcpy(&header, reading->bytes, sizeof header);
    if (memcmp(header.magic, MAGIC, sizeof header.magic) == 0 &&
        (header.version != VERSION || header.byte_order != BYTE_ORDER_MARK) &&
        header.checksum == checksum_of(&header, offsetof(struct journal_header, checksum)))
        return fault_set(fault, EX_DATAERR,
                         "%s has version %u or another byte order; this numberd reads version %u: use the "
                         "numberd that wrote it, or export there and import here",
                         path, header.version, VERSION);
    struct journal_header right;
    journal_make_header(&right, segment->first_position, header.durable);
    if (memcmp(&header, &right, sizeof header) != 0)
        return true;
    extent->durable = header.durable;
    extent->end = JOURNAL_CLEAN;
    reading->offset = sizeof header;
    reading->chain = header.checksum;
    reading->expected = header.first_position;
    return true;
}

bool journal_read(const char *folder, const struct journal_segment *segment, uint64_t after,
                  bool (*visit)(void *context, uint64_t position, const struct change *change), void *context,
                  struct journal_extent *extent, struct fault *fault)
{
    char name[JOURNAL_NAME_BYTES];
    char path[PATH_MAX];
    journal_name(segment->first_position, name);
    *extent = (struct journal_extent){0};
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return fault_set(fault, EX_USAGE, "the path of %s is too long", name);
    struct reading reading = {.length = segment->bytes, .bytes = calloc(1, segment->bytes + 1)};
    if (reading.bytes == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for reading %s (%" PRIu64 " bytes)", path,
                         segment->bytes);
    bool good = read_file(path, &reading, fault) && read_header(path, &reading, segment, extent, fault);
    if (good && extent->end == JOURNAL_CLEAN) {
        const struct journal_block *block;
        while (good && (block = block_at(&reading, reading.offset)) != NULL &&
               block->previous == reading.chain && block->first_position == reading.expected) {
            good = visit_block(&reading, block, after, visit, context, fault);
            reading.offset += sizeof *block + block->payload_bytes;
            reading.chain = block->checksum;
            extent->durable = block->durable > extent->durable ? block->durable : extent->durable;
        }
        extent->last_position = reading.expected - 1;
        extent->valid_bytes = reading.offset;
        if (good)
            examine_rest(&reading, extent);
    }
    free(reading.bytes);
    return good;
}
