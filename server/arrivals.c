/* Connections on their way; see arrivals.h. */
#include "server/arrivals.h"

#include <stdlib.h>

struct arrivals_entry {
    STAILQ_ENTRY(arrivals_entry) link;
    struct arrival arrival;
};

void arrival_dismiss(const struct arrival *arrival, struct seats *seats)
{
    struct stream stream = arrival->stream;
    stream_close(&stream);
    seats_leave(seats, &arrival->seat);
}

void arrivals_init(struct arrivals *arrivals)
{
    pthread_mutex_init(&arrivals->mutex, NULL);
    STAILQ_INIT(&arrivals->queue);
}

bool arrivals_put(struct arrivals *arrivals, const struct arrival *arrival)
{
    struct arrivals_entry *entry = malloc(sizeof *entry);
    if (entry == NULL)
        return false;
    entry->arrival = *arrival;
    pthread_mutex_lock(&arrivals->mutex);
    STAILQ_INSERT_TAIL(&arrivals->queue, entry, link);
    pthread_mutex_unlock(&arrivals->mutex);
    return true;
}

bool arrivals_take(struct arrivals *arrivals, struct arrival *arrival)
{
    pthread_mutex_lock(&arrivals->mutex);
    struct arrivals_entry *entry = STAILQ_FIRST(&arrivals->queue);
    if (entry != NULL)
        STAILQ_REMOVE_HEAD(&arrivals->queue, link);
    pthread_mutex_unlock(&arrivals->mutex);
    if (entry != NULL)
        *arrival = entry->arrival;
    free(entry);
    return entry != NULL;
}

void arrivals_deinit(struct arrivals *arrivals, struct seats *seats)
{
    struct arrival arrival;
    while (arrivals_take(arrivals, &arrival))
        arrival_dismiss(&arrival, seats);
    pthread_mutex_destroy(&arrivals->mutex);
}
