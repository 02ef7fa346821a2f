/* The directory of registered numbers: a fixed number of shards, each one table (table.h) that is replaced by a
 * larger one when it fills.
 *
 * Threads. Readers (lookup functions) take no lock and never wait, not even while a shard grows; each reading
 * thread joins once and passes its own reader. Writers (register, deregister, move, copy_shard, visit_shard) may be any
 * threads; they lock the shards they touch, and one that has to rebuild a shard waits for the lookups then under
 * way (epoch.h). A thread must not write from inside a lookup, which no function here allows.
 * What a writer did is seen by every lookup that starts after the writer's call returned.
 *
 * Growth. When the directory as a whole is fuller than DIRECTORY_LOAD, the shard whose turn it is gets a table 20 %
 * larger (twice as large as long as there are few), and the next one has the next turn: the load stays at DIRECTORY_LOAD however many numbers there are,
 * memory never doubles, and old tables go in the order in which they came (arena.h). A shard that is full out of
 * turn grows by itself. Worn-out filters (table.h) are cleaned up in a turn of their own.
 *
 * Placement depends on `seed`: give each process a random one, or a client can choose numbers that collide.
 * Memory: 8 bytes a slot, 16 with accounts, at DIRECTORY_LOAD, plus the new table of one shard while it is filled.
 *
 *     struct directory *directory = directory_create(&options);
 *     directory_register(directory, &record);
 *     struct epoch_reader *reader = directory_join(directory);
 *     directory_lookup(directory, reader, numbers, n, answers);
 *     directory_leave(directory, reader);
 */
#ifndef NUMBERD_HASHING_DIRECTORY_H
#define NUMBERD_HASHING_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/epoch.h"
#include "hashing/record.h"
#include "hashing/table.h"

#define DIRECTORY_SHARD_BITS_MAX 12
#define DIRECTORY_SHARD_BITS_DEFAULT 8
/* Records per slot, of the whole: from where on it grows, and how full one that was sized ahead is with the records
 * that were expected. */
#define DIRECTORY_LOAD 0.874
#define DIRECTORY_RESERVE_LOAD 0.902
/* Of 16 bytes: 8 MiB. See directory_options. */
#define DIRECTORY_DOUBLING_SLOTS (UINT64_C(1) << 19)

/* A hidden account is "not registered" to every lookup; "invalid" is a number that phone_check refuses. */
enum directory_answer { DIRECTORY_NOT_REGISTERED = 0, DIRECTORY_REGISTERED = 1, DIRECTORY_INVALID = 2 };

enum directory_result {
    DIRECTORY_ADDED,
    DIRECTORY_REPLACED,
    DIRECTORY_REMOVED,
    DIRECTORY_MOVED,
    DIRECTORY_ABSENT,         /* deregister or move of a number that is not registered */
    DIRECTORY_OCCUPIED,       /* move to a number that is registered already */
    DIRECTORY_INVALID_NUMBER, /* phone_check refuses it */
    DIRECTORY_NO_MEMORY       /* nothing was changed; everything stored stays readable */
};

struct directory_options {
    uint64_t seed;
    size_t expected_records; /* sized ahead for so many; 0: start small */
    unsigned shard_bits;     /* 2^shard_bits shards, 0 .. DIRECTORY_SHARD_BITS_MAX */
    bool accounts;           /* keep account ids; without, they read as 0 */
    bool populate;           /* have the memory for the expected records at once, or fail at once */
    /* As long as it has fewer slots, a shard's table is doubled rather than made 20 % larger: a few MiB for half of the rebuilds of one that
     * grows to millions (DIRECTORY_DOUBLING_SLOTS). 0: never. */
    uint64_t doubling_slots;
    bool images; /* the expected records come by directory_load_shard: begin with small tables */
};

struct directory_stats {
    uint64_t records;
    uint64_t slots;
    uint64_t bytes;
    uint64_t spilled;    /* records that are not in their home line: a hit reads a second one */
    uint64_t added;      /* registrations of new numbers */
    uint64_t moved;      /* records that these pushed to their other line */
    uint64_t rebuilds;   /* tables replaced, to grow or to clear worn-out filters */
    uint64_t rebuild_ns; /* time that took */
    /* Of the whole directory only. */
    uint64_t bytes_peak; /* the most so far: while a shard is rebuilt it is there twice */
    unsigned shards;
};

struct directory;

/* NULL when memory is short. destroy wants all readers gone. */
struct directory *directory_create(const struct directory_options *options);
void directory_destroy(struct directory *directory);

/* A reader for the calling thread, NULL when EPOCH_READERS_MAX have joined. */
struct epoch_reader *directory_join(struct directory *directory);
void directory_leave(struct directory *directory, struct epoch_reader *reader);

/* Answers `count` numbers, by index, as enum directory_answer. Memory reads are overlapped across the batch,
 * so join the numbers of many requests if you can. */
void directory_lookup(const struct directory *directory, struct epoch_reader *reader, const uint64_t *numbers,
                      size_t count, uint8_t *answers);

/* Answers one number in the same time whether it is registered, hidden, or not there: it always reads both lines where the
 * number may be. For answers whose time somebody may measure. One after the other, with nothing between, such lookups
 * take 67 ns where directory_lookup takes 51 to 55 (20 M numbers), each by itself 175 where it takes 163 to 177; a request over
 * the wire takes 12,000. */
enum directory_answer directory_lookup_alike(const struct directory *directory, struct epoch_reader *reader,
                                             uint64_t number);

/* Starts the reads of memory that looking this number up will want, and waits for none: for who has many lookups before him that cannot be
 * joined into one. `alike`: of both lines, as directory_lookup_alike has them. A lookup by itself takes 175 ns, most of which is waiting for
 * memory. */
void directory_prefetch(const struct directory *directory, uint64_t number, bool alike);

/* directory_lookup with the records of the registered ones; the others' record is {number, 0, 0}. */
void directory_lookup_records(const struct directory *directory, struct epoch_reader *reader,
                              const uint64_t *numbers, size_t count, uint8_t *answers,
                              struct record *records);

/* ADDED, REPLACED, INVALID_NUMBER or NO_MEMORY. */
enum directory_result directory_register(struct directory *directory, const struct record *record);
/* The same for `count` records in their order, `results` by index; memory reads are overlapped, and the lock is kept
 * from one record to the next while they are of one shard (directory_shard_of), so bring them sorted by shard if you
 * can. */
void directory_register_batch(struct directory *directory, const struct record *records, size_t count,
                              uint8_t *results);
unsigned directory_shard_of(const struct directory *directory, uint64_t number);

/* What became of the records of a bulk registration. */
struct directory_bulk {
    size_t added;
    size_t replaced;
    size_t invalid;
    size_t refused; /* memory was short */
};

/* Registers `count` records that all are of `shard` (directory_shard_of), in their order as far as one number is
 * concerned, and adds to `*bulk`. They are sorted by their place first, so that memory is touched in order: the fastest
 * way from a hundred thousand records a shard on. Different shards may be built by different threads. Holds the shard's
 * lock throughout, so other writers of the shard wait; takes as much memory again as the records, or, if that is
 * short, more time. */
void directory_register_shard(struct directory *directory, unsigned shard, const struct record *records,
                              size_t count, struct directory_bulk *bulk);

/* REMOVED, ABSENT or INVALID_NUMBER. Hidden accounts are removed like others. */
enum directory_result directory_deregister(struct directory *directory, uint64_t number);
/* MOVED, ABSENT, OCCUPIED, INVALID_NUMBER or NO_MEMORY. The record gets the new number before the old one
 * goes: at no moment is neither registered. */
enum directory_result directory_move(struct directory *directory, uint64_t from, uint64_t to);

/* Calls `visit` for each record of shard 0 .. shards-1, hidden ones too, under its writer lock, until it returns false.
 * False when it did. */
bool directory_visit_shard(struct directory *directory, unsigned shard,
                           bool (*visit)(void *context, const struct record *record), void *context);

/* The record of a number, hidden or not; false when there is none. For those who write, under the shard's lock. */
bool directory_read(struct directory *directory, uint64_t number, struct record *record);

/* --- shards as they lie in memory, for files; good for a directory of the same seed, shard_bits and accounts --- */

/* What two directories have in common if one's images are good for the other. */
struct directory_shape {
    uint64_t seed;
    unsigned shard_bits;
    bool accounts;
};
struct directory_shape directory_shape(const struct directory *directory);

/* Copies the shard's memory, under its writer lock. Returns its bytes; if that is above `capacity` nothing was copied:
 * come again with more room. */
size_t directory_copy_shard(struct directory *directory, unsigned shard, struct table_image *image,
                            void *bytes, size_t capacity);

/* Replaces the shard's table by one for the image, and returns its memory, to be filled by the caller before anybody
 * looks anything up or writes to the directory. NULL when memory is short or the image describes no table; the shard is
 * then as it was. Different shards may be loaded by different threads; directory_loaded once all are filled. */
void *directory_load_shard(struct directory *directory, unsigned shard, const struct table_image *image);
void directory_loaded(struct directory *directory);

/* True when each record of the shard is a valid number that a lookup would find where it is, so is there once, and their
 * count is right.
 * For checks of what was loaded, while nobody writes. */
bool directory_check_shard(const struct directory *directory, unsigned shard);

/* Sums over the shards, or one shard's; no lock, each value is of some recent moment. */
void directory_stats(const struct directory *directory, struct directory_stats *stats);
void directory_shard_stats(const struct directory *directory, unsigned shard, struct directory_stats *stats);

/* The lookup variant in use (lookup.h): "avx512", "avx2", "neon" or "scalar". */
const char *directory_lookup_variant(void);

#endif
