/* Who may connect; see seats.h. */
#include "server/access/seats.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

/* 1 MiB. With 16,000 addresses connected at once, a newcomer shares its place with another one time in four. */
#define PLACES (UINT32_C(1) << 16)
#define RESERVE_PARTS 8
#define SECOND_NS UINT64_C(1000000000)

struct place {
    atomic_uint connections;
    atomic_uint reserved;     /* of them */
    _Atomic uint64_t next_ns; /* the theoretical arrival time of the next connection */
};

struct seats {
    struct seats_options options;
    uint64_t interval_ns;  /* between new connections of one address; 0: any */
    uint64_t tolerance_ns; /* how far its arrival time may be ahead */
    uint8_t key[crypto_shorthash_KEYBYTES];
    _Atomic uint64_t taken;
    struct place places[PLACES];
};

struct seats *seats_create(const struct seats_options *options)
{
    struct seats *seats = sodium_init() < 0 ? NULL : calloc(1, sizeof *seats);
    if (seats == NULL)
        return NULL;
    seats->options = *options;
    seats->interval_ns = options->rate == 0 ? 0 : SECOND_NS / options->rate;
    seats->tolerance_ns = 2 * SECOND_NS;
    randombytes_buf(seats->key, sizeof seats->key);
    return seats;
}

void seats_destroy(struct seats *seats)
{
    free(seats);
}

static uint32_t place_of(const struct seats *seats, const uint8_t ip[static 16])
{
    static const uint8_t ipv4_prefix[12] = {[10] = 0xff, [11] = 0xff};
    size_t bytes = memcmp(ip, ipv4_prefix, sizeof ipv4_prefix) == 0 ? 16 : 8;
    uint8_t hash[crypto_shorthash_BYTES];
    uint32_t place;
    (void)crypto_shorthash(hash, ip, bytes, seats->key);
    memcpy(&place, hash, sizeof place);
    return place % PLACES;
}

/* True when the address may have one connection more now. */
static bool is_slow_enough(const struct seats *seats, struct place *place, uint64_t now_ns)
{
    uint64_t next_ns = atomic_load_explicit(&place->next_ns, memory_order_relaxed);
    if (seats->interval_ns == 0)
        return true;
    if (next_ns < now_ns)
        next_ns = now_ns;
    if (next_ns + seats->interval_ns > now_ns + seats->tolerance_ns)
        return false;
    atomic_store_explicit(&place->next_ns, next_ns + seats->interval_ns, memory_order_relaxed);
    return true;
}

/* Adds one unless there are `most`. */
static bool add_below(atomic_uint *count, uint64_t most)
{
    if (atomic_fetch_add_explicit(count, 1, memory_order_relaxed) < most)
        return true;
    atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);
    return false;
}

static uint64_t reserve_share(const struct seats *seats)
{
    return (seats->options.reserve + RESERVE_PARTS - 1) / RESERVE_PARTS;
}

enum seats_verdict seats_claim(struct seats *seats, struct seat *seat, const uint8_t ip[static 16],
                               uint64_t now_ns)
{
    uint32_t at = place_of(seats, ip);
    struct place *place = &seats->places[at];
    if (!is_slow_enough(seats, place, now_ns))
        return SEATS_HASTY;
    if (!add_below(&place->connections, seats->options.by_address))
        return SEATS_CROWDED;
    if (seat->is_reserved && !add_below(&place->reserved, reserve_share(seats))) {
        atomic_fetch_sub_explicit(&place->connections, 1, memory_order_relaxed);
        return SEATS_CROWDED;
    }
    seat->place = at;
    return seat->is_reserved ? SEATS_RESERVED : SEATS_GIVEN;
}

enum seats_verdict seats_take(struct seats *seats, const uint8_t *ip, uint64_t now_ns, struct seat *seat)
{
    uint64_t before = atomic_fetch_add_explicit(&seats->taken, 1, memory_order_relaxed);
    *seat = (struct seat){.place = SEAT_NO_PLACE,
                          .is_reserved = before >= seats->options.total - seats->options.reserve};
    enum seats_verdict verdict = before >= seats->options.total ? SEATS_FULL
                                 : ip != NULL                   ? seats_claim(seats, seat, ip, now_ns)
                                 : seat->is_reserved            ? SEATS_RESERVED
                                                                : SEATS_GIVEN;
    if (verdict > SEATS_RESERVED)
        atomic_fetch_sub_explicit(&seats->taken, 1, memory_order_relaxed);
    return verdict;
}

void seats_penalize(struct seats *seats, const struct seat *seat, uint64_t now_ns)
{
    if (seat->place == SEAT_NO_PLACE || seats->interval_ns == 0)
        return;
    _Atomic uint64_t *next = &seats->places[seat->place].next_ns;
    uint64_t next_ns = atomic_load_explicit(next, memory_order_relaxed);
    uint64_t most_ns = now_ns + seats->tolerance_ns + SECOND_NS;
    next_ns = (next_ns < now_ns ? now_ns : next_ns) + SEATS_PENALTY_CONNECTS * seats->interval_ns;
    atomic_store_explicit(next, next_ns < most_ns ? next_ns : most_ns, memory_order_relaxed);
}

void seats_leave(struct seats *seats, const struct seat *seat)
{
    if (seat->place != SEAT_NO_PLACE) {
        struct place *place = &seats->places[seat->place];
        atomic_fetch_sub_explicit(&place->connections, 1, memory_order_relaxed);
        if (seat->is_reserved)
            atomic_fetch_sub_explicit(&place->reserved, 1, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&seats->taken, 1, memory_order_relaxed);
}

uint64_t seats_taken(const struct seats *seats)
{
    return atomic_load_explicit(&seats->taken, memory_order_relaxed);
}
