/* How each kind of server is asked, and what its replies say: numberd, a floor that only answers (load_floor.h), and the peers that
 * numberd is compared with.
 *
 *   numberd      LOOKUP and REGISTER frames (server/PROTOCOL.md)
 *   floor        the same; what it answers is not looked at
 *   redis-set    SMISMEMBER numbers N...          SADD numbers N...
 *   redis-keys   MGET N...                        MSET N 1 ...
 *   memcached    get N...                         set N 0 0 1 for each
 *
 * Encoders and decoders are pure. The peers' text is written and read by hand: what a library does beyond that (an allocation for each
 * element of a reply) would be the load tester's time, on the processor beside the server's. hiredis is the oracle in tests/test_dialects.c,
 * which prints what each takes for a number of a reply: 1 ns here, 43 ns there. */
#ifndef NUMBERD_LOADTEST_LOAD_DIALECT_H
#define NUMBERD_LOADTEST_LOAD_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/wire.h"

/* A request, as far as the reply to it must be understood. */
struct load_asked {
    const uint64_t *numbers;
    const uint64_t *accounts; /* NULL: they are looked up */
    uint32_t id;
    uint16_t count;
};

enum load_kind {
    LOAD_ANSWERED,
    LOAD_REFUSED, /* the server would not do it now */
    LOAD_GOODBYE, /* it stops: what it has not answered it has not done */
};

struct load_answer {
    enum load_kind kind;
    size_t bytes; /* of the reply */
    uint16_t count;
    const uint8_t *statuses; /* the wire's, one for each number; into the reply or into `room` */
    uint8_t room[WIRE_COUNT_MAX];
};

struct load_dialect {
    const char *name;
    uint16_t port;
    uint16_t count_max;
    bool greets;  /* the client library connects and says hello */
    bool answers; /* with what can be right or wrong */
    /* No request takes more. */
    size_t (*request_bytes)(const struct load_asked *asked);
    /* Writes it; the bytes. */
    size_t (*encode)(uint8_t *room, const struct load_asked *asked);
    /* The reply that the bytes begin with. */
    enum wire_state (*decode)(const uint8_t *bytes, size_t length, const struct load_asked *asked,
                              struct load_answer *answer);
};

/* NULL: there is none of that name. */
const struct load_dialect *load_dialect(const char *name);

extern const struct load_dialect load_redis_set;
extern const struct load_dialect load_redis_keys;
extern const struct load_dialect load_memcached;

#endif
