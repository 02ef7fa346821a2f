/* Who may connect: so many connections in all, so many from one address, so many new ones a second from one address, and a few
 * places more for operators.
 *
 * A connection takes a seat when it is accepted and leaves it when it is closed. The last `reserve` of the `total` seats are for
 * operators: who gets one must show a token with the role operate soon (SEATS_RESERVED), and one address may hold an eighth of
 * them at most, so that nobody fills the reserve with silence alone.
 *
 * An address is an IPv4 /32 or an IPv6 /64. Addresses are counted in a table of fixed size, by SipHash under a key of this
 * process: two may share a place and then share what it allows, which is rare, and nobody can choose it. New connections are
 * limited by the generic cell rate algorithm (as in budgets.h).
 *
 * Threads: take, claim and penalize from any thread (but the rate of one address loses count where two threads take at once), leave from
 * any; the counters are atomic and relaxed: nothing else hangs on their values. */
#ifndef NUMBERD_SERVER_ACCESS_SEATS_H
#define NUMBERD_SERVER_ACCESS_SEATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seats;

struct seats_options {
    uint64_t total;      /* above 0, reserve included */
    uint64_t reserve;    /* below total; 0: none */
    uint64_t by_address; /* above 0 */
    uint64_t rate;       /* new connections a second from one address; twice as many at once; 0: any */
};

/* NULL when memory is short. */
struct seats *seats_create(const struct seats_options *options);
void seats_destroy(struct seats *seats);

enum seats_verdict {
    SEATS_GIVEN,
    SEATS_RESERVED, /* given, but to an operator alone */
    SEATS_FULL,     /* there is none left */
    SEATS_CROWDED,  /* the address has its share */
    SEATS_HASTY,    /* the address connects too often */
    SEATS_VERDICTS
};

struct seat {
    uint32_t place; /* of the address; SEAT_NO_PLACE: not counted by address */
    bool is_reserved;
};

#define SEAT_NO_PLACE UINT32_MAX

/* `ip`: 16 bytes, IPv4 as ::ffff:a.b.c.d; NULL: a proxy's connection, whose client seats_claim will name. `now_ns` is of a
 * monotonic clock, above 0. Without a seat nothing is to be left. */
enum seats_verdict seats_take(struct seats *seats, const uint8_t *ip, uint64_t now_ns, struct seat *seat);

/* The proxy has said for whom the seat is. When the verdict is SEATS_CROWDED or SEATS_HASTY the connection is to be closed; the
 * seat is left as any other. */
enum seats_verdict seats_claim(struct seats *seats, struct seat *seat, const uint8_t ip[static 16],
                               uint64_t now_ns);

/* The seat's connection was closed since it took too much: its address has connected so many times more, as far as the rate is
 * concerned, and for a second at most can't connect at all. */
#define SEATS_PENALTY_CONNECTS 100
void seats_penalize(struct seats *seats, const struct seat *seat, uint64_t now_ns);

void seats_leave(struct seats *seats, const struct seat *seat);

/* Taken now. */
uint64_t seats_taken(const struct seats *seats);

#endif
