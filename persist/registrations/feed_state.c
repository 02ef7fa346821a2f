/* How far a directory has come in the feed; see feed_state.h. */
#include "persist/registrations/feed_state.h"

#include <stdlib.h>

#define VALUE_BITS 48
#define VALUE_MASK ((UINT64_C(1) << VALUE_BITS) - 1)

enum mark_kind { MARK_POSITION = 0, MARK_WRITER = 1, MARK_FEED = 2, MARK_LEAVING = 3 };

void feed_state_deinit(struct feed_state *state)
{
    for (unsigned i = 0; i < FEED_PARTITIONS_MAX; i++)
        free(state->progress[i].writers);
    *state = (struct feed_state){0};
}

static struct feed_writer *find_writer(const struct feed_progress *progress, uint64_t id)
{
    for (size_t i = 0; i < progress->count; i++)
        if (progress->writers[i].id == id)
            return &progress->writers[i];
    return NULL;
}

static void forget_writers(struct feed_progress *progress)
{
    size_t kept = 0;
    for (size_t i = 0; i < progress->count; i++)
        if (progress->writers[i].last_ms + FEED_WRITER_FORGOTTEN_MS >= progress->position.ms)
            progress->writers[kept++] = progress->writers[i];
    progress->count = kept;
}

static bool reserve(struct feed_progress *progress)
{
    struct feed_writer *grown = realloc(progress->writers, (progress->count + 1) * sizeof *progress->writers);
    if (grown != NULL)
        progress->writers = grown;
    return grown != NULL;
}

/* There is memory for one more. */
static void note_writer(struct feed_progress *progress, uint64_t id, uint64_t sequence)
{
    struct feed_writer *writer = find_writer(progress, id);
    if (writer == NULL)
        writer = &progress->writers[progress->count++];
    *writer = (struct feed_writer){id, sequence, progress->position.ms};
}

static void forget(struct feed_progress *progress)
{
    free(progress->writers);
    *progress = (struct feed_progress){0};
}

void feed_state_take(struct feed_state *state, const struct change *mark)
{
    const struct record *record = &mark->record;
    unsigned partition = record->flags;
    struct feed_progress *progress = &state->progress[partition];
    uint64_t value = record->number & VALUE_MASK;
    switch (record->number >> VALUE_BITS) {
    case MARK_POSITION:
        progress->position = (struct feed_position){record->account, value};
        progress->is_followed = true;
        return;
    case MARK_WRITER:
        if (reserve(progress))
            note_writer(progress, record->account, value);
        else
            state->has_failed = true;
        return;
    case MARK_FEED:
        if (state->feed == record->account && state->partitions == partition + 1)
            return;
        feed_state_deinit(state);
        state->feed = record->account;
        state->partitions = partition + 1;
        return;
    case MARK_LEAVING:
        forget(progress);
        progress->is_leaving = value != 0;
        return;
    default:
        state->has_failed = true;
    }
}

static struct change make_mark(enum mark_kind kind, unsigned partition, uint64_t value, uint64_t wide)
{
    return (struct change){.kind = CHANGE_MARK,
                           .record = {.number = (uint64_t)kind << VALUE_BITS | (value & VALUE_MASK),
                                      .account = wide,
                                      .flags = (uint8_t)partition}};
}

struct change *feed_state_marks(const struct feed_state *state, size_t *count)
{
    size_t room = 1 + state->partitions;
    for (unsigned i = 0; i < state->partitions; i++)
        room += state->progress[i].count;
    struct change *marks = calloc(room, sizeof *marks);
    *count = 0;
    if (marks == NULL)
        return NULL;
    marks[(*count)++] = make_mark(MARK_FEED, state->partitions - 1, 0, state->feed);
    for (unsigned i = 0; i < state->partitions; i++) {
        const struct feed_progress *progress = &state->progress[i];
        if (progress->is_leaving) {
            marks[(*count)++] = make_mark(MARK_LEAVING, i, 1, 0);
            continue;
        }
        if (!progress->is_followed)
            continue;
        /* The position first: the writers read back count from it on. */
        marks[(*count)++] = make_mark(MARK_POSITION, i, progress->position.sequence, progress->position.ms);
        for (size_t j = 0; j < progress->count; j++)
            marks[(*count)++] =
                make_mark(MARK_WRITER, i, progress->writers[j].sequence, progress->writers[j].id);
    }
    return marks;
}

void feed_state_follow(struct feed_state *state, unsigned partition)
{
    state->progress[partition].is_followed = true;
}

bool feed_state_follows(const struct feed_state *state, const struct partition_set *set)
{
    for (unsigned i = 0; i < state->partitions; i++)
        if (set->has[i] && !state->progress[i].is_followed)
            return false;
    return true;
}

struct change feed_state_leave(struct feed_state *state, unsigned partition, bool is_done)
{
    forget(&state->progress[partition]);
    state->progress[partition].is_leaving = !is_done;
    return make_mark(MARK_LEAVING, partition, !is_done, 0);
}

bool feed_state_is_new(const struct feed_state *state, unsigned partition, const struct feed_entry *entry)
{
    const struct feed_writer *writer = find_writer(&state->progress[partition], entry->writer);
    return entry->sequence == (writer == NULL ? 0 : writer->sequence) + 1;
}

bool feed_state_reserve(struct feed_state *state, unsigned partition)
{
    return reserve(&state->progress[partition]);
}

size_t feed_state_entry_marks(struct change marks[static FEED_ENTRY_MARKS], unsigned partition,
                              const struct feed_entry *entry, const struct feed_position *position,
                              bool is_new)
{
    marks[0] = make_mark(MARK_POSITION, partition, position->sequence, position->ms);
    marks[1] = make_mark(MARK_WRITER, partition, entry->sequence, entry->writer);
    return is_new ? 2 : 1;
}

void feed_state_advance(struct feed_state *state, unsigned partition, const struct feed_entry *entry,
                        const struct feed_position *position, bool is_new)
{
    struct feed_progress *progress = &state->progress[partition];
    bool is_later = position->ms > progress->position.ms;
    progress->position = *position;
    if (is_new)
        note_writer(progress, entry->writer, entry->sequence);
    if (is_later)
        forget_writers(progress);
}
