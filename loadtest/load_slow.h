/* Slow readers: connections that ask without a pause and read a few bytes now and then. What comes back is not looked at; who is closed by
 * the server comes again. One thread. */
#ifndef NUMBERD_LOADTEST_LOAD_SLOW_H
#define NUMBERD_LOADTEST_LOAD_SLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "load_connection.h"
#include "load_pool.h"
#include "load_record.h"

struct load_slow {
    const struct load_options *options;
    const struct load_pool *pool;
    struct load_connection *connections;
    uint64_t count;
    uint64_t next_ns;
};

/* False: the reason was printed; load_slow_deinit is due all the same. */
bool load_slow_init(struct load_slow *slow, const struct load_options *options, const struct load_pool *pool,
                    uint64_t count);
void load_slow_deinit(struct load_slow *slow);

/* To be called often; does something ten times a second. */
void load_slow_tick(struct load_slow *slow, uint64_t now_ns, struct load_record *record);

#endif
