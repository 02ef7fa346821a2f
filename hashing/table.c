/* One shard: a two-choice cuckoo table of 64-byte lines with lock-free reads.
 *
 * Vocabulary
 *   line    64 bytes, one cache line: eight words.
 *   word    number:50 | flags:8 | mark:6, from the top bit down. An empty slot has number 0.
 *   slot    a word's place; the account id of slot s lies in accounts[s], a parallel array, and is touched
 *           only by those who ask for it.
 *   home    the line where a number should be; alternate, the one other line where it may be, in the same
 *           block of at most 32,768 lines (2 MiB), so the second read mostly needs no second translation.
 *   spill   a number that sits in its alternate. Its home line keeps a mark: the eight 6-bit marks form a
 *           48-bit filter of the hashes that had to leave. A miss whose filter bit is clear reads one line.
 *
 * Insert: home, else alternate, else a breadth-first search over "who could go to its other line" that reaches at
 * most SEARCH_NODES lines: it takes each line on its list once, and so ends; if it finds no room the table is full.
 * Copy to another table: first everybody who finds room at home, a walk through both tables from front to back since
 * homes keep the order of the hashes; then the others.
 * Remove: the slot is emptied; there are no tombstones. Marks stay, since nobody counts who set them; when
 * they wear the filter out, table_is_worn tells the owner to rebuild.
 *
 * Concurrency: one writer, any readers, C11 atomics, no fences.
 *   A status hit needs no check: one atomic word says number and flags.
 *   A miss is checked by `sequence`. The only way to miss a number that is there is to read its new place
 * before the writer copied it there and its old place after it was cleared. The writer copies (release),
 * raises the sequence by 2, clears (release). Whoever has acquired the clearing reads the raised sequence
 *   afterwards; whoever had read the raised sequence before would have seen the copy. So an unchanged
 *   sequence around the reads proves the miss. The same holds for a mark set before its number left home.
 *   A record (flags and account) is checked by the same sequence: a slot is cleared (release), the sequence
 *   raised by 2, and only then can its account be overwritten (release). A replacement in place makes the
 *   sequence odd, writes both, makes it even; a record reader waits for an even one.
 *   Removal and replacement are visible to all readers when the call returns; so is an insert.
 *
 * Cost: a hit reads 1 line, at load 0.92 1.2 on average (counted on a prototype of this layout); a miss 1 plus the filter's errors. The layout is in layout.h,
 * the batch lookup that the server uses in lookup.h; the find functions here look one number up at a time. */
#include "hashing/table.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/hash.h"
#include "hashing/layout.h"
#include "hashing/pages.h"
#include "hashing/phone.h"

/* Lines that a search reaches at most: enough for loads beyond 0.95. */
#define SEARCH_NODES 256
#define NO_SLOT UINT64_MAX

/* A line that the search has reached: by moving the number in `parent_slot` to this line. */
struct search_node {
    uint64_t line;
    uint64_t parent_slot;
    uint32_t parent;
};

uint64_t table_hash(uint64_t number, uint64_t seed)
{
    return hash_number(number, seed);
}

/* --- where things are --- */

static _Atomic uint64_t *word_at(const struct table *table, uint64_t slot)
{
    return &table->lines[slot / TABLE_SLOTS_PER_LINE].words[slot % TABLE_SLOTS_PER_LINE];
}

/* The word that holds `number` in this line, 0 if none does; `*slot` is set on a hit. Acquire, so that what was
 * stored before the word is visible to whoever found it and what is read later is read later. */
static uint64_t search_line(const struct table *table, uint64_t line, uint64_t number, uint64_t *slot)
{
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t word = atomic_load_explicit(&table->lines[line].words[i], memory_order_acquire);
        if (layout_number(word) == number) {
            *slot = line * TABLE_SLOTS_PER_LINE + i;
            return word;
        }
    }
    return 0;
}

static bool has_spilled(const struct table *table, uint64_t line, uint64_t hash)
{
    unsigned bit = layout_filter_bit(hash);
    uint64_t word =
        atomic_load_explicit(&table->lines[line].words[bit / LAYOUT_MARK_BITS], memory_order_acquire);
    return word >> (bit % LAYOUT_MARK_BITS) & 1;
}

/* --- life --- */

static size_t line_bytes(const struct table *table)
{
    return table->line_count * sizeof *table->lines;
}

static size_t account_bytes(const struct table *table)
{
    return table->line_count * TABLE_SLOTS_PER_LINE * sizeof *table->accounts;
}

struct table *table_create(size_t slots, bool with_accounts, uint64_t seed)
{
    assert(slots >= 1 && slots <= TABLE_SLOTS_MAX);
    struct table *table = aligned_alloc(64, sizeof *table);
    if (table == NULL)
        return NULL;
    memset(table, 0, sizeof *table);
    uint64_t lines = (slots + TABLE_SLOTS_PER_LINE - 1) / TABLE_SLOTS_PER_LINE;
    /* Blocks of equal size, so that nothing worth mentioning is rounded up. */
    table->block_count = (lines + LAYOUT_BLOCK_LINES - 1) / LAYOUT_BLOCK_LINES;
    table->block_lines = (lines + table->block_count - 1) / table->block_count;
    table->line_count = table->block_count * table->block_lines;
    table->seed = seed;
    table->lines = pages_allocate(line_bytes(table));
    if (with_accounts)
        table->accounts = pages_allocate(account_bytes(table));
    if (table->lines == NULL || (with_accounts && table->accounts == NULL)) {
        table_destroy(table);
        return NULL;
    }
    return table;
}

void table_destroy(struct table *table)
{
    if (table == NULL)
        return;
    pages_free(table->lines, line_bytes(table));
    pages_free(table->accounts, account_bytes(table));
    free(table);
}

/* --- readers --- */

/* The word of the number or 0, without a check; `*slot` is set on a hit. */
static uint64_t search_both(const struct table *table, uint64_t hash, uint64_t number, uint64_t *slot)
{
    uint64_t home = layout_home(table, hash);
    uint64_t word = search_line(table, home, number, slot);
    if (word == 0 && has_spilled(table, home, hash))
        word = search_line(table, layout_alternate(table, hash, layout_home(table, hash)), number, slot);
    return word;
}

bool table_find(const struct table *table, uint64_t hash, uint64_t number, uint8_t *flags)
{
    for (;;) {
        uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_acquire);
        uint64_t slot;
        uint64_t word = search_both(table, hash, number, &slot);
        if (word != 0) {
            *flags = layout_flags(word);
            return true;
        }
        if (atomic_load_explicit(&table->sequence, memory_order_relaxed) == sequence)
            return false;
    }
}

bool table_find_record(const struct table *table, uint64_t hash, uint64_t number, struct record *record)
{
    for (;;) {
        uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_acquire);
        if (sequence % 2 != 0)
            continue; /* a replacement of a few stores is under way */
        uint64_t slot;
        uint64_t word = search_both(table, hash, number, &slot);
        uint64_t account = 0;
        if (word != 0 && table->accounts != NULL)
            account = atomic_load_explicit(&table->accounts[slot], memory_order_acquire);
        if (atomic_load_explicit(&table->sequence, memory_order_relaxed) != sequence)
            continue;
        if (word == 0)
            return false;
        *record = (struct record){.number = number, .account = account, .flags = layout_flags(word)};
        return true;
    }
}

/* --- the writer --- */

static void raise_sequence(struct table *table, uint64_t by)
{
    uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_relaxed);
    /* Release, so that a reader that starts from the new value sees all that came before it. */
    atomic_store_explicit(&table->sequence, sequence + by, memory_order_release);
}

/* Replaces number and flags of a slot and keeps its mark. */
static void write_word(struct table *table, uint64_t slot, uint64_t number, uint8_t flags)
{
    _Atomic uint64_t *word = word_at(table, slot);
    uint64_t mark = atomic_load_explicit(word, memory_order_relaxed) & LAYOUT_MARK_MASK;
    atomic_store_explicit(word, layout_word(number, flags, mark), memory_order_release);
}

static void write_account(struct table *table, uint64_t slot, uint64_t account)
{
    if (table->accounts != NULL)
        atomic_store_explicit(&table->accounts[slot], account, memory_order_release);
}

static uint64_t read_account(const struct table *table, uint64_t slot)
{
    return table->accounts == NULL ? 0 : atomic_load_explicit(&table->accounts[slot], memory_order_relaxed);
}

static void mark_spill(struct table *table, uint64_t line, uint64_t hash)
{
    unsigned bit = layout_filter_bit(hash);
    _Atomic uint64_t *word = &table->lines[line].words[bit / LAYOUT_MARK_BITS];
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, old | UINT64_C(1) << (bit % LAYOUT_MARK_BITS), memory_order_release);
}

static void put(struct table *table, uint64_t slot, uint64_t hash, const struct record *record)
{
    if (slot / TABLE_SLOTS_PER_LINE != layout_home(table, hash))
        mark_spill(table, layout_home(table, hash), hash);
    write_account(table, slot, record->account);
    write_word(table, slot, record->number, record->flags);
}

/* Clears a slot that no longer counts; see "Concurrency" for why the sequence is raised after it. */
static void clear(struct table *table, uint64_t slot)
{
    write_word(table, slot, 0, 0);
    raise_sequence(table, 2);
}

static struct record read_slot(const struct table *table, uint64_t slot)
{
    uint64_t word = atomic_load_explicit(word_at(table, slot), memory_order_relaxed);
    return (struct record){
        .number = layout_number(word), .account = read_account(table, slot), .flags = layout_flags(word)};
}

static uint64_t free_slot(const struct table *table, uint64_t line)
{
    uint64_t slot;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        slot = line * TABLE_SLOTS_PER_LINE + i;
        if (layout_number(atomic_load_explicit(word_at(table, slot), memory_order_relaxed)) == 0)
            return slot;
    }
    return NO_SLOT;
}

/* Copies before it clears, so that a reader may see the number twice but never not at all. */
static void move_slot(struct table *table, uint64_t from, uint64_t to)
{
    struct record record = read_slot(table, from);
    uint64_t hash = hash_number(record.number, table->seed);
    assert(to / TABLE_SLOTS_PER_LINE == layout_home(table, hash) ||
           to / TABLE_SLOTS_PER_LINE == layout_alternate(table, hash, layout_home(table, hash)));
    if (from / TABLE_SLOTS_PER_LINE != layout_home(table, hash))
        table->stale_marks++;
    put(table, to, hash, &record);
    raise_sequence(table, 2);
    clear(table, from);
}

/* The other line of the number in this slot, which lies in `line`. */
static uint64_t other_line(const struct table *table, uint64_t line, uint64_t slot)
{
    uint64_t word = atomic_load_explicit(word_at(table, slot), memory_order_relaxed);
    uint64_t hash = hash_number(layout_number(word), table->seed);
    uint64_t home = layout_home(table, hash);
    return home == line ? layout_alternate(table, hash, home) : home;
}

/* Moves the numbers along the path that ends in `node`: the one in `from` to `to`, its parent to `from`, and
 * so on from the free end, so that each has its copy before it is cleared. Returns the slot that is free
 * then. */
static uint64_t move_path(struct table *table, const struct search_node *nodes, uint32_t node, uint64_t from,
                          uint64_t to)
{
    for (;;) {
        move_slot(table, from, to);
        if (nodes[node].parent_slot == NO_SLOT)
            return from;
        to = from;
        from = nodes[node].parent_slot;
        node = nodes[node].parent;
    }
}

/* Both lines of a number are full: frees a slot in one of them by moving others, NO_SLOT when no way is
 * found. A line is looked at as soon as it is reached, since nearly every second one has room. */
static uint64_t make_room(struct table *table, uint64_t hash)
{
    struct search_node nodes[SEARCH_NODES];
    uint64_t home = layout_home(table, hash);
    nodes[0] = (struct search_node){.line = home, .parent_slot = NO_SLOT};
    nodes[1] = (struct search_node){.line = layout_alternate(table, hash, home), .parent_slot = NO_SLOT};
    uint32_t count = 2;
    for (uint32_t node = 0; node < count && node < SEARCH_NODES / TABLE_SLOTS_PER_LINE; node++) {
        uint64_t first = nodes[node].line * TABLE_SLOTS_PER_LINE;
        uint64_t lines[TABLE_SLOTS_PER_LINE];
        for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
            lines[i] = other_line(table, nodes[node].line, first + i);
            __builtin_prefetch(&table->lines[lines[i]], 1);
        }
        for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
            uint64_t to = free_slot(table, lines[i]);
            if (to != NO_SLOT)
                return move_path(table, nodes, node, first + i, to);
            if (count < SEARCH_NODES)
                nodes[count++] =
                    (struct search_node){.line = lines[i], .parent_slot = first + i, .parent = node};
        }
    }
    return NO_SLOT;
}

static void replace_in_place(struct table *table, uint64_t slot, const struct record *record)
{
    if (table->accounts == NULL || read_account(table, slot) == record->account) {
        write_word(table, slot, record->number, record->flags);
        return;
    }
    raise_sequence(table, 1);
    write_account(table, slot, record->account);
    write_word(table, slot, record->number, record->flags);
    raise_sequence(table, 1);
}

/* Adds a record whose number is not there. False: no place can be made. */
static bool add_new(struct table *table, uint64_t hash, const struct record *record)
{
    uint64_t home = layout_home(table, hash);
    uint64_t slot = free_slot(table, home);
    if (slot == NO_SLOT)
        slot = free_slot(table, layout_alternate(table, hash, home));
    if (slot == NO_SLOT)
        slot = make_room(table, hash);
    if (slot == NO_SLOT)
        return false;
    put(table, slot, hash, record);
    table->count++;
    return true;
}

enum table_insert_result table_insert(struct table *table, uint64_t hash, const struct record *record,
                                      struct record *old)
{
    assert(record->number >= PHONE_KEY_MIN && record->number <= PHONE_KEY_MAX);
    uint64_t slot;
    if (search_both(table, hash, record->number, &slot) != 0) {
        if (old != NULL)
            *old = read_slot(table, slot);
        replace_in_place(table, slot, record);
        return TABLE_REPLACED;
    }
    return add_new(table, hash, record) ? TABLE_ADDED : TABLE_FULL;
}

bool table_remove(struct table *table, uint64_t hash, uint64_t number, struct record *old)
{
    uint64_t slot;
    if (search_both(table, hash, number, &slot) == 0)
        return false;
    if (old != NULL)
        *old = read_slot(table, slot);
    if (slot / TABLE_SLOTS_PER_LINE != layout_home(table, hash))
        table->stale_marks++;
    clear(table, slot);
    table->count--;
    return true;
}

bool table_visit(const struct table *table, bool (*visit)(void *context, const struct record *record),
                 void *context)
{
    for (uint64_t slot = 0; slot < table_slots(table); slot++) {
        struct record record = read_slot(table, slot);
        if (record.number != 0 && !visit(context, &record))
            return false;
    }
    return true;
}

/* Numbers that found their home line full; they wait until all homes are served. */
struct overflow {
    struct record *records;
    size_t count;
    size_t capacity;
};

static bool append_overflow(struct overflow *overflow, const struct record *record)
{
    if (overflow->count == overflow->capacity) {
        size_t capacity = overflow->capacity * 2 + 64;
        struct record *grown = realloc(overflow->records, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        overflow->records = grown;
        overflow->capacity = capacity;
    }
    overflow->records[overflow->count++] = *record;
    return true;
}

/* The first pass: whoever finds room in the home line. Homes keep the order of the hashes, so both tables are
 * walked from front to back, but for the numbers that sit in their alternate. */
static bool copy_homes(const struct table *from, struct table *to, struct overflow *overflow)
{
    for (uint64_t slot = 0; slot < table_slots(from); slot++) {
        struct record record = read_slot(from, slot);
        if (record.number == 0)
            continue;
        uint64_t hash = hash_number(record.number, to->seed);
        uint64_t place = free_slot(to, layout_home(to, hash));
        if (place != NO_SLOT) {
            put(to, place, hash, &record);
            to->count++;
        } else if (!append_overflow(overflow, &record)) {
            return false;
        }
    }
    return true;
}

bool table_copy(const struct table *from, struct table *to)
{
    assert(to->count == 0 && from->seed == to->seed);
    struct overflow overflow = {0};
    bool good = copy_homes(from, to, &overflow);
    for (size_t i = 0; good && i < overflow.count; i++) {
        uint64_t hash = hash_number(overflow.records[i].number, to->seed);
        good = add_new(to, hash, &overflow.records[i]);
    }
    free(overflow.records);
    return good;
}

size_t table_count(const struct table *table)
{
    return table->count;
}

size_t table_slots(const struct table *table)
{
    return table->line_count * TABLE_SLOTS_PER_LINE;
}

size_t table_bytes(const struct table *table)
{
    size_t slot_bytes = sizeof(uint64_t) + (table->accounts == NULL ? 0 : sizeof(uint64_t));
    return sizeof *table + table_slots(table) * slot_bytes;
}

bool table_is_worn(const struct table *table)
{
    /* Four stale marks a line let about one miss in twelve read a second line for nothing. */
    return table->stale_marks > 4 * table->line_count;
}
