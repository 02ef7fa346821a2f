/* Reading the query log back: the records of one queried number, or of one requester, or of one IP, in a time window.
 *
 * From the segments of a data directory, or from Redis; each source alone; opened with the keys of a ring (hour_key.h). A record
 * is passed on only when its lookup is less than the retention ago at `now_ms`, to the millisecond, whatever is still stored.
 * Order: by segment or stream, within one worker by time. By requester one bucket of sixteen is read, else all. The caller prints; nothing here does.
 * Memory: one chunk of frames. Redis is asked for named keys only, never SCAN or KEYS. */
#ifndef NUMBERD_PERSIST_QUERYLOG_DISCLOSE_H
#define NUMBERD_PERSIST_QUERYLOG_DISCLOSE_H

#include <stdbool.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/hour_key.h"
#include "ring/event.h"

enum disclose_selector { DISCLOSE_NUMBER, DISCLOSE_REQUESTER, DISCLOSE_IP };

struct disclose_query {
    struct key_ring *keys; /* the caller's */
    enum disclose_selector by;
    uint64_t number; /* a phone key */
    uint64_t requester;
    uint8_t ip
        [16]; /* as in the block, and as much of it: an address is not found in records that have its network */
    enum query_ip ip_kept;
    uint64_t from_ms;  /* first moment */
    uint64_t until_ms; /* first moment after */
    uint64_t now_ms;
    uint64_t retention_ms; /* at most: a key may say less */
};

struct disclose_record {
    uint64_t server_id;
    uint64_t time_ms;
    uint64_t requester;
    const uint8_t *ip; /* 16 bytes, valid during the call */
    enum query_ip ip_kept;
    const uint8_t *via; /* the proxy's IP, 16 bytes, valid during the call; NULL: there was none */
    uint64_t number;
    uint8_t answer; /* enum directory_answer, or 3 for limited */
};

struct disclose_target {
    /* Called for each record; false stops. */
    bool (*record)(void *context, const struct disclose_record *record);
    /* Events of a server that are missing, at least in part in the window. Each gap once. */
    void (*gap)(void *context, uint64_t server_id, const struct query_gap *gap);
    /* A source was damaged, changed, incomplete or unreadable in part; what follows goes on. */
    void (*warning)(void *context, const char *line);
    /* So many of so many segments, or hours of a server in Redis, are read. */
    void (*progress)(void *context, uint64_t done, uint64_t total);
    void *context;
};

bool disclose_segments(const char *folder, const struct disclose_query *query,
                       const struct disclose_target *target, struct fault *fault);

bool disclose_redis(const char *url, const struct disclose_query *query, const struct disclose_target *target,
                    struct fault *fault);

#endif
