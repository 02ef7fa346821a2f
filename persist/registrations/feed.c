/* Registrations from one ordered feed; see feed.h. */
#include "persist/registrations/feed.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "hashing/directory.h"
#include "persist/clock.h"
#include "persist/priority.h"
#include "persist/registrations/feed_leaving.h"
#include "persist/registrations/feed_map.h"
#include "persist/registrations/feed_pace.h"
#include "persist/registrations/feed_queue.h"
#include "persist/registrations/feed_wire.h"

/* Between two rounds with nothing to do: soon after there was something, and else. */
#define NAP_MS 2
#define IDLE_NAP_MS 20
#define BUSY_MS 200
/* After a round that failed, and while replicas do not follow. */
#define RETRY_MS 100
/* Where the node is, is written so often at least. */
#define BEAT_MS 1000
#define FEED_DESCRIPTION_BYTES 2048

TAILQ_HEAD(job_queue, feed_job);

struct feed {
    struct feed_options options;
    struct feed_state *state; /* under state_lock */
    pthread_mutex_t state_lock;
    struct feed_position noted[FEED_PARTITIONS_MAX]; /* under state_lock, as the next two */
    struct feed_position in_snapshot[FEED_PARTITIONS_MAX];
    struct feed_position needed[FEED_PARTITIONS_MAX]; /* of the snapshot before it */
    uint64_t snapshots;                               /* that were written; under state_lock */
    /* The thread's. */
    uint64_t trimmed; /* as many of them as there were when the streams were trimmed last */
    struct feed_wire *wire;
    /* Of the partitions that are held, in their order. */
    struct feed_lane *lanes;
    struct feed_queue *queues;
    unsigned count; /* of both; 0: not known yet */
    unsigned lane_of[FEED_PARTITIONS_MAX];
    bool has_said_followed; /* to the other nodes */
    bool has_described;
    struct job_queue jobs; /* by their tickets; those that are done are not among them */
    uint64_t taken;        /* ticket of the last one that was taken */
    uint64_t begun_ms;     /* the round */
    uint64_t beat_ms;
    uint64_t busy_ms; /* when there was something */
    struct feed_pace pace;
    bool is_good;            /* not broken */
    bool has_noticed;        /* that Redis is away */
    bool has_taken;          /* carried something out in this round */
    struct feed_entry entry; /* that is being carried out, or encoded */
    pthread_t thread;
    _Atomic uint64_t decided;
    _Atomic uint64_t read_ms; /* when a round began that has read all there was; monotonic */
    _Atomic uint64_t waiting; /* steps */
    pthread_mutex_t lock;
    pthread_cond_t woken;
    /* Under the lock. */
    struct job_queue submitted;
    uint64_t ticket;
    bool is_refusing; /* the last round failed */
    bool is_stopping;
    uint64_t stop_ms;
    struct feed_figures figures;
};

static uint64_t now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

/* --- what is to be appended --- */

static bool read_number(void *context, uint64_t number, struct record *record)
{
    struct feed *feed = context;
    return feed->options.hands.read(feed->options.hands.context, number, record);
}

/* Only what is held is submitted. */
static bool append_step(void *context, struct feed_job *job, size_t index, const struct step *step)
{
    struct feed *feed = context;
    unsigned partition = partition_of(step->record.number, feed->state->partitions);
    if (!feed->options.holds.has[partition] ||
        !feed_queue_append(&feed->queues[feed->lane_of[partition]], job, index, step))
        return false;
    atomic_fetch_add(&feed->waiting, 1);
    return true;
}

static void load_lane(struct feed *feed, unsigned number)
{
    assert(feed->lanes != NULL);
    struct feed_lane *lane = &feed->lanes[number];
    lane->position = feed->state->progress[lane->partition].position;
    lane->read_most = feed->pace.most;
    feed_queue_load(&feed->queues[number], lane, feed->state, &feed->entry);
}

/* --- what was read --- */

/* Of what was on its way nobody knows; and what has waited for half a day is given up. */
static void send_again(struct feed *feed)
{
    for (unsigned i = 0; i < feed->count; i++) {
        feed_queue_send_again(&feed->queues[i]);
        atomic_fetch_sub(&feed->waiting, feed_queue_give_up_old(&feed->queues[i]));
    }
}

static void count_entry(struct feed *feed, uint64_t ms, bool is_new)
{
    uint64_t now = clock_ms(CLOCK_REALTIME);
    pthread_mutex_lock(&feed->lock);
    struct feed_figures *figures = &feed->figures;
    figures->entries++;
    figures->repeated += !is_new;
    figures->steps += is_new ? feed->entry.count : 0;
    if (figures->is_caught_up)
        figures->lag_ms = now > ms ? now - ms : 0;
    if (figures->lag_ms > figures->lag_ms_max)
        figures->lag_ms_max = figures->lag_ms;
    pthread_mutex_unlock(&feed->lock);
}

/* Carries feed->entry out. False: memory is short. */
static bool carry_out(struct feed *feed, unsigned number, const struct feed_position *position)
{
    unsigned partition = feed->lanes[number].partition;
    const struct feed_hands *hands = &feed->options.hands;
    const struct feed_entry *entry = &feed->entry;
    uint8_t results[FEED_STEPS_MAX];
    struct change marks[FEED_ENTRY_MARKS];
    pthread_mutex_lock(&feed->state_lock);
    bool is_new = feed_state_is_new(feed->state, partition, entry);
    size_t mark_count = feed_state_entry_marks(marks, partition, entry, position, is_new);
    bool good =
        feed_state_reserve(feed->state, partition) &&
        hands->carry_out(hands->context, entry->steps, is_new ? entry->count : 0, results, marks, mark_count);
    if (good)
        feed_state_advance(feed->state, partition, entry, position, is_new);
    pthread_mutex_unlock(&feed->state_lock);
    if (!good)
        return false;
    feed->has_taken = true;
    if (is_new)
        atomic_fetch_sub(&feed->waiting, feed_queue_settle(&feed->queues[number], entry, results));
    count_entry(feed, position->ms, is_new);
    return true;
}

/* [id, [field, value]] into feed->entry. */
static bool decode(struct feed *feed, const redisReply *reply, struct feed_position *position)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return false;
    const char *id = redis_link_text(reply->element[0]);
    const redisReply *fields = reply->element[1];
    return id != NULL && feed_position_parse(id, position) && fields->type == REDIS_REPLY_ARRAY &&
           fields->elements == 2 && redis_link_text(fields->element[1]) != NULL &&
           feed_entry_decode(&feed->entry, (const uint8_t *)fields->element[1]->str, fields->element[1]->len,
                             feed->state->partitions);
}

/* Of what is not held nothing can be missing. */
static bool is_reached(const struct feed *feed)
{
    for (unsigned i = 0; i < feed->entry.dependencies; i++)
        if (feed->options.holds.has[i] &&
            feed_position_compare(&feed->entry.after[i], &feed->state->progress[i].position) > 0)
            return false;
    return true;
}

enum taking { TAKEN_ALL, TAKEN_SOME, TAKEN_NONE, TAKEN_BROKEN };

/* Carries out what the lane has read, as far as it may be, behind `*done` entries. */
static enum taking take_lane(struct feed *feed, unsigned number, size_t *done, struct fault *fault)
{
    const struct feed_lane *lane = &feed->lanes[number];
    size_t before = *done;
    for (; *done < lane->read->elements; ++*done) {
        struct feed_position position;
        if (!decode(feed, lane->read->element[*done], &position)) {
            fault_set(fault, EX_DATAERR, "%s in Redis has an entry that is none of this version's",
                      lane->key);
            return TAKEN_BROKEN;
        }
        if (!is_reached(feed) || !carry_out(feed, number, &position))
            return *done > before ? TAKEN_SOME : TAKEN_NONE;
    }
    return TAKEN_ALL;
}

/* Round and round, since what one waits for may be behind what another has. False: broken. */
static bool take_lanes(struct feed *feed, struct fault *fault)
{
    size_t done[FEED_PARTITIONS_MAX] = {0};
    bool again = true;
    while (again) {
        again = false;
        for (unsigned i = 0; i < feed->count; i++) {
            struct feed_lane *lane = &feed->lanes[i];
            if (lane->read == NULL || !lane->is_confirmed || done[i] == lane->read->elements)
                continue;
            enum taking taking = take_lane(feed, i, &done[i], fault);
            if (taking == TAKEN_BROKEN)
                return false;
            lane->has_more = lane->has_more || taking != TAKEN_ALL;
            again = again || taking == TAKEN_SOME || taking == TAKEN_ALL;
        }
    }
    return true;
}

/* --- a round --- */

static bool make_lanes(struct feed *feed)
{
    unsigned count = partition_set_count(&feed->options.holds, feed->state->partitions);
    feed->lanes = calloc(count, sizeof *feed->lanes);
    feed->queues = calloc(count, sizeof *feed->queues);
    if (feed->lanes == NULL || feed->queues == NULL) {
        free(feed->lanes);
        free(feed->queues);
        feed->lanes = NULL;
        feed->queues = NULL;
        return false;
    }
    for (unsigned i = 0; i < feed->state->partitions; i++) {
        if (!feed->options.holds.has[i])
            continue;
        feed->lane_of[i] = feed->count;
        feed_wire_init_lane(&feed->lanes[feed->count], i);
        feed_queue_init(&feed->queues[feed->count++]);
    }
    return true;
}

/* All that are held must be there; those that are not named by number are all. */
static bool judge_holds(struct feed *feed, unsigned partitions, struct fault *fault)
{
    struct partition_set *holds = &feed->options.holds;
    if (!feed->options.holds_some) {
        for (unsigned i = 0; i < PARTITIONS_MAX; i++)
            holds->has[i] = i < partitions;
        return true;
    }
    return partition_set_count(holds, PARTITIONS_MAX) == partition_set_count(holds, partitions) ||
           fault_set(fault, EX_CONFIG,
                     "--holds names partitions beyond the last one of the feed, which is %u", partitions - 1);
}

static bool judge_shape(struct feed *feed, const struct feed_shape *shape, struct fault *fault)
{
    const struct feed_state *state = feed->state;
    if (shape->accounts != feed->options.accounts)
        return fault_set(fault, EX_CONFIG, "the feed in Redis has %s: start with --accounts %s",
                         shape->accounts ? "account ids" : "no account ids", shape->accounts ? "yes" : "no");
    if (state->has_failed)
        return fault_set(fault, EX_OSERR, "out of memory for how far the feed has been read");
    if (state->feed == 0 && !feed->options.is_empty)
        return fault_set(
            fault, EX_DATAERR,
            "the data directory has registrations that come from no feed: start with an empty one, "
            "and import them");
    if (state->feed != 0 && (state->feed != shape->feed || state->partitions != shape->partitions))
        return fault_set(fault, EX_DATAERR,
                         "the data directory's registrations are of another feed than the one in Redis: name "
                         "that one's Redis, or start with an empty data directory");
    return judge_holds(feed, shape->partitions, fault);
}

/* Says how this node is, and hears how the others are: where that is not possible all else goes on. */
static void describe(struct feed *feed)
{
    char text[FEED_DESCRIPTION_BYTES];
    struct feed_figures figures;
    struct fault ignored;
    uint64_t version;
    const struct feed_hands *hands = &feed->options.hands;
    feed_figures(feed, &figures);
    bool is_news = !feed->has_described || figures.is_caught_up != feed->has_said_followed;
    hands->describe(hands->context, &figures, text, sizeof text);
    if (!feed_wire_describe(feed->wire, text, is_news, &version, &ignored))
        return;
    feed->has_described = true;
    feed->has_said_followed = figures.is_caught_up;
    struct feed_map *map =
        feed_wire_read_map(feed->wire, feed->state->feed, feed->state->partitions, version, &ignored);
    if (map != NULL)
        hands->learn(hands->context, map);
}

/* Once: which feed it is. */
static bool meet(struct feed *feed, struct fault *fault)
{
    struct feed_shape shape = {.partitions = feed->options.partitions, .accounts = feed->options.accounts};
    if (feed->count > 0)
        return true;
    if (getrandom(&shape.feed, sizeof shape.feed, 0) != sizeof shape.feed || shape.feed == 0)
        return fault_set(fault, EX_OSERR, "the system gave no random number");
    if (!feed_wire_learn_shape(feed->wire, &shape, fault) || !judge_shape(feed, &shape, fault))
        return false;
    pthread_mutex_lock(&feed->state_lock);
    feed->state->feed = shape.feed;
    feed->state->partitions = shape.partitions;
    pthread_mutex_unlock(&feed->state_lock);
    pthread_mutex_lock(&feed->lock);
    feed->figures.partitions = shape.partitions;
    feed->figures.holds = feed->options.holds;
    pthread_mutex_unlock(&feed->lock);
    if (now_ms() >=
        feed->beat_ms + BEAT_MS) { /* others must not think that this node is what it was before */
        describe(feed);
        feed->beat_ms = now_ms();
    }
    if (!feed_leave(feed->wire, feed->state, &feed->state_lock, &feed->options, fault))
        return false;
    pthread_mutex_lock(&feed->state_lock);
    for (unsigned i = 0; i < shape.partitions; i++)
        if (feed->options.holds.has[i])
            feed_state_follow(feed->state, i);
    pthread_mutex_unlock(&feed->state_lock);
    if (!feed_note(feed) || !make_lanes(feed))
        return fault_set(fault, EX_OSERR, "out of memory for the feed of registrations");
    return true;
}

/* As of how many snapshots. */
static uint64_t take_needs(struct feed *feed)
{
    pthread_mutex_lock(&feed->state_lock);
    for (unsigned i = 0; i < feed->count; i++)
        feed->lanes[i].needed = feed->needed[feed->lanes[i].partition];
    uint64_t snapshots = feed->snapshots;
    pthread_mutex_unlock(&feed->state_lock);
    return snapshots;
}

/* With the positions written that it goes by. */
static bool trim(struct feed *feed, uint64_t snapshots, struct fault *fault)
{
    for (unsigned i = 0; i < feed->count; i++)
        if (!feed_wire_trim(feed->wire, &feed->lanes[i], fault))
            return false;
    feed->trimmed = snapshots; /* not those that were written meanwhile */
    return true;
}

/* To Redis and back. False with the fault; EX_DATAERR and EX_CONFIG are for good. */
static bool round_trip(struct feed *feed, struct fault *fault)
{
    uint64_t snapshots = feed->trimmed;
    feed->has_taken = false;
    feed->begun_ms = now_ms();
    if (!meet(feed, fault))
        return false;
    for (unsigned i = 0; i < feed->count; i++)
        load_lane(feed, i);
    if (feed_wire_wants_check(feed->wire) && !feed_wire_check(feed->wire, feed->lanes, feed->count, fault))
        return false;
    if (!feed_wire_exchange(feed->wire, feed->lanes, feed->count, fault))
        return false;
    for (unsigned i = 0; i < feed->count; i++)
        feed_queue_note_sent(&feed->queues[i], &feed->lanes[i]);
    bool beat = now_ms() >= feed->beat_ms + BEAT_MS;
    if (beat)
        snapshots = take_needs(feed);
    if (!feed_wire_confirm(feed->wire, feed->lanes, feed->count, beat, fault))
        return false;
    if (beat)
        feed->beat_ms = now_ms();
    if (!take_lanes(feed, fault))
        return false;
    if (beat)
        describe(feed);
    return snapshots == feed->trimmed || trim(feed, snapshots, fault);
}

/* What the round came to, for the next one and for the figures. True when something was read, or is to be. */
static bool judge_round(struct feed *feed)
{
    bool has_read = false;
    bool has_more = false;
    for (unsigned i = 0; i < feed->count; i++) {
        const struct feed_lane *lane = &feed->lanes[i];
        has_read = has_read || lane->read != NULL;
        has_more = has_more || lane->has_more || (lane->read != NULL && !lane->is_confirmed);
    }
    if (!has_more)
        atomic_store_explicit(&feed->read_ms, feed->begun_ms, memory_order_relaxed);
    pthread_mutex_lock(&feed->lock);
    bool is_first = !has_more && !feed->figures.is_caught_up;
    feed->figures.is_caught_up = feed->figures.is_caught_up || is_first;
    feed->figures.rounds++;
    struct feed_figures figures = feed->figures;
    pthread_mutex_unlock(&feed->lock);
    if (is_first) {
        feed->beat_ms = 0; /* others are told at once */
        feed_pace_end(&feed->pace);
        feed->options.hands.caught_up(feed->options.hands.context, &figures);
    }
    return has_read || has_more;
}

/* --- the operator --- */

static void set_connected(struct feed *feed, bool is_connected, bool is_broken, const char *reason)
{
    pthread_mutex_lock(&feed->lock);
    feed->figures.failures += feed->figures.is_connected && !is_connected;
    feed->figures.is_connected = is_connected;
    feed->figures.is_broken = is_broken;
    feed->is_refusing = !is_connected;
    snprintf(feed->figures.reason, sizeof feed->figures.reason, "%s", reason);
    pthread_mutex_unlock(&feed->lock);
}

static void note_failure(struct feed *feed, const struct fault *fault, bool is_final)
{
    char line[sizeof fault->text + 100];
    set_connected(feed, false, is_final, fault->text);
    if (feed->has_noticed && !is_final)
        return;
    feed->has_noticed = true;
    snprintf(line, sizeof line, "registrations: %s; %s", fault->text,
             is_final                     ? "the feed is followed no more, and changes are refused"
             : feed->figures.is_caught_up ? "lookups go on with what is known here, changes are refused"
                                          : "it is tried again, and changes are refused until then");
    feed->options.notice(NOTICE_ERROR, line);
}

/* It is followed, and takes nothing. */
static void note_refusal(struct feed *feed, const struct fault *fault)
{
    char line[sizeof fault->text + 100];
    set_connected(feed, true, false, fault->text);
    pthread_mutex_lock(&feed->lock);
    feed->is_refusing = true;
    pthread_mutex_unlock(&feed->lock);
    snprintf(line, sizeof line, "registrations: %s; changes are refused", fault->text);
    if (!feed->has_noticed)
        feed->options.notice(NOTICE_ERROR, line);
    feed->has_noticed = true;
}

static void note_success(struct feed *feed)
{
    if (feed->has_noticed)
        feed->options.notice(NOTICE_NORMAL, "registrations: Redis is followed again");
    feed->has_noticed = false;
    set_connected(feed, true, false, "");
}

/* --- jobs --- */

static const struct feed_job_hands *job_hands(struct feed *feed, struct feed_job_hands *hands)
{
    *hands = (struct feed_job_hands){read_number, append_step, feed};
    return hands;
}

/* The lock is held. */
static void drop(struct feed_job *job)
{
    if (--job->holders == 0)
        feed_job_destroy(job);
}

static void take_submitted(struct feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    feed->taken = feed->ticket;
    TAILQ_CONCAT(&feed->jobs, &feed->submitted, link);
    pthread_mutex_unlock(&feed->lock);
}

/* What is done leaves; what has waited too long is decided, and leaves when it is done. */
static void advance_jobs(struct feed *feed, bool is_over)
{
    struct feed_job_hands hands;
    struct feed_job *next;
    uint64_t decided = feed->taken; /* or what is before the first that is not */
    bool is_all = true;
    uint64_t now = now_ms();
    for (struct feed_job *job = TAILQ_FIRST(&feed->jobs); job != NULL; job = next) {
        next = TAILQ_NEXT(job, link);
        bool is_done = feed->count > 0 && feed_job_advance(job, job_hands(feed, &hands));
        bool is_late = is_over || now - job->submitted_ms >= FEED_PATIENCE_MS;
        pthread_mutex_lock(&feed->lock);
        if (!job->is_decided && (is_done || is_late)) {
            job->is_decided = true;
            job->is_unknown = !is_done;
            if (!is_done)
                feed_job_cut(job);
        }
        if (is_all && !job->is_decided) {
            decided = job->ticket - 1;
            is_all = false;
        }
        if (is_done) {
            TAILQ_REMOVE(&feed->jobs, job, link);
            drop(job);
        }
        pthread_mutex_unlock(&feed->lock);
    }
    if (decided == atomic_load_explicit(&feed->decided, memory_order_relaxed))
        return;
    atomic_store_explicit(&feed->decided, decided, memory_order_release);
    feed->options.hands.decided(feed->options.hands.context);
}

/* --- the thread --- */

static void nap(struct feed *feed, unsigned ms)
{
    struct timespec until;
    pthread_mutex_lock(&feed->lock);
    if (TAILQ_EMPTY(&feed->submitted) && !feed->is_stopping) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += ms * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&feed->woken, &feed->lock, &until);
    }
    pthread_mutex_unlock(&feed->lock);
}

static bool is_over(struct feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    bool over = feed->is_stopping &&
                ((TAILQ_EMPTY(&feed->jobs) && TAILQ_EMPTY(&feed->submitted)) || now_ms() >= feed->stop_ms);
    pthread_mutex_unlock(&feed->lock);
    return over;
}

static bool is_final(const struct fault *fault)
{
    return fault->status == EX_DATAERR || fault->status == EX_CONFIG;
}

/* The calling thread's time of a processor. */
static uint64_t worked_us(void)
{
    struct timespec worked;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &worked);
    return (uint64_t)worked.tv_sec * 1000000 + (uint64_t)worked.tv_nsec / 1000;
}

/* One round, and the pause behind it. False: broken. */
static bool go_round(struct feed *feed)
{
    struct fault fault;
    uint64_t begun_us = worked_us();
    take_submitted(feed);
    advance_jobs(feed, false);
    if (!round_trip(feed, &fault)) {
        send_again(feed);
        note_failure(feed, &fault, is_final(&fault));
        advance_jobs(feed, false);
        nap(feed, RETRY_MS);
        return !is_final(&fault);
    }
    if (feed_wire_was_refused(feed->wire, &fault))
        note_refusal(feed, &fault);
    else
        note_success(feed);
    bool is_busy = judge_round(feed);
    advance_jobs(feed, false);
    if (is_busy)
        feed->busy_ms = now_ms();
    if (is_busy && !feed->has_taken) /* replicas do not follow, or memory is short */
        nap(feed, IDLE_NAP_MS);
    else if (is_busy && !feed->figures.is_caught_up)
        nap(feed, feed_pace_rest(&feed->pace, worked_us() - begun_us, now_ms()));
    else if (!is_busy && (atomic_load(&feed->waiting) == 0 || feed->has_noticed))
        nap(feed, now_ms() - feed->busy_ms < BUSY_MS ? NAP_MS : IDLE_NAP_MS);
    return true;
}

/* In a thread of its own, whose low priority goes with it: to rise again takes a privilege. */
static void *catch_up(void *context)
{
    struct feed *feed = context;
    (void)pthread_setname_np(pthread_self(), "feed-catch-up");
    priority_step_back();
    while (feed->is_good && !feed->figures.is_caught_up && !is_over(feed))
        feed->is_good = go_round(feed);
    return NULL;
}

static void *run(void *context)
{
    struct feed *feed = context;
    pthread_t low;
    (void)pthread_setname_np(pthread_self(), "feed");
    if (pthread_create(&low, NULL, catch_up, feed) == 0) /* else it goes on as it is */
        pthread_join(low, NULL);
    while (!is_over(feed)) {
        if (feed->is_good) {
            feed->is_good = go_round(feed);
            continue;
        }
        take_submitted(feed);
        advance_jobs(feed, true);
        nap(feed, RETRY_MS);
    }
    take_submitted(feed);
    advance_jobs(feed, true);
    return NULL;
}

void feed_destroy(struct feed *feed)
{
    struct feed_job *job;
    while ((job = TAILQ_FIRST(&feed->jobs)) != NULL) {
        TAILQ_REMOVE(&feed->jobs, job, link);
        drop(job);
    }
    for (unsigned i = 0; i < feed->count; i++)
        feed_queue_deinit(&feed->queues[i]);
    feed_wire_destroy(feed->wire, feed->lanes, feed->count);
    free(feed->lanes);
    free(feed->queues);
    feed_state_deinit(feed->state);
    pthread_mutex_destroy(&feed->state_lock);
    pthread_mutex_destroy(&feed->lock);
    pthread_cond_destroy(&feed->woken);
    free(feed);
}

static bool open_feed(struct feed *feed, struct fault *fault)
{
    struct redis_target target;
    char node[20];
    if (!redis_target_parse(feed->options.redis_url, &target, fault))
        return false;
    snprintf(node, sizeof node, "%016" PRIx64, feed->options.node);
    feed->wire = feed_wire_create(&target, node, feed->options.min_replicas);
    if (feed->wire == NULL || pthread_create(&feed->thread, NULL, run, feed) != 0)
        return fault_set(fault, EX_OSERR, "cannot start to follow the feed: out of memory or threads");
    return true;
}

struct feed *feed_start(const struct feed_options *options, struct fault *fault)
{
    struct feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL) {
        fault_set(fault, EX_OSERR, "out of memory for the feed of registrations");
        return NULL;
    }
    feed->options = *options;
    feed->state = options->state;
    feed->is_good = true;
    feed_pace_begin(&feed->pace, options->catch_up_percent, FEED_READ_MAX, now_ms());
    atomic_store(&feed->read_ms, now_ms());
    feed->figures.min_replicas = options->min_replicas;
    snprintf(feed->figures.reason, sizeof feed->figures.reason, "Redis has not been reached yet");
    TAILQ_INIT(&feed->jobs);
    TAILQ_INIT(&feed->submitted);
    pthread_mutex_init(&feed->state_lock, NULL);
    pthread_mutex_init(&feed->lock, NULL);
    pthread_cond_init(&feed->woken, NULL);
    if (open_feed(feed, fault))
        return feed;
    feed_destroy(feed);
    return NULL;
}

void feed_stop(struct feed *feed, unsigned patience_ms)
{
    pthread_mutex_lock(&feed->lock);
    feed->is_stopping = true;
    feed->stop_ms = now_ms() + patience_ms;
    pthread_cond_signal(&feed->woken);
    pthread_mutex_unlock(&feed->lock);
    pthread_join(feed->thread, NULL);
}

/* --- from other threads --- */

static struct feed_job *submit(struct feed *feed, struct feed_job *job, uint64_t *ticket)
{
    if (job == NULL)
        return NULL;
    pthread_mutex_lock(&feed->lock);
    bool is_taken = !feed->is_refusing && !feed->is_stopping &&
                    atomic_load(&feed->waiting) + job->count <= FEED_STEPS_WAITING_MAX;
    if (is_taken) {
        job->ticket = *ticket = ++feed->ticket;
        job->submitted_ms = now_ms();
        TAILQ_INSERT_TAIL(&feed->submitted, job, link);
        pthread_cond_signal(&feed->woken);
    }
    pthread_mutex_unlock(&feed->lock);
    if (is_taken)
        return job;
    feed_job_destroy(job);
    return NULL;
}

struct feed_job *feed_submit(struct feed *feed, const struct step *steps, size_t count, uint64_t *ticket)
{
    return submit(feed, feed_job_create(steps, count), ticket);
}

struct feed_job *feed_submit_moves(struct feed *feed, const struct feed_pair *pairs, size_t count,
                                   uint64_t *ticket)
{
    return submit(feed, feed_job_create_moves(pairs, count), ticket);
}

uint64_t feed_decided(const struct feed *feed)
{
    return atomic_load_explicit(&feed->decided, memory_order_acquire);
}

bool feed_take(struct feed *feed, struct feed_job *job, uint8_t *results)
{
    pthread_mutex_lock(&feed->lock);
    bool good = job->is_decided && !job->is_unknown;
    if (good && results != NULL)
        memcpy(results, job->results, job->count);
    drop(job);
    pthread_mutex_unlock(&feed->lock);
    return good;
}

bool feed_note(struct feed *feed)
{
    size_t count;
    pthread_mutex_lock(&feed->state_lock);
    bool good = true;
    if (feed->state->feed != 0) {
        struct change *marks = feed_state_marks(feed->state, &count);
        good = marks != NULL && feed->options.hands.note(feed->options.hands.context, marks, count);
        free(marks);
        for (unsigned i = 0; i < feed->state->partitions; i++)
            feed->noted[i] = feed->state->progress[i].position;
    }
    pthread_mutex_unlock(&feed->state_lock);
    return good;
}

void feed_snapshot_written(struct feed *feed)
{
    pthread_mutex_lock(&feed->state_lock);
    memcpy(feed->needed, feed->in_snapshot, sizeof feed->needed);
    memcpy(feed->in_snapshot, feed->noted, sizeof feed->in_snapshot);
    feed->snapshots++;
    pthread_mutex_unlock(&feed->state_lock);
}

uint64_t feed_age_ms(const struct feed *feed)
{
    return now_ms() - atomic_load_explicit(&feed->read_ms, memory_order_relaxed);
}

void feed_figures(struct feed *feed, struct feed_figures *figures)
{
    pthread_mutex_lock(&feed->lock);
    *figures = feed->figures;
    pthread_mutex_unlock(&feed->lock);
    figures->age_ms = feed_age_ms(feed);
    figures->waiting = atomic_load(&feed->waiting);
}
