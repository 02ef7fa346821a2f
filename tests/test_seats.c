/* server/access/seats: nobody gets more than their share of the connections, and what is left is free again. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "server/access/seats.h"
#include "unit.h"

#define SECOND UINT64_C(1000000000)

static void set_ipv4(uint8_t ip[static 16], uint32_t host)
{
    memset(ip, 0, 16);
    ip[10] = ip[11] = 0xff;
    memcpy(ip + 12, &host, 4);
}

/* All seats can be taken, not one more, and one that was left can be taken again. */
static struct seats *make_seats(const struct seats_options *options)
{
    struct seats *seats = seats_create(options);
    if (seats == NULL)
        abort();
    return seats;
}

static void test_total(void **state)
{
    (void)state;
    struct seats *seats = make_seats(&(struct seats_options){.total = 100, .by_address = 1000});
    struct seat all[100];
    struct seat more;
    uint8_t ip[16];
    set_ipv4(ip, 1);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(seats_take(seats, ip, SECOND, &all[i]), SEATS_GIVEN);
    assert_int_equal(seats_taken(seats), 100);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(seats_take(seats, ip, SECOND, &more), SEATS_FULL);
    assert_int_equal(seats_taken(seats), 100);
    seats_leave(seats, &all[7]);
    assert_int_equal(seats_take(seats, ip, SECOND, &all[7]), SEATS_GIVEN);
    assert_int_equal(seats_take(seats, ip, SECOND, &more), SEATS_FULL);
    seats_destroy(seats);
}

/* An IPv4 address and an IPv6 /64 have their share each, and no part of another's. */
static void test_by_address(void **state)
{
    (void)state;
    struct seats *seats = make_seats(&(struct seats_options){.total = 10000, .by_address = 5});
    struct seat seat;
    uint8_t ip[16];
    for (uint32_t host = 1; host <= 20; host++) { /* few enough that two seldom share a place */
        set_ipv4(ip, host);
        unsigned given = 0;
        for (unsigned i = 0; i < 8; i++)
            given += seats_take(seats, ip, SECOND, &seat) == SEATS_GIVEN;
        assert_true(given <= 5);
        assert_true(host > 1 || given == 5);
    }
    uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8};
    unsigned given = 0;
    for (unsigned i = 0; i < 20; i++) {
        v6[15] = (uint8_t)i; /* the same /64 */
        given += seats_take(seats, v6, SECOND, &seat) == SEATS_GIVEN;
    }
    assert_true(given <= 5);
    v6[7] = 1; /* another one; a shared place has one chance in 3,000 */
    given = 0;
    for (unsigned i = 0; i < 20; i++)
        given += seats_take(seats, v6, SECOND, &seat) == SEATS_GIVEN;
    assert_true(given <= 5);
    seats_destroy(seats);
}

/* New connections: twice the rate at once, then the rate, whatever becomes of them. */
static void test_rate(void **state)
{
    (void)state;
    struct seats *seats =
        make_seats(&(struct seats_options){.total = 10000, .by_address = 10000, .rate = 50});
    struct seat seat;
    uint8_t ip[16];
    set_ipv4(ip, 9);
    unsigned given = 0;
    for (unsigned i = 0; i < 500; i++)
        if (seats_take(seats, ip, SECOND, &seat) == SEATS_GIVEN) {
            given++;
            seats_leave(seats, &seat);
        }
    assert_int_equal(given, 100);
    given = 0;
    for (unsigned i = 1; i <= 1000; i++) /* four seconds */
        if (seats_take(seats, ip, SECOND + i * SECOND / 250, &seat) == SEATS_GIVEN) {
            given++;
            seats_leave(seats, &seat);
        }
    assert_in_range(given, 199, 201);
    assert_int_equal(seats_taken(seats), 0);
    seats_destroy(seats);
}

/* Who was closed for taking too much can't come back for a while: a second at most, however often it happens; others can. */
static void test_penalty(void **state)
{
    (void)state;
    struct seats *seats =
        make_seats(&(struct seats_options){.total = 10000, .by_address = 10000, .rate = 1000});
    struct seat seat;
    struct seat other;
    uint8_t ip[16];
    uint8_t other_ip[16];
    set_ipv4(ip, 9);
    set_ipv4(other_ip, 10);
    assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_GIVEN);
    for (unsigned i = 0; i < 15; i++) /* of the 2,000 that it may at once */
        seats_penalize(seats, &seat, SECOND);
    assert_int_equal(seats_take(seats, ip, SECOND, &other), SEATS_GIVEN);
    for (unsigned i = 0; i < 1000; i++)
        seats_penalize(seats, &seat, SECOND);
    assert_int_equal(seats_take(seats, ip, SECOND, &other), SEATS_HASTY);
    assert_int_equal(seats_take(seats, other_ip, SECOND, &other), SEATS_GIVEN);
    assert_int_equal(seats_take(seats, ip, SECOND + SECOND * 9 / 10, &other), SEATS_HASTY);
    assert_int_equal(seats_take(seats, ip, SECOND + SECOND * 11 / 10, &other), SEATS_GIVEN);
    seats_destroy(seats);
}

/* The last seats are given as reserved, an eighth of them to one address. */
static void test_reserve(void **state)
{
    (void)state;
    struct seats *seats = make_seats(&(struct seats_options){.total = 32, .reserve = 16, .by_address = 100});
    struct seat seat;
    struct seat reserved;
    uint8_t ip[16];
    set_ipv4(ip, 1);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_GIVEN);
    assert_int_equal(seats_take(seats, ip, SECOND, &reserved), SEATS_RESERVED);
    assert_true(reserved.is_reserved);
    assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_RESERVED);
    assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_CROWDED);
    assert_int_equal(seats_taken(seats), 18);
    seats_leave(seats, &reserved);
    assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_RESERVED);
    for (uint32_t host = 2; host < 500; host++) {
        set_ipv4(ip, host);
        (void)seats_take(seats, ip, SECOND, &seat);
    }
    assert_int_equal(seats_take(seats, ip, SECOND, &seat), SEATS_FULL);
    assert_int_equal(seats_taken(seats), 32);
    seats_destroy(seats);
}

/* A proxy's connection is counted for the client that it names. */
static void test_claim(void **state)
{
    (void)state;
    struct seats *seats = make_seats(&(struct seats_options){.total = 100, .by_address = 2});
    struct seat taken[10];
    uint8_t ip[16];
    set_ipv4(ip, 5);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(seats_take(seats, NULL, SECOND, &taken[i]), SEATS_GIVEN);
    assert_int_equal(seats_claim(seats, &taken[0], ip, SECOND), SEATS_GIVEN);
    assert_int_equal(seats_claim(seats, &taken[1], ip, SECOND), SEATS_GIVEN);
    assert_int_equal(seats_claim(seats, &taken[2], ip, SECOND), SEATS_CROWDED);
    seats_leave(seats, &taken[2]); /* takes nothing from the two */
    assert_int_equal(seats_claim(seats, &taken[3], ip, SECOND), SEATS_CROWDED);
    seats_leave(seats, &taken[0]);
    assert_int_equal(seats_claim(seats, &taken[4], ip, SECOND), SEATS_GIVEN);
    assert_int_equal(seats_taken(seats), 8);
    seats_destroy(seats);
}

#define THREADS 4
#define ROUNDS 100000

static void *come_and_go(void *context)
{
    struct seats *seats = context;
    struct seat seat;
    uint8_t ip[16];
    for (uint32_t i = 0; i < ROUNDS; i++) {
        set_ipv4(ip, i % 7);
        if (seats_take(seats, ip, SECOND, &seat) <= SEATS_RESERVED)
            seats_leave(seats, &seat);
    }
    return NULL;
}

/* However many come and go at once, in the end all seats are free, each address's too. */
static void test_threads(void **state)
{
    (void)state;
    struct seats *seats = make_seats(&(struct seats_options){.total = 3, .reserve = 1, .by_address = 2});
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, seats), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(seats_taken(seats), 0);
    for (uint32_t host = 0; host < 7; host++) {
        struct seat two[2];
        uint8_t ip[16];
        set_ipv4(ip, host);
        for (unsigned i = 0; i < 2; i++)
            assert_int_equal(seats_take(seats, ip, SECOND, &two[i]), SEATS_GIVEN);
        for (unsigned i = 0; i < 2; i++)
            seats_leave(seats, &two[i]);
    }
    seats_destroy(seats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_total),   cmocka_unit_test(test_by_address),
                                       cmocka_unit_test(test_rate),    cmocka_unit_test(test_penalty),
                                       cmocka_unit_test(test_reserve), cmocka_unit_test(test_claim),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
