/* The directory: shards, their growth, and the batch lookup over all of them; see directory.h. */
#include "hashing/directory.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hashing/arena.h"
#include "hashing/hash.h"
#include "hashing/layout.h"
#include "hashing/lookup.h"
#include "hashing/phone.h"
#include "hashing/table.h"

/* In its turn a shard gets 20 % more slots than it had. Each has its turn at another time, so that at DIRECTORY_LOAD on the whole
 * the shards' own loads lie between 0.80 and 0.96, and a record is copied about six times in its life. (bench_table at 30 M with 12,
 * 16, 20 %: 0.55, 0.49, 0.47 moves an insert, 2.99, 3.23, 3.33 M/s in batches. Beyond, shards come to OWN_LOAD_MAX, where one grows
 * by itself rather than search long.) */
#define GROWTH 1.2
/* A shard that has nearly the size of its turn is left out. */
#define GROWTH_MIN 1.03
/* Where half a MiB counts, which is what a directory takes besides its tables and the one that is being made: up to MEDIUM_SLOTS,
 * and it is filled more, up to MEDIUM_RECORDS_MORE records. */
#define GROWTH_MEDIUM 1.12
#define MEDIUM_SLOTS 4e6
#define MEDIUM_LOAD_MORE 0.026
#define MEDIUM_RECORDS_MORE 1e5
#define GROWTH_SMALL 2.0 /* of a directory that has doubling_slots */
#define OWN_LOAD_MAX 0.975
#define POPULATE_FROM_BYTES ((size_t)16 << 10)
#define SLOTS_MIN 64
/* Records that a shard counts before it tells the directory. */
#define REPORT_STEP 8
/* Records ahead that a batch brings near: enough for the reads to overlap. */
#define REGISTER_AHEAD 16
#define ROOM_AHEAD 8
#define HASHES_KEPT ((size_t)2 * REGISTER_AHEAD)

struct shard {
    pthread_mutex_t writer;
    int64_t unreported; /* under the lock */
    /* For the statistics; written under the lock. The table's counts without those of its predecessors. */
    _Atomic uint64_t records;
    _Atomic uint64_t slots;
    _Atomic uint64_t bytes;
    _Atomic uint64_t spilled;
    _Atomic uint64_t added;
    _Atomic uint64_t moved;
    _Atomic uint64_t rebuilds;
    _Atomic uint64_t rebuild_ns;
    uint64_t added_before;
    uint64_t moved_before;
};

/* Whose turn it is to be rebuilt, and the size that it gets; under the lock, which is taken before a shard's and never
 * while one is held. */
struct rotation {
    pthread_mutex_t lock;
    unsigned turn;
    uint64_t *order; /* in its lowest bits the shard of each turn; see order_turns */
    double slots;
    double step;         /* by how much more the next one gets */
    unsigned clean_turn; /* of its own: cleaning up must not end a round of growth */
};

struct directory {
    struct lookup_view view;
    struct lookup_variant lookup;
    struct table_family family;
    unsigned shard_bits;
    struct shard *shards;
    _Atomic uint64_t *placements;
    _Atomic(struct table *) *tables;
    struct rotation rotation;
    _Alignas(64) _Atomic uint64_t moves;
    /* Of the whole, for the rotation: up to REPORT_STEP a shard behind. Signed, since removals may be told first. */
    _Alignas(64) _Atomic int64_t records;
    _Atomic int64_t slots;
    _Atomic int64_t next_turn; /* records from which on */
    int64_t expected;          /* up to so many there is no turn; constant */
    uint64_t doubling_slots;   /* constant */
    _Atomic uint64_t bytes;
    _Atomic uint64_t bytes_peak;
    struct epoch epoch;
};

static unsigned shard_count(const struct directory *directory)
{
    return 1u << directory->shard_bits;
}

static unsigned shard_of(const struct directory *directory, uint64_t hash)
{
    return (unsigned)lookup_shard(&directory->view, hash);
}

/* The writer's view of a shard's table; the lock is held. */
static struct table *own_table(const struct directory *directory, unsigned shard)
{
    return atomic_load_explicit(&directory->tables[shard], memory_order_relaxed);
}

static void publish_stats(struct shard *shard, const struct table *table)
{
    const struct table_stats *stats = table_stats(table);
    atomic_store_explicit(&shard->records, stats->records, memory_order_relaxed);
    atomic_store_explicit(&shard->spilled, stats->spilled, memory_order_relaxed);
    atomic_store_explicit(&shard->added, shard->added_before + stats->added, memory_order_relaxed);
    atomic_store_explicit(&shard->moved, shard->moved_before + stats->moved, memory_order_relaxed);
}

/* Counts `bytes` as in use (or no longer), and the peak. */
static void count_bytes(struct directory *directory, uint64_t added, uint64_t removed)
{
    uint64_t bytes = atomic_fetch_add(&directory->bytes, added - removed) + added - removed;
    uint64_t peak = atomic_load_explicit(&directory->bytes_peak, memory_order_relaxed);
    while (bytes > peak && !atomic_compare_exchange_weak(&directory->bytes_peak, &peak, bytes))
        ;
}

/* Makes `table` the shard's. Sequentially consistent: see epoch.h. The old one stays as it is as long as any lookup may
 * look into it, so each lookup that keeps to one placement for both lines of a number is right. */
static void publish_table(struct directory *directory, unsigned index, struct table *table)
{
    struct shard *shard = &directory->shards[index];
    const struct line *base = arena_base(directory->family.arena);
    atomic_store(&directory->placements[index],
                 layout_placement((uint64_t)(table->lines - base), table->line_count));
    atomic_store(&directory->tables[index], table);
    uint64_t slots = table_slots(table);
    uint64_t before = atomic_exchange_explicit(&shard->slots, slots, memory_order_relaxed);
    atomic_fetch_add_explicit(&directory->slots, (int64_t)(slots - before), memory_order_relaxed);
    atomic_store_explicit(&shard->bytes, table_bytes(table), memory_order_relaxed);
    publish_stats(shard, table);
}

/* --- life --- */

static int compare_keys(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* By what a shard grows that has so many slots. */
static double growth(const struct directory *directory, double slots)
{
    double all = slots * shard_count(directory);
    return all < (double)directory->doubling_slots ? GROWTH_SMALL
           : all < MEDIUM_SLOTS                    ? GROWTH_MEDIUM
                                                   : GROWTH;
}

/* A new round: the smallest shard first. That is the order in which they came, so mostly that in memory, too, and what
 * goes one after the other is in one piece that the arena can use again. */
static void order_turns(struct directory *directory)
{
    struct rotation *rotation = &directory->rotation;
    for (unsigned i = 0; i < shard_count(directory); i++) {
        uint64_t placement = atomic_load_explicit(&directory->placements[i], memory_order_relaxed);
        rotation->order[i] = (placement & LAYOUT_COUNT_MASK) << DIRECTORY_SHARD_BITS_MAX | i;
    }
    qsort(rotation->order, shard_count(directory), sizeof *rotation->order, compare_keys);
    rotation->turn = 0;
    rotation->step = rotation->slots * (growth(directory, rotation->slots) - 1) / shard_count(directory);
}

static unsigned shard_of_turn(const struct directory *directory)
{
    return (unsigned)directory->rotation.order[directory->rotation.turn] & (shard_count(directory) - 1);
}

/* Slots for one shard's share of the records. */
static size_t reserve_slots(const struct directory_options *options)
{
    double slots =
        (double)options->expected_records / (double)(1u << options->shard_bits) / DIRECTORY_RESERVE_LOAD;
    return slots < SLOTS_MIN ? SLOTS_MIN : (size_t)slots;
}

static bool create_tables(struct directory *directory, size_t slots, bool populate)
{
    for (unsigned i = 0; i < shard_count(directory); i++) {
        struct table *table = table_create(slots, &directory->family);
        if (table == NULL)
            return false;
        count_bytes(directory, table_bytes(table), 0);
        publish_table(directory, i, table);
        if (populate && !table_populate(table))
            return false;
    }
    return true;
}

static struct lookup_view make_view(const struct directory *directory, uint64_t seed)
{
    struct lookup_view view = {.base = arena_base(directory->family.arena),
                               .placements = directory->placements,
                               .tables = directory->tables,
                               .moves = &directory->moves,
                               .shard_shift = directory->shard_bits == 0 ? 63 : 64 - directory->shard_bits,
                               .shard_mask = shard_count(directory) - 1,
                               .seed = seed,
                               .flip = hash_flip(seed),
                               .epoch = &directory->epoch};
    phone_index_init(&view.phones);
    return view;
}

/* All that can fail; what is there afterwards directory_destroy knows to free. */
static bool allocate_parts(struct directory *directory, const struct directory_options *options)
{
    unsigned shards = shard_count(directory);
    size_t slots = reserve_slots(options);
    size_t first_slots = options->images ? SLOTS_MIN : slots;
    size_t slot_bytes = sizeof(uint64_t) * (options->accounts ? 2 : 1);
    directory->shards = aligned_alloc(64, (shards * sizeof *directory->shards + 63) & ~(size_t)63);
    directory->placements = calloc(shards, sizeof *directory->placements);
    directory->tables = calloc(shards, sizeof *directory->tables);
    directory->rotation.order = calloc(shards, sizeof *directory->rotation.order);
    directory->family.arena = arena_create(shards * slots * slot_bytes);
    if (directory->shards == NULL)
        return false;
    memset(directory->shards, 0, shards * sizeof *directory->shards);
    for (unsigned i = 0; i < shards; i++)
        pthread_mutex_init(&directory->shards[i].writer, NULL);
    if (directory->placements == NULL || directory->tables == NULL || directory->rotation.order == NULL ||
        directory->family.arena == NULL)
        return false;
    directory->view = make_view(directory, options->seed);
    directory->rotation.slots = (double)slots;
    if (!create_tables(directory, first_slots, options->populate))
        return false;
    order_turns(directory);
    return true;
}

struct directory *directory_create(const struct directory_options *options)
{
    assert(options->shard_bits <= DIRECTORY_SHARD_BITS_MAX);
    struct directory *directory = aligned_alloc(64, (sizeof *directory + 63) & ~(size_t)63);
    if (directory == NULL)
        return NULL;
    memset(directory, 0, sizeof *directory);
    directory->shard_bits = options->shard_bits;
    directory->expected = options->images ? 0 : (int64_t)options->expected_records;
    directory->doubling_slots = options->doubling_slots;
    directory->lookup = *lookup_choose();
    directory->family = (struct table_family){.moves = &directory->moves,
                                              .seed = options->seed,
                                              .accounts = options->accounts,
                                              .look = directory->lookup.look};
    pthread_mutex_init(&directory->rotation.lock, NULL);
    epoch_init(&directory->epoch);
    if (!allocate_parts(directory, options)) {
        directory_destroy(directory);
        return NULL;
    }
    return directory;
}

void directory_destroy(struct directory *directory)
{
    if (directory == NULL)
        return;
    for (unsigned i = 0; directory->shards != NULL && i < shard_count(directory); i++) {
        if (directory->tables != NULL)
            table_destroy(own_table(directory, i));
        pthread_mutex_destroy(&directory->shards[i].writer);
    }
    pthread_mutex_destroy(&directory->rotation.lock);
    arena_destroy(directory->family.arena);
    free(directory->rotation.order);
    free(directory->tables);
    free(directory->placements);
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

/* Records that directory_lookup_records works on at a time. */
#define RECORDS_GROUP 64

void directory_lookup(const struct directory *directory, struct epoch_reader *reader, const uint64_t *numbers,
                      size_t count, uint8_t *answers)
{
    if (count == 1) {
        directory->lookup.one(&directory->view, reader, *numbers, answers);
        return;
    }
    epoch_enter(&directory->epoch, reader);
    directory->lookup.many(&directory->view, numbers, count, answers);
    epoch_leave(reader);
}

enum directory_answer directory_lookup_alike(const struct directory *directory, struct epoch_reader *reader,
                                             uint64_t number)
{
    uint8_t answer;
    directory->lookup.alike(&directory->view, reader, number, &answer);
    return (enum directory_answer)answer;
}

/* No reader's section: a line that is no longer the table's is prefetched for nothing. */
void directory_prefetch(const struct directory *directory, uint64_t number, bool alike)
{
    uint64_t hash = hash_flipped(number, directory->view.flip);
    uint64_t placement = lookup_placement(&directory->view, hash);
    __builtin_prefetch(lookup_home(&directory->view, placement, hash));
    if (alike)
        __builtin_prefetch(lookup_alternate(&directory->view, placement, hash));
}

/* Where a number's account most likely is: beside its home line. A shard's table may be another by the time it is
 * read; then this was for nothing. */
static void prefetch_account(const struct directory *directory, uint64_t hash)
{
    uint64_t placement = lookup_placement(&directory->view, hash);
    if (directory->family.accounts)
        __builtin_prefetch(lookup_home(&directory->view, placement, hash) + (placement & LAYOUT_COUNT_MASK));
}

/* Both lines of a number, to be written. */
static void prefetch_lines(const struct directory *directory, uint64_t hash)
{
    uint64_t placement = lookup_placement(&directory->view, hash);
    __builtin_prefetch(lookup_home(&directory->view, placement, hash), 1);
    __builtin_prefetch(lookup_alternate(&directory->view, placement, hash), 1);
}

/* What a write mostly touches, without a look at the table. */
static void prefetch_write(const struct directory *directory, uint64_t hash)
{
    prefetch_lines(directory, hash);
    prefetch_account(directory, hash);
}

/* Numbers first by the batch lookup, which brings their lines near; then the records of those that are there.
 * A number that goes in between is then not there. */
static void lookup_group_records(const struct directory *directory, const uint64_t *numbers, size_t count,
                                 uint8_t *answers, struct record *records)
{
    uint64_t hashes[RECORDS_GROUP];
    directory->lookup.many(&directory->view, numbers, count, answers);
    for (size_t i = 0; i < count; i++) {
        hashes[i] = hash_number(numbers[i], directory->view.seed);
        if (answers[i] == DIRECTORY_REGISTERED)
            prefetch_account(directory, hashes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct record){.number = numbers[i]};
        if (answers[i] != DIRECTORY_REGISTERED)
            continue;
        struct record found;
        const struct table *table = atomic_load(&directory->tables[shard_of(directory, hashes[i])]);
        if (table_find_record(table, hashes[i], numbers[i], &found) &&
            (found.flags & RECORD_FLAG_HIDDEN) == 0)
            records[i] = found;
        else
            answers[i] = DIRECTORY_NOT_REGISTERED;
    }
}

void directory_lookup_records(const struct directory *directory, struct epoch_reader *reader,
                              const uint64_t *numbers, size_t count, uint8_t *answers, struct record *records)
{
    epoch_enter(&directory->epoch, reader);
    for (size_t start = 0; start < count; start += RECORDS_GROUP) {
        size_t size = count - start < RECORDS_GROUP ? count - start : RECORDS_GROUP;
        lookup_group_records(directory, numbers + start, size, answers + start, records + start);
    }
    epoch_leave(reader);
}

const char *directory_lookup_variant(void)
{
    return lookup_choose()->name;
}

/* --- rebuilding; the shard's lock is held --- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* With all its memory at once, instead of by a page fault for each page as it is filled. */
static struct table *create_populated(const struct directory *directory, size_t slots)
{
    struct table *table = slots <= TABLE_SLOTS_MAX ? table_create(slots, &directory->family) : NULL;
    if (table != NULL && table_bytes(table) >= POPULATE_FROM_BYTES && !table_populate(table)) {
        table_destroy(table);
        return NULL;
    }
    return table;
}

/* Replaces the shard's table by one of at least `slots` slots with the same content. False when memory is
 * short; the old table then stays. A new table that cannot take everything (hashing gives no promise) is tried again
 * with more room. */
static bool rebuild(struct directory *directory, unsigned index, size_t slots)
{
    struct shard *shard = &directory->shards[index];
    struct table *old = own_table(directory, index);
    struct table *fresh;
    uint64_t started = now_ns();
    for (;; slots += slots / 4) {
        fresh = create_populated(directory, slots);
        if (fresh == NULL)
            return false;
        count_bytes(directory, table_bytes(fresh), 0);
        if (table_copy(old, fresh))
            break;
        count_bytes(directory, 0, table_bytes(fresh));
        table_destroy(fresh);
    }
    shard->added_before += table_stats(old)->added;
    shard->moved_before += table_stats(old)->moved;
    publish_table(directory, index, fresh);
    atomic_fetch_add_explicit(&shard->rebuilds, 1, memory_order_relaxed);
    epoch_synchronize(&directory->epoch);
    count_bytes(directory, 0, table_bytes(old));
    table_destroy(old);
    atomic_fetch_add_explicit(&shard->rebuild_ns, now_ns() - started, memory_order_relaxed);
    return true;
}

/* A shard that is full out of turn. */
static bool grow_alone(struct directory *directory, unsigned index)
{
    double slots = (double)table_slots(own_table(directory, index));
    return rebuild(directory, index, (size_t)(slots * growth(directory, slots)));
}

/* --- rebuilding in turn; no shard's lock is held --- */

static void pass_turn(struct directory *directory, bool grow)
{
    struct rotation *rotation = &directory->rotation;
    unsigned *turn = grow ? &rotation->turn : &rotation->clean_turn;
    *turn = (*turn + 1) % shard_count(directory);
    if (!grow)
        return;
    rotation->slots += rotation->step;
    if (*turn == 0)
        order_turns(directory);
}

/* The next turn is not before half of what this one has gained is used: where the load is far beyond what it should be, as
 * after a bulk build, no writer after the other has to rebuild a shard. */
static void put_off_turn(struct directory *directory, size_t gained)
{
    int64_t records = atomic_load_explicit(&directory->records, memory_order_relaxed);
    atomic_store_explicit(&directory->next_turn, records + (int64_t)(gained / 2), memory_order_relaxed);
}

/* Rebuilds the shard whose turn it is if it is too small by now (`grow`), or else worn; those that are neither lose
 * their turn, at most all of them. When memory is short nothing happens, and the next write tries again. */
static void take_turn(struct directory *directory, bool grow)
{
    struct rotation *rotation = &directory->rotation;
    if (pthread_mutex_trylock(&rotation->lock) != 0)
        return; /* somebody is at it */
    bool done = false;
    for (unsigned tried = 0; !done && tried < shard_count(directory); tried++) {
        unsigned index = grow ? shard_of_turn(directory) : rotation->clean_turn;
        pthread_mutex_lock(&directory->shards[index].writer);
        struct table *table = own_table(directory, index);
        size_t slots = table_slots(table);
        bool wanted = grow ? (double)slots * GROWTH_MIN < rotation->slots : table_is_worn(table);
        done = wanted;
        bool failed = wanted && !rebuild(directory, index, grow ? (size_t)rotation->slots : slots);
        if (grow && wanted)
            put_off_turn(directory, table_slots(own_table(directory, index)) - slots);
        pthread_mutex_unlock(&directory->shards[index].writer);
        if (failed)
            break;
        pass_turn(directory, grow);
    }
    pthread_mutex_unlock(&rotation->lock);
}

/* Records that so many slots are to hold. */
static double room_of(double slots)
{
    double more = slots * MEDIUM_LOAD_MORE;
    return slots * DIRECTORY_LOAD + (more < MEDIUM_RECORDS_MORE ? more : MEDIUM_RECORDS_MORE);
}

static bool is_crowded(const struct directory *directory)
{
    int64_t records = atomic_load_explicit(&directory->records, memory_order_relaxed);
    int64_t slots = atomic_load_explicit(&directory->slots, memory_order_relaxed);
    return (double)records > room_of((double)slots) && records > directory->expected &&
           records >= atomic_load_explicit(&directory->next_turn, memory_order_relaxed);
}

/* --- updates; the shard's lock is held, except in the public functions --- */

static void count_records(struct directory *directory, struct shard *shard, int64_t change)
{
    shard->unreported += change;
    if (shard->unreported >= REPORT_STEP || shard->unreported <= -REPORT_STEP) {
        atomic_fetch_add_explicit(&directory->records, shard->unreported, memory_order_relaxed);
        shard->unreported = 0;
    }
}

static enum directory_result insert_or_grow(struct directory *directory, unsigned index, uint64_t hash,
                                            const struct record *record)
{
    for (;;) {
        struct table *table = own_table(directory, index);
        bool crowded = (double)table_stats(table)->records >= (double)table_slots(table) * OWN_LOAD_MAX;
        /* When memory is short, a crowded table may still have a place; only a full one has to give up. */
        if (crowded && grow_alone(directory, index))
            table = own_table(directory, index);
        enum table_insert_result result = table_insert(table, hash, record, NULL);
        publish_stats(&directory->shards[index], table);
        if (result == TABLE_REPLACED)
            return DIRECTORY_REPLACED;
        if (result == TABLE_ADDED) {
            count_records(directory, &directory->shards[index], 1);
            return DIRECTORY_ADDED;
        }
        if (!grow_alone(directory, index))
            return DIRECTORY_NO_MEMORY;
    }
}

/* `*worn`: the shard's filters should be cleaned up. */
static bool remove_one(struct directory *directory, unsigned index, uint64_t hash, uint64_t number,
                       bool *worn)
{
    struct table *table = own_table(directory, index);
    bool removed = table_remove(table, hash, number, NULL);
    if (removed)
        count_records(directory, &directory->shards[index], -1);
    publish_stats(&directory->shards[index], table);
    *worn = table_is_worn(table);
    return removed;
}

unsigned directory_shard_of(const struct directory *directory, uint64_t number)
{
    return shard_of(directory, hash_number(number, directory->view.seed));
}

enum directory_result directory_register(struct directory *directory, const struct record *record)
{
    if (!phone_is_valid(record->number, &directory->view.phones))
        return DIRECTORY_INVALID_NUMBER;
    uint64_t hash = hash_number(record->number, directory->view.seed);
    unsigned index = shard_of(directory, hash);
    prefetch_lines(directory, hash);
    pthread_mutex_lock(&directory->shards[index].writer);
    table_prefetch_account(own_table(directory, index), hash);
    enum directory_result result = insert_or_grow(directory, index, hash, record);
    pthread_mutex_unlock(&directory->shards[index].writer);
    if (is_crowded(directory))
        take_turn(directory, true);
    return result;
}

/* Goes from the locked shard (UINT_MAX: none) to another, which may be the same, and takes a turn in between. */
static void change_lock(struct directory *directory, unsigned from, unsigned to)
{
    if (from != UINT_MAX)
        pthread_mutex_unlock(&directory->shards[from].writer);
    if (is_crowded(directory))
        take_turn(directory, true);
    if (to != UINT_MAX)
        pthread_mutex_lock(&directory->shards[to].writer);
}

/* The table may be replaced meanwhile, so it is looked into as a reader does. */
static void prefetch_insert(struct directory *directory, struct epoch_reader *reader, uint64_t hash)
{
    epoch_enter(&directory->epoch, reader);
    prefetch_lines(directory, hash);
    table_prefetch_account(atomic_load(&directory->tables[shard_of(directory, hash)]), hash);
    epoch_leave(reader);
}

/* What will be touched beyond both lines when these are full, which are near by now. */
static void prefetch_room(struct directory *directory, struct epoch_reader *reader, uint64_t hash)
{
    epoch_enter(&directory->epoch, reader);
    table_prefetch_room(atomic_load(&directory->tables[shard_of(directory, hash)]), hash);
    epoch_leave(reader);
}

/* Three stages: what is about to be inserted has its lines fetched, then those to which others may have to move, then it is inserted. */
void directory_register_batch(struct directory *directory, const struct record *records, size_t count,
                              uint8_t *results)
{
    uint64_t hashes[HASHES_KEPT] = {0};
    unsigned locked = UINT_MAX;
    struct epoch_reader *reader = count > ROOM_AHEAD ? epoch_register(&directory->epoch) : NULL;
    for (size_t i = 0; i < count + REGISTER_AHEAD; i++) {
        size_t near = i - (REGISTER_AHEAD - ROOM_AHEAD);
        size_t now = i - REGISTER_AHEAD;
        if (i < count) {
            hashes[i % HASHES_KEPT] = hash_number(records[i].number, directory->view.seed);
            if (reader != NULL)
                prefetch_insert(directory, reader, hashes[i % HASHES_KEPT]);
            else
                prefetch_write(directory, hashes[i % HASHES_KEPT]);
        }
        if (reader != NULL && near < count)
            prefetch_room(directory, reader, hashes[near % HASHES_KEPT]);
        if (now >= count) /* also below 0 */
            continue;
        uint64_t hash = hashes[now % HASHES_KEPT];
        unsigned index = shard_of(directory, hash);
        if (index != locked || is_crowded(directory))
            change_lock(directory, locked, index);
        locked = index;
        results[now] = phone_is_valid(records[now].number, &directory->view.phones)
                           ? (uint8_t)insert_or_grow(directory, index, hash, &records[now])
                           : DIRECTORY_INVALID_NUMBER;
    }
    change_lock(directory, locked, UINT_MAX);
    if (reader != NULL)
        epoch_unregister(reader);
}

/* The bulk's sort: so many parts of a shard that one part's lines and accounts stay near while it is filled (0.2 MB each
 * with 100 M numbers in 256 shards). */
#define PART_BITS 6
#define PARTS (1u << PART_BITS)

static unsigned part_of(const struct directory *directory, uint64_t number)
{
    return (unsigned)((hash_number(number, directory->view.seed) & UINT32_MAX) >> (32 - PART_BITS));
}

/* A copy sorted by part, stable; NULL when memory is short. */
static struct record *sort_by_part(const struct directory *directory, const struct record *records,
                                   size_t count)
{
    size_t next[PARTS + 1] = {0};
    struct record *sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        next[part_of(directory, records[i].number) + 1]++;
    for (unsigned part = 0; part < PARTS; part++)
        next[part + 1] += next[part];
    for (size_t i = 0; i < count; i++)
        sorted[next[part_of(directory, records[i].number)]++] = records[i];
    return sorted;
}

static void count_result(struct directory_bulk *bulk, enum directory_result result)
{
    bulk->added += result == DIRECTORY_ADDED;
    bulk->replaced += result == DIRECTORY_REPLACED;
    bulk->invalid += result == DIRECTORY_INVALID_NUMBER;
    bulk->refused += result == DIRECTORY_NO_MEMORY;
}

void directory_register_shard(struct directory *directory, unsigned shard, const struct record *records,
                              size_t count, struct directory_bulk *bulk)
{
    struct record *sorted = sort_by_part(directory, records, count);
    const struct record *source = sorted == NULL ? records : sorted;
    pthread_mutex_lock(&directory->shards[shard].writer);
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = hash_number(source[i].number, directory->view.seed);
        assert(shard_of(directory, hash) == shard);
        if (i + REGISTER_AHEAD < count)
            prefetch_write(directory, hash_number(source[i + REGISTER_AHEAD].number, directory->view.seed));
        count_result(bulk, phone_is_valid(source[i].number, &directory->view.phones)
                               ? insert_or_grow(directory, shard, hash, &source[i])
                               : DIRECTORY_INVALID_NUMBER);
    }
    pthread_mutex_unlock(&directory->shards[shard].writer);
    free(sorted);
    if (is_crowded(directory))
        take_turn(directory, true);
}

enum directory_result directory_deregister(struct directory *directory, uint64_t number)
{
    if (!phone_is_valid(number, &directory->view.phones))
        return DIRECTORY_INVALID_NUMBER;
    uint64_t hash = hash_number(number, directory->view.seed);
    unsigned index = shard_of(directory, hash);
    bool worn;
    prefetch_write(directory, hash);
    pthread_mutex_lock(&directory->shards[index].writer);
    bool removed = remove_one(directory, index, hash, number, &worn);
    pthread_mutex_unlock(&directory->shards[index].writer);
    if (worn)
        take_turn(directory, false);
    return removed ? DIRECTORY_REMOVED : DIRECTORY_ABSENT;
}

/* Both shards in ascending order, so that two moves cannot wait for each other. */
static void lock_pair(struct directory *directory, unsigned a, unsigned b)
{
    pthread_mutex_lock(&directory->shards[a < b ? a : b].writer);
    if (a != b)
        pthread_mutex_lock(&directory->shards[a < b ? b : a].writer);
}

static void unlock_pair(struct directory *directory, unsigned a, unsigned b)
{
    pthread_mutex_unlock(&directory->shards[a].writer);
    if (a != b)
        pthread_mutex_unlock(&directory->shards[b].writer);
}

enum directory_result directory_move(struct directory *directory, uint64_t from, uint64_t to)
{
    if (phone_check(from) != PHONE_OK || phone_check(to) != PHONE_OK)
        return DIRECTORY_INVALID_NUMBER;
    uint64_t from_hash = hash_number(from, directory->view.seed);
    uint64_t to_hash = hash_number(to, directory->view.seed);
    unsigned from_shard = shard_of(directory, from_hash);
    unsigned to_shard = shard_of(directory, to_hash);
    struct record record;
    uint8_t flags;
    bool worn = false;
    enum directory_result result;

    lock_pair(directory, from_shard, to_shard);
    if (!table_find_record(own_table(directory, from_shard), from_hash, from, &record)) {
        result = DIRECTORY_ABSENT;
    } else if (table_find(own_table(directory, to_shard), to_hash, to, &flags)) {
        result = DIRECTORY_OCCUPIED;
    } else {
        record.number = to;
        result = insert_or_grow(directory, to_shard, to_hash, &record);
        if (result == DIRECTORY_ADDED) {
            remove_one(directory, from_shard, from_hash, from, &worn);
            result = DIRECTORY_MOVED;
        }
    }
    unlock_pair(directory, from_shard, to_shard);
    if (is_crowded(directory))
        take_turn(directory, true);
    else if (worn)
        take_turn(directory, false);
    return result;
}

/* --- the whole --- */

bool directory_visit_shard(struct directory *directory, unsigned index,
                           bool (*visit)(void *context, const struct record *record), void *context)
{
    assert(index < shard_count(directory));
    pthread_mutex_lock(&directory->shards[index].writer);
    bool completed = table_visit(own_table(directory, index), visit, context);
    pthread_mutex_unlock(&directory->shards[index].writer);
    return completed;
}

bool directory_read(struct directory *directory, uint64_t number, struct record *record)
{
    uint64_t hash = hash_number(number, directory->view.seed);
    unsigned index = shard_of(directory, hash);
    pthread_mutex_lock(&directory->shards[index].writer);
    bool found = table_find_record(own_table(directory, index), hash, number, record);
    pthread_mutex_unlock(&directory->shards[index].writer);
    return found;
}

/* --- images --- */

struct directory_shape directory_shape(const struct directory *directory)
{
    return (struct directory_shape){directory->view.seed, directory->shard_bits, directory->family.accounts};
}

size_t directory_copy_shard(struct directory *directory, unsigned index, struct table_image *image,
                            void *bytes, size_t capacity)
{
    assert(index < shard_count(directory));
    pthread_mutex_lock(&directory->shards[index].writer);
    const struct table *table = own_table(directory, index);
    *image = table_image(table);
    size_t size = table_image_bytes(image, directory->family.accounts);
    if (size <= capacity)
        memcpy(bytes, table_memory(table), size); /* only the lock's holder writes to it */
    pthread_mutex_unlock(&directory->shards[index].writer);
    return size;
}

void *directory_load_shard(struct directory *directory, unsigned index, const struct table_image *image)
{
    assert(index < shard_count(directory));
    struct table *table = table_create_for(image, &directory->family);
    if (table == NULL)
        return NULL;
    if (!table_populate(table)) {
        table_destroy(table);
        return NULL;
    }
    struct table *old = own_table(directory, index);
    count_bytes(directory, table_bytes(table), table_bytes(old));
    publish_table(directory, index, table);
    table_destroy(old);
    return table_memory(table);
}

void directory_loaded(struct directory *directory)
{
    size_t largest = 0;
    int64_t records = 0;
    for (unsigned i = 0; i < shard_count(directory); i++) {
        const struct table *table = own_table(directory, i);
        records += (int64_t)table_stats(table)->records;
        largest = table_slots(table) > largest ? table_slots(table) : largest;
        directory->shards[i].unreported = 0;
    }
    atomic_store_explicit(&directory->records, records, memory_order_relaxed);
    /* The round goes on that was under way when the images were taken. */
    directory->rotation.slots = (double)largest;
    directory->rotation.clean_turn = 0;
    order_turns(directory);
}

struct shard_check {
    const struct directory *directory;
    unsigned shard;
    uint64_t records;
};

static bool check_record(void *context, const struct record *record)
{
    struct shard_check *check = context;
    const struct directory *directory = check->directory;
    uint64_t hash = hash_number(record->number, directory->view.seed);
    check->records++;
    return phone_is_valid(record->number, &directory->view.phones) &&
           shard_of(directory, hash) == check->shard;
}

bool directory_check_shard(const struct directory *directory, unsigned index)
{
    struct shard_check check = {.directory = directory, .shard = index};
    const struct table *table = own_table(directory, index);
    return table_visit(table, check_record, &check) && check.records == table_stats(table)->records &&
           table_finds_all(table);
}

static void add_stats(const struct shard *shard, struct directory_stats *stats)
{
    stats->records += atomic_load_explicit(&shard->records, memory_order_relaxed);
    stats->slots += atomic_load_explicit(&shard->slots, memory_order_relaxed);
    stats->bytes += atomic_load_explicit(&shard->bytes, memory_order_relaxed);
    stats->spilled += atomic_load_explicit(&shard->spilled, memory_order_relaxed);
    stats->added += atomic_load_explicit(&shard->added, memory_order_relaxed);
    stats->moved += atomic_load_explicit(&shard->moved, memory_order_relaxed);
    stats->rebuilds += atomic_load_explicit(&shard->rebuilds, memory_order_relaxed);
    stats->rebuild_ns += atomic_load_explicit(&shard->rebuild_ns, memory_order_relaxed);
}

void directory_stats(const struct directory *directory, struct directory_stats *stats)
{
    *stats = (struct directory_stats){
        .shards = shard_count(directory),
        .bytes_peak = atomic_load_explicit(&directory->bytes_peak, memory_order_relaxed),
    };
    for (unsigned i = 0; i < stats->shards; i++)
        add_stats(&directory->shards[i], stats);
}

void directory_shard_stats(const struct directory *directory, unsigned shard, struct directory_stats *stats)
{
    assert(shard < shard_count(directory));
    *stats = (struct directory_stats){0};
    add_stats(&directory->shards[shard], stats);
}
