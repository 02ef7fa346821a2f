/* Looks numbers up ahead: requests that are there together, as a client that pipelines sends them, are carried out one by one, but their
 * lookups are joined into one, whose reads of memory overlap. (5 million numbers, 8 requests on each of 4 connections, by turns with a
 * server that does not: 1.37 times as many requests of one number, and of 16 numbers 1.12 times when they are only fetched ahead, 1.15 times that
 * when they are joined.)
 *
 * A lookup is looked up after it has come and before it is answered, as without this; and no further ahead than up to the next request that is
 * no lookup, since it may change what is registered. Whoever is not served after all has been looked up for nothing.
 * A lone number is only fetched into the cache: its lookup takes the same time whatever becomes of it (directory_lookup_alike).
 *
 * One thread; the caller's memory. */
#ifndef NUMBERD_SERVER_AHEAD_H
#define NUMBERD_SERVER_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#include "hashing/directory.h"

#define AHEAD_NUMBERS 256
#define AHEAD_REQUESTS 64

struct ahead {
    unsigned count;
    unsigned next;
    const uint8_t *entries[AHEAD_REQUESTS]; /* of the request, as wire_decode_request has them */
    uint16_t firsts[AHEAD_REQUESTS];        /* its first number's place */
    uint8_t answers[AHEAD_NUMBERS];
    uint64_t numbers[AHEAD_NUMBERS];
};

/* Forgets all: to be called before bytes are looked at that others were in the place of. */
static inline void ahead_clear(struct ahead *ahead)
{
    ahead->count = ahead->next = 0;
}

/* Looks up what the frames from `from` on ask for. Where to call it again. */
size_t ahead_look(struct ahead *ahead, const struct directory *directory, struct epoch_reader *reader,
                  const uint8_t *bytes, size_t length, size_t from);

/* The answers (enum directory_answer) to the request with these entries, all of them; NULL: it was not looked up. To be asked in the
 * requests' order. */
static inline const uint8_t *ahead_take(struct ahead *ahead, const uint8_t *entries)
{
    while (ahead->next < ahead->count)
        if (ahead->entries[ahead->next++] == entries)
            return ahead->answers + ahead->firsts[ahead->next - 1];
    return NULL;
}

#endif
