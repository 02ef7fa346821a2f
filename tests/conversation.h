/* One conversation with a session, cut wherever the caller likes, over a small world that is made once and emptied behind each
 * conversation: making one takes a hundred times as long as a conversation. For the unit test and the fuzz target of
 * splitting. What lies behind the bytes fed so far is poisoned, so that AddressSanitizer sees a read beyond them. */
#ifndef NUMBERD_TESTS_CONVERSATION_H
#define NUMBERD_TESTS_CONVERSATION_H

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "journal_in_memory.h"
#include "ring/ring.h"
#include "server/requests.h"

#define CONVERSATION_BYTES_MAX 4096u

struct conversation {
    uint8_t bytes[CONVERSATION_BYTES_MAX];
    size_t length;
    uint32_t roles;  /* with greeted */
    bool greeted;    /* the hello is over */
    bool is_loading; /* there are no registrations yet */
    bool in_parts;   /* where it is cut, longer requests are taken entry by entry */
};

/* All that the other side and the rest of the server see of it. */
struct conversation_outcome {
    struct buffer replies; /* the caller's, to be used again */
    uint64_t changes;
    uint64_t change_mix; /* of the changes in their order */
    uint64_t hold_position;
    uint64_t logged;
    bool closing;
};

struct conversation_journal {
    struct journal_in_memory journal; /* first: its functions get this struct */
    uint64_t mix;
    uint64_t touched[CONVERSATION_BYTES_MAX /
                     4]; /* numbers that may be registered now: a move has two in 16 bytes */
    size_t touched_count;
};

struct conversation_world {
    struct directory *directory;
    struct registrations registrations;
    struct conversation_journal journal;
    struct ring *ring;
    atomic_bool gate;
    struct query_counts counts;
    struct recorder recorder;
    struct counters counters;
    struct service_scratch scratch;
    struct service service;
};

static inline char *conversation_stats(void *context)
{
    (void)context;
    return strdup("{}");
}

static inline uint64_t conversation_snapshot(void *context)
{
    (void)context;
    return 3;
}

static inline uint64_t conversation_append(void *context, const struct change *changes, size_t count)
{
    struct conversation_journal *journal = context;
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &changes[i].record;
        journal->mix = journal->mix * 31 + record->number + record->account + record->flags + changes[i].kind;
        if (changes[i].kind == CHANGE_SET)
            journal->touched[journal->touched_count++] = record->number;
    }
    return journal_in_memory_append(&journal->journal, changes, count);
}

static inline struct conversation_world *conversation_world_create(void)
{
    static const struct service_hooks hooks = {conversation_stats, conversation_snapshot,
                                               conversation_snapshot, NULL, NULL};
    struct conversation_world *world = calloc(1, sizeof *world);
    world->directory = directory_create(&(struct directory_options){.seed = 1, .accounts = true});
    struct registrations_journal journal = journal_in_memory(&world->journal.journal);
    journal.append = conversation_append;
    registrations_init(&world->registrations);
    registrations_open(&world->registrations, world->directory, &journal, 0);
    world->ring = ring_create(RECORDER_RING_BYTES_MIN);
    world->recorder = (struct recorder){.ring = world->ring, .gate = &world->gate, .counts = &world->counts};
    world->service = (struct service){.reader = directory_join(world->directory),
                                      .registrations = &world->registrations,
                                      .recorder = &world->recorder,
                                      .counters = &world->counters,
                                      .hooks = &hooks,
                                      .scratch = &world->scratch,
                                      .cache_seconds = 60};
    return world;
}

static inline void conversation_world_destroy(struct conversation_world *world)
{
    directory_leave(world->directory, world->service.reader);
    ring_destroy(world->ring);
    registrations_deinit(&world->registrations);
    directory_destroy(world->directory);
    free(world);
}

/* As before the conversation, as far as any answer can tell. */
static inline void conversation_empty(struct conversation_world *world)
{
    size_t bytes;
    struct conversation_journal *journal = &world->journal;
    while (ring_next(world->ring, &bytes) != NULL)
        ;
    ring_release(world->ring);
    for (size_t i = 0; i < journal->touched_count; i++)
        (void)directory_deregister(world->directory, journal->touched[i]);
    journal->touched_count = 0;
    journal->mix = 0;
    registrations_go_on(&world->registrations, world->directory, 0);
    journal->journal = (struct journal_in_memory){0};
    atomic_store_explicit(&world->counts.logged, 0, memory_order_relaxed);
    world->service.hold_position = 0;
}

/* Feeds the bytes as a worker does that gets them up to each of the ascending cuts in turn, and then the rest. */
static inline void conversation_hold(struct conversation_world *world, const struct conversation *talk,
                                     const size_t *cuts, size_t cut_count,
                                     struct conversation_outcome *outcome)
{
    struct session session;
    size_t taken = 0;
    session_init(&session, (const uint8_t[16]){0}, NULL);
    session.greeted = talk->greeted;
    session.grant = (struct grant){.roles = talk->greeted ? talk->roles : 0};
    world->service.directory = talk->is_loading ? NULL : world->directory;
    bool in_parts = talk->in_parts && cut_count > 0;
    world->service.part_numbers = in_parts ? 1 : REQUESTS_PART_NUMBERS;
    world->service.part_changes = in_parts ? 1 : REQUESTS_PART_CHANGES;
    outcome->replies.length = 0;
    outcome->hold_position = 0;
    for (size_t i = 0; i <= cut_count && !session.closing; i++) {
        size_t fed = i < cut_count ? cuts[i] : talk->length;
        ASAN_POISON_MEMORY_REGION(talk->bytes + fed, talk->length - fed);
        do {
            if (cut_count > 0) /* as a worker does; the whole conversation at once is answered without */
                session_gather(&session, &world->service, talk->bytes + taken, fed - taken);
            ahead_look(&world->scratch.ahead, world->service.directory, world->service.reader);
            taken += session_consume(&session, &world->service, talk->bytes + taken, fed - taken,
                                     SESSION_OUTPUT_CAP, &outcome->replies);
            ahead_clear(&world->scratch.ahead);
            if (world->service.hold_position > 0) /* as a worker takes it */
                world->service.hold_position = 0;
        } while (session_is_busy(&session) && outcome->replies.length < SESSION_OUTPUT_CAP);
        ASAN_UNPOISON_MEMORY_REGION(talk->bytes + fed, talk->length - fed);
    }
    outcome->changes = world->journal.journal.position;
    outcome->change_mix = world->journal.mix;
    outcome->logged = atomic_load_explicit(&world->counts.logged, memory_order_relaxed);
    outcome->closing = session.closing;
    session_deinit(&session, &world->service);
    conversation_empty(world);
}

static inline bool conversation_is_same(const struct conversation_outcome *a,
                                        const struct conversation_outcome *b)
{
    return a->replies.length == b->replies.length &&
           (a->replies.length == 0 || memcmp(a->replies.bytes, b->replies.bytes, a->replies.length) == 0) &&
           a->changes == b->changes && a->change_mix == b->change_mix &&
           a->hold_position == b->hold_position && a->logged == b->logged && a->closing == b->closing;
}

#endif
