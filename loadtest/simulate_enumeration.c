/* Whether a directory can be emptied by asking: a thousand honest clients beside one attacker, days in seconds.
 *
 * The budgets and detectors are the server's own (server/access/budgets.h) with its default settings; the clock, the people and
 * the numbers are made up here:
 *   - a national range of 100 million numbers, of which 30 in 100 are registered (5 in 100 for the row "sparse");
 *   - clients with address books of 50 to 25,000 numbers (most are small: sizes are uniform in their logarithm), two thirds of
 *     them registered, half of them from the client's own city of 4 million numbers, sorted; each day the whole book in
 *     requests of up to 5,000, at the client's own minute, and 20 more numbers, one by one. Half of the clients are alone in
 *     their network, a quarter with three others, a quarter behind one of five addresses of a carrier;
 *   - an attacker with 5 principals, each walking its own fifth of the range in requests of 1,000, who asks again whenever
 *     there is room for one number.
 * What comes out is the same in each run but for the keys of the budgets' tables and samples, which are random. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "server/access/budgets.h"

#define RANGE_FIRST UINT64_C(4915100000000)
#define RANGE_NUMBERS UINT64_C(100000000)
#define CITY_NUMBERS UINT64_C(4000000)
#define BOOK_MIN 50
#define BOOK_MAX 25000
#define SYNC_REQUEST 5000
#define SINGLES_PER_DAY 20
#define ATTACK_PRINCIPALS 5
#define ATTACK_REQUEST 1000
#define BLOCK 1000
#define MINUTES_PER_DAY 1440
#define MINUTE_NS (UINT64_C(60) * 1000000000)
#define DAYS 3

static const struct bench_row rows[] = {
    {"honest_clients", "clients", BENCH_NO_BAR, 0, "beside each of the attacks below, over 3 days"},
    {"honest_asked", "numbers/day", BENCH_NO_BAR, 0, "what they look up together"},
    {"honest_limited", "numbers", BENCH_AT_MOST, 0, "LIMITED to them, in all 3 days"},
    {"honest_suspected", "clients", BENCH_AT_MOST, 0, "seen by a detector in all 3 days"},
    {"walk", "numbers/day", BENCH_AT_MOST, 300000,
     "looked up by 5 principals in one network that walk upwards, on their best day"},
    {"walk_networks", "numbers/day", BENCH_AT_MOST, 300000, "the same from 5 networks"},
    {"walk_shuffled", "numbers/day", BENCH_AT_MOST, 300000,
     "from 5 networks, each block of 1,000 in an order of its own"},
    {"walk_two_places", "numbers/day", BENCH_AT_MOST, 300000,
     "from 5 networks, two places in the range by turns, 8 numbers in a request"},
    {"walk_sparse", "numbers/day", BENCH_AT_MOST, 300000,
     "from 5 networks, all over the range at random, of which 5 in 100 are registered"},
    {"walk_random", "numbers/day", BENCH_NO_BAR, 0,
     "the same with 30 in 100: nothing but the budgets tells this from an address book"},
    {"walk_unwatched", "numbers/day", BENCH_NO_BAR, 0, "the first of them without detectors"},
    {"walk_later", "numbers/day", BENCH_NO_BAR, 0, "the first of them on the third day"},
    {"walk_years", "years", BENCH_NO_BAR, 0, "the whole range at that pace"},
};

enum order { ORDER_UP, ORDER_SHUFFLED, ORDER_TWO_PLACES, ORDER_RANDOM };

struct attack {
    const char *row;
    enum order order;
    bool one_network;
    unsigned registered_percent;
    enum detection detection;
};

static const struct attack attacks[] = {
    {"walk", ORDER_UP, true, 30, DETECTION_TIGHTEN},
    {"walk_networks", ORDER_UP, false, 30, DETECTION_TIGHTEN},
    {"walk_shuffled", ORDER_SHUFFLED, false, 30, DETECTION_TIGHTEN},
    {"walk_two_places", ORDER_TWO_PLACES, false, 30, DETECTION_TIGHTEN},
    {"walk_sparse", ORDER_RANDOM, false, 5, DETECTION_TIGHTEN},
    {"walk_random", ORDER_RANDOM, false, 30, DETECTION_TIGHTEN},
    {"walk_unwatched", ORDER_UP, true, 30, DETECTION_OFF},
};

#define ATTACKS (sizeof attacks / sizeof attacks[0])

struct client {
    uint64_t *book;
    uint32_t count;
    unsigned minute; /* of the day, when it syncs */
    struct asker asker;
    bool suspected;
};

struct attacker {
    struct asker asker;
    uint64_t first; /* of its part of the range */
    uint64_t asked; /* numbers that it was given answers for */
};

struct world {
    const struct attack *attack;
    struct budgets *budgets;
    uint64_t random;
    uint32_t client_count;
    struct client *clients;
    struct attacker attackers[ATTACK_PRINCIPALS];
    uint64_t honest_asked;
    uint64_t honest_limited;
    uint64_t attack_served[DAYS];
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Below `below`, which is above 0. */
static uint64_t draw(struct world *world, uint64_t below)
{
    assert(below > 0);
    world->random += UINT64_C(0x9e3779b97f4a7c15);
    return mix(world->random) % below;
}

static bool is_registered(const struct world *world, uint64_t number)
{
    return mix(number ^ UINT64_C(0x5bd1e995)) % 100 < world->attack->registered_percent;
}

static struct budget_verdict charge(struct budgets *budgets, const struct asker *asker, uint64_t now_ns,
                                    uint32_t count)
{
    struct budget_verdict verdict;
    budgets_charge(budgets, asker, now_ns, count, &verdict);
    return verdict;
}

/* --- asking --- */

/* One request; how many numbers were served. `*detectors`: what was seen by it. */
static uint32_t ask(struct world *world, const struct asker *asker, uint64_t now_ns, const uint64_t *numbers,
                    uint32_t count, unsigned *detectors)
{
    uint32_t missed = 0;
    struct budget_verdict verdict = charge(world->budgets, asker, now_ns, count);
    for (uint32_t i = 0; i < verdict.served; i++)
        missed += !is_registered(world, numbers[i]);
    *detectors = 0;
    if (verdict.served > 0)
        *detectors = budgets_observe(world->budgets, asker, &verdict, now_ns, numbers, verdict.served, missed,
                                     draw(world, UINT64_MAX));
    return verdict.served;
}

static void ask_honestly(struct world *world, struct client *client, uint64_t now_ns, const uint64_t *numbers,
                         uint32_t count)
{
    unsigned detectors;
    world->honest_asked += count;
    world->honest_limited += count - ask(world, &client->asker, now_ns, numbers, count, &detectors);
    client->suspected = client->suspected || detectors != 0;
}

static void live_a_minute(struct world *world, struct client *client, unsigned minute, uint64_t now_ns)
{
    if (minute == client->minute)
        for (uint32_t done = 0; done < client->count; done += SYNC_REQUEST)
            ask_honestly(world, client, now_ns, client->book + done,
                         client->count - done < SYNC_REQUEST ? client->count - done : SYNC_REQUEST);
    if (draw(world, MINUTES_PER_DAY) < SINGLES_PER_DAY)
        ask_honestly(world, client, now_ns, &client->book[draw(world, client->count)], 1);
}

/* The number at this place of the attacker's order. */
static uint64_t target(const struct world *world, const struct attacker *attacker, uint64_t place)
{
    uint64_t part = RANGE_NUMBERS / ATTACK_PRINCIPALS;
    uint64_t at = place;
    switch (world->attack->order) {
    case ORDER_UP:
        break;
    case ORDER_SHUFFLED: /* 387 is prime to a block's 1,000 */
        at = place / BLOCK * BLOCK + place % BLOCK * 387 % BLOCK;
        break;
    case ORDER_TWO_PLACES:
        at = place % 2 * (part / 2) + place / 2;
        break;
    case ORDER_RANDOM: /* 7919 is prime to a part's 2^8 5^7, and its multiples lie far apart */
        at = place * UINT64_C(7919) * UINT64_C(1299709) % part;
        break;
    }
    return RANGE_FIRST + attacker->first + at % part;
}

/* Asks until nothing more is served. */
static uint32_t attack_a_minute(struct world *world, struct attacker *attacker, uint64_t now_ns)
{
    uint64_t numbers[ATTACK_REQUEST];
    uint32_t size = world->attack->order == ORDER_TWO_PLACES ? 8 : ATTACK_REQUEST;
    uint32_t served = 0;
    for (uint32_t got = size; got == size; served += got) {
        unsigned detectors;
        for (uint32_t i = 0; i < size; i++)
            numbers[i] = target(world, attacker, attacker->asked + i);
        got = ask(world, &attacker->asker, now_ns, numbers, size, &detectors);
        attacker->asked += got;
    }
    return served;
}

/* --- the people --- */

static struct asker make_asker(const struct world *world, uint64_t principal, uint32_t address)
{
    const uint8_t ip[16] = {
        [10] = 0xff,
        [11] = 0xff,
        [12] = 198,
        [13] = (uint8_t)(18 + (address >> 16)),
        [14] = (uint8_t)(address >> 8),
        [15] = (uint8_t)address,
    };
    return budgets_asker(world->budgets, &(struct asker_name){.principal = principal, .ip = ip});
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static uint64_t contact(struct world *world, uint64_t city)
{
    bool registered = draw(world, 3) < 2;
    bool near = draw(world, 2) == 0;
    for (;;) {
        uint64_t number = RANGE_FIRST + (near ? city * CITY_NUMBERS + draw(world, CITY_NUMBERS)
                                              : draw(world, RANGE_NUMBERS));
        if (is_registered(world, number) == registered)
            return number;
    }
}

/* Uniform in the logarithm, in whole doublings and evenly within each. */
static uint32_t book_size(struct world *world)
{
    for (;;) {
        uint64_t low = (uint64_t)BOOK_MIN << draw(world, 9);
        uint64_t size = low + draw(world, low);
        if (size <= BOOK_MAX)
            return (uint32_t)size;
    }
}

static void make_client(struct world *world, uint32_t i)
{
    struct client *client = &world->clients[i];
    uint64_t city = draw(world, RANGE_NUMBERS / CITY_NUMBERS);
    /* The first half alone, then by fours, then by the carrier's five addresses. */
    uint32_t quarter = world->client_count / 4;
    uint32_t address = i < 2 * quarter ? i : i < 3 * quarter ? 100000 + i / 4 : 200000 + i % 5;
    client->count = book_size(world);
    client->minute = (unsigned)draw(world, MINUTES_PER_DAY);
    client->asker = make_asker(world, 1000 + i, address);
    client->book = malloc(client->count * sizeof *client->book);
    bench_assert(client->book != NULL, "out of memory");
    for (uint32_t j = 0; j < client->count; j++)
        client->book[j] = contact(world, city);
    qsort(client->book, client->count, sizeof *client->book, by_value);
}

static void make_world(struct world *world, const struct attack *attack, uint32_t client_count)
{
    *world = (struct world){.attack = attack, .random = 1, .client_count = client_count};
    world->budgets =
        budgets_create(&(struct budget_options){.principal = BUDGET_PRINCIPAL_DEFAULT,
                                                .network = BUDGET_NETWORK_DEFAULT,
                                                .principal_rate = BUDGET_PRINCIPAL_RATE_DEFAULT,
                                                .network_rate = BUDGET_NETWORK_RATE_DEFAULT,
                                                .accounts = BUDGET_ACCOUNTS_DEFAULT,
                                                .detection = attack->detection,
                                                .miss_percent_max = MISS_PERCENT_MAX_DEFAULT,
                                                .network_principals_max = NETWORK_PRINCIPALS_MAX_DEFAULT});
    world->clients = calloc(client_count, sizeof *world->clients);
    bench_assert(world->budgets != NULL && world->clients != NULL, "out of memory");
    for (uint32_t i = 0; i < client_count; i++)
        make_client(world, i);
    for (uint32_t i = 0; i < ATTACK_PRINCIPALS; i++)
        world->attackers[i] =
            (struct attacker){.asker = make_asker(world, 1 + i, 300000 + (attack->one_network ? 0 : i)),
                              .first = i * (RANGE_NUMBERS / ATTACK_PRINCIPALS)};
}

static void free_world(struct world *world)
{
    for (uint32_t i = 0; i < world->client_count; i++)
        free(world->clients[i].book);
    free(world->clients);
    budgets_destroy(world->budgets);
}

static void live(struct world *world)
{
    uint64_t now_ns = MINUTE_NS;
    for (unsigned day = 0; day < DAYS; day++) {
        for (unsigned minute = 0; minute < MINUTES_PER_DAY; minute++, now_ns += MINUTE_NS) {
            for (uint32_t i = 0; i < world->client_count; i++)
                live_a_minute(world, &world->clients[i], minute, now_ns);
            for (uint32_t i = 0; i < ATTACK_PRINCIPALS; i++)
                world->attack_served[day] += attack_a_minute(world, &world->attackers[i], now_ns);
        }
    }
}

/* --- the rows --- */

/* What an attack's world adds to the rows of the honest: the worst of all. */
struct honest {
    uint64_t asked;
    uint64_t limited;
    uint32_t suspected;
};

static void simulate(struct bench *bench, const struct attack *attack, uint32_t client_count,
                     struct honest *honest)
{
    struct world world;
    make_world(&world, attack, client_count);
    live(&world);
    uint64_t most = 0;
    uint32_t suspected = 0;
    for (unsigned day = 0; day < DAYS; day++)
        most = world.attack_served[day] > most ? world.attack_served[day] : most;
    for (uint32_t i = 0; i < client_count; i++)
        suspected += world.clients[i].suspected;
    honest->asked = world.honest_asked / DAYS;
    honest->limited = world.honest_limited > honest->limited ? world.honest_limited : honest->limited;
    honest->suspected = suspected > honest->suspected ? suspected : honest->suspected;
    bench_assert(most >= 5000, "the attacker was hardly served at all: the simulation is wrong");
    bench_report(bench, attack->row, client_count, (double)most);
    if (attack == &attacks[0]) {
        double later = (double)world.attack_served[DAYS - 1];
        bench_report(bench, "walk_later", client_count, later);
        bench_report(bench, "walk_years", client_count, (double)RANGE_NUMBERS / later / 365);
    }
    free_world(&world);
}

int main(int argc, char **argv)
{
    struct bench bench;
    int status = bench_init(
        &bench,
        "simulate_enumeration: what budgets and detectors leave to an attacker with 5 principals, and "
        "to 1,000 honest\nclients beside it (--n: how many).",
        rows, sizeof rows / sizeof rows[0], argc, argv);
    if (status >= 0)
        return status;
    struct honest honest = {0};
    uint32_t clients = bench.n > 0 && bench.n < 100000 ? (uint32_t)bench.n : bench.quick ? 100 : 1000;
    for (size_t i = 0; i < ATTACKS; i++)
        simulate(&bench, &attacks[i], clients, &honest);
    bench_assert(honest.asked > clients * (uint64_t)BOOK_MIN,
                 "the honest have hardly asked: the simulation is wrong");
    bench_report(&bench, "honest_clients", clients, clients);
    bench_report(&bench, "honest_asked", clients, (double)honest.asked);
    bench_report(&bench, "honest_limited", clients, (double)honest.limited);
    bench_report(&bench, "honest_suspected", clients, honest.suspected);
    return bench_status(&bench);
}
