/* The directory: shards, their growth, and the batch lookup over all of them; see directory.h. */
#include "hashing/directory.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/hash.h"
#include "hashing/lookup.h"
#include "hashing/phone.h"
#include "hashing/table.h"

/* A full shard is rebuilt with 14 % more slots, so its load stays between 0.83 and 0.95 and each record is
 * copied about seven times in its life. The shards' sizes are staggered: shard i of S takes its sizes from
 * the row SLOTS_MIN * 1.14^(k + i/S), so while growing the average load is near 0.89 and the shards do not
 * grow together; only those of a directory that was sized ahead do, the first time. */
#define LOAD_MAX 0.95
#define GROWTH 1.14
#define RESERVE_LOAD 0.92
#define SLOTS_MIN 64
struct directory {
    struct shard *shards;
    unsigned shard_bits;
    bool accounts;
    struct lookup_view view; /* holds the seed */
    lookup_group_function *lookup_group;
    _Atomic uint64_t bytes_peak;
    struct epoch epoch;
};

static unsigned shard_count(const struct directory *directory)
{
    return 1u << directory->shard_bits;
}

static unsigned shard_of(const struct directory *directory, uint64_t hash)
{
    return (unsigned)(hash >> directory->view.shard_shift & directory->view.shard_mask);
}

static void publish_stats(struct shard *shard, const struct table *table)
{
    atomic_store_explicit(&shard->records, table_count(table), memory_order_relaxed);
    atomic_store_explicit(&shard->slots, table_slots(table), memory_order_relaxed);
    atomic_store_explicit(&shard->bytes, table_bytes(table), memory_order_relaxed);
}

static uint64_t sum_bytes(const struct directory *directory)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < shard_count(directory); i++)
        bytes += atomic_load_explicit(&directory->shards[i].bytes, memory_order_relaxed);
    return bytes;
}

/* Notes that so much is in use, `extra` of it beside the shards. */
static void note_peak(struct directory *directory, uint64_t extra)
{
    uint64_t bytes = sum_bytes(directory) + extra;
    uint64_t peak = atomic_load_explicit(&directory->bytes_peak, memory_order_relaxed);
    while (bytes > peak && !atomic_compare_exchange_weak(&directory->bytes_peak, &peak, bytes))
        ;
}

/* The writer's view of its own shard; the lock is held. */
static struct table *own_table(const struct shard *shard)
{
    return atomic_load_explicit(&shard->table, memory_order_relaxed);
}

/* Slots for one shard so that its share of the records, with the scatter of hashing, stays below the limit.
 */
static size_t reserve_slots(const struct directory_options *options)
{
    double mean = (double)options->expected_records / (double)(1u << options->shard_bits);
    double slots = (mean + 4 * sqrt(mean)) / RESERVE_LOAD;
    return slots < SLOTS_MIN ? SLOTS_MIN : (size_t)slots;
}

struct directory *directory_create(const struct directory_options *options)
{
    assert(options->shard_bits <= DIRECTORY_SHARD_BITS_MAX);
    struct directory *directory = aligned_alloc(64, (sizeof *directory + 63) & ~(size_t)63);
    if (directory == NULL)
        return NULL;
    *directory = (struct directory){.shard_bits = options->shard_bits,
                                    .accounts = options->accounts,
                                    .lookup_group = lookup_choose(NULL)};
    epoch_init(&directory->epoch);
    unsigned shards = shard_count(directory);
    directory->shards = aligned_alloc(64, shards * sizeof *directory->shards);
    if (directory->shards == NULL) {
        free(directory);
        return NULL;
    }
    directory->view =
        (struct lookup_view){.shards = directory->shards,
                             .shard_shift = options->shard_bits == 0 ? 63 : 64 - options->shard_bits,
                             .shard_mask = shards - 1,
                             .seed = options->seed};
    bool complete = true;
    for (unsigned i = 0; i < shards; i++) {
        struct shard *shard = &directory->shards[i];
        memset(shard, 0, sizeof *shard);
        pthread_mutex_init(&shard->writer, NULL);
        struct table *table = table_create(reserve_slots(options), options->accounts, options->seed);
        atomic_init(&shard->table, table);
        if (table != NULL)
            publish_stats(shard, table);
        complete = complete && table != NULL;
    }
    if (!complete) {
        directory_destroy(directory);
        return NULL;
    }
    note_peak(directory, 0);
    return directory;
}

void directory_destroy(struct directory *directory)
{
    if (directory == NULL)
        return;
    for (unsigned i = 0; i < shard_count(directory); i++) {
        table_destroy(own_table(&directory->shards[i]));
        pthread_mutex_destroy(&directory->shards[i].writer);
    }
    free(directory->shards);
    free(directory);
}

struct epoch_reader *directory_join(struct directory *directory)
{
    return epoch_register(&directory->epoch);
}

void directory_leave(struct directory *directory, struct epoch_reader *reader)
{
    (void)directory;
    epoch_unregister(reader);
}

/* --- lookups --- */

static uint8_t answer_of(uint8_t flags)
{
    return flags & RECORD_FLAG_HIDDEN ? DIRECTORY_NOT_REGISTERED : DIRECTORY_REGISTERED;
}

/* Numbers first by the batch lookup, which brings their lines near; then the records of those that are there.
 * A number that goes in between is then not there. */
static void lookup_group_records(const struct directory *directory, const uint64_t *numbers, size_t count,
                                 uint8_t *answers, struct record *records)
{
    directory->lookup_group(&directory->view, numbers, count, answers);
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct record){.number = numbers[i]};
        if (answers[i] != DIRECTORY_REGISTERED)
            continue;
        uint64_t hash = hash_number(numbers[i], directory->view.seed);
        struct record found;
        const struct table *table = atomic_load(&directory->shards[shard_of(directory, hash)].table);
        if (table_find_record(table, hash, numbers[i], &found) &&
            answer_of(found.flags) == DIRECTORY_REGISTERED)
            records[i] = found;
        else
            answers[i] = DIRECTORY_NOT_REGISTERED;
    }
}

void directory_lookup(const struct directory *directory, struct epoch_reader *reader, const uint64_t *numbers,
                      size_t count, uint8_t *answers)
{
    epoch_enter(&directory->epoch, reader);
    for (size_t start = 0; start < count; start += LOOKUP_GROUP) {
        size_t size = count - start < LOOKUP_GROUP ? count - start : LOOKUP_GROUP;
        directory->lookup_group(&directory->view, numbers + start, size, answers + start);
    }
    epoch_leave(reader);
}

void directory_lookup_records(const struct directory *directory, struct epoch_reader *reader,
                              const uint64_t *numbers, size_t count, uint8_t *answers, struct record *records)
{
    epoch_enter(&directory->epoch, reader);
    for (size_t start = 0; start < count; start += LOOKUP_GROUP) {
        size_t size = count - start < LOOKUP_GROUP ? count - start : LOOKUP_GROUP;
        lookup_group_records(directory, numbers + start, size, answers + start, records + start);
    }
    epoch_leave(reader);
}

/* --- updates; all below is called with the shard's lock held, except the public functions --- */

/* Replaces the shard's table by one of at least `slots` slots with the same content. False when memory is
 * short; the old table then stays. A new table that cannot take everything (never seen, but hashing gives no
 * promise) is tried again with more room. */
static bool rebuild(struct directory *directory, struct shard *shard, size_t slots)
{
    struct table *old = own_table(shard);
    struct table *fresh;
    for (;; slots += slots / 4) {
        fresh = table_create(slots, directory->accounts, directory->view.seed);
        if (fresh == NULL)
            return false;
        if (table_copy(old, fresh))
            break;
        table_destroy(fresh);
    }
    note_peak(directory, table_bytes(fresh));
    atomic_store(&shard->table, fresh); /* sequentially consistent: see epoch.h */
    atomic_fetch_add_explicit(&shard->rebuilds, 1, memory_order_relaxed);
    publish_stats(shard, fresh);
    epoch_synchronize(&directory->epoch);
    table_destroy(old);
    return true;
}

/* The shard's next size: the first of its row that is above the present one by at least half a step. */
static size_t grown_slots(const struct directory *directory, const struct shard *shard)
{
    double least = (double)table_slots(own_table(shard)) * sqrt(GROWTH);
    double stagger = (double)(shard - directory->shards) / (double)shard_count(directory);
    double step = ceil(log(least / SLOTS_MIN) / log(GROWTH) - stagger);
    return (size_t)ceil(SLOTS_MIN * pow(GROWTH, step + stagger));
}

static enum directory_result insert_or_grow(struct directory *directory, struct shard *shard, uint64_t hash,
                                            const struct record *record)
{
    for (;;) {
        struct table *table = own_table(shard);
        bool crowded = (double)table_count(table) >= (double)table_slots(table) * LOAD_MAX;
        /* When memory is short, a crowded table may still have a place; only a full one has to give up. */
        if (crowded && rebuild(directory, shard, grown_slots(directory, shard)))
            table = own_table(shard);
        enum table_insert_result result = table_insert(table, hash, record, NULL);
        publish_stats(shard, table);
        if (result == TABLE_REPLACED)
            return DIRECTORY_REPLACED;
        if (result == TABLE_ADDED)
            return DIRECTORY_ADDED;
        if (!rebuild(directory, shard, grown_slots(directory, shard)))
            return DIRECTORY_NO_MEMORY;
    }
}

static bool remove_and_tidy(struct directory *directory, struct shard *shard, uint64_t hash, uint64_t number)
{
    struct table *table = own_table(shard);
    bool removed = table_remove(table, hash, number, NULL);
    publish_stats(shard, table);
    if (table_is_worn(table))
        (void)rebuild(directory, shard,
                      table_slots(table)); /* without memory it stays worn, which is only slow */
    return removed;
}

enum directory_result directory_register(struct directory *directory, const struct record *record)
{
    if (phone_check(record->number) != PHONE_OK)
        return DIRECTORY_INVALID_NUMBER;
    uint64_t hash = hash_number(record->number, directory->view.seed);
    struct shard *shard = &directory->shards[shard_of(directory, hash)];
    pthread_mutex_lock(&shard->writer);
    enum directory_result result = insert_or_grow(directory, shard, hash, record);
    pthread_mutex_unlock(&shard->writer);
    return result;
}

enum directory_result directory_deregister(struct directory *directory, uint64_t number)
{
    if (phone_check(number) != PHONE_OK)
        return DIRECTORY_INVALID_NUMBER;
    uint64_t hash = hash_number(number, directory->view.seed);
    struct shard *shard = &directory->shards[shard_of(directory, hash)];
    pthread_mutex_lock(&shard->writer);
    bool removed = remove_and_tidy(directory, shard, hash, number);
    pthread_mutex_unlock(&shard->writer);
    return removed ? DIRECTORY_REMOVED : DIRECTORY_ABSENT;
}

/* Both shards in ascending order, so that two moves cannot wait for each other. */
static void lock_pair(struct shard *a, struct shard *b)
{
    pthread_mutex_lock(a < b ? &a->writer : &b->writer);
    if (a != b)
        pthread_mutex_lock(a < b ? &b->writer : &a->writer);
}

static void unlock_pair(struct shard *a, struct shard *b)
{
    pthread_mutex_unlock(&a->writer);
    if (a != b)
        pthread_mutex_unlock(&b->writer);
}

enum directory_result directory_move(struct directory *directory, uint64_t from, uint64_t to)
{
    if (phone_check(from) != PHONE_OK || phone_check(to) != PHONE_OK)
        return DIRECTORY_INVALID_NUMBER;
    uint64_t from_hash = hash_number(from, directory->view.seed);
    uint64_t to_hash = hash_number(to, directory->view.seed);
    struct shard *from_shard = &directory->shards[shard_of(directory, from_hash)];
    struct shard *to_shard = &directory->shards[shard_of(directory, to_hash)];
    struct record record;
    uint8_t flags;
    enum directory_result result;

    lock_pair(from_shard, to_shard);
    if (!table_find_record(own_table(from_shard), from_hash, from, &record)) {
        result = DIRECTORY_ABSENT;
    } else if (table_find(own_table(to_shard), to_hash, to, &flags)) {
        result = DIRECTORY_OCCUPIED;
    } else {
        record.number = to;
        result = insert_or_grow(directory, to_shard, to_hash, &record);
        if (result == DIRECTORY_ADDED) {
            remove_and_tidy(directory, from_shard, from_hash, from);
            result = DIRECTORY_MOVED;
        }
    }
    unlock_pair(from_shard, to_shard);
    return result;
}

/* --- the whole --- */

static bool append_record(void *context, const struct record *record)
{
    struct record **end = context;
    *(*end)++ = *record;
    return true;
}

size_t directory_copy_shard(struct directory *directory, unsigned index, struct record *records,
                            size_t capacity)
{
    assert(index < shard_count(directory));
    struct shard *shard = &directory->shards[index];
    pthread_mutex_lock(&shard->writer);
    size_t count = table_count(own_table(shard));
    if (count <= capacity)
        table_visit(own_table(shard), append_record, &(struct record *){records});
    pthread_mutex_unlock(&shard->writer);
    return count;
}

void directory_stats(const struct directory *directory, struct directory_stats *stats)
{
    *stats = (struct directory_stats){.shards = shard_count(directory)};
    stats->bytes = sum_bytes(directory);
    stats->bytes_peak = atomic_load_explicit(&directory->bytes_peak, memory_order_relaxed);
    for (unsigned i = 0; i < stats->shards; i++) {
        const struct shard *shard = &directory->shards[i];
        stats->records += atomic_load_explicit(&shard->records, memory_order_relaxed);
        stats->slots += atomic_load_explicit(&shard->slots, memory_order_relaxed);
        stats->rebuilds += atomic_load_explicit(&shard->rebuilds, memory_order_relaxed);
    }
}
