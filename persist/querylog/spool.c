/* The spool; see spool.h. */
#include "persist/querylog/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "persist/durable.h"
#include "persist/querylog/hour_key.h"

#define SEQUENCE_NAME "sequence"

/* A group is written when it has so many bytes, by one call. (Written frame by frame, at places that fit no page, a log of 64 KiB frames
 * costs the kernel 3.3 to 4 ns for an event, so 1.8; of 1 MiB and more 2.) */
#define GROUP_BYTES (256u << 10)
#define GROUP_BYTES_MAX (GROUP_BYTES + FRAME_BYTES_MAX)

struct spool {
    struct spool_options options;
    char *folder;
    uint64_t last_sequence;
    uint8_t officer[OFFICER_KEY_BYTES];
    /* The drain's own: the key of the hour that was sealed last, and the group: frames of the open segment that are to be written. */
    struct hour_key *key;
    uint8_t *group;
    size_t group_bytes;
    uint64_t group_events;
    /* The open segment; the drain's own. It is the last of the list while fd >= 0. */
    int fd;
    uint64_t next_index;
    /* Under the mutex. */
    pthread_mutex_t mutex;
    struct segment *segments;
    size_t count;
    size_t capacity;
    uint64_t damaged_bytes;
    uint64_t oldest_key_ms; /* hour; 0: none */
    bool last_is_open;
};

/* --- the sequence number, kept in a file so that it never goes back --- */

static uint64_t read_sequence(const char *folder)
{
    char path[PATH_MAX];
    uint64_t sequence = 0;
    if ((size_t)snprintf(path, sizeof path, "%s/" SEQUENCE_NAME, folder) >= sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &sequence) != 1)
        sequence = 0;
    fclose(file);
    return sequence;
}

static bool write_sequence(const char *folder, uint64_t sequence, struct fault *fault)
{
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRIu64 "\n", sequence);
    return durable_write(folder, SEQUENCE_NAME, text, (size_t)length, fault);
}

/* --- opening --- */

#define EXAMINE_BYTES (1u << 20)

/* The events in the frames from `*offset` on, which moves behind the last whole one. */
static uint64_t count_events(int fd, uint64_t *offset, void *buffer)
{
    uint64_t events = 0;
    size_t whole;
    while ((whole = segment_read(fd, offset, buffer, EXAMINE_BYTES)) > 0) {
        for (size_t at = 0; at < whole;) {
            const struct frame *frame = (const void *)((const char *)buffer + at);
            events += frame->events;
            at += sizeof *frame + frame->payload_bytes;
        }
    }
    return events;
}

/* Reads a segment found at the start: its good length and, in it, its events. Returns the bytes behind it. */
static uint64_t examine_segment(const char *folder, struct segment *segment, void *buffer)
{
    struct fault ignored; /* a file that cannot be read counts as empty and goes when it expires */
    int fd = segment_open(folder, segment, NULL, &ignored);
    uint64_t offset = SEGMENT_HEADER_BYTES;
    if (fd >= 0)
        segment->events = count_events(fd, &offset, buffer);
    uint64_t damaged = segment->bytes > offset ? segment->bytes - offset : 0;
    segment->bytes = offset;
    segment->is_torn = damaged > 0 || fd < 0;
    if (fd >= 0)
        close(fd);
    return damaged;
}

static bool examine_segments(struct spool *spool, struct fault *fault)
{
    void *buffer = malloc(EXAMINE_BYTES);
    if (buffer == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for reading the query log");
    for (size_t i = 0; i < spool->count; i++)
        spool->damaged_bytes += examine_segment(spool->folder, &spool->segments[i], buffer);
    free(buffer);
    return true;
}

bool spool_count_behind(const struct spool *spool, uint64_t *sequence, uint64_t *offset,
                        void (*found)(void *context, uint64_t hour_ms, uint64_t events), void *context,
                        struct fault *fault)
{
    void *buffer = malloc(EXAMINE_BYTES);
    if (buffer == NULL)
        return fault_set(fault, EX_OSERR, "out of memory for reading the query log");
    for (size_t i = 0; i < spool->count; i++) {
        const struct segment *segment = &spool->segments[i];
        struct fault ignored; /* as in examine_segment */
        if (segment->sequence < *sequence)
            continue;
        int fd = segment_open(spool->folder, segment, NULL, &ignored);
        uint64_t from = segment->sequence == *sequence ? *offset : SEGMENT_HEADER_BYTES;
        if (fd < 0)
            continue;
        found(context, segment->hour_ms, count_events(fd, &from, buffer));
        close(fd);
    }
    free(buffer);
    *sequence = spool->last_sequence + 1; /* the next segment's, or below it */
    *offset = SEGMENT_HEADER_BYTES;
    return true;
}

/* All of its memory, or NULL. */
static struct spool *create(const struct spool_options *options)
{
    struct spool *spool = calloc(1, sizeof *spool);
    if (spool == NULL)
        return NULL;
    *spool = (struct spool){.options = *options, .folder = strdup(options->folder), .fd = -1};
    spool->options.folder = spool->folder;
    memcpy(spool->officer, options->officer, sizeof spool->officer);
    spool->options.officer = spool->officer;
    spool->key = hour_key_create(options->server_id, options->retention_ms);
    spool->group = malloc(GROUP_BYTES_MAX);
    pthread_mutex_init(&spool->mutex, NULL);
    if (spool->folder != NULL && spool->key != NULL && spool->group != NULL)
        return spool;
    spool_close(spool);
    return NULL;
}

struct spool *spool_open(const struct spool_options *options, struct fault *fault)
{
    struct spool *spool = create(options);
    if (spool == NULL) {
        fault_set(fault, EX_OSERR, "out of memory for the query log");
        return NULL;
    }
    if (!segment_list(spool->folder, &spool->segments, &spool->count, fault) ||
        (options->is_queue && !examine_segments(spool, fault))) {
        spool_close(spool);
        return NULL;
    }
    spool->capacity = spool->count;
    spool->last_sequence = read_sequence(spool->folder);
    if (spool->count > 0 && spool->segments[spool->count - 1].sequence > spool->last_sequence)
        spool->last_sequence = spool->segments[spool->count - 1].sequence;
    return spool;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    spool_close_segment(spool);
    pthread_mutex_destroy(&spool->mutex);
    hour_key_destroy(spool->key);
    free(spool->group);
    free(spool->segments);
    free(spool->folder);
    free(spool);
}

/* --- the drain's side --- */

void spool_close_segment(struct spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    spool->fd = -1;
    spool->group_bytes = 0;
    spool->group_events = 0;
    pthread_mutex_lock(&spool->mutex);
    spool->last_is_open = false;
    pthread_mutex_unlock(&spool->mutex);
}

/* Makes room for one more in the list; the mutex is held. */
static bool reserve_entry(struct spool *spool)
{
    if (spool->count < spool->capacity)
        return true;
    size_t capacity = spool->capacity == 0 ? 64 : spool->capacity * 2;
    struct segment *grown = realloc(spool->segments, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    spool->segments = grown;
    spool->capacity = capacity;
    return true;
}

/* Sequence numbers are the time, in ms since 1970, unless the last one was later: so they grow even where the
 * file that keeps the last one was lost or came back from a backup. */
static uint64_t next_sequence(const struct spool *spool)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return now_ms > spool->last_sequence ? now_ms : spool->last_sequence + 1;
}

static bool begin_segment(struct spool *spool, uint64_t hour_ms, struct fault *fault)
{
    struct segment segment = {
        .sequence = next_sequence(spool), .hour_ms = hour_ms, .bytes = SEGMENT_HEADER_BYTES};
    if (!write_sequence(spool->folder, segment.sequence, fault) ||
        (spool->key->hour_ms != hour_ms &&
         !hour_key_renew(spool->key, spool->folder, spool->officer, hour_ms, segment.sequence, fault)))
        return false;
    int fd = segment_create(spool->folder, &segment, spool->options.server_id, fault);
    if (fd < 0)
        return false;
    pthread_mutex_lock(&spool->mutex);
    bool listed = reserve_entry(spool);
    if (listed) {
        spool->segments[spool->count++] = segment;
        spool->last_is_open = true;
    }
    pthread_mutex_unlock(&spool->mutex);
    if (!listed) {
        close(fd);
        segment_remove(spool->folder, &segment);
        return fault_set(fault, EX_OSERR, "out of memory for the list of query log segments");
    }
    spool->last_sequence = segment.sequence;
    spool->fd = fd;
    spool->next_index = 1;
    return true;
}

/* Appends all bytes or none: what a failed write left is cut off again. */
static bool write_whole(struct spool *spool, const void *bytes, size_t length, uint64_t offset,
                        struct fault *fault)
{
    size_t done = 0;
    while (done < length) {
        ssize_t wrote = pwrite(spool->fd, (const char *)bytes + done, length - done, (off_t)(offset + done));
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            int error = errno;
            if (ftruncate(spool->fd, (off_t)offset) != 0)
                error = errno;
            return fault_set(fault, EX_IOERR,
                             "cannot write the query log in %s: %s; free space or repair the disk",
                             spool->folder, strerror(error));
        }
        done += (size_t)wrote;
    }
    return true;
}

/* The open segment as it is listed; the drain is the only one who changes it. */
static struct segment open_segment(struct spool *spool)
{
    pthread_mutex_lock(&spool->mutex);
    struct segment segment = spool->segments[spool->count - 1];
    pthread_mutex_unlock(&spool->mutex);
    return segment;
}

/* What was shipped and is kept makes room. */
static bool is_beyond_cap(struct spool *spool, size_t more)
{
    more += spool->group_bytes;
    struct spool_figures figures;
    spool_figures(spool, &figures);
    if (figures.bytes + more <= spool->options.bytes_max)
        return false;
    spool_release(spool, 0, 0);
    spool_figures(spool, &figures);
    return figures.bytes + more > spool->options.bytes_max;
}

/* Behind the group. */
static void seal(struct spool *spool, const struct frame_batch *batch, uint64_t sequence)
{
    struct hour_key *key = spool->key;
    struct frame *frame = (void *)(spool->group + spool->group_bytes); /* all sizes are multiples of 8 */
    frame->index = spool->next_index++;
    frame->key = key->number;
    frame->nonce = ++key->nonce;
    frame->ordinal = ++key->ordinals[batch->bucket];
    spool->group_bytes += frame_seal(frame, batch, &(struct frame_place){spool->options.server_id, sequence},
                                     key->secret, spool->options.cipher);
    spool->group_events += batch->events;
}

/* Each time that so much was written, its way to the disk is begun, and what is there already leaves the kernel's cache: nobody reads a
 * segment soon, unless it is on its way to Redis. So the log takes the same few pages again and again, where it else fills all memory with
 * what it wrote; a virtual machine whose host has to find each page first pays for that. (6 million lookups a second, 16 a request, in the
 * middle of a long run: p99 0.85 ms, without this 2.5; at 37 million a second none of 340 million events was lost, without 370,000 of 680
 * million. With 4 MiB at a time p99 was 1.3 ms, with 512 KiB events were lost.) */
#define LET_GO_BYTES (UINT64_C(1) << 20)

static void let_go(const struct spool *spool, uint64_t before, uint64_t after)
{
    if (!spool->options.is_queue && before / LET_GO_BYTES != after / LET_GO_BYTES)
        (void)posix_fadvise(spool->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* The open segment, the group included, is of another hour or has its size. */
static bool is_to_be_closed(struct spool *spool, uint64_t hour_ms)
{
    struct segment segment = open_segment(spool);
    return segment.hour_ms != hour_ms || segment.bytes + spool->group_bytes >= spool->options.segment_bytes;
}

bool spool_group(struct spool *spool, uint64_t *hour_ms, uint64_t *events)
{
    if (spool->group_bytes == 0)
        return false;
    *hour_ms = open_segment(spool).hour_ms;
    *events = spool->group_events;
    return true;
}

bool spool_must_write(struct spool *spool, const struct frame_batch *batch)
{
    return spool->group_bytes >= GROUP_BYTES ||
           (spool->group_bytes > 0 && is_to_be_closed(spool, batch->hour_ms));
}

bool spool_append(struct spool *spool, const struct frame_batch *batch, bool beyond_cap, struct fault *fault)
{
    assert(!spool_must_write(spool, batch));
    if (!beyond_cap && is_beyond_cap(spool, frame_sealed_bytes(batch))) {
        if (spool->options.is_queue && spool->group_bytes == 0)
            spool_close_segment(spool);
        return fault_set(fault, EX_UNAVAILABLE,
                         "the query log in %s has reached its cap of %" PRIu64
                         " bytes; raise --query-log-bytes or bring Redis back",
                         spool->folder, spool->options.bytes_max);
    }
    if (spool->fd >= 0 && is_to_be_closed(spool, batch->hour_ms))
        spool_close_segment(spool);
    if (spool->fd < 0 && !begin_segment(spool, batch->hour_ms, fault))
        return false;
    seal(spool, batch, spool->last_sequence);
    return true;
}

void spool_take_back(struct spool *spool, const struct frame_batch *batch)
{
    spool->group_bytes -= frame_sealed_bytes(batch);
    spool->group_events -= batch->events;
    spool->next_index--;
    spool->key->ordinals[batch->bucket]--;
}

bool spool_write(struct spool *spool, struct fault *fault)
{
    if (spool->group_bytes == 0)
        return true;
    struct segment segment = open_segment(spool);
    if (!write_whole(spool, spool->group, spool->group_bytes, segment.bytes, fault))
        return false;
    let_go(spool, segment.bytes, segment.bytes + spool->group_bytes);
    pthread_mutex_lock(&spool->mutex);
    spool->segments[spool->count - 1].bytes += spool->group_bytes;
    if (spool->options.is_queue)
        spool->segments[spool->count - 1].events += spool->group_events;
    pthread_mutex_unlock(&spool->mutex);
    spool->group_bytes = 0;
    spool->group_events = 0;
    return true;
}

bool spool_is_over(const struct spool *spool, uint64_t hour_ms, uint64_t now_ms)
{
    return frame_hour_over_at(hour_ms, spool->options.retention_ms) <= now_ms;
}

void spool_position(struct spool *spool, uint64_t *sequence, uint64_t *offset)
{
    struct segment segment = open_segment(spool);
    *sequence = segment.sequence;
    *offset = segment.bytes;
}

/* Removes entry `i`; the mutex is held. */
static void drop_entry(struct spool *spool, size_t i)
{
    memmove(&spool->segments[i], &spool->segments[i + 1], (spool->count - i - 1) * sizeof *spool->segments);
    spool->count--;
}

uint64_t spool_expire(struct spool *spool, uint64_t now_ms, struct erasures *erased)
{
    uint64_t events = 0;
    uint64_t oldest_key_ms = hour_keys_expire(spool->folder, spool->options.retention_ms, now_ms, erased);
    segment_expire_set_aside(spool->folder, spool->options.retention_ms, now_ms);
    if (spool->key->hour_ms != 0 && spool_is_over(spool, spool->key->hour_ms, now_ms)) {
        spool_close_segment(spool);
        hour_key_forget(spool->key);
    }
    pthread_mutex_lock(&spool->mutex);
    spool->oldest_key_ms = oldest_key_ms;
    for (size_t i = 0; i < spool->count;) {
        struct segment *segment = &spool->segments[i];
        /* One that cannot be removed stays in the list, and is tried again. */
        if (!spool_is_over(spool, segment->hour_ms, now_ms) ||
            (!segment_remove(spool->folder, segment) && errno != ENOENT)) {
            i++;
            continue;
        }
        erasures_note(erased,
                      &(struct erasure){.hour_ms = segment->hour_ms, .segments = 1, .bytes = segment->bytes});
        events += segment->events;
        drop_entry(spool, i);
    }
    pthread_mutex_unlock(&spool->mutex);
    return events;
}

/* --- the sink's side --- */

const char *spool_folder(const struct spool *spool)
{
    return spool->folder;
}

bool spool_next(struct spool *spool, uint64_t after, struct segment *segment, bool *open)
{
    bool found = false;
    pthread_mutex_lock(&spool->mutex);
    for (size_t i = 0; i < spool->count && !found; i++) {
        if (spool->segments[i].sequence > after) {
            *segment = spool->segments[i];
            *open = spool->last_is_open && i == spool->count - 1;
            found = true;
        }
    }
    pthread_mutex_unlock(&spool->mutex);
    return found;
}

/* The entry of this sequence or NULL; the mutex is held. */
static struct segment *find_entry(struct spool *spool, uint64_t sequence)
{
    for (size_t i = 0; i < spool->count; i++)
        if (spool->segments[i].sequence == sequence)
            return &spool->segments[i];
    return NULL;
}

void spool_confirm(struct spool *spool, uint64_t sequence, uint64_t events, uint64_t offset)
{
    pthread_mutex_lock(&spool->mutex);
    struct segment *segment = find_entry(spool, sequence);
    if (segment != NULL) {
        segment->events -= events < segment->events ? events : segment->events;
        segment->confirmed_to = offset > segment->confirmed_to ? offset : segment->confirmed_to;
    }
    pthread_mutex_unlock(&spool->mutex);
}

void spool_keep(struct spool *spool, uint64_t sequence, uint64_t monotonic_ms)
{
    pthread_mutex_lock(&spool->mutex);
    struct segment *segment = find_entry(spool, sequence);
    if (segment != NULL)
        segment->shipped_ms = monotonic_ms;
    pthread_mutex_unlock(&spool->mutex);
}

void spool_release(struct spool *spool, uint64_t monotonic_ms, uint64_t bytes_max)
{
    uint64_t kept = 0;
    pthread_mutex_lock(&spool->mutex);
    for (size_t i = 0; i < spool->count; i++)
        kept += spool->segments[i].shipped_ms != 0 ? spool->segments[i].bytes : 0;
    for (size_t i = 0; i < spool->count;) {
        const struct segment *segment = &spool->segments[i];
        if (segment->shipped_ms == 0 || (segment->shipped_ms > monotonic_ms && kept <= bytes_max)) {
            i++;
            continue;
        }
        kept -= segment->bytes;
        segment_remove(spool->folder, segment);
        drop_entry(spool, i);
    }
    pthread_mutex_unlock(&spool->mutex);
}

void spool_set_aside(struct spool *spool, uint64_t sequence)
{
    pthread_mutex_lock(&spool->mutex);
    const struct segment *segment = find_entry(spool, sequence);
    if (segment != NULL) {
        segment_set_aside(spool->folder, segment);
        drop_entry(spool, (size_t)(segment - spool->segments));
    }
    pthread_mutex_unlock(&spool->mutex);
}

void spool_figures(struct spool *spool, struct spool_figures *figures)
{
    *figures = (struct spool_figures){0};
    pthread_mutex_lock(&spool->mutex);
    figures->segments = spool->count;
    figures->damaged_bytes = spool->damaged_bytes;
    figures->oldest_hour_ms = spool->oldest_key_ms;
    for (size_t i = 0; i < spool->count; i++) {
        const struct segment *segment = &spool->segments[i];
        figures->bytes += segment->bytes;
        figures->events += segment->events;
        if (figures->oldest_hour_ms == 0 || segment->hour_ms < figures->oldest_hour_ms)
            figures->oldest_hour_ms = segment->hour_ms;
    }
    pthread_mutex_unlock(&spool->mutex);
}
