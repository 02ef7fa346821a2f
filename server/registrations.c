/* The one door through which registrations change; see registrations.h. */
#include "server/registrations.h"

#include <stdlib.h>
#include <string.h>

void registrations_init(struct registrations *registrations)
{
    *registrations = (struct registrations){.directory = NULL};
    pthread_mutex_init(&registrations->door, NULL);
}

void registrations_deinit(struct registrations *registrations)
{
    pthread_mutex_destroy(&registrations->door);
}

void registrations_open(struct registrations *registrations, struct directory *directory,
                        const struct registrations_journal *journal, uint64_t position)
{
    registrations->directory = directory;
    registrations->accounts = directory_shape(directory).accounts;
    registrations->journal = *journal;
    atomic_store(&registrations->position, position);
}

void registrations_follow(struct registrations *registrations, const struct registrations_feed *feed)
{
    registrations->feed = *feed;
    atomic_store_explicit(&registrations->is_fed, true, memory_order_release);
}

uint64_t registrations_pause(struct registrations *registrations)
{
    pthread_mutex_lock(&registrations->door);
    registrations->is_paused = true;
    uint64_t position = atomic_load(&registrations->position);
    pthread_mutex_unlock(&registrations->door);
    return position;
}

void registrations_go_on(struct registrations *registrations, struct directory *directory, uint64_t position)
{
    pthread_mutex_lock(&registrations->door);
    if (directory != NULL) {
        registrations->directory = directory;
        atomic_store(&registrations->position, position);
    }
    registrations->is_paused = false;
    pthread_mutex_unlock(&registrations->door);
}

uint64_t registrations_acknowledged(const struct registrations *registrations)
{
    const struct registrations_feed *feed = &registrations->feed;
    return registrations_are_fed(registrations)
               ? feed->decided(feed->context)
               : registrations->journal.acknowledged(registrations->journal.context);
}

bool registrations_have_failed(const struct registrations *registrations)
{
    return !registrations_are_fed(registrations) &&
           registrations->journal.has_failed(registrations->journal.context);
}

uint64_t registrations_position(struct registrations *registrations)
{
    pthread_mutex_lock(&registrations->door);
    uint64_t position = atomic_load(&registrations->position);
    pthread_mutex_unlock(&registrations->door);
    return position;
}

/* --- one lock's worth; the door is held --- */

/* Changes that took effect, for the journal. */
struct effect {
    bool accounts;
    size_t count;
    struct change changes[2 * REGISTRATIONS_TOGETHER];
};

static void add_change(struct effect *effect, enum change_kind kind, const struct record *record)
{
    struct change *change = &effect->changes[effect->count++];
    *change = (struct change){.kind = kind, .record = *record};
    if (!effect->accounts)
        change->record.account = 0;
}

static void register_some(struct directory *directory, const void *entries, size_t count, uint8_t *results,
                          struct effect *effect)
{
    const struct record *records = entries;
    directory_register_batch(directory, records, count, results);
    for (size_t i = 0; i < count; i++)
        if (results[i] == DIRECTORY_ADDED || results[i] == DIRECTORY_REPLACED)
            add_change(effect, CHANGE_SET, &records[i]);
}

static void deregister_some(struct directory *directory, const void *entries, size_t count, uint8_t *results,
                            struct effect *effect)
{
    const uint64_t *numbers = entries;
    for (size_t i = 0; i < count; i++) {
        results[i] = (uint8_t)directory_deregister(directory, numbers[i]);
        if (results[i] == DIRECTORY_REMOVED)
            add_change(effect, CHANGE_REMOVE, &(struct record){.number = numbers[i]});
    }
}

static void move_some(struct directory *directory, const void *entries, size_t count, uint8_t *results,
                      struct effect *effect)
{
    const struct registrations_pair *pairs = entries;
    for (size_t i = 0; i < count; i++) {
        struct record record;
        results[i] = (uint8_t)directory_move(directory, pairs[i].from, pairs[i].to);
        /* Nobody else changes it while the door is held, so it is there. */
        if (results[i] != DIRECTORY_MOVED || !directory_read(directory, pairs[i].to, &record))
            continue;
        add_change(effect, CHANGE_SET, &record);
        add_change(effect, CHANGE_REMOVE, &(struct record){.number = pairs[i].from});
    }
}

/* --- all of a request --- */

typedef void some_function(struct directory *directory, const void *entries, size_t count, uint8_t *results,
                           struct effect *effect);

/* False: the journal has failed, nothing was done. */
static bool apply_some(struct registrations *registrations, some_function *some, const void *entries,
                       size_t count, uint8_t *results)
{
    const struct registrations_journal *journal = &registrations->journal;
    struct effect effect;
    effect.count = 0; /* the rest is filled as far as it is used */
    effect.accounts = registrations->accounts;
    pthread_mutex_lock(&registrations->door);
    bool good = !journal->has_failed(journal->context);
    if (good && (registrations->is_paused || !journal->reserve(journal->context, 2 * count))) {
        memset(results, DIRECTORY_NO_MEMORY, count);
    } else if (good) {
        some(registrations->directory, entries, count, results, &effect);
        uint64_t position = journal->append(journal->context, effect.changes, effect.count);
        atomic_store(&registrations->position, position);
    }
    pthread_mutex_unlock(&registrations->door);
    return good;
}

static bool apply(struct registrations *registrations, some_function *some, const void *entries,
                  size_t entry_bytes, size_t count, uint8_t *results, uint64_t *position)
{
    for (size_t done = 0; done < count; done += REGISTRATIONS_TOGETHER) {
        size_t size = count - done < REGISTRATIONS_TOGETHER ? count - done : REGISTRATIONS_TOGETHER;
        if (!apply_some(registrations, some, (const char *)entries + done * entry_bytes, size,
                        results + done))
            return false;
    }
    /* Others' changes may be counted in: waiting for them does no harm, and what was found absent or occupied because of
     * them is then as safe as they are. */
    *position = atomic_load(&registrations->position);
    return true;
}

bool registrations_register(struct registrations *registrations, const struct record *records, size_t count,
                            uint8_t *results, uint64_t *position)
{
    return apply(registrations, register_some, records, sizeof *records, count, results, position);
}

bool registrations_deregister(struct registrations *registrations, const uint64_t *numbers, size_t count,
                              uint8_t *results, uint64_t *position)
{
    return apply(registrations, deregister_some, numbers, sizeof *numbers, count, results, position);
}

bool registrations_move(struct registrations *registrations, const struct registrations_pair *pairs,
                        size_t count, uint8_t *results, uint64_t *position)
{
    return apply(registrations, move_some, pairs, sizeof *pairs, count, results, position);
}

/* --- from the feed; the door is held --- */

static uint8_t carry_out_one(const struct registrations *registrations, const struct step *step,
                             struct effect *effect)
{
    struct directory *directory = registrations->directory;
    const struct record *record = &step->record;
    struct record there = {0};
    bool is_there = directory_read(directory, record->number, &there);
    enum directory_result result = DIRECTORY_ABSENT;
    if (step->kind == STEP_ADD && is_there)
        return DIRECTORY_OCCUPIED;
    if (step->kind == STEP_RELEASE && !(is_there && there.flags == record->flags &&
                                        (!registrations->accounts || there.account == record->account)))
        return DIRECTORY_ABSENT;
    if (step->kind == STEP_SET || step->kind == STEP_ADD)
        result = directory_register(directory, record);
    else
        result = directory_deregister(directory, record->number);
    if (result == DIRECTORY_ADDED || result == DIRECTORY_REPLACED)
        add_change(effect, CHANGE_SET, record);
    else if (result == DIRECTORY_REMOVED)
        add_change(effect, CHANGE_REMOVE, record);
    return (uint8_t)result;
}

/* False: memory is short. */
static bool carry_out_some(const struct registrations *registrations, const struct step *steps, size_t count,
                           uint8_t *results, struct effect *effect)
{
    struct record records[REGISTRATIONS_TOGETHER];
    for (size_t done = 0, size; done < count; done += size) {
        size = 0;
        while (done + size < count && steps[done + size].kind == STEP_SET) {
            records[size] = steps[done + size].record;
            size++;
        }
        if (size > 0) {
            register_some(registrations->directory, records, size, results + done, effect);
        } else {
            results[done] = carry_out_one(registrations, &steps[done], effect);
            size = 1;
        }
        if (memchr(results + done, DIRECTORY_NO_MEMORY, size) != NULL)
            return false;
    }
    return true;
}

static void append_marks(struct effect *effect, const struct change *marks, size_t count)
{
    memcpy(effect->changes + effect->count, marks, count * sizeof *marks);
    effect->count += count;
}

bool registrations_carry_out(struct registrations *registrations, const struct step *steps, size_t count,
                             uint8_t *results, const struct change *marks, size_t mark_count)
{
    const struct registrations_journal *journal = &registrations->journal;
    struct effect effect;
    effect.count = 0;
    effect.accounts = registrations->accounts;
    pthread_mutex_lock(&registrations->door);
    bool good = !registrations->is_paused && !journal->has_failed(journal->context) &&
                journal->reserve(journal->context, count + mark_count);
    if (good) {
        good = carry_out_some(registrations, steps, count, results, &effect);
        if (good)
            append_marks(&effect, marks, mark_count);
        uint64_t position = journal->append(journal->context, effect.changes, effect.count);
        atomic_store(&registrations->position, position);
    }
    pthread_mutex_unlock(&registrations->door);
    return good;
}

bool registrations_note(struct registrations *registrations, const struct change *marks, size_t count)
{
    const struct registrations_journal *journal = &registrations->journal;
    bool good = true;
    pthread_mutex_lock(&registrations->door);
    for (size_t done = 0, size; good && done < count; done += size) {
        size = count - done < REGISTRATIONS_TOGETHER ? count - done : REGISTRATIONS_TOGETHER;
        good = journal->reserve(journal->context, size);
        if (good)
            atomic_store(&registrations->position, journal->append(journal->context, marks + done, size));
    }
    pthread_mutex_unlock(&registrations->door);
    return good;
}

bool registrations_read(struct registrations *registrations, uint64_t number, struct record *record)
{
    return directory_read(registrations->directory, number, record);
}

/* --- what is here --- */

void registrations_hold(struct registrations *registrations, const struct partition_set *held,
                        unsigned partitions)
{
    if (atomic_load(&registrations->split) != 0 || partition_set_count(held, partitions) == partitions)
        return;
    registrations->held = *held;
    atomic_store_explicit(&registrations->split, partitions, memory_order_release);
}

/* Numbers of one shard that are to go. */
struct purge {
    const struct partition_set *set;
    unsigned partitions;
    uint64_t *numbers;
    size_t count;
    size_t room;
};

/* False: memory is short. */
static bool collect(void *context, const struct record *record)
{
    struct purge *purge = context;
    if (!purge->set->has[partition_of(record->number, purge->partitions)])
        return true;
    if (purge->count == purge->room) {
        size_t room = purge->room == 0 ? REGISTRATIONS_TOGETHER : 2 * purge->room;
        uint64_t *grown = realloc(purge->numbers, room * sizeof *grown);
        if (grown == NULL)
            return false;
        purge->numbers = grown;
        purge->room = room;
    }
    purge->numbers[purge->count++] = record->number;
    return true;
}

static bool remove_collected(struct registrations *registrations, const struct purge *purge)
{
    uint8_t results[REGISTRATIONS_TOGETHER];
    for (size_t done = 0, size; done < purge->count; done += size) {
        size = purge->count - done < REGISTRATIONS_TOGETHER ? purge->count - done : REGISTRATIONS_TOGETHER;
        if (!apply_some(registrations, deregister_some, purge->numbers + done, size, results) ||
            memchr(results, DIRECTORY_NO_MEMORY, size) != NULL)
            return false;
    }
    return true;
}

bool registrations_purge(struct registrations *registrations, const struct partition_set *set,
                         unsigned partitions)
{
    bool good = true;
    struct directory_stats stats;
    struct purge purge = {.set = set, .partitions = partitions};
    directory_stats(registrations->directory, &stats);
    for (unsigned shard = 0; shard < stats.shards && good; shard++) {
        purge.count = 0;
        good = directory_visit_shard(registrations->directory, shard, collect, &purge) &&
               remove_collected(registrations, &purge);
    }
    free(purge.numbers);
    return good;
}
