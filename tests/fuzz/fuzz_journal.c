/* Fuzz target: any bytes as a segment of the journal. What is read is changes without a gap, up to where the valid blocks end;
 * the file cut there is a clean one with the same changes.
 *
 * Input: 1 byte: bit 0 the header and the chain of blocks are put right, checksums and all, so that what lies behind them is
 * reached; bits 1..3 so many blocks are left as they are; then the file. */
#include <string.h>
#include <sysexits.h>

#include "fuzz_file.h"
#include "persist/registrations/journal_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FIRST 7u
#define FILE_BYTES_MAX 4096u

static _Alignas(8) uint8_t file[FILE_BYTES_MAX];

/* Each block's length is what the fuzzer has there, as far as the file goes; how many changes it has, the reader would say,
 * so their positions are counted as the format has them: a removal is one word, a setting and a mark are two. */
static uint64_t count_changes(const struct journal_block *block)
{
    uint64_t changes = 0;
    for (size_t at = 0; at < block->payload_bytes; changes++) {
        uint64_t word;
        memcpy(&word, block->payload + at, sizeof word);
        unsigned kind = word >> 50 & 3;
        at += kind == CHANGE_SET || kind == CHANGE_MARK ? 2 * sizeof word : sizeof word;
    }
    return changes;
}

static void mend(size_t size, unsigned left_as_they_are)
{
    struct journal_header header;
    uint64_t position = FIRST;
    memcpy(&header, file, sizeof header);
    journal_make_header(&header, FIRST, header.durable);
    memcpy(file, &header, sizeof header);
    uint64_t chain = header.checksum;
    size_t at = sizeof header;
    while (size - at >= sizeof(struct journal_block)) {
        struct journal_block *block = (void *)(file + at);
        size_t room = size - at - sizeof *block;
        block->payload_bytes = (uint32_t)(block->payload_bytes % (room + 1) / 8 * 8);
        block->first_position = position;
        block->previous = chain;
        if (block->payload_bytes % 24 == 0 && left_as_they_are > 0)
            left_as_they_are--;
        else
            journal_seal_block(block);
        chain = block->checksum;
        position += count_changes(block);
        at += sizeof *block + block->payload_bytes;
    }
}

struct reading {
    uint64_t count;
    uint64_t mix;
};

static bool take_change(void *context, uint64_t position, const struct change *change)
{
    struct reading *reading = context;
    fuzz_file_expect(position == FIRST + reading->count);
    fuzz_file_expect(change->kind == CHANGE_SET || change->kind == CHANGE_REMOVE ||
                     change->kind == CHANGE_MARK);
    fuzz_file_expect(change->record.number < UINT64_C(1) << 50);
    reading->count++;
    reading->mix = reading->mix * 31 + change->record.number + change->record.account + change->record.flags +
                   change->kind;
    return true;
}

static bool read_segment(size_t size, uint64_t after, struct reading *reading, struct journal_extent *extent)
{
    struct fault fault = {0};
    const struct journal_segment segment = {.first_position = FIRST, .bytes = size};
    bool good = journal_read(fuzz_file_folder, &segment, after, take_change, reading, extent, &fault);
    fuzz_file_expect(good || (fault.status == EX_DATAERR && fault.text[0] != '\0'));
    return good;
}

/* The valid part by itself. */
static void check_prefix(int fd, const struct journal_extent *extent, const struct reading *reading)
{
    struct reading again = {0};
    struct journal_extent cut;
    if (extent->valid_bytes == 0)
        return; /* not even a header */
    fuzz_file_expect(ftruncate(fd, (off_t)extent->valid_bytes) == 0);
    fuzz_file_expect(read_segment(extent->valid_bytes, 0, &again, &cut));
    fuzz_file_expect(cut.last_position == extent->last_position && cut.valid_bytes == extent->valid_bytes);
    fuzz_file_expect(again.count == reading->count && again.mix == reading->mix);
    /* A block may say that later changes were durable: then the cut file lacks them, and says so, too. */
    fuzz_file_expect(cut.end == (cut.durable > cut.last_position ? JOURNAL_DAMAGED : JOURNAL_CLEAN));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct reading reading = {0};
    struct journal_extent extent;
    if (size == 0 || size - 1 > sizeof file)
        return -1;
    if (fd < 0) {
        char name[JOURNAL_NAME_BYTES];
        journal_name(FIRST, name);
        fuzz_file_make_folder();
        fd = fuzz_file_create(name);
    }
    size--;
    memcpy(file, data + 1, size);
    if ((data[0] & 1) != 0 && size >= sizeof(struct journal_header))
        mend(size, data[0] >> 1 & 7);
    fuzz_file_fill(fd, file, size);
    if (!read_segment(size, 0, &reading, &extent))
        return 0;
    fuzz_file_expect(extent.last_position == FIRST + reading.count - 1 && extent.valid_bytes <= size);
    fuzz_file_expect(extent.durable <= extent.last_position || extent.end == JOURNAL_DAMAGED);
    check_prefix(fd, &extent, &reading);
    return 0;
}
