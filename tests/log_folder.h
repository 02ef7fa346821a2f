/* A folder with a query log and its officer's key pair, for cmocka tests: batches to append, a spool over it, and what the
 * officer reads in it. */
#ifndef NUMBERD_TESTS_LOG_FOLDER_H
#define NUMBERD_TESTS_LOG_FOLDER_H

#include <time.h>

#include "folder.h"
#include "persist/querylog/disclose.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/officer.h"
#include "persist/querylog/spool.h"
#include "ring/event.h"
#include "unit.h"

#define HOUR_MS FRAME_HOUR_MS
#define RETENTION_MS (720 * HOUR_MS)
#define NUMBER UINT64_C(4915112345678)
#define SERVER_ID UINT64_C(0xabc)

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static struct officer_pair officer;

/* A folder, and in it the officer's key pair. */
static inline int make_log(void **state)
{
    struct fault fault;
    char path[PATH_MAX];
    return make_folder(state) != 0 || !officer_make(folder, "test", false, &fault) ||
           (size_t)snprintf(path, sizeof path, "%s/test.private", folder) >= sizeof path ||
           !officer_read_private(path, NULL, &officer, &fault);
}

/* A batch of one block with `events` events. The caller frees it. */
static inline struct frame_batch *make_batch(uint64_t time_ms, uint64_t requester, uint32_t events)
{
    struct frame_batch *batch = calloc(1, sizeof *batch);
    struct query_block *block = (void *)batch->blocks;
    block->time_ms = time_ms;
    block->requester = requester;
    block->count = events;
    for (uint32_t i = 0; i < events; i++)
        block->events[i] = query_event(NUMBER + i, 1);
    batch->bytes = query_block_bytes(events, false);
    batch->hour_ms = frame_hour_of(time_ms);
    batch->bucket = frame_bucket_of(requester);
    batch->events = events;
    return batch;
}

static inline struct spool *open_spool(uint64_t bytes_max, bool is_queue)
{
    struct fault fault;
    struct spool *spool = spool_open(&(struct spool_options){.folder = folder,
                                                             .officer = officer.public_key,
                                                             .server_id = SERVER_ID,
                                                             .retention_ms = RETENTION_MS,
                                                             .bytes_max = bytes_max,
                                                             .segment_bytes = 4096,
                                                             .is_queue = is_queue},
                                     &fault);
    assert_non_null(spool);
    return spool;
}

static inline bool append(struct spool *spool, uint64_t time_ms, uint64_t requester, uint32_t events,
                          struct fault *fault)
{
    struct frame_batch *batch = make_batch(time_ms, requester, events);
    bool good = spool_append(spool, batch, false, fault) && spool_write(spool, fault);
    free(batch);
    return good;
}

/* As if shipped and no longer kept. */
static inline void drop_segment(struct spool *spool, uint64_t sequence)
{
    spool_keep(spool, sequence, 1);
    spool_confirm(spool, sequence, UINT64_MAX, UINT64_MAX);
    spool_release(spool, 1, UINT64_MAX);
}

struct found {
    uint64_t records;
    uint64_t warnings;
    uint64_t gaps;
    struct disclose_record last;
    struct query_gap last_gap;
};

static inline bool take_record(void *context, const struct disclose_record *record)
{
    struct found *found = context;
    found->records++;
    found->last = *record;
    return true;
}

static inline void take_gap(void *context, uint64_t server_id, const struct query_gap *gap)
{
    struct found *found = context;
    assert_int_equal(server_id, SERVER_ID);
    found->gaps++;
    found->last_gap = *gap;
}

static inline void ignore_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total);
}

static inline void take_warning(void *context, const char *line)
{
    (void)line;
    ((struct found *)context)->warnings++;
}

static inline struct found disclose(struct disclose_query query)
{
    struct fault fault;
    struct found found = {0};
    query.retention_ms = RETENTION_MS;
    query.until_ms = query.until_ms == 0 ? UINT64_MAX : query.until_ms;
    query.now_ms = query.now_ms == 0 ? now_ms() : query.now_ms;
    query.keys = key_ring_open(folder, &officer, query.from_ms, query.until_ms, &fault);
    assert_non_null(query.keys);
    assert_true(disclose_segments(
        folder, &query,
        &(struct disclose_target){take_record, take_gap, take_warning, ignore_progress, &found}, &fault));
    key_ring_close(query.keys);
    return found;
}

#endif
