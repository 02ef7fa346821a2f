/* Fuzz target: any bytes as what a Redis answers: to a disclosure, to the search for what is overdue, to the sink, to the
 * question what it keeps; and as a URL. hiredis reads them from memory: connecting to it is replaced (--wrap), and commands go
 * to /dev/null.
 *
 * Input: 1 byte: bits 0..2 who asks, bit 3 an option of that; then the answers, in which the bytes 1 to 4 stand for strings
 * with a frame each. */
#include <fcntl.h>
#include <string.h>
#include <sys/time.h>

#include "fuzz_file.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/overdue.h"
#include "persist/querylog/redis_policy.h"
#include "persist/querylog/redis_shipment.h"
#include "persist/redis/redis_route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
redisContext *__wrap_redisConnectUnixWithTimeout(const char *path, const struct timeval timeout);
redisContext *__wrap_redisConnectWithTimeout(const char *host, int port, const struct timeval timeout);
int __wrap_redisSetTimeout(redisContext *link, const struct timeval timeout);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_nanosleep(const struct timespec *length, struct timespec *left);

#define HOUR (UINT64_C(490000) * FRAME_HOUR_MS)
#define SERVER 5u
#define KEY 1u
#define REQUESTER 42u
#define FRAMES 4u
#define FRAME_ROOM 512u
#define ANSWERS_MAX 65536u

enum asker { DISCLOSURE, OVERDUE, SINK, POLICY, URL, ASKERS };

static struct {
    int null_fd;
    FILE *null_file;
    struct officer_pair officer;
    struct key_ring *ring;
    _Alignas(8) uint8_t frames[FRAMES][FRAME_ROOM];
    size_t frame_bytes[FRAMES];
    uint32_t frame_events[FRAMES];
    char answers[ANSWERS_MAX];
    size_t answers_length;
} all;

/* --- the connection --- */

redisContext *__wrap_redisConnectUnixWithTimeout(const char *path, const struct timeval timeout)
{
    (void)path;
    (void)timeout;
    redisContext *link = redisConnectFd(dup(all.null_fd));
    if (link != NULL)
        (void)redisReaderFeed(link->reader, all.answers, all.answers_length);
    return link;
}

/* Whatever node of a cluster the answers name. */
redisContext *__wrap_redisConnectWithTimeout(const char *host, int port, const struct timeval timeout)
{
    fuzz_file_expect(host[0] != '\0' && port > 0 && port <= 65535);
    return __wrap_redisConnectUnixWithTimeout(host, timeout);
}

/* A second has passed whenever somebody looks: who is patient is so for a few tries. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    static time_t seconds;
    (void)clock;
    *now = (struct timespec){.tv_sec = ++seconds};
    return 0;
}

int __wrap_nanosleep(const struct timespec *length, struct timespec *left)
{
    (void)length;
    (void)left;
    return 0;
}

int __wrap_redisSetTimeout(redisContext *link, const struct timeval timeout)
{
    (void)link;
    (void)timeout;
    return REDIS_OK;
}

/* --- once --- */

/* Two frames with a block, one with a gap, and one that nobody has sealed. */
static void make_frames(const uint8_t secret[static FRAME_KEY_BYTES])
{
    static struct frame_batch batch;
    const struct frame_place place = {SERVER, 1};
    for (uint32_t i = 0; i < FRAMES; i++) {
        struct frame *frame = (void *)all.frames[i];
        struct query_block *block = (void *)batch.blocks;
        struct query_gap *gap = (void *)batch.blocks;
        memset(&batch, 0, sizeof batch);
        *frame = (struct frame){.index = i + 1, .key = KEY, .nonce = i + 1, .ordinal = i + 1};
        if (i == 2) {
            *gap = (struct query_gap){.from_ms = HOUR, .until_ms = HOUR + 1, .events = 3};
            batch.bytes = sizeof *gap;
        } else {
            *block = (struct query_block){.time_ms = HOUR + i, .requester = REQUESTER, .count = i + 1};
            batch.bytes = query_block_bytes(block->count, false);
            batch.events = block->count;
        }
        batch.hour_ms = HOUR;
        batch.bucket = i == 2 ? FRAME_GAP_BUCKET : frame_bucket_of(REQUESTER);
        all.frame_bytes[i] = frame_seal(frame, &batch, &place, secret, NULL);
        all.frame_events[i] = batch.events;
    }
    all.frames[FRAMES - 1][all.frame_bytes[FRAMES - 1] - 1] ^= 1;
}

static void prepare(void)
{
    struct fault fault;
    char path[sizeof fuzz_file_folder + 16];
    fuzz_file_make_folder();
    snprintf(path, sizeof path, "%s/test.private", fuzz_file_folder);
    struct hour_key *key = hour_key_create(SERVER, 720 * FRAME_HOUR_MS);
    fuzz_file_expect(officer_make(fuzz_file_folder, "test", false, &fault) &&
                     officer_read_private(path, NULL, &all.officer, &fault) &&
                     hour_key_renew(key, fuzz_file_folder, all.officer.public_key, HOUR, KEY, &fault));
    make_frames(key->secret);
    hour_key_destroy(key);
    all.ring = key_ring_open(fuzz_file_folder, &all.officer, HOUR, HOUR + FRAME_HOUR_MS, &fault);
    all.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    all.null_file = fopen("/dev/null", "we");
    fuzz_file_expect(all.ring != NULL && all.null_fd >= 0 && all.null_file != NULL);
}

/* --- answers --- */

static void put(const void *bytes, size_t length)
{
    if (length > sizeof all.answers - all.answers_length)
        return;
    memcpy(all.answers + all.answers_length, bytes, length);
    all.answers_length += length;
}

static void put_frame(unsigned i)
{
    char head[24];
    put(head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", all.frame_bytes[i]));
    put(all.frames[i], all.frame_bytes[i]);
    put("\r\n", 2);
}

/* hiredis takes memory for as many elements as an array says it has: one of six digits is too much for a fuzzer. */
static bool is_modest(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 6 < size; i++) {
        size_t digits = 0;
        while (data[i] == '*' && i + 1 + digits < size && data[i + 1 + digits] >= '0' &&
               data[i + 1 + digits] <= '9')
            digits++;
        if (digits > 5)
            return false;
    }
    return true;
}

static void make_answers(const uint8_t *data, size_t size)
{
    all.answers_length = 0;
    put("+OK\r\n", 5); /* to SELECT */
    for (size_t i = 0; i < size; i++)
        if (data[i] >= 1 && data[i] <= FRAMES)
            put_frame(data[i] - 1u);
        else
            put(&data[i], 1);
}

static void check_fault(const struct fault *fault)
{
    fuzz_file_expect(fault->status != 0 && fault->text[0] != '\0' && strchr(fault->text, '\n') == NULL);
}

/* --- who asks --- */

static bool take_record(void *context, const struct disclose_record *record)
{
    ++*(uint64_t *)context;
    fuzz_file_expect(record->server_id == SERVER && record->requester == REQUESTER &&
                     record->time_ms >= HOUR && record->time_ms < HOUR + FRAMES);
    return true;
}

static void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    ++*(uint64_t *)context;
    fuzz_file_expect(server_id == SERVER && gap->events == 3);
}

static void take_warning(void *context, const char *line)
{
    (void)context;
    fuzz_file_expect(line[0] != '\0' && strchr(line, '\n') == NULL);
}

static void ignore_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
}

static void disclose(bool by_number)
{
    struct fault fault = {0};
    uint64_t passed = 0;
    const struct disclose_query query = {.keys = all.ring,
                                         .by = by_number ? DISCLOSE_NUMBER : DISCLOSE_REQUESTER,
                                         .requester = REQUESTER,
                                         .from_ms = HOUR,
                                         .until_ms = HOUR + FRAME_HOUR_MS,
                                         .now_ms = HOUR + FRAME_HOUR_MS,
                                         .retention_ms = 720 * FRAME_HOUR_MS};
    const struct disclose_target target = {take_record, take_gap, take_warning, ignore_progress, &passed};
    struct key_ring_entry *key = key_ring_find(all.ring, SERVER, KEY);
    memset(key->seen, 0, sizeof key->seen);
    if (!disclose_redis("unix:///r", &query, &target, &fault))
        check_fault(&fault);
    fuzz_file_expect(passed <= 1 + 2 + 1); /* each frame once: two blocks' events and the gap */
}

static void ignore_notice(enum notice_level level, const char *line)
{
    (void)level;
    fuzz_file_expect(line[0] != '\0' && strchr(line, '\n') == NULL);
}

static struct redis_target the_target(void)
{
    struct redis_target target;
    struct fault fault = {0};
    fuzz_file_expect(redis_target_parse("unix:///r", &target, &fault));
    return target;
}

static void ship(bool second_time)
{
    static _Alignas(8) uint8_t frames[FRAMES * FRAME_ROOM];
    struct fault fault = {0};
    const struct redis_target target = the_target();
    uint64_t expected = 0;
    struct redis_delivery delivery;
    struct redis_shipment shipment = {.route = redis_route_create(&target),
                                      .server_id = SERVER,
                                      .retention_ms = 720 * FRAME_HOUR_MS,
                                      .sequence = 1,
                                      .frames = frames,
                                      .announce_hour_ms = second_time ? 0 : HOUR,
                                      .notice = ignore_notice};
    for (size_t i = 0; i < FRAMES - 1; i++) {
        memcpy(frames + shipment.bytes, all.frames[i], all.frame_bytes[i]);
        shipment.bytes += all.frame_bytes[i];
        expected += second_time && i == 0 ? 0 : all.frame_events[i];
    }
    shipment.confirmed_bytes = second_time ? all.frame_bytes[0] : 0;
    if (redis_shipment_send(&shipment, &delivery, &fault) == REDIS_SHIPPED)
        fuzz_file_expect(delivery.events + delivery.lost == expected &&
                         (fault.status != 0) == delivery.is_unlisted);
    else
        check_fault(&fault);
    redis_route_destroy(shipment.route);
}

static void ask_policy(void)
{
    struct fault fault = {0};
    const struct redis_target target = the_target();
    struct redis_policy policy;
    redisContext *link = redis_link_connect(&target.addresses[0], &target, &fault);
    fuzz_file_expect(link != NULL);
    if (!redis_policy_read(link, &target.addresses[0], &policy, &fault))
        check_fault(&fault);
    fuzz_file_expect(strlen(policy.run_id) < sizeof policy.run_id);
    redisFree(link);
}

static void look_for_overdue(void)
{
    struct fault fault = {0};
    uint64_t found = 0;
    if (!overdue_in_redis("unix:///r", HOUR + 720 * FRAME_HOUR_MS, all.null_file, &found, &fault))
        check_fault(&fault);
}

static void parse_url(const uint8_t *data, size_t size)
{
    char url[512];
    struct fault fault = {0};
    struct redis_target target;
    size_t length = size < sizeof url ? size : sizeof url - 1;
    memcpy(url, data, length);
    url[length] = '\0';
    if (!redis_target_parse(url, &target, &fault)) {
        check_fault(&fault);
        return;
    }
    fuzz_file_expect(target.count > 0 && target.count <= REDIS_ADDRESSES_MAX && target.database >= 0);
    for (unsigned i = 0; i < target.count; i++) {
        const struct redis_address *address = &target.addresses[i];
        fuzz_file_expect(address->host[0] != '\0' && address->port >= 0 && address->port <= 65535);
        fuzz_file_expect(memchr(address->host, 0, sizeof address->host) != NULL);
    }
    fuzz_file_expect(memchr(target.user, 0, sizeof target.user) != NULL &&
                     memchr(target.password, 0, sizeof target.password) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (all.ring == NULL)
        prepare();
    if (size == 0 || (data[0] & 7) >= ASKERS || !is_modest(data, size))
        return -1;
    bool option = (data[0] & 8) != 0;
    make_answers(data + 1, size - 1);
    switch ((enum asker)(data[0] & 7)) {
    case DISCLOSURE:
        disclose(option);
        break;
    case OVERDUE:
        look_for_overdue();
        break;
    case SINK:
        ship(option);
        break;
    case POLICY:
        ask_policy();
        break;
    case URL:
        parse_url(data + 1, size - 1);
        break;
    case ASKERS:
        break;
    }
    return 0;
}
