/* The directory: shards, their growth, and the batch lookup over all of them; see directory.h. */
#include "hashing/directory.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/phone.h"
#include "hashing/table.h"

/* A rebuilt shard gets a quarter more slots, so each record is copied about four times in its life and the
 * load stays between 0.74 and 0.92. */
#define LOAD_MAX_PERCENT 92
#define RESERVE_LOAD 0.90
#define SLOTS_MIN 64
/* Lookups whose memory reads are under way together. Measured best between 64 and 128 here. */
#define GROUP 64

struct shard {
    _Alignas(64) _Atomic(struct table *) table;
    /* Kept for directory_stats; written under the lock. */
    _Atomic uint64_t records;
    _Atomic uint64_t slots;
    _Atomic uint64_t bytes;
    _Atomic uint64_t rebuilds;
    _Alignas(64) pthread_mutex_t writer;
};

struct directory {
    struct shard *shards;
    unsigned shard_bits;
    uint64_t seed;
    bool accounts;
    struct epoch epoch;
};

static unsigned shard_count(const struct directory *directory)
{
    return 1u << directory->shard_bits;
}

static unsigned shard_of(const struct directory *directory, uint64_t hash)
{
    return directory->shard_bits == 0 ? 0 : (unsigned)(hash >> (64 - directory->shard_bits));
}

static void publish_stats(struct shard *shard, const struct table *table)
{
    atomic_store_explicit(&shard->records, table_count(table), memory_order_relaxed);
    atomic_store_explicit(&shard->slots, table_slots(table), memory_order_relaxed);
    atomic_store_explicit(&shard->bytes, table_bytes(table), memory_order_relaxed);
}

/* The writer's view of its own shard; the lock is held. */
static struct table *own_table(struct shard *shard)
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
    *directory = (struct directory){
        .shard_bits = options->shard_bits, .seed = options->seed, .accounts = options->accounts};
    epoch_init(&directory->epoch);
    unsigned shards = shard_count(directory);
    directory->shards = aligned_alloc(64, shards * sizeof *directory->shards);
    if (directory->shards == NULL) {
        free(directory);
        return NULL;
    }
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

/* One number on its way through a group. */
struct query {
    const struct table *table;
    uint64_t hash;
};

/* Checks the numbers, finds their tables and starts the reads of their home lines. */
static void start_group(const struct directory *directory, const uint64_t *numbers, size_t count,
                        uint8_t *answers, struct query *queries)
{
    for (size_t i = 0; i < count; i++) {
        queries[i].table = NULL;
        if (phone_check(numbers[i]) != PHONE_OK) {
            answers[i] = DIRECTORY_INVALID;
            continue;
        }
        answers[i] = DIRECTORY_NOT_REGISTERED;
        uint64_t hash = table_hash(numbers[i], directory->seed);
        /* Sequentially consistent: see epoch.h. */
        queries[i].table = atomic_load(&directory->shards[shard_of(directory, hash)].table);
        queries[i].hash = hash;
        table_prefetch(queries[i].table, hash);
    }
}

static uint8_t answer_of(uint8_t flags)
{
    return flags & RECORD_FLAG_HIDDEN ? DIRECTORY_NOT_REGISTERED : DIRECTORY_REGISTERED;
}

static void lookup_group(const struct directory *directory, const uint64_t *numbers, size_t count,
                         uint8_t *answers)
{
    struct query queries[GROUP];
    uint8_t elsewhere[GROUP];
    size_t elsewhere_count = 0;
    uint8_t flags = 0;
    start_group(directory, numbers, count, answers, queries);
    for (size_t i = 0; i < count; i++) {
        if (queries[i].table == NULL)
            continue;
        switch (table_probe(queries[i].table, queries[i].hash, numbers[i], &flags)) {
        case TABLE_FOUND:
            answers[i] = answer_of(flags);
            break;
        case TABLE_ELSEWHERE:
            elsewhere[elsewhere_count++] = (uint8_t)i;
            break;
        case TABLE_MISSING:
            break;
        }
    }
    for (size_t j = 0; j < elsewhere_count; j++) {
        size_t i = elsewhere[j];
        if (table_find(queries[i].table, queries[i].hash, numbers[i], &flags))
            answers[i] = answer_of(flags);
    }
}

static void lookup_group_records(const struct directory *directory, const uint64_t *numbers, size_t count,
                                 uint8_t *answers, struct record *records)
{
    struct query queries[GROUP];
    start_group(directory, numbers, count, answers, queries);
    for (size_t i = 0; i < count; i++) {
        struct record none = {.number = numbers[i]};
        if (queries[i].table != NULL &&
            table_find_record(queries[i].table, queries[i].hash, numbers[i], &records[i]))
            answers[i] = answer_of(records[i].flags);
        if (answers[i] != DIRECTORY_REGISTERED)
            records[i] = none;
    }
}

void directory_lookup(const struct directory *directory, struct epoch_reader *reader, const uint64_t *numbers,
                      size_t count, uint8_t *answers)
{
    epoch_enter(&directory->epoch, reader);
    for (size_t start = 0; start < count; start += GROUP) {
        size_t size = count - start < GROUP ? count - start : GROUP;
        lookup_group(directory, numbers + start, size, answers + start);
    }
    epoch_leave(reader);
}

void directory_lookup_records(const struct directory *directory, struct epoch_reader *reader,
                              const uint64_t *numbers, size_t count, uint8_t *answers, struct record *records)
{
    epoch_enter(&directory->epoch, reader);
    for (size_t start = 0; start < count; start += GROUP) {
        size_t size = count - start < GROUP ? count - start : GROUP;
        lookup_group_records(directory, numbers + start, size, answers + start, records + start);
    }
    epoch_leave(reader);
}

/* --- updates; all below is called with the shard's lock held, except the public functions --- */

struct refill {
    struct table *table;
    uint64_t seed;
};

static bool insert_into(void *context, const struct record *record)
{
    struct refill *refill = context;
    return table_insert(refill->table, table_hash(record->number, refill->seed), record, NULL) != TABLE_FULL;
}

/* Replaces the shard's table by one of at least `slots` slots with the same content. False when memory is
 * short; the old table then stays. A new table that cannot take everything (never seen, but hashing gives no
 * promise) is tried again with more room. */
static bool rebuild(struct directory *directory, struct shard *shard, size_t slots)
{
    struct table *old = own_table(shard);
    struct table *fresh;
    for (;; slots += slots / 4) {
        fresh = table_create(slots, directory->accounts, directory->seed);
        if (fresh == NULL)
            return false;
        if (table_visit(old, insert_into, &(struct refill){fresh, directory->seed}))
            break;
        table_destroy(fresh);
    }
    atomic_store(&shard->table, fresh); /* sequentially consistent: see epoch.h */
    atomic_fetch_add_explicit(&shard->rebuilds, 1, memory_order_relaxed);
    publish_stats(shard, fresh);
    epoch_synchronize(&directory->epoch);
    table_destroy(old);
    return true;
}

static size_t grown_slots(const struct table *table)
{
    return table_slots(table) + table_slots(table) / 4 + TABLE_SLOTS_PER_LINE;
}

static enum directory_result insert_or_grow(struct directory *directory, struct shard *shard, uint64_t hash,
                                            const struct record *record)
{
    for (;;) {
        struct table *table = own_table(shard);
        bool crowded = table_count(table) * 100 >= table_slots(table) * LOAD_MAX_PERCENT;
        /* When memory is short, a crowded table may still have a place; only a full one has to give up. */
        if (crowded && rebuild(directory, shard, grown_slots(table)))
            table = own_table(shard);
        enum table_insert_result result = table_insert(table, hash, record, NULL);
        publish_stats(shard, table);
        if (result == TABLE_REPLACED)
            return DIRECTORY_REPLACED;
        if (result == TABLE_ADDED)
            return DIRECTORY_ADDED;
        if (!rebuild(directory, shard, grown_slots(table)))
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
    uint64_t hash = table_hash(record->number, directory->seed);
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
    uint64_t hash = table_hash(number, directory->seed);
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
    uint64_t from_hash = table_hash(from, directory->seed);
    uint64_t to_hash = table_hash(to, directory->seed);
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
    for (unsigned i = 0; i < stats->shards; i++) {
        const struct shard *shard = &directory->shards[i];
        stats->records += atomic_load_explicit(&shard->records, memory_order_relaxed);
        stats->slots += atomic_load_explicit(&shard->slots, memory_order_relaxed);
        stats->bytes += atomic_load_explicit(&shard->bytes, memory_order_relaxed);
        stats->rebuilds += atomic_load_explicit(&shard->rebuilds, memory_order_relaxed);
    }
}
