/* What clients want of the feed; see feed_jobs.h. */
#include "persist/registrations/feed_jobs.h"

#include <stdlib.h>
#include <string.h>

#include "hashing/directory.h"
#include "hashing/phone.h"

enum stage { STAGE_ADDING, STAGE_RELEASING, STAGE_UNDOING };

struct feed_move {
    struct feed_pair pair;
    struct record record; /* of the old number, as it was read */
    bool is_under_way;
    uint8_t outcome; /* of its last step */
};

static struct feed_job *create(size_t count)
{
    struct feed_job *job = calloc(1, sizeof *job + count);
    if (job == NULL)
        return NULL;
    job->holders = 2;
    job->count = count;
    return job;
}

struct feed_job *feed_job_create(const struct step *steps, size_t count)
{
    struct feed_job *job = create(count);
    struct step *copy = malloc((count > 0 ? count : 1) * sizeof *copy);
    if (job == NULL || copy == NULL) {
        free(copy);
        free(job);
        return NULL;
    }
    memcpy(copy, steps, count * sizeof *copy);
    job->steps = copy;
    return job;
}

struct feed_job *feed_job_create_moves(const struct feed_pair *pairs, size_t count)
{
    struct feed_job *job = create(count);
    struct feed_move *moves = calloc(count > 0 ? count : 1, sizeof *moves);
    if (job == NULL || moves == NULL) {
        free(moves);
        free(job);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        moves[i].pair = pairs[i];
    job->moves = moves;
    return job;
}

void feed_job_destroy(struct feed_job *job)
{
    if (job == NULL)
        return;
    free(job->steps);
    free(job->moves);
    free(job);
}

static bool append(struct feed_job *job, const struct feed_job_hands *hands, size_t index,
                   const struct step *step)
{
    if (!hands->append(hands->context, job, index, step))
        return false;
    job->open++;
    return true;
}

/* --- steps --- */

static void begin_steps(struct feed_job *job, const struct feed_job_hands *hands)
{
    for (; job->next < job->count; job->next++) {
        const struct step *step = &job->steps[job->next];
        if (phone_check(step->record.number) != PHONE_OK)
            job->results[job->next] = DIRECTORY_INVALID_NUMBER;
        else if (!append(job, hands, job->next, step))
            job->results[job->next] = DIRECTORY_NO_MEMORY;
    }
}

/* --- moves --- */

static bool has_number(const struct feed_move *moves, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        if (moves[i].pair.from == number || moves[i].pair.to == number)
            return true;
    return false;
}

/* How many from `next` on have no number in common. */
static size_t count_together(const struct feed_job *job)
{
    const struct feed_move *moves = job->moves + job->next;
    size_t left = job->count - job->next;
    size_t count = 0;
    while (count < left && count < FEED_MOVES_TOGETHER && !has_number(moves, count, moves[count].pair.from) &&
           !has_number(moves, count, moves[count].pair.to))
        count++;
    return count;
}

/* What is known at once; DIRECTORY_MOVED: it can be tried. */
static enum directory_result judge(struct feed_move *move, const struct feed_job_hands *hands)
{
    struct record there;
    if (phone_check(move->pair.from) != PHONE_OK || phone_check(move->pair.to) != PHONE_OK)
        return DIRECTORY_INVALID_NUMBER;
    if (!hands->read(hands->context, move->pair.from, &move->record))
        return DIRECTORY_ABSENT;
    return hands->read(hands->context, move->pair.to, &there) ? DIRECTORY_OCCUPIED : DIRECTORY_MOVED;
}

static struct step step_of(const struct feed_move *move, enum step_kind kind, uint64_t number)
{
    struct step step = {.kind = kind, .record = move->record};
    step.record.number = number;
    return step;
}

static void begin_moves(struct feed_job *job, const struct feed_job_hands *hands)
{
    job->stage = STAGE_ADDING;
    job->together = count_together(job);
    for (size_t i = job->next; i < job->next + job->together; i++) {
        struct feed_move *move = &job->moves[i];
        enum directory_result result = judge(move, hands);
        struct step step = step_of(move, STEP_ADD, move->pair.to);
        move->is_under_way = result == DIRECTORY_MOVED && append(job, hands, i, &step);
        if (!move->is_under_way)
            job->results[i] = (uint8_t)(result == DIRECTORY_MOVED ? DIRECTORY_NO_MEMORY : result);
    }
}

/* The next step of one whose last one has this outcome. */
static void go_on(struct feed_job *job, const struct feed_job_hands *hands, size_t index)
{
    struct feed_move *move = &job->moves[index];
    bool is_done = true;
    struct step step = {0};
    switch ((enum stage)job->stage) {
    case STAGE_ADDING:
        is_done = move->outcome != DIRECTORY_ADDED;
        job->results[index] = move->outcome;
        step = step_of(move, STEP_RELEASE, move->pair.from);
        break;
    case STAGE_RELEASING:
        is_done = move->outcome == DIRECTORY_REMOVED;
        job->results[index] = DIRECTORY_MOVED;
        step = step_of(move, STEP_RELEASE, move->pair.to);
        break;
    case STAGE_UNDOING:
        job->results[index] = DIRECTORY_NO_MEMORY;
        break;
    }
    move->is_under_way = !is_done && append(job, hands, index, &step);
    if (!is_done && !move->is_under_way) /* half of it is done, and so it stays */
        job->results[index] = DIRECTORY_NO_MEMORY;
}

static void go_on_with_moves(struct feed_job *job, const struct feed_job_hands *hands)
{
    for (size_t i = job->next; i < job->next + job->together; i++)
        if (job->moves[i].is_under_way)
            go_on(job, hands, i);
    if (job->open > 0) {
        job->stage++;
        return;
    }
    job->next += job->together;
    job->together = 0;
}

/* --- all --- */

bool feed_job_advance(struct feed_job *job, const struct feed_job_hands *hands)
{
    while (job->open == 0 && (job->next < job->count || job->together > 0)) {
        if (job->steps != NULL)
            begin_steps(job, hands);
        else if (job->together > 0)
            go_on_with_moves(job, hands);
        else
            begin_moves(job, hands);
    }
    return job->open == 0;
}

void feed_job_settle(struct feed_job *job, size_t index, uint8_t result)
{
    job->open--;
    if (job->moves != NULL)
        job->moves[index].outcome = result;
    else
        job->results[index] = result;
}

void feed_job_cut(struct feed_job *job)
{
    job->count = job->next + job->together;
}
