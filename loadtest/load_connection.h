/* One connection of the load tester: its socket, the requests that are under way on it, and what waits to be sent or read.
 *
 * One thread. The caller waits for the socket (epoll) and calls fill and flush; neither blocks. Opening does, for as long as the
 * server takes. */
#ifndef NUMBERD_LOADTEST_LOAD_CONNECTION_H
#define NUMBERD_LOADTEST_LOAD_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "load_options.h"
#include "server/stream.h"

/* More than so many unanswered on one connection wait in the tester, their clocks running. */
#define LOAD_OUTSTANDING_MAX 4096

struct load_pending {
    uint64_t due_ns;
    uint64_t offset; /* in the pool */
    uint16_t count;
    bool registers;
};

struct load_connection {
    struct stream stream;
    bool is_broken;
    bool is_leaving; /* asks no more; is opened anew when all is answered */
    bool wants_write;
    uint32_t next_id;
    uint32_t awaited_id;
    struct load_pending *pending; /* LOAD_OUTSTANDING_MAX; the request of id i at i % LOAD_OUTSTANDING_MAX */
    uint8_t *out;
    size_t out_bytes;
    size_t out_capacity;
    uint8_t *in;
    size_t in_bytes;
};

/* Allocates and connects. False: the reason was printed; load_connection_deinit is due all the same. */
bool load_connection_init(struct load_connection *connection, const struct load_options *options);
void load_connection_deinit(struct load_connection *connection);

/* Closes, and connects again, for up to LOAD_PATIENCE_MS; what was to be sent or read is gone, what is pending stays so. False: broken, and
 * the reason was printed. */
#define LOAD_PATIENCE_MS 10000
bool load_connection_reopen(struct load_connection *connection, const struct load_options *options);

static inline uint32_t load_connection_unanswered(const struct load_connection *connection)
{
    return connection->next_id - connection->awaited_id;
}

static inline struct load_pending *load_connection_pending(const struct load_connection *connection,
                                                           uint32_t id)
{
    return &connection->pending[id % LOAD_OUTSTANDING_MAX];
}

/* Room for so many bytes behind what is to be sent; NULL: memory is short. */
uint8_t *load_connection_reserve(struct load_connection *connection, size_t bytes);

/* Sends what the socket takes. False: the connection broke. */
bool load_connection_flush(struct load_connection *connection);

/* Reads once. False: it has ended. */
bool load_connection_fill(struct load_connection *connection);
/* The bytes at the front were used. */
void load_connection_take(struct load_connection *connection, size_t bytes);

#endif
