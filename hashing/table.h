/* One shard of the directory: a fixed-size open-addressing hash table of registered numbers.
 *
 * The table never grows by itself: when an insert finds no place it says TABLE_FULL and the owner builds a
 * larger one (directory.h does). The caller brings the hash of each number, table_hash of the table's seed.
 * The layout, the argument for the lock-free reads and the costs stand at the head of table.c.
 *
 * Threads: any number of readers (the find functions, and the batch lookup of lookup.h) beside at most one writer
 * (all others) at a time; the caller sees to "one writer" and to it that no reader is inside when the table is
 * destroyed.
 * Memory: 8 bytes and a 64th a slot, 16 with account ids; the caller picks the fill by the capacity it asks for. */
#ifndef NUMBERD_HASHING_TABLE_H
#define NUMBERD_HASHING_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hashing/arena.h"
#include "hashing/record.h"

#define TABLE_SLOTS_PER_LINE 8
#define TABLE_SLOTS_MAX (UINT64_C(1) << 32)

struct table;

enum table_insert_result { TABLE_ADDED, TABLE_REPLACED, TABLE_FULL };

struct line;
/* All that an insert wants to know of a number's two lines, of which the first is its home. Bit i: slot i of the first holds the
 * number, 8 + i: of the second; 16 + i and 24 + i: the slot is empty. */
typedef uint32_t table_look_function(const struct line *home, const struct line *alternate, uint64_t number);

/* What all tables of a directory have in common. */
struct table_family {
    struct arena *arena;     /* where their memory comes from; outlives them */
    _Atomic uint64_t *moves; /* raised whenever a number changes its place within a table; see table.c */
    uint64_t seed;
    bool accounts;             /* without, every record's account reads as 0 */
    table_look_function *look; /* one of lookup.h's; NULL: the one that runs everywhere */
};

struct table_stats {
    uint64_t records;
    uint64_t spilled; /* records that are not in their home line: a hit reads a second one */
    uint64_t added;   /* since the table was made, not counting table_copy */
    uint64_t moved;   /* records that these additions made change their line */
};

/* The seeded hash that every function below expects (XXH3, 64 bits). Its top 12 bits are left to the owner
 * for choosing the shard. */
uint64_t table_hash(uint64_t number, uint64_t seed);

/* A table's memory as it is, for a file, with what cannot be read from it. Good for tables of the same seed and
 * TABLE_IMAGE_LAYOUT alone. */
#define TABLE_IMAGE_LAYOUT 1
struct table_image {
    uint64_t line_count; /* of 64 bytes, and as much again of accounts */
    uint64_t records;
    uint64_t spilled;
    uint64_t stale_marks;
};

/* A table of at least `slots` slots, 1 .. TABLE_SLOTS_MAX; NULL when memory is short. */
struct table *table_create(size_t slots, const struct table_family *family);
void table_destroy(struct table *table);

/* arena_populate of all its memory. */
bool table_populate(const struct table *table);

/* --- readers --- */

/* True and `*flags` when the number is there. */
bool table_find(const struct table *table, uint64_t hash, uint64_t number, uint8_t *flags);

/* True and the whole record, account and flags of one and the same moment. */
bool table_find_record(const struct table *table, uint64_t hash, uint64_t number, struct record *record);

/* Fetches the account that an insert of this number most likely writes. A hint, as the next. */
void table_prefetch_account(const struct table *table, uint64_t hash);

/* Fetches the lines to which numbers may have to move for this one, if both of its own are full, which should be near. A hint: by any
 * thread for which the table lives. */
void table_prefetch_room(const struct table *table, uint64_t hash);

/* --- the writer --- */

/* Adds the record or replaces the one of the same number (`*old` is then what was there; may be NULL).
 * TABLE_FULL: no place could be made; the table still holds all it held. */
enum table_insert_result table_insert(struct table *table, uint64_t hash, const struct record *record,
                                      struct record *old);

/* True when the number was there; `*old` (may be NULL) is what was. */
bool table_remove(struct table *table, uint64_t hash, uint64_t number, struct record *old);

/* Calls `visit` for each record, in no particular order, until it returns false. False when it did. */
bool table_visit(const struct table *table, bool (*visit)(void *context, const struct record *record),
                 void *context);

/* True when a lookup finds each record where it is: each number is in a line of its own, and there once. */
bool table_finds_all(const struct table *table);

/* Fills the empty table `to` with all of `from`'s records; both are of one family. False when memory is
 * short or `to` is too small; destroy it then. One walk through both from front to back. */
bool table_copy(const struct table *from, struct table *to);

/* Describes the table; the memory to copy is table_memory's. */
struct table_image table_image(const struct table *table);
size_t table_image_bytes(const struct table_image *image, bool accounts);

/* Whether it describes a table. Its bytes may still be anything. */
bool table_image_is_sound(const struct table_image *image);

/* table_visit for a sound image's bytes. */
bool table_image_visit(const struct table_image *image, bool accounts, const void *bytes,
                       bool (*visit)(void *context, const struct record *record), void *context);

/* A table made for the image, which the caller has to fill with the image's bytes before anybody reads it. NULL when
 * memory is short or the image describes no table. */
struct table *table_create_for(const struct table_image *image, const struct table_family *family);

/* All of the table's memory, table_image_bytes. */
void *table_memory(const struct table *table);

/* The table's own, for the writer. No copy: a wide load of what was just stored word by word waits until all stores before it
 * have reached the cache. */
const struct table_stats *table_stats(const struct table *table);
size_t table_slots(const struct table *table);
size_t table_bytes(const struct table *table);

/* True when so many spilled numbers were removed or hidden that their marks make misses slow: time to rebuild. */
bool table_is_worn(const struct table *table);

#endif
