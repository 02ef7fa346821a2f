/* Fuzz target: any bytes as a segment of the query log, and as a key file. Nothing is disclosed from a segment that nobody has
 * sealed, and of one whose frames were sealed only what the query names.
 *
 * Input: 1 byte: 0 a segment as it is; 1 one with a right header; 2 one whose frames are sealed: of 2 bytes of size, 1 of bucket
 * and so many of content each; 3 a key file as it is; 4 one that names the officer, and so is opened; then the file. */
#include <string.h>

#include "fuzz_file.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/hour_key.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOUR (UINT64_C(490000) * FRAME_HOUR_MS)
#define SERVER 5u
#define KEY 1u
#define FOREIGN_KEY 2u
#define FILE_BYTES_MAX 65536u
/* In a key file, hour_key.h: where the officer is named. */
#define OFFICER_AT 48u
#define KEY_FILE_BYTES 192u

enum mode { AS_IT_IS, WITH_HEADER, SEALED, KEY_AS_IT_IS, KEY_OF_OFFICER, MODES };

static struct {
    int segment_fd;
    int key_fd;
    int folder_fd;
    struct officer_pair officer;
    struct key_ring *ring;
    char key_name[64];
    uint8_t header[SEGMENT_HEADER_BYTES];
    _Alignas(8) uint8_t file[FILE_BYTES_MAX];
} all;

/* --- once --- */

static void make_keys(void)
{
    struct fault fault;
    char path[sizeof fuzz_file_folder + 16];
    struct hour_key *key = hour_key_create(SERVER, 720 * FRAME_HOUR_MS);
    snprintf(path, sizeof path, "%s/test.private", fuzz_file_folder);
    fuzz_file_expect(officer_make(fuzz_file_folder, "test", false, &fault) &&
                     officer_read_private(path, NULL, &all.officer, &fault));
    fuzz_file_expect(hour_key_renew(key, fuzz_file_folder, all.officer.public_key, HOUR, KEY, &fault));
    hour_key_destroy(key);
    all.ring = key_ring_open(fuzz_file_folder, &all.officer, HOUR, HOUR + FRAME_HOUR_MS, &fault);
    fuzz_file_expect(all.ring != NULL);
}

static void prepare(void)
{
    struct fault fault;
    const struct segment segment = {.sequence = 1, .hour_ms = HOUR};
    fuzz_file_make_folder();
    make_keys();
    all.segment_fd = segment_create(fuzz_file_folder, &segment, SERVER, &fault);
    fuzz_file_expect(all.segment_fd >= 0 &&
                     pread(all.segment_fd, all.header, sizeof all.header, 0) == (ssize_t)sizeof all.header);
    snprintf(all.key_name, sizeof all.key_name, "%016x-%llu.key", FOREIGN_KEY,
             (unsigned long long)(HOUR / 1000 + 7200)); /* an hour that the ring is not asked for */
    all.key_fd = fuzz_file_create(all.key_name);
    all.folder_fd = open(fuzz_file_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* --- segments --- */

/* A file of sealed frames from the fuzzer's; its bytes. */
static size_t seal(const uint8_t *data, size_t size)
{
    static struct frame_batch batch;
    static _Alignas(8) uint8_t memory[FRAME_BYTES_MAX];
    const struct frame_place place = {SERVER, 1};
    struct key_ring_entry *key = key_ring_find(all.ring, SERVER, KEY);
    size_t length = SEGMENT_HEADER_BYTES;
    memcpy(all.file, all.header, length);
    for (uint64_t index = 1; size >= 3; index++) {
        size_t bytes = (size_t)(data[0] | data[1] << 8) % (size - 2) / 8 * 8;
        if (bytes == 0 || length + sizeof(struct frame) + bytes + FRAME_TAG_BYTES > sizeof all.file)
            break;
        struct frame *frame = (void *)memory;
        *frame = (struct frame){.index = index, .key = KEY, .nonce = index, .ordinal = index};
        batch.hour_ms = HOUR;
        batch.bucket = data[2] % FRAME_BUCKETS;
        batch.bytes = bytes;
        memcpy(batch.blocks, data + 3, bytes);
        /* One block with as many events as there is room for, or gaps; else as the fuzzer has it. */
        if (data[2] >= 128 && batch.bucket != FRAME_GAP_BUCKET && bytes > sizeof(struct query_block)) {
            struct query_block *block = (void *)batch.blocks;
            block->count = (uint32_t)((bytes - sizeof *block) / sizeof block->events[0]);
            batch.events = block->count;
        } else {
            batch.events = batch.bucket == FRAME_GAP_BUCKET ? 0 : data[2] / 8;
        }
        size_t sealed = frame_seal(frame, &batch, &place, key->secret, NULL);
        memcpy(all.file + length, memory, sealed);
        length += sealed;
        data += 3 + bytes;
        size -= 3 + bytes;
    }
    return length;
}

struct found {
    const struct disclose_query *query;
    uint64_t records;
    uint64_t gaps;
};

static bool take_record(void *context, const struct disclose_record *record)
{
    struct found *found = context;
    const struct disclose_query *query = found->query;
    fuzz_file_expect(record->server_id == SERVER && record->time_ms >= query->from_ms &&
                     record->time_ms < query->until_ms &&
                     record->time_ms > query->now_ms - query->retention_ms);
    fuzz_file_expect(record->number <= QUERY_EVENT_NUMBER_MASK);
    fuzz_file_expect(query->by != DISCLOSE_NUMBER || record->number == query->number);
    fuzz_file_expect(query->by != DISCLOSE_REQUESTER || record->requester == query->requester);
    found->records++;
    return found->records < 1000;
}

static void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    struct found *found = context;
    fuzz_file_expect(server_id == SERVER && gap->from_ms < found->query->until_ms &&
                     gap->until_ms > found->query->from_ms);
    found->gaps++;
}

static void take_warning(void *context, const char *line)
{
    (void)context;
    fuzz_file_expect(line[0] != '\0' && strchr(line, '\n') == NULL);
}

static void ignore_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    fuzz_file_expect(done <= total);
}

static void disclose(enum mode mode, struct disclose_query *query)
{
    struct fault fault;
    struct found found = {.query = query};
    const struct disclose_target target = {take_record, take_gap, take_warning, ignore_progress, &found};
    struct key_ring_entry *key = key_ring_find(all.ring, SERVER, KEY);
    memset(key->seen, 0, sizeof key->seen);
    query->keys = all.ring;
    fuzz_file_expect(disclose_segments(fuzz_file_folder, query, &target, &fault));
    if (mode != SEALED)
        fuzz_file_expect(found.records == 0 && found.gaps == 0);
}

static void read_segment(enum mode mode, size_t size)
{
    struct disclose_query query = {.from_ms = 0,
                                   .until_ms = UINT64_MAX,
                                   .now_ms = HOUR + FRAME_HOUR_MS,
                                   .retention_ms = 720 * FRAME_HOUR_MS};
    const struct query_block *block = (const void *)(all.file + SEGMENT_HEADER_BYTES + sizeof(struct frame));
    fuzz_file_fill(all.segment_fd, all.file, size);
    query.by = size % 3 == 0 ? DISCLOSE_NUMBER : size % 3 == 1 ? DISCLOSE_REQUESTER : DISCLOSE_IP;
    query.requester = all.file[SEGMENT_HEADER_BYTES] % 4; /* the fuzzer's blocks have small ones */
    if (mode == AS_IT_IS && size >= SEGMENT_HEADER_BYTES + sizeof(struct frame) + sizeof *block)
        query.number = block->requester & QUERY_EVENT_NUMBER_MASK;
    disclose(mode, &query);
}

/* --- keys --- */

static void read_key(enum mode mode, size_t size)
{
    uint64_t retention_ms;
    struct fault fault = {0};
    if (mode == KEY_OF_OFFICER && size >= KEY_FILE_BYTES)
        memcpy(all.file + OFFICER_AT, all.officer.public_key, OFFICER_KEY_BYTES);
    fuzz_file_fill(all.key_fd, all.file, size);
    (void)hour_key_read_retention(all.folder_fd, all.key_name, &retention_ms);
    uint64_t hour_ms = HOUR + 2 * FRAME_HOUR_MS;
    struct key_ring *ring =
        key_ring_open(fuzz_file_folder, &all.officer, hour_ms, hour_ms + FRAME_HOUR_MS, &fault);
    fuzz_file_expect(ring == NULL && fault.status != 0 &&
                     fault.text[0] != '\0'); /* it has no key of that hour */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (all.ring == NULL)
        prepare();
    if (size == 0 || size > sizeof all.file || data[0] >= MODES)
        return -1;
    enum mode mode = (enum mode)data[0];
    data++;
    size--;
    if (mode == SEALED) {
        read_segment(mode, seal(data, size));
        return 0;
    }
    memcpy(all.file, data, size);
    if (mode == WITH_HEADER && size >= SEGMENT_HEADER_BYTES)
        memcpy(all.file, all.header, SEGMENT_HEADER_BYTES);
    if (mode < SEALED)
        read_segment(mode, size);
    else
        read_key(mode, size);
    return 0;
}
