/* One shard: a two-choice cuckoo table of 64-byte lines with lock-free reads.
 *
 * Vocabulary
 *   line    64 bytes, one cache line: eight words.
 *   word    number:50 | flags:8 | mark:6, from the top bit down. An empty slot has number 0.
 *   slot    a word's place; the account id of slot s lies in accounts[s], a parallel array, and is touched
 *           only by those who ask for it.
 *   home    the line where a number should be; alternate, the one other line where it may be, in the same
 *           block of 32,768 lines (2 MiB, one huge page, so the second read needs no second translation).
 *   spill   a number that sits in its alternate. Its home line keeps a mark: the eight 6-bit marks form a
 *           48-bit filter of the hashes that had to leave. A miss whose filter bit is clear reads one line.
 *
 * Insert: home, else alternate, else a breadth-first search over "who could go to its other line" of at most
 * SEARCH_NODES lines. The search visits each node once and so ends; if it finds nothing the table is full.
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
 * Cost: a hit reads 1 line, at load 0.92 1.2 on average; a miss 1 plus the filter's errors. */
#include "hashing/table.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hashing/phone.h"

#define MARK_BITS 6
#define FLAG_BITS 8
#define NUMBER_SHIFT (MARK_BITS + FLAG_BITS)
#define MARK_MASK ((UINT64_C(1) << MARK_BITS) - 1)
#define FILTER_BITS UINT64_C(48)
#define LINES_PER_BLOCK_MAX (UINT64_C(1) << 15)
/* Enough for loads beyond 0.95; a search that long costs about 10 microseconds. */
#define SEARCH_NODES 256
#define NO_SLOT UINT64_MAX

struct line {
    _Atomic uint64_t words[TABLE_SLOTS_PER_LINE];
};

static_assert(PHONE_KEY_BITS + FLAG_BITS + MARK_BITS == 64, "a word is full");
static_assert(FILTER_BITS / MARK_BITS == TABLE_SLOTS_PER_LINE, "the marks of a line are the filter");
static_assert(sizeof(struct line) == 64, "a line is one cache line");
static_assert(LINES_PER_BLOCK_MAX * sizeof(struct line) == 2u << 20, "a block is one huge page");

struct table {
    /* Constant after table_create. */
    struct line *lines;
    _Atomic uint64_t *accounts; /* NULL: a table without accounts */
    uint64_t line_count;
    uint64_t lines_per_block;
    uint64_t seed;
    /* The writer's, read by readers; apart from the constants, which readers need all the time. */
    _Alignas(64) _Atomic uint64_t sequence;
    /* The writer's own. */
    size_t count;
    size_t stale_marks;
};

/* A line that the search has reached: by moving the number in `parent_slot` to this line. */
struct search_node {
    uint64_t line;
    uint64_t parent_slot;
    uint32_t parent;
};

uint64_t table_hash(uint64_t number, uint64_t seed)
{
    return XXH3_64bits_withSeed(&number, sizeof number, seed);
}

/* --- where things are --- */

/* Maps 32 random bits to 0 .. n-1 by multiplication (Lemire, "A fast alternative to the modulo reduction").
 */
static uint64_t reduce(uint64_t bits, uint64_t n)
{
    return (bits & UINT32_MAX) * n >> 32;
}

static uint64_t home_line(const struct table *table, uint64_t hash)
{
    return reduce(hash, table->line_count);
}

static uint64_t alternate_line(const struct table *table, uint64_t hash)
{
    uint64_t home = home_line(table, hash);
    uint64_t start = home - home % table->lines_per_block;
    uint64_t line = start + reduce(hash >> 20, table->lines_per_block);
    if (line != home)
        return line;
    return start + (home - start + 1) % table->lines_per_block;
}

static unsigned filter_bit(uint64_t hash)
{
    return (unsigned)((hash >> 36 & 0xfff) * FILTER_BITS >> 12);
}

static uint64_t word_number(uint64_t word)
{
    return word >> NUMBER_SHIFT;
}

static uint8_t word_flags(uint64_t word)
{
    return (uint8_t)(word >> MARK_BITS);
}

static uint64_t make_word(uint64_t number, uint8_t flags, uint64_t mark)
{
    return number << NUMBER_SHIFT | (uint64_t)flags << MARK_BITS | mark;
}

static _Atomic uint64_t *word_at(const struct table *table, uint64_t slot)
{
    return &table->lines[slot / TABLE_SLOTS_PER_LINE].words[slot % TABLE_SLOTS_PER_LINE];
}

/* The word that holds `number` in this line, 0 if none does; `*slot` is set on a hit. Acquire, so that what
 * was stored before the word is visible to whoever found it and what is read later is read later. */
static uint64_t search_line(const struct table *table, uint64_t line, uint64_t number, uint64_t *slot)
{
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t word = atomic_load_explicit(&table->lines[line].words[i], memory_order_acquire);
        if (word_number(word) == number) {
            *slot = line * TABLE_SLOTS_PER_LINE + i;
            return word;
        }
    }
    return 0;
}

static bool has_spilled(const struct table *table, uint64_t line, uint64_t hash)
{
    unsigned bit = filter_bit(hash);
    uint64_t word = atomic_load_explicit(&table->lines[line].words[bit / MARK_BITS], memory_order_acquire);
    return word >> (bit % MARK_BITS) & 1;
}

/* --- life --- */

static void *allocate_zeroed(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

struct table *table_create(size_t slots, bool with_accounts, uint64_t seed)
{
    assert(slots >= 1 && slots <= TABLE_SLOTS_MAX);
    struct table *table = allocate_zeroed(sizeof *table);
    if (table == NULL)
        return NULL;
    uint64_t lines = (slots + TABLE_SLOTS_PER_LINE - 1) / TABLE_SLOTS_PER_LINE;
    if (lines > LINES_PER_BLOCK_MAX)
        lines = (lines + LINES_PER_BLOCK_MAX - 1) / LINES_PER_BLOCK_MAX * LINES_PER_BLOCK_MAX;
    table->line_count = lines;
    table->lines_per_block = lines < LINES_PER_BLOCK_MAX ? lines : LINES_PER_BLOCK_MAX;
    table->seed = seed;
    table->lines = allocate_zeroed(lines * sizeof *table->lines);
    if (with_accounts)
        table->accounts = allocate_zeroed(lines * TABLE_SLOTS_PER_LINE * sizeof *table->accounts);
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
    free(table->lines);
    free(table->accounts);
    free(table);
}

/* --- readers --- */

void table_prefetch(const struct table *table, uint64_t hash)
{
    __builtin_prefetch(&table->lines[home_line(table, hash)]);
}

enum table_probe_result table_probe(const struct table *table, uint64_t hash, uint64_t number, uint8_t *flags)
{
    uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_acquire);
    uint64_t home = home_line(table, hash);
    uint64_t slot;
    uint64_t word = search_line(table, home, number, &slot);
    if (word != 0) {
        *flags = word_flags(word);
        return TABLE_FOUND;
    }
    if (!has_spilled(table, home, hash) &&
        atomic_load_explicit(&table->sequence, memory_order_relaxed) == sequence)
        return TABLE_MISSING;
    __builtin_prefetch(&table->lines[alternate_line(table, hash)]);
    return TABLE_ELSEWHERE;
}

/* The word of the number or 0, without a check; `*slot` is set on a hit. */
static uint64_t search_both(const struct table *table, uint64_t hash, uint64_t number, uint64_t *slot)
{
    uint64_t home = home_line(table, hash);
    uint64_t word = search_line(table, home, number, slot);
    if (word == 0 && has_spilled(table, home, hash))
        word = search_line(table, alternate_line(table, hash), number, slot);
    return word;
}

bool table_find(const struct table *table, uint64_t hash, uint64_t number, uint8_t *flags)
{
    for (;;) {
        uint64_t sequence = atomic_load_explicit(&table->sequence, memory_order_acquire);
        uint64_t slot;
        uint64_t word = search_both(table, hash, number, &slot);
        if (word != 0) {
            *flags = word_flags(word);
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
        *record = (struct record){.number = number, .account = account, .flags = word_flags(word)};
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
    uint64_t mark = atomic_load_explicit(word, memory_order_relaxed) & MARK_MASK;
    atomic_store_explicit(word, make_word(number, flags, mark), memory_order_release);
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
    unsigned bit = filter_bit(hash);
    _Atomic uint64_t *word = &table->lines[line].words[bit / MARK_BITS];
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, old | UINT64_C(1) << (bit % MARK_BITS), memory_order_release);
}

static void put(struct table *table, uint64_t slot, uint64_t hash, const struct record *record)
{
    if (slot / TABLE_SLOTS_PER_LINE != home_line(table, hash))
        mark_spill(table, home_line(table, hash), hash);
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
        .number = word_number(word), .account = read_account(table, slot), .flags = word_flags(word)};
}

static uint64_t free_slot(const struct table *table, uint64_t line)
{
    uint64_t slot;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        slot = line * TABLE_SLOTS_PER_LINE + i;
        if (word_number(atomic_load_explicit(word_at(table, slot), memory_order_relaxed)) == 0)
            return slot;
    }
    return NO_SLOT;
}

/* Copies before it clears, so that a reader may see the number twice but never not at all. */
static void move_slot(struct table *table, uint64_t from, uint64_t to)
{
    struct record record = read_slot(table, from);
    uint64_t hash = table_hash(record.number, table->seed);
    assert(to / TABLE_SLOTS_PER_LINE == home_line(table, hash) ||
           to / TABLE_SLOTS_PER_LINE == alternate_line(table, hash));
    if (from / TABLE_SLOTS_PER_LINE != home_line(table, hash))
        table->stale_marks++;
    put(table, to, hash, &record);
    raise_sequence(table, 2);
    clear(table, from);
}

/* Appends the lines to which `node`'s numbers could move; returns the new node count. */
static uint32_t expand_node(const struct table *table, struct search_node *nodes, uint32_t node,
                            uint32_t count)
{
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE && count < SEARCH_NODES; i++) {
        uint64_t slot = nodes[node].line * TABLE_SLOTS_PER_LINE + i;
        uint64_t hash = table_hash(read_slot(table, slot).number, table->seed);
        uint64_t home = home_line(table, hash);
        uint64_t other = home == nodes[node].line ? alternate_line(table, hash) : home;
        nodes[count++] = (struct search_node){.line = other, .parent_slot = slot, .parent = node};
    }
    return count;
}

/* A free slot in the home or alternate line, made by moving others if need be; NO_SLOT when none is found.
 * The path is moved from its free end, so each number has its copy before it is cleared. */
static uint64_t make_room(struct table *table, uint64_t hash)
{
    struct search_node nodes[SEARCH_NODES];
    nodes[0] = (struct search_node){.line = home_line(table, hash), .parent_slot = NO_SLOT};
    nodes[1] = (struct search_node){.line = alternate_line(table, hash), .parent_slot = NO_SLOT};
    uint32_t count = 2;
    for (uint32_t node = 0; node < count; node++) {
        uint64_t slot = free_slot(table, nodes[node].line);
        if (slot == NO_SLOT) {
            count = expand_node(table, nodes, node, count);
            continue;
        }
        for (; nodes[node].parent_slot != NO_SLOT; node = nodes[node].parent) {
            move_slot(table, nodes[node].parent_slot, slot);
            slot = nodes[node].parent_slot;
        }
        return slot;
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
    slot = make_room(table, hash);
    if (slot == NO_SLOT)
        return TABLE_FULL;
    put(table, slot, hash, record);
    table->count++;
    return TABLE_ADDED;
}

bool table_remove(struct table *table, uint64_t hash, uint64_t number, struct record *old)
{
    uint64_t slot;
    if (search_both(table, hash, number, &slot) == 0)
        return false;
    if (old != NULL)
        *old = read_slot(table, slot);
    if (slot / TABLE_SLOTS_PER_LINE != home_line(table, hash))
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
