/* Budgets, rates and detectors; see budgets.h. */
#include "server/access/budgets.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <sodium.h>

#define NS_PER_SECOND UINT64_C(1000000000)
#define SECONDS_PER_HOUR 3600
#define HOUR_NS (SECONDS_PER_HOUR * NS_PER_SECOND)
#define DAY_NS (24 * HOUR_NS)
/* The largest request fits into the rate at once. */
#define RATE_BURST UINT64_C(65535)

#define WAYS 8
#define LOCKS 64

/* Misses are judged from so many numbers on, and counts are halved at twice as many, so that what is long ago weighs less and
 * less. */
#define MISSES_MIN 2000
/* One number of so many is sampled for the density, which is judged from so many sampled numbers on. */
#define STRIDE 32
#define BLOCK_NUMBERS 1000
#define DENSITY_MAX 10 /* sampled numbers in each block */
#define DENSITY_MIN 128
/* A HyperLogLog in one word: registers, bits of each, and above them 4 bits of the day that it is of. */
#define REGISTERS 12
#define REGISTER_BITS 5
#define DAY_SHIFT 60
/* A network's principals: bits of one hour. */
#define PRINCIPAL_BITS 48

struct account {
    _Atomic uint64_t budget_tat; /* ns */
    _Atomic uint64_t rate_tat;
    _Atomic uint64_t strict_until; /* ns */
    _Atomic uint64_t misses;       /* numbers asked: 32 bits, and of these not registered: 32 */
    _Atomic uint64_t numbers_seen; /* HyperLogLog of the sampled numbers of a day */
    _Atomic uint64_t blocks_seen;  /* the same of their blocks */
    _Atomic uint64_t
        principals_seen; /* a network's: the hour, modulo 2^16, and the bits of its principals: 48 */
};

struct set {
    _Alignas(64) _Atomic uint64_t keys[WAYS]; /* 0: free */
    struct account accounts[WAYS];
};

_Static_assert(sizeof(struct set) == (size_t)WAYS * 64, "64 bytes an account");

struct budgets {
    struct budget_costs principal;
    struct budget_costs network;
    uint64_t principal_rate;
    enum detection detection;
    bool is_shared; /* several threads charge */
    unsigned miss_percent_max;
    int principal_bits_max; /* of PRINCIPAL_BITS; so many are suspicious */
    uint64_t salt;          /* of what detectors hash */
    uint8_t sip_key[crypto_shorthash_KEYBYTES];
    uint64_t set_mask;
    struct set *sets;
    pthread_mutex_t locks[LOCKS];
};

const char *const *detector_names(void)
{
    static const char *const names[DETECTORS] = {"misses", "density", "principals"};
    return names;
}

/* --- limits as text --- */

static bool parse_count(const char *text, uint64_t most, char **end, uint64_t *value)
{
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *value = strtoull(text, end, 10);
    return errno == 0 && *value >= 1 && *value <= most;
}

bool budget_parse(const char *text, struct budget_limits *limits)
{
    char *end;
    *limits = (struct budget_limits){0};
    if (strcmp(text, "none") == 0)
        return true;
    return parse_count(text, BUDGET_BURST_MAX, &end, &limits->burst) && *end == '/' &&
           parse_count(end + 1, BUDGET_HOURLY_MAX, &end, &limits->hourly) && *end == '\0' &&
           limits->burst / limits->hourly < BUDGET_HOURS_MAX;
}

void budget_format(const struct budget_limits *limits, char text[static BUDGET_TEXT_BYTES])
{
    if (limits->hourly == 0)
        snprintf(text, BUDGET_TEXT_BYTES, "none");
    else
        snprintf(text, BUDGET_TEXT_BYTES, "%" PRIu64 "/%" PRIu64, limits->burst, limits->hourly);
}

/* --- life --- */

static struct budget_costs costs_from(const struct budget_limits *limits, uint64_t rate)
{
    struct budget_costs costs = {0};
    if (limits->hourly > 0) {
        costs.budget_ns = HOUR_NS / limits->hourly;
        costs.budget_tolerance_ns = limits->burst * costs.budget_ns;
    }
    /* A bucket that is no larger and fills no faster is never fuller: the rate would have nothing to say. */
    bool is_implied =
        limits->hourly > 0 && limits->burst <= RATE_BURST && limits->hourly / SECONDS_PER_HOUR < rate;
    if (rate > 0 && !is_implied) {
        costs.rate_ns = NS_PER_SECOND / rate;
        costs.rate_tolerance_ns = RATE_BURST * costs.rate_ns;
    }
    return costs;
}

/* More bits than so many principals set on average. */
static int bits_of(unsigned principals)
{
    double bits = PRINCIPAL_BITS * (1 - exp(-(double)principals / PRINCIPAL_BITS));
    return principals == 0 ? PRINCIPAL_BITS + 1 : (int)bits + 1;
}

struct budgets *budgets_create(const struct budget_options *options)
{
    struct budgets *budgets = sodium_init() < 0 ? NULL : calloc(1, sizeof *budgets);
    if (budgets == NULL)
        return NULL;
    uint64_t sets = 1;
    while (sets * WAYS < options->accounts)
        sets *= 2;
    *budgets = (struct budgets){.principal = costs_from(&options->principal, options->principal_rate),
                                .network = costs_from(&options->network, options->network_rate),
                                .principal_rate = options->principal_rate,
                                .detection = options->detection,
                                .is_shared = options->threads != 1,
                                .miss_percent_max = options->miss_percent_max,
                                .principal_bits_max = bits_of(options->network_principals_max),
                                .set_mask = sets - 1};
    crypto_shorthash_keygen(budgets->sip_key);
    randombytes_buf(&budgets->salt, sizeof budgets->salt);
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&budgets->locks[i], NULL);
    /* From the system, which gives zeros, and gives them when they are touched. */
    void *sets_memory =
        mmap(NULL, sets * sizeof *budgets->sets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sets_memory == MAP_FAILED) {
        budgets_destroy(budgets);
        return NULL;
    }
    budgets->sets = sets_memory;
    return budgets;
}

void budgets_destroy(struct budgets *budgets)
{
    if (budgets == NULL)
        return;
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&budgets->locks[i]);
    if (budgets->sets != NULL)
        munmap(budgets->sets, (budgets->set_mask + 1) * sizeof *budgets->sets);
    free(budgets);
}

/* --- askers --- */

enum key_kind { KEY_PRINCIPAL, KEY_IPV4, KEY_IPV6_64, KEY_IPV6_48 };

static void add_account(struct asker *asker, const struct budgets *budgets, enum asker_part part,
                        enum key_kind kind, const void *name, size_t bytes)
{
    uint8_t input[1 + 16] = {(uint8_t)kind};
    uint64_t key;
    memcpy(input + 1, name, bytes);
    crypto_shorthash((unsigned char *)&key, input, 1 + bytes, budgets->sip_key);
    asker->accounts[asker->count].key = key == 0 ? 1 : key;
    asker->accounts[asker->count].part = part;
    asker->count++;
}

static const uint8_t ipv4_prefix[12] = {[10] = 0xff, [11] = 0xff};

struct asker budgets_asker(const struct budgets *budgets, const struct asker_name *name)
{
    struct asker asker = {.own = budgets->principal};
    const uint64_t named[2] = {name->principal, name->named};
    const uint64_t token[2] = {name->principal, 0};
    bool is_limited = asker.own.budget_ns > 0 || asker.own.rate_ns > 0;
    if (name->own != NULL) {
        asker.own = costs_from(name->own, budgets->principal_rate);
        is_limited = name->own->hourly > 0;
    }
    if (name->named != 0)
        add_account(&asker, budgets, ASKER_NAMED, KEY_PRINCIPAL, named, sizeof named);
    if (name->principal != 0 && is_limited && (name->named == 0 || name->own != NULL))
        add_account(&asker, budgets, ASKER_TOKEN, KEY_PRINCIPAL, token, sizeof token);
    if (name->ip == NULL)
        return asker;
    if (memcmp(name->ip, ipv4_prefix, sizeof ipv4_prefix) == 0) {
        add_account(&asker, budgets, ASKER_NETWORK, KEY_IPV4, name->ip + 12, 4);
    } else {
        add_account(&asker, budgets, ASKER_NETWORK, KEY_IPV6_64, name->ip, 8);
        add_account(&asker, budgets, ASKER_NETWORK, KEY_IPV6_48, name->ip, 6);
    }
    return asker;
}

/* --- the table --- */

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static struct account *look(struct set *set, uint64_t key)
{
    for (unsigned i = 0; i < WAYS; i++)
        if (load(&set->keys[i]) == key)
            return &set->accounts[i];
    return NULL;
}

/* When the account is even and no longer strict. */
static uint64_t even_at(const struct budgets *budgets, const struct account *account)
{
    uint64_t tat = load(&account->budget_tat);
    uint64_t strict_until = budgets->detection == DETECTION_TIGHTEN ? load(&account->strict_until) : 0;
    return tat > strict_until ? tat : strict_until;
}

/* Accounts of the same request, which must not push each other out. */
struct spared {
    struct account *const *accounts;
    unsigned count;
};

static bool is_spared(const struct spared *spared, const struct account *account)
{
    for (unsigned i = 0; i < spared->count; i++)
        if (spared->accounts[i] == account)
            return true;
    return false;
}

/* The first free place of the set, or the one whose account is even first. */
static unsigned choose_place(const struct budgets *budgets, const struct set *set,
                             const struct spared *spared)
{
    unsigned least = WAYS;
    for (unsigned i = 0; i < WAYS; i++) {
        if (load(&set->keys[i]) == 0)
            return i;
        if (!is_spared(spared, &set->accounts[i]) &&
            (least == WAYS || even_at(budgets, &set->accounts[i]) < even_at(budgets, &set->accounts[least])))
            least = i;
    }
    return least;
}

/* Under the set's lock. */
static struct account *give_place(const struct budgets *budgets, struct set *set, uint64_t key,
                                  const struct spared *spared)
{
    struct account *account = look(set, key); /* another thread may have been faster */
    if (account != NULL)
        return account;
    unsigned place = choose_place(budgets, set, spared);
    account = &set->accounts[place];
    store(&account->budget_tat, even_at(budgets, account));
    store(&account->strict_until, 0);
    store(&account->misses, 0);
    store(&account->numbers_seen, 0);
    store(&account->blocks_seen, 0);
    store(&account->principals_seen, 0);
    store(&set->keys[place], key);
    return account;
}

static struct account *account_of(struct budgets *budgets, uint64_t key, const struct spared *spared)
{
    uint64_t number = key & budgets->set_mask;
    struct set *set = &budgets->sets[number];
    struct account *account = look(set, key);
    if (account != NULL)
        return account;
    pthread_mutex_t *lock = &budgets->locks[number % LOCKS];
    pthread_mutex_lock(lock);
    account = give_place(budgets, set, key, spared);
    pthread_mutex_unlock(lock);
    return account;
}

/* --- charging --- */

/* What an account's budget and its rate have in common. */
struct bucket {
    uint64_t ahead_ns; /* of the clock */
    uint64_t cost_ns;  /* 0: there is none */
    uint64_t tolerance_ns;
};

static struct bucket bucket_of(const _Atomic uint64_t *tat, uint64_t now_ns, uint64_t cost_ns,
                               uint64_t tolerance_ns)
{
    uint64_t at = load(tat);
    return (struct bucket){at > now_ns ? at - now_ns : 0, cost_ns, tolerance_ns};
}

static uint64_t strictness(const struct budgets *budgets, const struct account *account, uint64_t now_ns)
{
    bool is_strict = budgets->detection == DETECTION_TIGHTEN && load(&account->strict_until) > now_ns;
    return is_strict ? BUDGETS_STRICTNESS : 1;
}

static struct bucket budget_of(const struct budgets *budgets, const struct account *account,
                               const struct budget_costs *costs, uint64_t now_ns)
{
    return bucket_of(&account->budget_tat, now_ns, costs->budget_ns * strictness(budgets, account, now_ns),
                     costs->budget_tolerance_ns);
}

static struct bucket rate_of(const struct account *account, const struct budget_costs *costs, uint64_t now_ns)
{
    return bucket_of(&account->rate_tat, now_ns, costs->rate_ns, costs->rate_tolerance_ns);
}

/* The room there is in both, in numbers; UINT64_MAX without limit. */
static uint64_t least_room(uint64_t room, struct bucket bucket)
{
    if (bucket.cost_ns == 0)
        return room;
    uint64_t has =
        bucket.ahead_ns >= bucket.tolerance_ns ? 0 : (bucket.tolerance_ns - bucket.ahead_ns) / bucket.cost_ns;
    return has < room ? has : room;
}

/* In how many ns there is room for `rest` more behind the `served` numbers, or for the most that there ever is at once; at least
 * `wait_ns`. */
static uint64_t longest_wait(uint64_t wait_ns, struct bucket bucket, uint32_t served, uint32_t rest)
{
    if (bucket.cost_ns == 0)
        return wait_ns;
    uint64_t most = bucket.tolerance_ns / bucket.cost_ns;
    uint64_t ahead = bucket.ahead_ns + (served + (rest < most ? rest : most)) * bucket.cost_ns;
    uint64_t own_ns = ahead > bucket.tolerance_ns ? ahead - bucket.tolerance_ns : 0;
    return own_ns > wait_ns ? own_ns : wait_ns;
}

static void move_on(const struct budgets *budgets, _Atomic uint64_t *tat, uint64_t now_ns, uint64_t cost_ns)
{
    uint64_t before = load(tat);
    uint64_t after;
    if (!budgets->is_shared) {
        store(tat, (before > now_ns ? before : now_ns) + cost_ns);
        return;
    }
    do {
        after = (before > now_ns ? before : now_ns) + cost_ns;
    } while (!atomic_compare_exchange_weak_explicit(tat, &before, after, memory_order_relaxed,
                                                    memory_order_relaxed));
}

static const struct budget_costs *costs_of(const struct budgets *budgets, const struct asker *asker,
                                           unsigned i)
{
    switch (asker->accounts[i].part) {
    case ASKER_TOKEN:
        return &asker->own;
    case ASKER_NAMED:
        return &budgets->principal;
    case ASKER_NETWORK:
        break;
    }
    return &budgets->network;
}

static uint32_t wait_ms(const struct budgets *budgets, const struct asker *asker, uint64_t now_ns,
                        const struct budget_verdict *verdict, uint32_t rest)
{
    uint64_t wait_ns = 0;
    for (unsigned i = 0; i < asker->count; i++) {
        const struct account *account = verdict->accounts[i];
        const struct budget_costs *costs = costs_of(budgets, asker, i);
        wait_ns = longest_wait(wait_ns, budget_of(budgets, account, costs, now_ns), verdict->served, rest);
        wait_ns = longest_wait(wait_ns, rate_of(account, costs, now_ns), verdict->served, rest);
    }
    uint64_t ms = wait_ns / 1000000 + 1;
    return ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
}

static void pay(const struct budgets *budgets, struct account *account, const struct budget_costs *costs,
                uint64_t now_ns, uint32_t count)
{
    if (costs->budget_ns > 0)
        move_on(budgets, &account->budget_tat, now_ns,
                count * costs->budget_ns * strictness(budgets, account, now_ns));
    if (costs->rate_ns > 0)
        move_on(budgets, &account->rate_tat, now_ns, count * costs->rate_ns);
}

void budgets_charge(struct budgets *budgets, const struct asker *asker, uint64_t now_ns, uint32_t count,
                    struct budget_verdict *verdict)
{
    struct spared found = {.accounts = verdict->accounts};
    uint64_t room = UINT64_MAX;
    for (unsigned i = 0; i < asker->count; i++)
        __builtin_prefetch(&budgets->sets[asker->accounts[i].key & budgets->set_mask]);
    for (unsigned i = 0; i < asker->count; i++) {
        struct account *account = account_of(budgets, asker->accounts[i].key, &found);
        const struct budget_costs *costs = costs_of(budgets, asker, i);
        verdict->accounts[found.count++] = account;
        room = least_room(room, budget_of(budgets, account, costs, now_ns));
        room = least_room(room, rate_of(account, costs, now_ns));
    }
    verdict->served = room < count ? (uint32_t)room : count;
    uint64_t left = room - verdict->served;
    verdict->left = room == UINT64_MAX         ? BUDGETS_UNLIMITED
                    : left < BUDGETS_UNLIMITED ? (uint32_t)left
                                               : BUDGETS_UNLIMITED - 1;
    verdict->retry_after_ms = 0;
    if (verdict->served < count)
        verdict->retry_after_ms = wait_ms(budgets, asker, now_ns, verdict, count - verdict->served);
    for (unsigned i = 0; i < asker->count && verdict->served > 0; i++)
        pay(budgets, verdict->accounts[i], costs_of(budgets, asker, i), now_ns, verdict->served);
}

/* --- detectors --- */

static bool sees_misses(const struct budgets *budgets, struct account *account, uint32_t count,
                        uint32_t missed)
{
    uint64_t before = load(&account->misses);
    uint64_t asked_all = (before >> 32) + count;
    uint64_t missed_all = (before & UINT32_MAX) + missed;
    bool seen = asked_all >= MISSES_MIN && missed_all * 100 > asked_all * budgets->miss_percent_max;
    while (asked_all >= UINT64_C(2) * MISSES_MIN) {
        asked_all /= 2;
        missed_all /= 2;
    }
    store(&account->misses, asked_all << 32 | missed_all);
    return seen;
}

static uint64_t register_of(uint64_t seen, unsigned i)
{
    return seen >> i * REGISTER_BITS & ((1u << REGISTER_BITS) - 1);
}

/* A value with one of these bits set in its hash changes no register: none is so low. All registers at once: whether the least of
 * them has reached 8, 4, 2 or 1. (What has to be looked at closely costs most, since it comes at random: of somebody who asks much it
 * should be rare.) */
static uint64_t useless_bits(uint64_t seen)
{
    const uint64_t lowest = UINT64_C(0x84210842108421); /* bit of each register */
    uint64_t reach_8 = (seen >> 3 | seen >> 4) & lowest;
    uint64_t reach_4 = reach_8 | (seen >> 2 & lowest);
    uint64_t reach_2 = reach_4 | (seen >> 1 & lowest);
    uint64_t reach_1 = reach_2 | (seen & lowest);
    return reach_8 == lowest ? 255 : reach_4 == lowest ? 15 : reach_2 == lowest ? 3 : reach_1 == lowest;
}

/* Adds a hashed value; true when a register has changed. */
static bool add_seen(uint64_t *seen, uint64_t hash)
{
    unsigned place = (unsigned)(((hash >> 32) * REGISTERS) >> 32);
    uint64_t rank = 1 + (uint64_t)__builtin_ctzll((hash & UINT32_MAX) | UINT64_C(1) << 30);
    uint64_t before = register_of(*seen, place);
    if (rank <= before)
        return false;
    *seen += (rank - before) << place * REGISTER_BITS;
    return true;
}

/* How many values were added, to a third or so. */
static double estimate(uint64_t seen)
{
    double sum = 0;
    unsigned empty = 0;
    for (unsigned i = 0; i < REGISTERS; i++) {
        uint64_t rank = register_of(seen, i);
        sum += 1 / (double)(UINT64_C(1) << rank);
        empty += rank == 0;
    }
    double raw = 0.7213 / (1 + 1.079 / REGISTERS) * REGISTERS * REGISTERS / sum;
    return raw <= 2.5 * REGISTERS && empty > 0 ? REGISTERS * log((double)REGISTERS / empty) : raw;
}

/* Mixes all bits into all bits (the finalizer of SplitMix64, Steele, Lea, Flood). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static bool sees_density(const struct budgets *budgets, struct account *account, uint64_t now_ns,
                         const uint64_t *numbers, uint32_t count, uint32_t first)
{
    uint64_t numbers_seen = load(&account->numbers_seen);
    uint64_t blocks_seen = load(&account->blocks_seen);
    uint64_t day = now_ns / DAY_NS & 0xf;
    bool has_changed = false;
    if (numbers_seen >> DAY_SHIFT != day) {
        numbers_seen = day << DAY_SHIFT;
        blocks_seen = 0;
    }
    uint64_t useless_numbers = useless_bits(numbers_seen);
    uint64_t useless_blocks = useless_bits(blocks_seen);
    for (uint32_t i = first; i < count; i += STRIDE) {
        uint64_t number = mix(numbers[i] ^ budgets->salt);
        uint64_t block = mix(numbers[i] / BLOCK_NUMBERS ^ budgets->salt);
        if ((number & useless_numbers) == 0)
            has_changed |= add_seen(&numbers_seen, number);
        if ((block & useless_blocks) == 0)
            has_changed |= add_seen(&blocks_seen, block);
    }
    if (!has_changed)
        return false;
    store(&account->numbers_seen, numbers_seen);
    store(&account->blocks_seen, blocks_seen);
    double all = estimate(numbers_seen);
    return all >= DENSITY_MIN && all > DENSITY_MAX * estimate(blocks_seen);
}

static bool sees_principals(const struct budgets *budgets, struct account *account, uint64_t key,
                            uint64_t now_ns)
{
    uint64_t before = load(&account->principals_seen);
    uint64_t hour = now_ns / HOUR_NS & 0xffff;
    uint64_t bits = before >> PRINCIPAL_BITS == hour ? before & ((UINT64_C(1) << PRINCIPAL_BITS) - 1) : 0;
    bits |= UINT64_C(1) << key % PRINCIPAL_BITS;
    uint64_t after = hour << PRINCIPAL_BITS | bits;
    if (after == before)
        return false; /* and what was seen then was said then */
    store(&account->principals_seen, after);
    return __builtin_popcountll(bits) >= budgets->principal_bits_max;
}

/* Strict from now on; true when it was not before. */
static bool tighten(struct account *account, uint64_t now_ns)
{
    uint64_t before = load(&account->strict_until);
    store(&account->strict_until, now_ns + BUDGETS_STRICT_NS);
    return before <= now_ns;
}

unsigned budgets_observe(struct budgets *budgets, const struct asker *asker,
                         const struct budget_verdict *verdict, uint64_t now_ns, const uint64_t *numbers,
                         uint32_t count, uint32_t missed, uint64_t random)
{
    unsigned news = 0;
    uint32_t first = (uint32_t)random % STRIDE;
    bool has_principal = asker->count > 0 && asker->accounts[0].part != ASKER_NETWORK;
    if (budgets->detection == DETECTION_OFF)
        return 0;
    for (unsigned i = 0; i < asker->count; i++) {
        struct account *account = verdict->accounts[i];
        unsigned seen = 0;
        /* A principal is watched itself; of its networks only how many principals they have. */
        if (i == 0 || !has_principal)
            seen = (unsigned)sees_misses(budgets, account, count, missed) << DETECTOR_MISSES |
                   (unsigned)sees_density(budgets, account, now_ns, numbers, count, first)
                       << DETECTOR_DENSITY;
        else if (asker->accounts[i].part == ASKER_NETWORK &&
                 sees_principals(budgets, account, asker->accounts[0].key, now_ns))
            seen = 1u << DETECTOR_PRINCIPALS;
        if (seen != 0 && tighten(account, now_ns))
            news |= seen;
    }
    return news;
}
