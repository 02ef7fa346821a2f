/* Registrations from one ordered feed that many servers share: Redis Streams are the truth, each server is a copy that follows them, and
 * any of them takes changes, which it appends.
 *
 * Numbers are spread over partitions (feed_entry.h), one stream each (feed_wire.h). A change goes this way:
 *   1. somebody submits a job (feed_jobs.h); its steps wait for the thread, which appends them, many in one entry
 *   2. the thread reads the streams, its own entries among those of others, and waits until what it has read cannot be lost any more
 *   3. it carries the steps out, in the stream's order, and with them how far it has come goes into the journal (feed_state.h)
 *   4. what came of the steps is the job's result: the same that any other server got in the same place
 * So the order of changes to one number is its stream's, on each server; and what is acknowledged is in the streams, on as many replicas as
 * was asked for, and in this server's memory. Steps are never applied ahead of being read.
 *
 * Exactly once. An entry whose reply is lost is sent again, as it was, with all behind it that is not read back; the first one counts.
 * While Redis is away jobs wait, and after FEED_PATIENCE_MS they are decided as unknown, though their entries are sent on until they
 * are read back: they may take effect later. New jobs are not taken then.
 *
 * When Redis has lost what this server has carried out (a failover without WAIT, a restart without a disk), or has trimmed what it has not,
 * following on would make servers differ for good: it stops, says so, and serves what it has, not ready.
 *
 * A node holds all partitions, or some, and then knows nothing of the others: only changes to what it holds may be submitted. What it held
 * before and is to hold no more it removes at its start, after it has seen that another node that is ready holds it (feed_state.h has how that
 * outlives a crash).
 *
 * The thread polls: in rounds, one trip to each of Redis's nodes for all its partitions, and a second one when something was read (in 2).
 * An idle server makes some fifty a second; a job wakes it. One that catches up keeps to a pace
 * (feed_pace.h), in a thread of a low priority that runs before this one and in its place.
 *
 * Concurrency: `state_lock` is held while an entry is carried out and while the state is noted, so that both are one moment in the journal.
 * Jobs come and go under `lock`; a job is the thread's until it is decided, which is published under the lock, and then its submitter's.
 * decided is the greatest ticket below which all are: a submitter that sees it (acquire) finds its job decided.
 * start, stop and destroy: one thread. submit, take, decided, age, note, figures: any. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/record.h"
#include "persist/fault.h"
#include "persist/notice.h"
#include "persist/registrations/feed_jobs.h"
#include "persist/registrations/feed_map.h"
#include "persist/registrations/feed_state.h"

#define FEED_PARTITIONS_DEFAULT 16u
#define FEED_PATIENCE_MS 5000u
#define FEED_CATCH_UP_PERCENT_DEFAULT 25u
/* Steps that may wait in all, 48 bytes each; beyond that no job is taken. */
#define FEED_STEPS_WAITING_MAX (UINT32_C(1) << 20)

struct feed;

struct feed_figures {
    bool is_connected;
    bool is_caught_up;
    bool is_broken;      /* it follows no more, for good */
    char reason[512];    /* why it is not connected or broken */
    unsigned partitions; /* 0: not known yet, and so is the next */
    struct partition_set holds;
    unsigned min_replicas;
    uint64_t age_ms;     /* since all that there was had been read */
    uint64_t lag_ms;     /* of the last entry: from when Redis had it until it was carried out */
    uint64_t lag_ms_max; /* since the start, of entries that came once it had caught up */
    uint64_t entries;    /* carried out */
    uint64_t steps;
    uint64_t repeated; /* entries that were there twice */
    uint64_t waiting;  /* steps that were submitted and not carried out */
    uint64_t rounds;
    uint64_t failures; /* rounds that failed behind one that had not */
};

/* What the feed does to the directory; from its thread, but for note. */
struct feed_hands {
    /* Carries the steps out in their order, with the results by index, and has their effects and the marks in the journal together. False:
     * memory is short, or the journal has failed; some may have been carried out, and all are to come again. */
    bool (*carry_out)(void *context, const struct step *steps, size_t count, uint8_t *results,
                      const struct change *marks, size_t mark_count);
    bool (*read)(void *context, uint64_t number, struct record *record);
    /* Marks for the journal, from whoever calls feed_note. */
    bool (*note)(void *context, const struct change *marks, size_t count);
    /* Jobs have been decided. */
    void (*decided)(void *context);
    /* Once: all that was in the streams at the start has been carried out. */
    void (*caught_up)(void *context, const struct feed_figures *figures);
    /* How this node is, as JSON (feed_map.h); once a second. */
    void (*describe)(void *context, const struct feed_figures *figures, char *text, size_t size);
    /* Who holds what, then; from now on the receiver's, to be freed with free(). */
    void (*learn)(void *context, struct feed_map *map);
    /* Removes what the directory has of these partitions. False: memory is short, or the journal has failed. */
    bool (*purge)(void *context, const struct partition_set *set, unsigned partitions);
    void *context;
};

struct feed_options {
    const char *redis_url;
    unsigned partitions; /* of a feed that is not there yet */
    bool holds_some;     /* only these partitions; else all */
    struct partition_set holds;
    unsigned min_replicas;     /* that must have what is acknowledged */
    unsigned catch_up_percent; /* feed_pace.h */
    bool accounts;
    bool is_empty;            /* the directory has no registrations */
    uint64_t node;            /* this server's id */
    struct feed_state *state; /* as the journal had it; the feed's until its end */
    struct feed_hands hands;
    notice_fn *notice;
};

/* Connects in its thread. NULL with the fault when the URL is none, or memory or threads are short. */
struct feed *feed_start(const struct feed_options *options, struct fault *fault);
/* Waits so long for jobs to be decided; then they are, as unknown, and the thread ends. After it only note, snapshot_written, take and
 * destroy. */
void feed_stop(struct feed *feed, unsigned patience_ms);
void feed_destroy(struct feed *feed);

/* NULL: not now, and nothing of it will be done. The job is decided when feed_decided has reached its ticket; then feed_take it. */
struct feed_job *feed_submit(struct feed *feed, const struct step *steps, size_t count, uint64_t *ticket);
struct feed_job *feed_submit_moves(struct feed *feed, const struct feed_pair *pairs, size_t count,
                                   uint64_t *ticket);
uint64_t feed_decided(const struct feed *feed);
/* Gives the job back, and its results by index, enum directory_result; NULL: of no interest. False: it is unknown what became of it. */
bool feed_take(struct feed *feed, struct feed_job *job, uint8_t *results);

/* Has the whole state in the journal, behind all that is there. False when that fails. */
bool feed_note(struct feed *feed);
/* What was noted last is in a snapshot. */
void feed_snapshot_written(struct feed *feed);

/* For how long the streams may have had something that is not carried out here. */
uint64_t feed_age_ms(const struct feed *feed);

void feed_figures(struct feed *feed, struct feed_figures *figures);

#endif
