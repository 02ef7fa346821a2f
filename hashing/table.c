/* One shard: a two-choice cuckoo table of 64-byte lines with lock-free reads.
 *
 * Vocabulary
 *   line    64 bytes, one cache line: eight words.
 *   word    number:50 | flags:8 | mark:6, from the top bit down. An empty slot has number 0.
 *   slot    a word's place; the account id of slot s lies in accounts[s], a parallel array behind the lines, and
 *           is touched only by those who ask for it.
 *   home    the line where a number should be; alternate, the one other line where it may be, in the same
 *           block of 32,768 lines (2 MiB; the last block may be longer), so the second read mostly needs no
 *           second translation.
 *   spill   a number that sits in its alternate. Its home line keeps a mark: the eight 6-bit marks form a
 *           48-bit filter of the hashes that had to leave. A miss whose filter bit is clear reads one line.
 *           A hidden account sets no mark when it spills: lookups answer "not registered" without having found it, in
 *           the time of a number that is not there, and who writes looks into both lines anyway. A mark that it set
 *           before it was hidden stays, as that of a number that was removed, until the table is rebuilt.
 *
 *             63                    14 13     6 5    0
 *            +------------------------+--------+------+
 *   word     |       number:50        | flags:8|mark:6|   flags: bit 0 is "hidden" (record.h)
 *            +------------------------+--------+------+
 *   line     | word 0 | word 1 | ... | word 7 |           64 bytes
 *   extent   | line 0 | line 1 | ... | line n-1 | 8 n accounts |      one piece of the arena
 *
 *   hash     the low 32 bits choose the home, bits 20-51 the alternate, 36-38 the mark's word, 39-48 its bit, the
 *            topmost the shard.
 *   placement  where the extent begins and how many lines it has, in one word (layout.h): all that the batch
 *            lookup needs to know of a table, and it changes at one moment.
 *
 * Insert: home, else alternate, else a breadth-first search over "who could go to its other line" that reaches at
 * most SEARCH_NODES lines: it takes each line on its list once, and so ends; if it finds no room the table is full. It
 * asks the writer's own bit for each line, `full`, whether that has room, 7 KB for a shard of 400,000, and so reads
 * but the line in which it ends. (insert_growing_batch of bench_table at 30 M: 2.4 M/s when it fetched the eight lines that
 * it could reach first, 2.8 with the bits, 4.3 when both lines were looked into at once, lookup.h's table_look_function.)
 * Copy to another table: everybody who finds room at home, a walk through both tables from front to back since
 * homes keep the order of the hashes; then the others.
 * Remove: the slot is emptied; there are no tombstones. Marks stay, since nobody counts who set them; when
 * they wear the filter out, table_is_worn tells the owner to rebuild.
 *
 * Concurrency: one writer, any readers, C11 atomics, no fences.
 *   A status hit needs no check: one atomic word says number and flags.
 *   A miss is checked by `sequence`. The only way to miss a number that is there is to read its new place
 *   before the writer copied it there and its old place after it was cleared. The writer copies (release),
 *   raises the sequence by 2, clears (release). Whoever has acquired the clearing reads the raised sequence
 *   afterwards; whoever had read the raised sequence before would have seen the copy. So an unchanged
 *   sequence around the reads proves the miss. The same holds for a mark set before its number left home.
 *   `moves`, one counter for all tables of a directory, is raised beside the sequence and only then: the batch
 *   lookup reads it once before and once after a whole batch, and checks its misses one by one (by the sequence)
 *   only when it has changed.
 *   A record (flags and account) is checked by the same sequence: a slot is cleared (release), the sequence
 *   raised by 2, and only then can its account be overwritten (release). A replacement in place makes the
 *   sequence odd, writes both, makes it even; a record reader waits for an even one.
 *   Removal and replacement are visible to all readers when the call returns; so is an insert.
 *
 * Cost: a miss reads one line, and a second one when its filter bit is set; a hit reads the second when it has
 * spilled. How often is counted by table_stats and measured by bench_table. An insert reads the one or two lines,
 * writes a word and an account, and moves others for two of five. The layout is in layout.h, the batch lookup
 * that the server uses in lookup.h; the find functions here look one number up at a time. */
#include "hashing/table.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hashing/hash.h"
#include "hashing/layout.h"
#include "hashing/lookup.h"
#include "hashing/phone.h"

/* Lines that a search reaches at most: enough for loads beyond 0.95. */
#define SEARCH_NODES 256
/* Records ahead whose alternate is fetched while others are placed. */
#define COPY_AHEAD 8
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

static uint64_t home_of(const struct table *table, uint64_t hash)
{
    return layout_home(hash, table->line_count);
}

static uint64_t alternate_of(const struct table *table, uint64_t hash, uint64_t home)
{
    return layout_alternate(hash, home, table->line_count);
}

/* Bit i says that slot i of the line holds `number` (0: is empty). Acquire, so that what was stored before the
 * word is visible to whoever found it and what is read later is read later. */
static uint32_t match(const struct table *table, uint64_t line, uint64_t number)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t word = atomic_load_explicit(&table->lines[line].words[i], memory_order_acquire);
        mask |= (uint32_t)(layout_number(word) == number) << i;
    }
    return mask;
}

/* The word that holds `number` in this line, 0 if none does; `*slot` is set on a hit. */
static uint64_t search_line(const struct table *table, uint64_t line, uint64_t number, uint64_t *slot)
{
    uint32_t mask = match(table, line, number);
    if (mask == 0)
        return 0;
    *slot = line * TABLE_SLOTS_PER_LINE + (unsigned)__builtin_ctz(mask);
    /* Another's, if the slot was refilled in between: not found then, which the sequence tells. */
    uint64_t word = atomic_load_explicit(word_at(table, *slot), memory_order_acquire);
    return layout_number(word) == number ? word : 0;
}

/* --- full lines --- */

static size_t full_words(uint64_t line_count)
{
    return (line_count + 63) / 64;
}

static bool is_full(const struct table *table, uint64_t line)
{
    return atomic_load_explicit(&table->full[line / 64], memory_order_relaxed) >> line % 64 & 1;
}

static void note_full(struct table *table, uint64_t line, bool full)
{
    _Atomic uint64_t *word = &table->full[line / 64];
    uint64_t bit = UINT64_C(1) << line % 64;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, full ? old | bit : old & ~bit, memory_order_relaxed);
}

/* Of a table that came as an image nobody has counted them. */
static void count_full(struct table *table)
{
    for (uint64_t line = 0; !table->full_counted && line < table->line_count; line++)
        note_full(table, line, match(table, line, 0) == 0);
    table->full_counted = true;
}

/* --- life --- */

static size_t extent_bytes(uint64_t line_count, bool accounts)
{
    return line_count * sizeof(struct line) * (accounts ? 2 : 1);
}

struct table *table_create(size_t slots, const struct table_family *family)
{
    assert(slots >= 1 && slots <= TABLE_SLOTS_MAX);
    static_assert(sizeof(struct line) == TABLE_SLOTS_PER_LINE * sizeof(uint64_t), "accounts take as much");
    struct table *table = aligned_alloc(64, sizeof *table);
    if (table == NULL)
        return NULL;
    memset(table, 0, sizeof *table);
    table->line_count = (slots + TABLE_SLOTS_PER_LINE - 1) / TABLE_SLOTS_PER_LINE;
    table->arena = family->arena;
    table->moves = family->moves;
    table->flip = hash_flip(family->seed);
    table->look = family->look == NULL ? lookup_look_scalar : family->look;
    table->full = calloc(full_words(table->line_count), sizeof *table->full);
    if (table->full != NULL)
        table->lines = arena_take(table->arena, extent_bytes(table->line_count, family->accounts));
    if (table->lines == NULL) {
        free(table->full);
        free(table);
        return NULL;
    }
    table->full_counted = true;
    if (family->accounts)
        table->accounts = (_Atomic uint64_t *)(table->lines + table->line_count);
    return table;
}

void table_destroy(struct table *table)
{
    if (table == NULL)
        return;
    arena_give(table->arena, table->lines, extent_bytes(table->line_count, table->accounts != NULL));
    free(table->full);
    free(table);
}

struct table_image table_image(const struct table *table)
{
    return (struct table_image){.line_count = table->line_count,
                                .records = table->stats.records,
                                .spilled = table->stats.spilled,
                                .stale_marks = table->stale_marks};
}

size_t table_image_bytes(const struct table_image *image, bool accounts)
{
    return extent_bytes(image->line_count, accounts);
}

bool table_image_is_sound(const struct table_image *image)
{
    return image->line_count > 0 && image->line_count <= TABLE_SLOTS_MAX / TABLE_SLOTS_PER_LINE &&
           image->records <= image->line_count * TABLE_SLOTS_PER_LINE && image->spilled <= image->records;
}

bool table_image_visit(const struct table_image *image, bool accounts, const void *bytes,
                       bool (*visit)(void *context, const struct record *record), void *context)
{
    const uint64_t *words = bytes;
    uint64_t slots = image->line_count * TABLE_SLOTS_PER_LINE;
    for (uint64_t slot = 0; slot < slots; slot++) {
        struct record record = {.number = layout_number(words[slot]),
                                .account = accounts ? words[slots + slot] : 0,
                                .flags = layout_flags(words[slot])};
        if (record.number != 0 && !visit(context, &record))
            return false;
    }
    return true;
}

struct table *table_create_for(const struct table_image *image, const struct table_family *family)
{
    if (!table_image_is_sound(image))
        return NULL;
    struct table *table = table_create(image->line_count * TABLE_SLOTS_PER_LINE, family);
    if (table == NULL)
        return NULL;
    table->stats.records = image->records;
    table->stats.spilled = image->spilled;
    table->stale_marks = image->stale_marks;
    table->full_counted = false;
    return table;
}

void *table_memory(const struct table *table)
{
    return table->lines;
}

bool table_populate(const struct table *table)
{
    return arena_populate(table->lines, extent_bytes(table->line_count, table->accounts != NULL));
}

/* --- readers --- */

/* The word of the number or 0, without a check; `*slot` is set on a hit. Looks into both lines whatever the marks say,
 * since hidden accounts have none; the processor reads the second beside the first. */
static uint64_t search_both(const struct table *table, uint64_t hash, uint64_t number, uint64_t *slot)
{
    uint64_t home = home_of(table, hash);
    uint64_t word = search_line(table, home, number, slot);
    if (word == 0)
        word = search_line(table, alternate_of(table, hash, home), number, slot);
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

/* `spilled` is 0 or 1: no branch, since nobody could guess it. */
static void mark_spill(struct table *table, uint64_t line, uint64_t hash, uint64_t spilled)
{
    _Atomic uint64_t *word = &table->lines[line].words[layout_mark_word(hash)];
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    atomic_store_explicit(word, old | spilled << layout_mark_bit(hash), memory_order_release);
}

static bool is_spilled(const struct table *table, uint64_t slot, uint64_t hash)
{
    return slot / TABLE_SLOTS_PER_LINE != home_of(table, hash);
}

static bool is_hidden(uint8_t flags)
{
    return (flags & RECORD_FLAG_HIDDEN) != 0;
}

/* `fills`: it was the line's last empty slot. */
static void put(struct table *table, uint64_t slot, uint64_t hash, const struct record *record, bool fills)
{
    uint64_t home = home_of(table, hash);
    uint64_t line = slot / TABLE_SLOTS_PER_LINE;
    mark_spill(table, home, hash, line != home && !is_hidden(record->flags));
    table->stats.spilled += line != home;
    write_account(table, slot, record->account);
    write_word(table, slot, record->number, record->flags);
    if (fills)
        note_full(table, line, true);
}

static uint8_t flags_at(const struct table *table, uint64_t slot)
{
    return layout_flags(atomic_load_explicit(word_at(table, slot), memory_order_relaxed));
}

/* Clears a slot that no longer counts; see "Concurrency" for why the sequence is raised after it. */
static void clear(struct table *table, uint64_t slot, uint64_t hash)
{
    if (is_spilled(table, slot, hash)) {
        table->stale_marks += !is_hidden(flags_at(table, slot));
        table->stats.spilled--;
    }
    write_word(table, slot, 0, 0);
    note_full(table, slot / TABLE_SLOTS_PER_LINE, false);
    raise_sequence(table, 2);
}

static struct record read_slot(const struct table *table, uint64_t slot)
{
    uint64_t word = atomic_load_explicit(word_at(table, slot), memory_order_relaxed);
    return (struct record){
        .number = layout_number(word), .account = read_account(table, slot), .flags = layout_flags(word)};
}

/* Copies before it clears, so that a reader may see the number twice but never not at all. */
static void move_slot(struct table *table, uint64_t from, uint64_t to, bool fills)
{
    struct record record = read_slot(table, from);
    uint64_t hash = hash_flipped(record.number, table->flip);
    assert(to / TABLE_SLOTS_PER_LINE == home_of(table, hash) ||
           to / TABLE_SLOTS_PER_LINE == alternate_of(table, hash, home_of(table, hash)));
    put(table, to, hash, &record, fills);
    raise_sequence(table, 2);
    /* Release, as for the sequence; other tables' writers raise it, too. */
    atomic_fetch_add_explicit(table->moves, 1, memory_order_release);
    clear(table, from, hash);
    table->stats.moved++;
}

/* The accounts of a line, about to be written. They lie behind the lines; without accounts this is somewhere else, and
 * does no harm. */
static void prefetch_accounts(const struct table *table, uint64_t line)
{
    __builtin_prefetch(table->lines + table->line_count + line, 1);
}

/* The other line of the number in this slot, which lies in `line`. */
static uint64_t other_line(const struct table *table, uint64_t line, uint64_t slot)
{
    uint64_t word = atomic_load_explicit(word_at(table, slot), memory_order_relaxed);
    uint64_t hash = hash_flipped(layout_number(word), table->flip);
    uint64_t home = home_of(table, hash);
    return home == line ? alternate_of(table, hash, home) : home;
}

/* Moves the numbers along the path that ends in `node`: the one in `from` to `line`, which has room, its parent to `from`,
 * and so on from the free end, so that each has its copy before it is cleared. Returns the slot that is free then, the
 * only one of its line. */
static uint64_t move_path(struct table *table, const struct search_node *nodes, uint32_t node, uint64_t from,
                          uint64_t line)
{
    uint32_t empty = match(table, line, 0);
    uint64_t to = line * TABLE_SLOTS_PER_LINE + (unsigned)__builtin_ctz(empty);
    move_slot(table, from, to, (empty & (empty - 1)) == 0);
    while (nodes[node].parent_slot != NO_SLOT) {
        to = from;
        from = nodes[node].parent_slot;
        node = nodes[node].parent;
        move_slot(table, from, to, true);
    }
    return from;
}

/* Both lines of a number are full: frees a slot in one of them by moving others, NO_SLOT when no way is found. Which
 * lines have room is known without a look at them. */
static uint64_t make_room(struct table *table, uint64_t home, uint64_t alternate)
{
    struct search_node nodes[SEARCH_NODES];
    nodes[0] = (struct search_node){.line = home, .parent_slot = NO_SLOT};
    nodes[1] = (struct search_node){.line = alternate, .parent_slot = NO_SLOT};
    uint32_t count = 2;
    count_full(table);
    for (uint32_t node = 0; node < count && node < SEARCH_NODES / TABLE_SLOTS_PER_LINE; node++) {
        uint64_t first = nodes[node].line * TABLE_SLOTS_PER_LINE;
        for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
            uint64_t line = other_line(table, nodes[node].line, first + i);
            if (!is_full(table, line)) {
                prefetch_accounts(table, line);
                return move_path(table, nodes, node, first + i, line);
            }
            if (count < SEARCH_NODES)
                nodes[count++] = (struct search_node){.line = line, .parent_slot = first + i, .parent = node};
        }
    }
    return NO_SLOT;
}

void table_prefetch_account(const struct table *table, uint64_t hash)
{
    uint64_t home = home_of(table, hash);
    uint64_t alternate = alternate_of(table, hash, home);
    prefetch_accounts(table, is_full(table, home) && !is_full(table, alternate) ? alternate : home);
}

void table_prefetch_room(const struct table *table, uint64_t hash)
{
    uint64_t home = home_of(table, hash);
    if (!is_full(table, home) || !is_full(table, alternate_of(table, hash, home)))
        return;
    for (unsigned i = 0; i < TABLE_SLOTS_PER_LINE; i++) {
        uint64_t line = other_line(table, home, home * TABLE_SLOTS_PER_LINE + i);
        if (is_full(table, line))
            continue;
        __builtin_prefetch(&table->lines[line], 1);
        prefetch_accounts(table, line);
        return;
    }
}

/* What becomes of the mark when a spilled account is hidden or shown. The mark of one that is hidden goes stale as that
 * of one that is removed does. */
static void change_mark(struct table *table, uint64_t slot, uint64_t hash, uint8_t flags)
{
    bool was_hidden = is_hidden(flags_at(table, slot));
    if (was_hidden && !is_hidden(flags))
        mark_spill(table, home_of(table, hash), hash, 1);
    table->stale_marks += !was_hidden && is_hidden(flags);
}

static void replace_in_place(struct table *table, uint64_t slot, uint64_t hash, const struct record *record)
{
    if (is_spilled(table, slot, hash))
        change_mark(table, slot, hash, record->flags); /* before lookups may find it */
    if (table->accounts == NULL || read_account(table, slot) == record->account) {
        write_word(table, slot, record->number, record->flags);
        return;
    }
    raise_sequence(table, 1);
    write_account(table, slot, record->account);
    write_word(table, slot, record->number, record->flags);
    raise_sequence(table, 1);
}

/* What a look at a number's two lines has told. */
struct sight {
    uint64_t home;
    uint64_t alternate;
    uint32_t seen; /* see table_look_function */
};

static struct sight look(const struct table *table, uint64_t hash, uint64_t number)
{
    uint64_t home = home_of(table, hash);
    uint64_t alternate = alternate_of(table, hash, home);
    return (struct sight){
        .home = home,
        .alternate = alternate,
        .seen = table->look(&table->lines[home], &table->lines[alternate], number),
    };
}

/* The slot of bit `bit` of the 16 that a look tells of both lines. */
static uint64_t slot_of_bit(const struct sight *sight, unsigned bit)
{
    uint64_t line = bit < TABLE_SLOTS_PER_LINE ? sight->home : sight->alternate;
    return line * TABLE_SLOTS_PER_LINE + bit % TABLE_SLOTS_PER_LINE;
}

/* Adds a record whose number is not there. False: no place can be made. */
static bool add_new(struct table *table, uint64_t hash, const struct record *record,
                    const struct sight *sight)
{
    uint32_t empty = sight->seen >> LAYOUT_EMPTY_SHIFT;
    uint64_t slot;
    bool fills = true;
    if (empty != 0) {
        /* At home, if it has room: its bits are the lower ones. */
        unsigned bit = (unsigned)__builtin_ctz(empty);
        uint32_t others =
            empty & (empty - 1) & (UINT32_C(0xff) << bit / TABLE_SLOTS_PER_LINE * TABLE_SLOTS_PER_LINE);
        slot = slot_of_bit(sight, bit);
        fills = others == 0;
    } else {
        slot = make_room(table, sight->home, sight->alternate);
        if (slot == NO_SLOT)
            return false;
    }
    put(table, slot, hash, record, fills);
    table->stats.records++;
    return true;
}

enum table_insert_result table_insert(struct table *table, uint64_t hash, const struct record *record,
                                      struct record *old)
{
    assert(record->number >= PHONE_KEY_MIN && record->number <= PHONE_KEY_MAX);
    struct sight sight = look(table, hash, record->number);
    uint32_t found = sight.seen & LAYOUT_FOUND_MASK;
    if (found != 0) {
        uint64_t slot = slot_of_bit(&sight, (unsigned)__builtin_ctz(found));
        if (old != NULL)
            *old = read_slot(table, slot);
        replace_in_place(table, slot, hash, record);
        return TABLE_REPLACED;
    }
    if (!add_new(table, hash, record, &sight))
        return TABLE_FULL;
    table->stats.added++;
    return TABLE_ADDED;
}

bool table_remove(struct table *table, uint64_t hash, uint64_t number, struct record *old)
{
    uint64_t slot;
    if (search_both(table, hash, number, &slot) == 0)
        return false;
    if (old != NULL)
        *old = read_slot(table, slot);
    clear(table, slot, hash);
    table->stats.records--;
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

bool table_finds_all(const struct table *table)
{
    for (uint64_t slot = 0; slot < table_slots(table); slot++) {
        uint64_t number = read_slot(table, slot).number;
        uint64_t found;
        if (number != 0 &&
            (search_both(table, hash_flipped(number, table->flip), number, &found) == 0 || found != slot))
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

/* Whoever finds room in the home line; the others are put aside. Homes keep the order of the hashes, so both tables
 * are walked from front to back, but for the numbers that sit in their alternate. Nobody reads `to` yet, and its
 * lines fill from their first slot, so how full each is, `fill`, is all there is to know. */
static bool copy_homes(const struct table *from, struct table *to, uint8_t *fill, struct overflow *overflow)
{
    for (uint64_t slot = 0; slot < table_slots(from); slot++) {
        uint64_t word = atomic_load_explicit(word_at(from, slot), memory_order_relaxed);
        if (layout_number(word) == 0)
            continue;
        uint64_t home = home_of(to, hash_flipped(layout_number(word), to->flip));
        if (fill[home] == TABLE_SLOTS_PER_LINE) {
            struct record record = read_slot(from, slot);
            if (!append_overflow(overflow, &record))
                return false;
            continue;
        }
        uint64_t place = home * TABLE_SLOTS_PER_LINE + fill[home]++;
        atomic_store_explicit(word_at(to, place), word & ~LAYOUT_MARK_MASK, memory_order_relaxed);
        if (to->accounts != NULL)
            atomic_store_explicit(&to->accounts[place], read_account(from, slot), memory_order_relaxed);
    }
    for (uint64_t line = 0; line < to->line_count; line++)
        note_full(to, line, fill[line] == TABLE_SLOTS_PER_LINE);
    to->stats.records = from->stats.records - overflow->count;
    return true;
}

static void prefetch_alternate(const struct table *table, uint64_t number)
{
    uint64_t hash = hash_flipped(number, table->flip);
    uint64_t alternate = alternate_of(table, hash, home_of(table, hash));
    __builtin_prefetch(&table->lines[alternate], 1);
    prefetch_accounts(table, alternate);
}

bool table_copy(const struct table *from, struct table *to)
{
    assert(to->stats.records == 0 && from->flip == to->flip);
    struct overflow overflow = {0};
    uint8_t *fill = calloc(to->line_count, sizeof *fill);
    bool good = fill != NULL && copy_homes(from, to, fill, &overflow);
    for (size_t i = 0; good && i < overflow.count; i++) {
        if (i + COPY_AHEAD < overflow.count)
            prefetch_alternate(to, overflow.records[i + COPY_AHEAD].number);
        const struct record *record = &overflow.records[i];
        uint64_t hash = hash_flipped(record->number, to->flip);
        struct sight sight = look(to, hash, record->number);
        good = add_new(to, hash, record, &sight);
    }
    free(overflow.records);
    free(fill);
    return good;
}

const struct table_stats *table_stats(const struct table *table)
{
    return &table->stats;
}

size_t table_slots(const struct table *table)
{
    return table->line_count * TABLE_SLOTS_PER_LINE;
}

size_t table_bytes(const struct table *table)
{
    size_t slot_bytes = sizeof(uint64_t) + (table->accounts == NULL ? 0 : sizeof(uint64_t));
    return sizeof *table + table_slots(table) * slot_bytes +
           full_words(table->line_count) * sizeof *table->full;
}

bool table_is_worn(const struct table *table)
{
    /* One stale mark of 48 bits lets one miss in 48 read a second line for nothing; and a number that spilled stays so
     * when its home has room again, until a rebuild. (churn_over_fresh of bench_table at 20 M with two marks a line:
     * 1.121, with one: 1.039.) */
    return table->stale_marks > table->line_count;
}
