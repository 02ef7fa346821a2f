/* What clients want of the feed (feed.h), and how far each of it has come: the steps that are to be appended, and what came of them.
 *
 * A job is one request. Steps of one job that concern one number are appended in the job's order. A move takes several steps, since
 * the two numbers may be in two partitions, which have no common order:
 *   1. the old number is read: not registered is ABSENT; the new one is: OCCUPIED
 *   2. STEP_ADD of the new number with the old one's record
 *   3. when that has been carried out here, STEP_RELEASE of the old number. Wherever the entry is read, what was carried out here before it
 *      was appended comes first (feed_entry.h, dependencies), so that on no node neither of the two is registered.
 *   4. the old number was changed by somebody else in between: STEP_RELEASE of the new one again, and the move is refused: it may be
 *      repeated. Until then both were registered.
 * A move whose node dies between 2 and 3, which nobody had an answer of, leaves both registered.
 * Moves of one job are made together as long as no number is in two of them, and at most FEED_MOVES_TOGETHER.
 *
 * One thread at a time, but for what is said at the members. */
#ifndef NUMBERD_PERSIST_REGISTRATIONS_FEED_JOBS_H
#define NUMBERD_PERSIST_REGISTRATIONS_FEED_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "hashing/record.h"

#define FEED_MOVES_TOGETHER 128u

struct feed_pair {
    uint64_t from;
    uint64_t to;
};

struct feed_move;

struct feed_job {
    TAILQ_ENTRY(feed_job) link;
    uint64_t ticket;
    uint64_t submitted_ms;
    /* For the feed's mutex. */
    unsigned holders;
    bool is_decided; /* the results stay as they are from now on */
    bool is_unknown; /* ... but what became of the request nobody knows, or only of a part */
    /* The thread's. */
    size_t count;
    size_t open; /* steps that are to be appended or under way */
    size_t next; /* entry that was not begun */
    struct step *steps;
    struct feed_move *moves; /* instead */
    unsigned stage;          /* of the moves that are under way */
    size_t together;         /* how many these are, behind `next` */
    uint8_t results[];       /* enum directory_result */
};

/* What a job needs. */
struct feed_job_hands {
    /* Whether the number is registered here, and how. */
    bool (*read)(void *context, uint64_t number, struct record *record);
    /* Has the step appended; feed_job_settle will be called with the index. False: memory is short. */
    bool (*append)(void *context, struct feed_job *job, size_t index, const struct step *step);
    void *context;
};

/* Copies what it is given; two holders. NULL when memory is short. */
struct feed_job *feed_job_create(const struct step *steps, size_t count);
struct feed_job *feed_job_create_moves(const struct feed_pair *pairs, size_t count);
void feed_job_destroy(struct feed_job *job);

/* While no step is open: begins what comes next. True when all is done. Where memory is short for appending, the entry's result is
 * DIRECTORY_NO_MEMORY: nothing of it was done. */
bool feed_job_advance(struct feed_job *job, const struct feed_job_hands *hands);

/* What is under way comes to its end; nothing more is begun. */
void feed_job_cut(struct feed_job *job);

/* A step has been carried out. */
void feed_job_settle(struct feed_job *job, size_t index, uint8_t result);

#endif
