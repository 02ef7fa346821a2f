/* The lookup, and the look before an insert, with AVX-512: a line is one register; eight numbers are hashed, placed and checked side by side.
 *
 * The window. Numbers go through in rows of eight. While row r is looked into (step 2), the home lines of row
 * r + AHEAD are found and their reads started (step 1), into the second-level cache; the reads of row r + NEAR into the
 * first. A processor has few miss buffers at the first level and more at the second, so this keeps more reads under
 * way than loads or plain prefetches do. To place, look and answer in one loop fills the waiting with work: phases of each took 2 ns
 * a number more at 100 M. Fewer instructions gain little (64 idle ones beside each read of a line alone change nothing), but work
 * without reads does: where spilled numbers are is worked out in the loop, too, and two of their reads are started a row.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "hashing/layout.h"

#define ROW ((size_t)8)
/* In numbers. Of 32 to 120 ahead and 0 to 24 near all were within 5 %, which is what two runs differ by. */
#define AHEAD ((size_t)48)
#define NEAR ((size_t)16)
#define RING ((size_t)128) /* a power of two, above AHEAD + ROW */
/* Numbers after which the list of the spilled is served. */
#define CHUNK ((size_t)1024)

static inline uint32_t match_line(const struct line *line, uint64_t number)
{
    __m512i words = _mm512_load_si512((const void *)line);
    atomic_signal_fence(memory_order_acquire); /* x86 orders loads; the compiler must, too */
    __m512i shown = _mm512_and_si512(words, _mm512_set1_epi64((long long)LAYOUT_SHOWN_MASK));
    uint64_t wanted = number << LAYOUT_NUMBER_SHIFT;
    return _mm512_cmpeq_epi64_mask(shown, _mm512_set1_epi64((long long)wanted));
}

#include "hashing/lookup_one.h"

/* What a call needs of the view, in registers' shape. */
struct constants {
    __m512i flip; /* of hash_row */
    __m512i base;
    __m512i shard_mask;
    __m512d limits[2]; /* 10^0 .. 10^15, by digits */
    __m512d scales[2]; /* 10^-(digits-3) */
    __m512i beginnings[2];
    __m128i shard_shift;
};

/* The numbers on their way from step 1 to step 2, by their index modulo RING. */
struct window {
    _Alignas(64) const struct line *homes[RING];
    _Alignas(64) uint64_t hashes[RING];
    _Alignas(64) uint64_t placements[RING];
};

/* The numbers that may lie in their alternate, and where that is. It is of the table in which the home was looked into:
 * with a newer table's alternate, a number that spilled in the old one only would be missed. A row is stored whole, so
 * there is room for one more. */
struct spilled {
    size_t count;
    size_t fetched; /* the reads of so many alternates have been started */
    _Alignas(64) uint64_t indices[CHUNK + ROW];
    _Alignas(64) const struct line *lines[CHUNK + ROW];
};

static inline struct constants prepare(const struct lookup_view *view)
{
    const uint32_t *beginnings = view->phones.beginnings;
    return (struct constants){
        .flip = _mm512_set1_epi64((long long)view->flip),
        .base = _mm512_set1_epi64((long long)(uintptr_t)view->base),
        .shard_mask = _mm512_set1_epi64((long long)view->shard_mask),
        .shard_shift = _mm_cvtsi32_si128((int)view->shard_shift),
        .limits = {_mm512_setr_pd(1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7),
                   _mm512_setr_pd(1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15)},
        .scales = {_mm512_setr_pd(0, 0, 0, 1e0, 1e-1, 1e-2, 1e-3, 1e-4),
                   _mm512_setr_pd(1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12)},
        .beginnings = {_mm512_loadu_si512(beginnings), _mm512_loadu_si512(beginnings + 16)},
    };
}

/* hash_flipped of eight numbers. */
static inline __m512i hash_row(const struct constants *constants, __m512i numbers)
{
    const __m512i multiplier = _mm512_set1_epi64((long long)HASH_MULTIPLIER);
    __m512i hash = _mm512_xor_si512(_mm512_rol_epi64(numbers, 32), constants->flip);
    /* 0x96: the exclusive or of all three. */
    hash = _mm512_ternarylogic_epi64(hash, _mm512_rol_epi64(hash, 49), _mm512_rol_epi64(hash, 24), 0x96);
    hash = _mm512_mullo_epi64(hash, multiplier);
    hash = _mm512_xor_si512(hash, _mm512_add_epi64(_mm512_srli_epi64(hash, 35), _mm512_set1_epi64(8)));
    hash = _mm512_mullo_epi64(hash, multiplier);
    return _mm512_xor_si512(hash, _mm512_srli_epi64(hash, 28));
}

/* phone_is_valid of eight numbers. The leading three digits come from a product of doubles: numbers below 2^53 are
 * exact, the error is below 2e-13, and a quotient that is no integer is at least 1e-12 below the next. */
static inline __mmask8 check_row(const struct constants *constants, __m512i numbers)
{
    const __m512i range = _mm512_set1_epi64((long long)(PHONE_KEY_MAX - PHONE_KEY_MIN));
    __mmask8 in_range = _mm512_cmple_epu64_mask(
        _mm512_sub_epi64(numbers, _mm512_set1_epi64((long long)PHONE_KEY_MIN)), range);
    __m512d value = _mm512_cvtepu64_pd(numbers);
    __m512i bits = _mm512_sub_epi64(_mm512_set1_epi64(64), _mm512_lzcnt_epi64(numbers));
    __m512i digits = _mm512_srli_epi64(_mm512_mul_epu32(bits, _mm512_set1_epi64(1233)), 12);
    __m512d limit = _mm512_permutex2var_pd(constants->limits[0], digits, constants->limits[1]);
    digits = _mm512_mask_add_epi64(digits, _mm512_cmp_pd_mask(value, limit, _CMP_GE_OQ), digits,
                                   _mm512_set1_epi64(1));
    __m512d scale = _mm512_permutex2var_pd(constants->scales[0], digits, constants->scales[1]);
    __m512i leading = _mm512_cvttpd_epi64(_mm512_fmadd_pd(value, scale, _mm512_set1_pd(5e-13)));
    __m512i word = _mm512_permutex2var_epi32(constants->beginnings[0], _mm512_srli_epi64(leading, 5),
                                             constants->beginnings[1]);
    __m512i bit = _mm512_sllv_epi64(_mm512_set1_epi64(1), _mm512_and_si512(leading, _mm512_set1_epi64(31)));
    return _mm512_mask_test_epi64_mask(in_range, word, bit);
}

/* Without optimisation gcc's gathers are macros that pass a mask of 255 as a char. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

/* Step 1 for the row at `index`, but for the prefetches. */
static inline void place_row(const struct lookup_view *view, const struct constants *constants,
                             const uint64_t *numbers, size_t index, struct window *window)
{
    __m512i hashes = hash_row(constants, _mm512_loadu_si512(numbers + index));
    __m512i shards =
        _mm512_and_si512(_mm512_srl_epi64(hashes, constants->shard_shift), constants->shard_mask);
    const void *placed = view->placements;
    __m512i placements = _mm512_i64gather_epi64(shards, placed, 8);
    __m512i counts = _mm512_and_si512(placements, _mm512_set1_epi64((long long)LAYOUT_COUNT_MASK));
    /* mul_epu32 takes the low 32 bits of each: layout_reduce. */
    __m512i homes = _mm512_add_epi64(_mm512_srli_epi64(_mm512_mul_epu32(hashes, counts), 32),
                                     _mm512_srli_epi64(placements, LAYOUT_COUNT_BITS));
    _mm512_store_si512(window->hashes + index % RING, hashes);
    _mm512_store_si512(window->placements + index % RING, placements);
    _mm512_store_si512((void *)(window->homes + index % RING),
                       _mm512_add_epi64(_mm512_slli_epi64(homes, 6), constants->base));
}

/* Which numbers of a row have a mark in their home line: may have spilled. */
static inline __mmask8 marks_of_row(const struct line *const *homes, __m512i hashes)
{
    __m512i words = _mm512_and_si512(_mm512_srli_epi64(hashes, LAYOUT_MARK_WORD_SHIFT - 3),
                                     _mm512_set1_epi64((TABLE_SLOTS_PER_LINE - 1) << 3));
    __m512i bits = _mm512_and_si512(_mm512_srli_epi64(hashes, LAYOUT_MARK_BIT_SHIFT),
                                    _mm512_set1_epi64((long long)LAYOUT_MARK_BIT_MASK));
    bits =
        _mm512_srli_epi64(_mm512_mul_epu32(bits, _mm512_set1_epi64(LAYOUT_MARK_BITS)), LAYOUT_MARK_BIT_BITS);
    __m512i addresses = _mm512_add_epi64(_mm512_load_si512((const void *)homes), words);
    __m512i marks = _mm512_i64gather_epi64(addresses, NULL, 1);
    return _mm512_test_epi64_mask(marks, _mm512_sllv_epi64(_mm512_set1_epi64(1), bits));
}
#pragma GCC diagnostic pop

/* layout_alternate of eight numbers, as addresses. */
static inline __m512i alternates_of_row(const struct constants *constants, __m512i hashes, __m512i placements)
{
    const __m512i block = _mm512_set1_epi64((long long)LAYOUT_BLOCK_LINES);
    const __m512i one = _mm512_set1_epi64(1);
    __m512i counts = _mm512_and_si512(placements, _mm512_set1_epi64((long long)LAYOUT_COUNT_MASK));
    __m512i homes = _mm512_srli_epi64(_mm512_mul_epu32(hashes, counts), 32);
    __m512i starts = _mm512_and_si512(homes, _mm512_set1_epi64(~(long long)(LAYOUT_BLOCK_LINES - 1)));
    __mmask8 is_short = _mm512_mask_cmplt_epu64_mask(_mm512_test_epi64_mask(starts, starts),
                                                     _mm512_sub_epi64(counts, starts), block);
    starts = _mm512_mask_sub_epi64(starts, is_short, starts, block);
    __m512i sizes = _mm512_sub_epi64(counts, starts);
    sizes = _mm512_mask_mov_epi64(sizes, _mm512_cmpge_epu64_mask(sizes, _mm512_slli_epi64(block, 1)), block);
    __m512i places = _mm512_srli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(hashes, 20), sizes), 32);
    __m512i next = _mm512_add_epi64(places, one);
    next = _mm512_maskz_mov_epi64(_mm512_cmpneq_epi64_mask(next, sizes), next);
    __mmask8 is_home = _mm512_cmpeq_epi64_mask(_mm512_add_epi64(starts, places), homes);
    places = _mm512_mask_mov_epi64(places, is_home, next);
    __m512i lines =
        _mm512_add_epi64(_mm512_add_epi64(starts, places), _mm512_srli_epi64(placements, LAYOUT_COUNT_BITS));
    return _mm512_add_epi64(_mm512_slli_epi64(lines, 6), constants->base);
}

/* Starts the reads of up to two alternates of those that were found to have spilled, without a branch: when there is none
 * left, that of the arena's first line, which is near. Hits spill once a row. */
static inline void fetch_alternates(struct spilled *spilled)
{
    for (unsigned i = 0; i < 2; i++) {
        _mm_prefetch(spilled->lines[spilled->fetched], _MM_HINT_T0);
        spilled->fetched += spilled->fetched < spilled->count;
    }
}

/* Which numbers of a row are in their home lines. Between two looks a prefetch for another row is started, so that
 * they come evenly. */
static inline __mmask8 found_in_row(const uint64_t *numbers, size_t index, const struct window *window)
{
    const struct line *const *homes = window->homes + index % RING;
    const struct line *const *far = window->homes + (index + AHEAD) % RING;
    const struct line *const *near = window->homes + (index + NEAR) % RING;
    uint64_t masks = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < ROW; i++) {
        _mm_prefetch(far[i], _MM_HINT_T1);
        _mm_prefetch(near[i], _MM_HINT_T0);
        masks |= (uint64_t)match_line(homes[i], numbers[index + i]) << 8 * i;
    }
    __m128i bytes = _mm_cvtsi64_si128((long long)masks);
    return (__mmask8)_mm_test_epi8_mask(bytes, bytes);
}

/* Step 2 for the row at `index`. */
static inline void look_at_row(const struct constants *constants, const uint64_t *numbers, size_t index,
                               uint8_t *answers, const struct window *window, struct spilled *spilled)
{
    const __m512i counting = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    __m512i hashes = _mm512_load_si512(window->hashes + index % RING);
    __mmask8 found = found_in_row(numbers, index, window);
    /* After the comparisons; see look_at_mark. */
    __mmask8 marked = marks_of_row(window->homes + index % RING, hashes);
    __mmask8 valid = check_row(constants, _mm512_loadu_si512(numbers + index));
    __m128i answer = _mm_maskz_set1_epi8(found, DIRECTORY_REGISTERED);
    answer = _mm_mask_blend_epi8(valid, _mm_set1_epi8(DIRECTORY_INVALID), answer);
    _mm_storel_epi64((__m128i *)(void *)(answers + index), answer);
    __mmask8 again = (__mmask8)(marked & valid & ~found);
    __m512i indices = _mm512_add_epi64(counting, _mm512_set1_epi64((long long)index));
    _mm512_storeu_si512(spilled->indices + spilled->count, _mm512_maskz_compress_epi64(again, indices));
    __m512i placements = _mm512_load_si512(window->placements + index % RING);
    __m512i alternates = alternates_of_row(constants, hashes, placements);
    _mm512_storeu_si512((void *)(spilled->lines + spilled->count),
                        _mm512_mask_compress_epi64(constants->base, again, alternates));
    spilled->count += (size_t)_mm_popcnt_u32(again);
    fetch_alternates(spilled);
}

/* Step 3. */
static inline void look_at_spilled(const uint64_t *numbers, uint8_t *answers, struct spilled *spilled)
{
    while (spilled->fetched < spilled->count)
        fetch_alternates(spilled);
    for (size_t j = 0; j < spilled->count; j++) {
        size_t index = spilled->indices[j];
        answers[index] = match_line(spilled->lines[j], numbers[index]) != 0;
    }
}

/* A multiple of eight numbers, CHUNK at most. */
static void look_up_rows(const struct lookup_view *view, const struct constants *constants,
                         const uint64_t *numbers, size_t count, uint8_t *answers)
{
    struct window window;
    struct spilled spilled;
    spilled.count = 0;
    spilled.fetched = 0;
    size_t lead = count < AHEAD ? count : AHEAD;
    uint64_t moves = atomic_load_explicit(view->moves, memory_order_acquire);
    for (size_t i = 0; i < lead; i += ROW) {
        place_row(view, constants, numbers, i, &window);
        for (unsigned j = 0; j < ROW; j++)
            _mm_prefetch(window.homes[i + j], _MM_HINT_T1);
    }
    for (size_t i = lead; i < RING; i++)
        window.homes[i] = view->base; /* prefetched in the last rows, for nothing */
    for (size_t i = 0; i < count; i += ROW) {
        if (i + AHEAD < count)
            place_row(view, constants, numbers, i + AHEAD, &window);
        look_at_row(constants, numbers, i, answers, &window, &spilled);
    }
    look_at_spilled(numbers, answers, &spilled);
    if (atomic_load_explicit(view->moves, memory_order_relaxed) != moves)
        lookup_again(view, numbers, count, answers);
}

/* Up to seven numbers: a row, filled up with the last of them. */
static void look_up_rest(const struct lookup_view *view, const struct constants *constants,
                         const uint64_t *numbers, size_t count, uint8_t *answers)
{
    uint64_t row[ROW];
    uint8_t row_answers[ROW];
    for (size_t i = 0; i < ROW; i++)
        row[i] = numbers[i < count ? i : count - 1];
    look_up_rows(view, constants, row, ROW, row_answers);
    memcpy(answers, row_answers, count);
}

void lookup_many_avx512(const struct lookup_view *view, const uint64_t *numbers, size_t count,
                        uint8_t *answers)
{
    struct constants constants = prepare(view);
    size_t whole = count - count % ROW;
    for (size_t start = 0; start < whole; start += CHUNK)
        look_up_rows(view, &constants, numbers + start, whole - start < CHUNK ? whole - start : CHUNK,
                     answers + start);
    if (whole < count)
        look_up_rest(view, &constants, numbers + whole, count - whole, answers + whole);
}

void lookup_one_avx512(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                       uint8_t *answer)
{
    answer_one(view, reader, number, answer);
}

void lookup_alike_avx512(const struct lookup_view *view, struct epoch_reader *reader, uint64_t number,
                         uint8_t *answer)
{
    answer_alike(view, reader, number, answer);
}

/* The same as the scalar one's look_at_line. */
static inline uint32_t look_at_line(const struct line *line, uint64_t number)
{
    __m512i words = _mm512_load_si512((const void *)line);
    atomic_signal_fence(memory_order_acquire);
    __m512i numbers = _mm512_srli_epi64(words, LAYOUT_NUMBER_SHIFT);
    uint32_t found = _mm512_cmpeq_epi64_mask(numbers, _mm512_set1_epi64((long long)number));
    uint32_t empty = _mm512_testn_epi64_mask(numbers, numbers);
    return found | empty << LAYOUT_EMPTY_SHIFT;
}

uint32_t lookup_look_avx512(const struct line *home, const struct line *alternate, uint64_t number)
{
    return look_at_line(home, number) | look_at_line(alternate, number) << TABLE_SLOTS_PER_LINE;
}
