/* The spool: the segments on disk, written by the drain and, with Redis, emptied by the sink.
 *
 * Without Redis the spool is the query log itself and segments go when they expire. With Redis it is the
 * queue: a segment goes some time after all its frames were confirmed. Either way a segment is removed once its hour is
 * over (frame_hour_over_at), after the key that opens it.
 *
 * Threads: append, write, close_segment and expire from the drain, the reading functions from the sink thread, the figures
 * from any; the list is under one mutex, never held across I/O but for creation and removal of a file. */
#ifndef NUMBERD_PERSIST_QUERYLOG_SPOOL_H
#define NUMBERD_PERSIST_QUERYLOG_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "persist/fault.h"
#include "persist/querylog/erasure.h"
#include "persist/querylog/frame.h"
#include "persist/querylog/segment.h"

struct spool;

struct spool_options {
    const char *folder;
    const uint8_t *officer; /* OFFICER_KEY_BYTES: the public key that the log is sealed to */
    uint64_t server_id;
    uint64_t retention_ms;
    uint64_t bytes_max;      /* appends that would go beyond are refused */
    uint64_t segment_bytes;  /* a new file is begun at this size */
    frame_cipher_fn *cipher; /* NULL: libsodium's */
    bool is_queue;           /* Redis is the log: events count until they are confirmed there */
};

struct spool_figures {
    uint64_t segments;
    uint64_t bytes;
    uint64_t events;         /* of a queue: not yet confirmed; else 0 */
    uint64_t oldest_hour_ms; /* of segments and keys; 0 when there is none */
    uint64_t damaged_bytes;  /* of a queue: behind the last whole frame of segments found at the start */
};

/* Reads the folder; of a queue also the segments found in it, so that their events are known. */
struct spool *spool_open(const struct spool_options *options, struct fault *fault);
void spool_close(struct spool *spool);

/* Seals the batch with the key of its hour, which is made if there is none, as a frame of the group that spool_write will write. False and
 * the fault when the cap is reached (unless told to go beyond it) or no segment can be begun; the same batch may then be tried again.
 * At the cap a queue's open segment is closed once its group is written, so that it can be shipped to its end and make room. Not to be
 * called while spool_must_write. */
bool spool_append(struct spool *spool, const struct frame_batch *batch, bool beyond_cap, struct fault *fault);

/* True when the group must be written before this batch is sealed: it is full, or its segment is. */
bool spool_must_write(struct spool *spool, const struct frame_batch *batch);

/* The batch that was appended last, and not written, is not to be. */
void spool_take_back(struct spool *spool, const struct frame_batch *batch);

/* The group's hour and events; false when there is none. */
bool spool_group(struct spool *spool, uint64_t *hour_ms, uint64_t *events);

/* Appends the group to its segment. False and the fault when the disk refuses; nothing of it is then in the file, and it stays for another
 * try. What was not written when the segment is closed is lost. */
bool spool_write(struct spool *spool, struct fault *fault);

/* True when the hour is over at `now_ms` (frame_hour_over_at). */
bool spool_is_over(const struct spool *spool, uint64_t hour_ms, uint64_t now_ms);

/* Where the frame that was written last ends. */
void spool_position(struct spool *spool, uint64_t *sequence, uint64_t *offset);

/* Of the segments found at the start: calls `found` for the events in frames behind this place, segment by segment; the place
 * moves on behind them all. */
bool spool_count_behind(const struct spool *spool, uint64_t *sequence, uint64_t *offset,
                        void (*found)(void *context, uint64_t hour_ms, uint64_t events), void *context,
                        struct fault *fault);

/* Closes the open segment, so that the sink can finish it. */
void spool_close_segment(struct spool *spool);

/* Removes what is past its time at `now_ms`, keys first, and notes it; returns the events that were never confirmed (0 if no
 * queue). */
uint64_t spool_expire(struct spool *spool, uint64_t now_ms, struct erasures *erased);

/* Where the segments lie; valid until spool_close. */
const char *spool_folder(const struct spool *spool);

/* The first segment with a sequence above `after`; false when there is none. `*open`: it may still grow. */
bool spool_next(struct spool *spool, uint64_t after, struct segment *segment, bool *open);

/* Says that so many more of the segment's events are in Redis, all up to this offset. */
void spool_confirm(struct spool *spool, uint64_t sequence, uint64_t events, uint64_t offset);

/* Says that all of the segment is in Redis. It stays, in case that Redis loses what it has just confirmed, until the sink releases
 * it or its room is needed. */
void spool_keep(struct spool *spool, uint64_t sequence, uint64_t monotonic_ms);

/* Forgets and removes those that were kept at or before `monotonic_ms`, and the oldest until the others have `bytes_max` bytes. */
void spool_release(struct spool *spool, uint64_t monotonic_ms, uint64_t bytes_max);

/* Forgets one that is damaged; its file is set aside (segment.h). */
void spool_set_aside(struct spool *spool, uint64_t sequence);

void spool_figures(struct spool *spool, struct spool_figures *figures);

#endif
