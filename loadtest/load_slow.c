/* Slow readers; see load_slow.h. */
#include "load_slow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TICK_NS UINT64_C(100000000)
#define READ_BYTES 1024
/* Of requests in one go, and numbers in each. */
#define REQUESTS 16
#define NUMBERS 1000

bool load_slow_init(struct load_slow *slow, const struct load_options *options, const struct load_pool *pool,
                    uint64_t count)
{
    *slow = (struct load_slow){.options = options, .pool = pool};
    slow->connections = count == 0 ? NULL : calloc(count, sizeof *slow->connections);
    if (count > 0 && slow->connections == NULL) {
        fprintf(stderr, "numberload: out of memory\n");
        return false;
    }
    for (; slow->count < count; slow->count++)
        if (!load_connection_init(&slow->connections[slow->count], options)) {
            slow->count++;
            return false;
        }
    return true;
}

void load_slow_deinit(struct load_slow *slow)
{
    for (uint64_t i = 0; i < slow->count; i++)
        load_connection_deinit(&slow->connections[i]);
    free(slow->connections);
}

/* False: memory is short. */
static bool ask(const struct load_slow *slow, struct load_connection *connection)
{
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct load_asked asked = {
            .numbers = slow->pool->numbers, .id = connection->next_id++, .count = NUMBERS};
        uint8_t *room = load_connection_reserve(connection, slow->options->dialect->request_bytes(&asked));
        if (room == NULL)
            return false;
        connection->out_bytes += slow->options->dialect->encode(room, &asked);
    }
    return true;
}

/* False: the server has closed it. */
static bool tick(const struct load_slow *slow, struct load_connection *connection)
{
    uint8_t bytes[READ_BYTES];
    if (connection->out_bytes == 0 && !ask(slow, connection))
        return false;
    if (!load_connection_flush(connection))
        return false;
    ssize_t got = stream_receive(&connection->stream, bytes, sizeof bytes);
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

void load_slow_tick(struct load_slow *slow, uint64_t now_ns, struct load_record *record)
{
    if (slow->count == 0 || now_ns < slow->next_ns)
        return;
    slow->next_ns = now_ns + TICK_NS;
    for (uint64_t i = 0; i < slow->count; i++) {
        struct load_connection *connection = &slow->connections[i];
        if (connection->is_broken || tick(slow, connection))
            continue;
        load_record_add(record, LOAD_SLOW_ENDED, 1);
        connection->is_broken = !load_connection_reopen(connection, slow->options);
    }
}
